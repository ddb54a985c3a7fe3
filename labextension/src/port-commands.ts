// The commands that change ports: whether they are allowed, and the rules for them.

import { Dialog, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { addIcon, checkIcon, closeIcon, deleteIcon, editIcon } from '@jupyterlab/ui-components';

import type { Actions } from './actions';
import { AddCommand, Args, CommandIDs } from './commands';
import { loadPart } from './parts';
import type { Targets } from './targets';
import type { IPortsManager } from './tokens';

export function addPortCommands(add: AddCommand, manager: IPortsManager, actions: Actions, targets: Targets, trans: TranslationBundle): void {
  const setAllowed = (allowed: boolean) => (args: Args) => {
    const port = targets.port(args)?.port;
    return port === undefined ? undefined : actions.attempt(() => manager.setAllowed(port, allowed));
  };
  add(CommandIDs.allowPort, trans.__('Allow This Port'), setAllowed(true), {
    icon: checkIcon,
    isEnabled: args => targets.port(args)?.may_allow ?? false
  });
  add(CommandIDs.disallowPort, trans.__('Do Not Allow This Port Any More'), setAllowed(false), {
    icon: closeIcon,
    isEnabled: args => targets.port(args)?.allowed_by_user ?? false
  });

  const pinnedRule = (args: Args) => manager.portRules?.find(rule => rule.pinned && rule.ports === String(targets.portNumber(args)));
  const withRules = async (show: (forms: typeof import('./rule-form')) => Promise<unknown>) => {
    const body = trans.__('This server keeps no rules for ports, as several people may use it: use Settings > Settings Editor > Ports and services.');
    const hasNone = manager.connection === 'live' && !manager.portRules;
    const showForm = async () => show(await loadPart(() => import('./rule-form')));
    await (hasNone ? showDialog({ title: trans.__('Rules for ports'), body, buttons: [Dialog.okButton()] }) : actions.attempt(showForm));
  };
  const editPort = (args: Args) => {
    const port = targets.portNumber(args);
    const shown = port === undefined ? undefined : (manager.port(port) ?? { port, process: '', command: [] });
    return shown && withRules(({ showRuleForm }) => showRuleForm(shown, manager, trans));
  };
  const removePort = (args: Args) => {
    const rule = pinnedRule(args);
    return rule && actions.attempt(() => manager.removeRule(rule.id));
  };
  const hasPort = (args: Args) => targets.portNumber(args) !== undefined;
  add(CommandIDs.editPort, trans.__('Edit Port…'), editPort, { icon: editIcon, isEnabled: hasPort });
  add(CommandIDs.addPort, trans.__('Add a Port…'), () => withRules(({ showAddForm }) => showAddForm(manager, trans)), { icon: addIcon });
  add(CommandIDs.removePort, trans.__('Remove the Added Port'), removePort, { icon: deleteIcon, isEnabled: args => !!pinnedRule(args) });
}
