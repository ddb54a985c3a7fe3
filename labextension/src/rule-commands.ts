// The commands that change the rules for ports.

import { Dialog, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { addIcon, deleteIcon, editIcon } from '@jupyterlab/ui-components';

import type { Actions } from './actions';
import { AddCommand, Args, CommandIDs, Target } from './commands';
import { showAddForm, showRuleForm } from './rule-form';
import type { IPortsManager } from './tokens';

/** `targetOf` returns the target of a command's arguments. */
export function addRuleCommands(
  add: AddCommand,
  manager: IPortsManager,
  actions: Actions,
  targetOf: (args: Args) => Target | null,
  trans: TranslationBundle
): void {
  const portOf = (args: Args) => {
    const target = targetOf(args);
    return target && 'port' in target ? target.port : undefined;
  };
  const pinnedRule = (args: Args) => manager.portRules?.find(rule => rule.pinned && rule.ports === String(portOf(args)));
  const withRules = async (show: () => Promise<unknown>) => {
    const body = trans.__('This server keeps no rules for ports, as several people may use it: use Settings > Ports and services.');
    const hasNone = manager.connection === 'live' && !manager.portRules;
    await (hasNone ? showDialog({ title: trans.__('Rules for ports'), body, buttons: [Dialog.okButton()] }) : show());
  };
  const editPort = (args: Args) => {
    const port = portOf(args);
    const shown = port === undefined ? undefined : (manager.port(port) ?? { port, process: '', command: [] });
    return shown && withRules(() => showRuleForm(shown, manager, trans));
  };
  const removePort = (args: Args) => {
    const rule = pinnedRule(args);
    return rule && actions.attempt(() => manager.removeRule(rule.id));
  };
  add(CommandIDs.editPort, trans.__('Edit Port…'), editPort, { icon: editIcon, isEnabled: args => portOf(args) !== undefined });
  add(CommandIDs.addPort, trans.__('Add a Port…'), () => withRules(() => showAddForm(manager, trans)), { icon: addIcon });
  add(CommandIDs.removePort, trans.__('Remove the Added Port'), removePort, { icon: deleteIcon, isEnabled: args => !!pinnedRule(args) });
}
