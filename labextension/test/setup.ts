// Browser features that jsdom lacks and JupyterLab's widgets need when they are imported.

export {};

const noMedia = (media: string) => ({
  media,
  matches: false,
  addEventListener: () => undefined,
  removeEventListener: () => undefined,
  addListener: () => undefined,
  removeListener: () => undefined
});

Object.assign(globalThis, { DragEvent: class extends MouseEvent {} });
Object.assign(window, { matchMedia: noMedia });
// After React's own work, as in a browser that is idle.
Object.assign(globalThis, { requestIdleCallback: (call: () => void) => setTimeout(call, 50), cancelIdleCallback: clearTimeout });
