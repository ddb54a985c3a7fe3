// The parts of the panel that are loaded when they are needed: tabs, dialogs, the view of a log, the section of projects.

import { ApiError } from './api';

/** Loads a part by its dynamic `import()`. Rejects with a sentence if the server does not send it, for example after an update. */
export async function loadPart<T>(part: () => Promise<T>): Promise<T> {
  try {
    return await part();
  } catch {
    throw new ApiError(0, 'A part of the panel could not be loaded.', 'Reload the page.');
  }
}
