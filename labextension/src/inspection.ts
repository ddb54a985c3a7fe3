// The command that shows what is wrong with the page of a service or port. Its tab is loaded when it is needed.

import type { ILabShell, JupyterFrontEnd } from '@jupyterlab/application';
import type { TranslationBundle } from '@jupyterlab/translation';
import { bugIcon } from '@jupyterlab/ui-components';

import type { Actions } from './actions';
import type { IApi } from './api';
import { AddCommand, Args, CommandIDs } from './commands';
import { labelOf } from './open-commands';
import type { PanelState } from './panel';
import { loadPart } from './parts';
import type { Targets } from './targets';
import type { IPortsManager } from './tokens';

/** What the command uses. Without a `labShell`, as in Notebook, a dialog is shown. */
export interface IInspectionParts {
  shell: JupyterFrontEnd.IShell;
  labShell: ILabShell | null;
  manager: IPortsManager;
  state: Pick<PanelState, 'rules'>;
  targets: Targets;
  api: IApi;
  actions: Pick<Actions, 'attempt' | 'urlOf'>;
  trans: TranslationBundle;
}

export function addInspectionCommands(add: AddCommand, parts: IInspectionParts): void {
  const { targets, actions, trans } = parts;
  const diagnose = (args: Args) => {
    const target = targets.of(args);
    const path = typeof args.path === 'string' ? args.path : undefined;
    const show = async () => (await loadPart(() => import('./diagnosis-view'))).showDiagnosis(parts, target!, labelOf(parts, target!), path);
    return target && actions.attempt(show);
  };
  const hasPage = (args: Args) => {
    const target = targets.of(args);
    return target !== null && actions.urlOf(target) !== undefined;
  };
  add(CommandIDs.diagnose, trans.__('Diagnose the Page'), diagnose, { icon: bugIcon, isEnabled: hasPage });
}
