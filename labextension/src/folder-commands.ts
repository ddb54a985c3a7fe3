// The commands for a folder with a project file: its content is reviewed, its services are started and stopped.

import type { TranslationBundle } from '@jupyterlab/translation';
import { listIcon, runIcon, stopIcon } from '@jupyterlab/ui-components';

import type { Actions } from './actions';
import { ApiError, CONFLICT } from './api';
import { AddCommand, Args, CommandIDs } from './commands';
import { servicesOf, shownFolders } from './folders';
import { isActive } from './labels';
import { loadPart } from './parts';
import type { IFolder, IPortsManager } from './tokens';

export interface IFolderParts {
  manager: IPortsManager;
  state: { readonly path: string | undefined };
  /** Takes the folders whose content a dialog shows. */
  reviewing: Set<string>;
  actions: Pick<Actions, 'attempt'>;
  trans: TranslationBundle;
}

export function addFolderCommands(add: AddCommand, { manager, state, reviewing, actions, trans }: IFolderParts): void {
  /** The folder of the arguments; without one that of the file browser, or the server's root. */
  const folderOf = ({ folder }: Args): IFolder | undefined =>
    typeof folder === 'string'
      ? manager.folders?.find(known => known.folder === folder)
      : shownFolders(manager, state.path).sort((a, b) => b.path.length - a.path.length)[0];
  const onFolder = (what: (folder: IFolder, args: Args) => Promise<unknown>) => (args: Args) => {
    const folder = folderOf(args);
    return folder && actions.attempt(() => what(folder, args));
  };
  const review = async (folder: IFolder) => {
    const { showReview } = await loadPart(() => import('./folder-review'));
    reviewing.add(folder.folder);
    try {
      await showReview(folder, manager, trans);
    } finally {
      reviewing.delete(folder.folder);
    }
  };
  /** Starts the services, or one; a folder that has changed is reviewed first. */
  const start = async (folder: IFolder, { service }: Args) => {
    try {
      await manager.startFolder(folder, typeof service === 'string' ? [service] : undefined);
    } catch (error) {
      const now = error instanceof ApiError && error.status === CONFLICT ? await manager.readFolder(folder) : null;
      if (!now || now.consent === 'given') {
        throw error;
      }
      await review(now);
    }
  };
  add(CommandIDs.reviewFolder, trans.__('Review What a Folder Starts…'), onFolder(review), {
    icon: listIcon,
    isEnabled: args => !!folderOf(args)
  });
  add(CommandIDs.startFolder, trans.__('Start the Services of a Folder'), onFolder(start), {
    icon: runIcon,
    isEnabled: args => folderOf(args)?.consent === 'given'
  });
  add(CommandIDs.stopFolder, trans.__('Stop the Services of a Folder'), onFolder(folder => manager.stopFolder(folder)), {
    icon: stopIcon,
    isEnabled: args => {
      const folder = folderOf(args);
      return !!folder && servicesOf(manager, folder).some(isActive);
    }
  });
}
