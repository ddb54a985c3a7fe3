// The command by which programs on the user's own computer reach a port or service.

import { Clipboard, Notification } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { copyIcon } from '@jupyterlab/ui-components';

import { AddCommand, CommandIDs, Target } from './commands';
import { hasPage } from './labels';
import type { Targets } from './targets';
import type { IPortsManager } from './tokens';

/** The command, for a POSIX shell. `server` is the absolute URL of this page's server: the command runs elsewhere. */
export function forwardCommand(target: Target, server: string): string {
  const name = 'service' in target ? target.service : String(target.port);
  return `jupyter portproxy forward ${name} --server ${/^[\w@%+=:,./-]*$/.test(server) ? server : `'${server.replace(/'/g, '%27')}'`}`;
}

export function copyForwardCommand(target: Target, trans: TranslationBundle): void {
  Clipboard.copyToSystem(forwardCommand(target, PageConfig.getBaseUrl()));
  Notification.info(trans.__('The command is copied. Run it on your own computer.'), { autoClose: 4000 });
}

/** Whether a target speaks no HTTP, so that it has no page. */
export function isWithoutPage(target: Target, manager: IPortsManager): boolean {
  if ('port' in target) {
    return manager.port(target.port)?.tcp ?? false;
  }
  return !hasPage(manager.service(target.service)?.scheme ?? 'http');
}

export function addForwardCommand(add: AddCommand, targets: Targets, trans: TranslationBundle): void {
  add(
    CommandIDs.copyForwardCommand,
    trans.__('Copy Forward Command'),
    args => {
      const target = targets.of(args);
      if (target) {
        copyForwardCommand(target, trans);
      }
    },
    { icon: copyIcon, isEnabled: args => targets.of(args) !== null && (targets.port(args)?.allowed ?? true) && targets.service(args)?.scheme !== 'none' }
  );
}
