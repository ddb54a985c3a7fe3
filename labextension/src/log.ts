// The command that shows the log of a service, in a tab.

import type { ILabShell, JupyterFrontEnd } from '@jupyterlab/application';
import type { MainAreaWidget, WidgetTracker } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { listIcon } from '@jupyterlab/ui-components';
import type { Widget } from '@lumino/widgets';

import type { Actions } from './actions';
import type { IApi } from './api';
import { AddCommand, CommandIDs } from './commands';
import { loadPart } from './parts';
import type { Targets } from './targets';
import type { IPortsManager } from './tokens';

const ID_PREFIX = 'jp-portproxy-log-';

/** The name of the service whose log a tab shows. */
export function serviceOfLog(tab: Widget): string {
  return tab.id.slice(ID_PREFIX.length);
}

export interface ILogParts {
  shell: JupyterFrontEnd.IShell;
  labShell: ILabShell | null;
  manager: IPortsManager;
  targets: Targets;
  logs: WidgetTracker<MainAreaWidget>;
  api: IApi;
  actions: Pick<Actions, 'attempt'>;
  trans: TranslationBundle;
}

/** Adds the command that shows a log in its tab; without a `labShell` in a tab of the browser. */
export function addLogCommand(add: AddCommand, { shell, labShell, manager, targets, logs, api, actions, trans }: ILogParts): void {
  const show = (name: string) => {
    if (!labShell) {
      window.open(`${PageConfig.getBaseUrl()}proxy/api/services/${encodeURIComponent(name)}/logs?follow=1`, '_blank', 'noopener');
      return undefined;
    }
    return actions.attempt(async () => {
      const id = ID_PREFIX + name;
      const { makeLog } = await loadPart(() => import('./log-view'));
      if (!logs.find(widget => widget.id === id)) {
        const log = makeLog(id, name, api, manager, trans);
        void logs.add(log);
        shell.add(log, 'main', { type: 'Log' });
      }
      shell.activateById(id);
    });
  };
  const showNamed = (name: string | undefined) => (name === undefined ? undefined : show(name));
  add(CommandIDs.showLog, trans.__('Show Service Log'), args => showNamed(targets.serviceName(args)), {
    icon: listIcon,
    isEnabled: args => typeof args.service === 'string' || targets.service(args) !== undefined
  });
}
