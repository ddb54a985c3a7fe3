// The commands that start, change and stop services.

import type { Contents } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';
import { addIcon, deleteIcon, editIcon, refreshIcon, runIcon, stopIcon } from '@jupyterlab/ui-components';

import type { Actions } from './actions';
import { AddCommand, Args, CommandIDs, Target } from './commands';
import type { IChoice } from './form';
import { iconOf } from './icons';
import { isActive } from './labels';
import { loadPart } from './parts';
import type { Targets } from './targets';
import type { IPortsManager, IService, ITemplate } from './tokens';

/** What the commands use. `openIn` opens a target in a tab of JupyterLab or of the browser. */
export interface IServiceParts {
  manager: IPortsManager;
  actions: Actions;
  targets: Targets;
  contents: Pick<Contents.IManager, 'get'>;
  openIn: (where: 'lab' | 'browser', target: Target) => void;
  trans: TranslationBundle;
}

export function addServiceCommands(add: AddCommand, parts: IServiceParts): void {
  addStartCommands(add, parts);
  addChangeCommands(add, parts);
}

/** Shows the form that starts a service, filled in with `first`. */
async function showStartForm({ manager, actions, contents, trans }: IServiceParts, first: Partial<IChoice>): Promise<void> {
  const submit = async (choice: IChoice) => {
    const service = await manager.start(choice.template, choice.name || undefined, choice.arguments, choice.kernel);
    void actions.follow(service);
  };
  await actions.attempt(async () => {
    const form = await loadPart(() => import('./form'));
    await actions.attempt(() => manager.refreshTemplates());
    await form.showStartDialog({ manager, first, complete: form.pathCompleter(contents), submit, trans });
  });
}

/** What the form of a service begins with. */
function choiceOf({ template, name, arguments: given, kernel }: IService): IChoice {
  return { template, name, arguments: given, kernel: kernel === undefined ? null : (kernel ?? '') };
}

function addStartCommands(add: AddCommand, parts: IServiceParts): void {
  const { manager, actions, targets, openIn, trans } = parts;
  const templateOf = (args: Args): ITemplate | undefined => manager.templates.find(item => item.name === args.template);
  const startForm = (args: Args) => showStartForm(parts, templateOf(args) ? { template: String(args.template) } : {});
  add(CommandIDs.startForm, trans.__('Start a Service…'), startForm, { icon: addIcon });
  const launch = (args: Args) => {
    // Do not await: the launcher ignores clicks while a tile's command is running.
    const template = templateOf(args);
    if (!template) {
      return;
    }
    const running = manager.services.find(item => item.template === template.name && ['up', 'unhealthy'].includes(item.state));
    if (running || template.external) {
      openIn(template.open_in, { service: running?.name ?? template.name });
    } else if (template.arguments.length) {
      void showStartForm(parts, { template: template.name });
    } else {
      void actions.launch(template);
    }
  };
  add(CommandIDs.launch, args => templateOf(args)?.title ?? trans.__('Start'), launch, {
    icon: args => iconOf(templateOf(args)),
    caption: trans.__('Start or open this service')
  });
  const edit = (args: Args) => {
    const service = targets.service(args);
    return service && showStartForm(parts, choiceOf(service));
  };
  add(CommandIDs.edit, trans.__('Edit Service…'), edit, { icon: editIcon, isEnabled: args => hasEnded(targets, args) && !targets.service(args)?.folder });
}

function addChangeCommands(add: AddCommand, { manager, actions, targets, trans }: IServiceParts): void {
  const onService = (what: (name: string) => Promise<unknown>) => (args: Args) => {
    const name = targets.serviceName(args);
    return name === undefined ? undefined : actions.attempt(() => what(name));
  };
  const isRunning = (args: Args) => isActive(targets.service(args) ?? { state: 'down' });
  const isEnded = (args: Args) => hasEnded(targets, args);
  const isReserved = (args: Args) => {
    const name = targets.serviceName(args);
    return manager.reservations.some(item => item.name === name);
  };
  add(
    CommandIDs.restart,
    args => (isEnded(args) ? trans.__('Start Service') : trans.__('Restart Service')),
    onService(name => actions.restart(name)),
    { icon: args => (isEnded(args) ? runIcon : refreshIcon), isEnabled: args => isRunning(args) || isEnded(args) }
  );
  const stop = onService(name => manager.stop(name));
  add(CommandIDs.stop, trans.__('Stop Service'), stop, { icon: stopIcon, isEnabled: isRunning });
  add(
    CommandIDs.forget,
    args => (isReserved(args) ? trans.__('Release the Port') : trans.__('Remove Service')),
    onService(name => (manager.service(name) ? manager.forget(name) : manager.release(name))),
    { icon: deleteIcon, isEnabled: args => isEnded(args) || isReserved(args) }
  );
}

function hasEnded(targets: Targets, args: Args): boolean {
  return ['down', 'failed'].includes(targets.service(args)?.state ?? '');
}
