// The URLs of services and ports: their prefixes, their absolute addresses, and the sandbox of the frames that show them.

import { PageConfig } from '@jupyterlab/coreutils';

// For browsers without `window.navigation`, see the class Frame in `tab.tsx`. Chromium, which has it, shows no PDF in a sandbox with any tokens.
export const SANDBOX =
  'allow-same-origin allow-scripts allow-forms allow-popups allow-popups-to-escape-sandbox allow-modals allow-presentation ' +
  'allow-pointer-lock allow-orientation-lock allow-downloads allow-top-navigation-by-user-activation';

/** The absolute address of a path that the API gave. */
export function absoluteUrl(url: string): string {
  return new URL(url, new URL(PageConfig.getBaseUrl(), window.location.href)).href;
}

/** The prefix of the URLs of a service or port. */
export function prefixOf(url: string): string {
  const path = new URL(absoluteUrl(url)).pathname;
  const match = /^(.*?\/proxy\/(?:port|service)\/[^/]+)\//.exec(path);
  const base = new URL(PageConfig.getBaseUrl(), window.location.href).pathname;
  return match?.[1] ?? base + (path.slice(base.length).split('/')[0] ?? '');
}
