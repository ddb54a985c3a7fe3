// The running services among JupyterLab's running sessions, with the kernels and terminals.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IRunningSessionManagers, IRunningSessions } from '@jupyterlab/running';
import { ITranslator, nullTranslator, TranslationBundle } from '@jupyterlab/translation';

import { CommandIDs, Target } from './commands';
import { iconOf } from './icons';
import { hasPage, isActive, serviceLabel, stateText, stateTitle } from './labels';
import { IPortsManager, IService } from './tokens';

/** Start of the attribute `data-context` of an item; the service's name follows. */
const CONTEXT = 'portproxy:';

/** The service on whose item the context menu was opened. */
export function runningTarget(app: Pick<JupyterFrontEnd, 'contextMenuHitTest'>): Target | null {
  const context = app.contextMenuHitTest(node => node.dataset.context?.startsWith(CONTEXT) ?? false)?.dataset.context;
  return context === undefined ? null : { service: context.slice(CONTEXT.length) };
}

/** The section of services. `run` runs a command. */
export function runningServices(
  manager: IPortsManager,
  run: (command: string, args?: { service: string }) => void,
  trans: TranslationBundle
): IRunningSessions.IManager {
  const services = () => manager.services.filter(isActive);
  const stop = (service: IService) => run(CommandIDs.stop, { service: service.name });
  const open = ({ name, scheme, open_in }: IService) => {
    const inPage = open_in === 'lab' ? CommandIDs.openInLab : CommandIDs.openInBrowser;
    hasPage(scheme) ? run(inPage, { service: name }) : run(CommandIDs.showPanel);
  };
  const item = (service: IService): IRunningSessions.IRunningItem => ({
    context: CONTEXT + service.name,
    icon: () => iconOf(service),
    label: () => serviceLabel(service),
    labelTitle: () => stateTitle(service, trans),
    detail: () => (service.state === 'up' ? '' : stateText(service.state, trans)),
    open: () => open(service),
    shutdown: () => stop(service)
  });
  return {
    name: trans.__('Services'),
    running: () => services().map(item),
    runningChanged: manager.changed,
    refreshRunning: () => run(CommandIDs.refresh),
    shutdownAll: () => services().forEach(stop),
    shutdownLabel: trans.__('Stop'),
    shutdownAllLabel: trans.__('Stop All'),
    shutdownAllConfirmationText: trans.__('Stop all services?')
  };
}

export const runningPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-portproxy:running',
  description: 'Lists running services among the running sessions.',
  autoStart: true,
  requires: [IPortsManager],
  optional: [IRunningSessionManagers, ITranslator],
  activate: ({ commands }, manager: IPortsManager, sessions: IRunningSessionManagers | null, translator: ITranslator | null): void => {
    const trans = (translator ?? nullTranslator).load('jupyter-portproxy');
    sessions?.add(runningServices(manager, (command, args) => void commands.execute(command, args), trans));
  }
};
