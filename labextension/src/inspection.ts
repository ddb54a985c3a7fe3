// The commands that show what is wrong with the page of a service or port, and its requests. Their tabs are loaded when they are needed.

import type { ILabShell, JupyterFrontEnd } from '@jupyterlab/application';
import type { TranslationBundle } from '@jupyterlab/translation';
import { bugIcon, listIcon } from '@jupyterlab/ui-components';

import type { Actions } from './actions';
import type { IApi } from './api';
import { AddCommand, Args, CommandIDs } from './commands';
import { labelOf } from './open-commands';
import type { PanelState } from './panel';
import { loadPart } from './parts';
import type { Targets } from './targets';
import type { IPortsManager } from './tokens';

export const LINK_PARAMETER = 'portproxy-diagnose'; // as in handlers/diagnosis_link.py

/** What the commands use. Without a `labShell`, as in Notebook, a dialog is shown. */
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
  const showRequests = (args: Args) => {
    const target = targets.of(args);
    const show = async () => (await loadPart(() => import('./requests-view'))).showRequests(parts, target!, labelOf(parts, target!));
    return target && actions.attempt(show);
  };
  const hasPage = (args: Args) => {
    const target = targets.of(args);
    return target !== null && actions.urlOf(target) !== undefined;
  };
  add(CommandIDs.diagnose, trans.__('Diagnose the Page'), diagnose, { icon: bugIcon, isEnabled: hasPage });
  add(CommandIDs.showRequests, trans.__('Show Requests'), showRequests, { icon: listIcon, isEnabled: hasPage });
}

/** Shows the view that a link of the gateway's error pages names. */
export function followDiagnosisLink(parts: IInspectionParts): void {
  const link = new URLSearchParams(window.location.search).get(LINK_PARAMETER);
  if (link !== null) {
    void parts.actions.attempt(async () => (await loadPart(() => import('./diagnosis-view'))).showLinked(parts, link));
  }
}
