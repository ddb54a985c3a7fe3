// The plugins: the model and its user interface. This module connects the parts.

import { ILabShell, ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, MainAreaWidget, WidgetTracker } from '@jupyterlab/apputils';
import { IFileBrowserFactory } from '@jupyterlab/filebrowser';
import { ILauncher } from '@jupyterlab/launcher';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITerminalTracker } from '@jupyterlab/terminal';
import { ITranslator, nullTranslator, TranslationBundle } from '@jupyterlab/translation';
import { refreshIcon } from '@jupyterlab/ui-components';
import type { ReadonlyJSONObject } from '@lumino/coreutils';

import { Actions, Opener } from './actions';
import { Api, IApi } from './api';
import { AddCommand, Args, ARGUMENTS, CommandIDs, Target } from './commands';
import { FailedRequestsNotices } from './failed-requests';
import { Failures } from './failures';
import { addFolderCommands } from './folder-commands';
import { FolderWatch } from './folders';
import { addForwardCommand, isWithoutPage } from './forward';
import { portsIcon } from './icons';
import { addInspectionCommands, followDiagnosisLink } from './inspection';
import { Isolation } from './isolation';
import { Tiles } from './launcher';
import { ILocalLink, LocalLinks } from './links';
import { addLogCommand, serviceOfLog } from './log';
import { PortsManager } from './manager';
import { NewPorts } from './new-ports';
import { menusPlugin } from './menus';
import { addOpenCommands, findTab, openOutside, outsideUrl } from './open-commands';
import { openUrlPlugin } from './open-url';
import { PanelState, PortsPanel } from './panel';
import { addPortCommands } from './port-commands';
import type { IRuleSettings } from './rules';
import { runningPlugin, runningTarget } from './running';
import { addServiceCommands } from './service-commands';
import type { IOutside } from './starting';
import type { ServiceTab } from './tab';
import { Targets } from './targets';
import { IFolder, IPortsManager } from './tokens';
import { absoluteUrl } from './urls';

const apis = new WeakMap<IPortsManager, IApi>();

const managerPlugin: JupyterFrontEndPlugin<IPortsManager> = {
  id: 'jupyter-portproxy:manager',
  description: 'Provides the services and ports beside the Jupyter server.',
  autoStart: true,
  provides: IPortsManager,
  activate: (app: JupyterFrontEnd): IPortsManager => {
    const api = new Api(app.serviceManager.serverSettings);
    const manager = new PortsManager(api);
    apis.set(manager, api);
    return manager;
  }
};

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-portproxy:plugin',
  description: 'Shows services and ports in a panel, in the launcher and in tabs.',
  autoStart: true,
  requires: [IPortsManager],
  optional: [ITranslator, ILauncher, ICommandPalette, ISettingRegistry, ILayoutRestorer, ILabShell, ITerminalTracker, IFileBrowserFactory],
  activate: (
    app: JupyterFrontEnd,
    manager: IPortsManager,
    translator: ITranslator | null,
    launcher: ILauncher | null,
    palette: ICommandPalette | null,
    settings: ISettingRegistry | null,
    restorer: ILayoutRestorer | null,
    labShell: ILabShell | null,
    terminals: ITerminalTracker | null,
    browsers: IFileBrowserFactory | null
  ): void => {
    const { commands, shell } = app;
    const trans = (translator ?? nullTranslator).load('jupyter-portproxy');
    const requests = apis.get(manager) ?? new Api(app.serviceManager.serverSettings);
    const isolation = new Isolation(requests);
    const state = new PanelState(manager);
    const tabs = new WidgetTracker<ServiceTab>({ namespace: 'portproxy-tabs' });
    const logs = new WidgetTracker<MainAreaWidget>({ namespace: 'portproxy-logs' });
    const run = (command: string, target: Target) => void commands.execute(command, target);
    const openIn = (where: 'lab' | 'browser' | 'preview', target: Target) =>
      isWithoutPage(target, manager)
        ? showPanel()
        : where === 'browser'
        ? run(CommandIDs.openInBrowser, target)
        : void commands.execute(CommandIDs.openInLab, { ...target, preview: where === 'preview' });
    const usual = (target: Target) => ('service' in target ? (manager.service(target.service)?.open_in ?? 'lab') : 'lab');
    const showLog = (service: string) => run(CommandIDs.showLog, { service });
    const edit = (service: string) => run(CommandIDs.edit, { service });
    const showPanel = () => void commands.execute(CommandIDs.showPanel);
    const open: Opener = (target, where = usual(target)) => openIn(where, target);
    const outside: IOutside = {
      isDefault: openIn => openIn === 'browser' || !labShell,
      addressOf: ({ name, url }) => absoluteUrl(outsideUrl(isolation, { service: name }, url ?? ''))
    };
    const actions = new Actions(manager, trans, open, showLog, edit, outside);
    const { contents, user } = app.serviceManager;
    const runForFolder = (command: string, { folder }: IFolder) => void commands.execute(command, { folder });
    const folders = new FolderWatch({
      ...{ manager, state, contents, trans },
      review: folder => runForFolder(CommandIDs.reviewFolder, folder),
      start: folder => runForFolder(CommandIDs.startFolder, folder)
    });
    new FailedRequestsNotices({ manager, state, trans }, target => run(CommandIDs.diagnose, target));
    new Failures({ manager, actions, user: () => user.identity?.username, showLog, trans });
    const newPorts = new NewPorts(manager, trans, open, showPanel, actions);

    const panel = new PortsPanel(manager, state, run, commands, translator ?? nullTranslator);
    shell.add(panel, 'left', { rank: 350, type: 'Ports' });
    restorer?.add(panel, panel.id);
    manager.appeared.connect((_, port) => newPorts.announce(port, state.rules, findTab(tabs, { port: port.port }) !== undefined));
    manager.socketLost.connect((_, lost) => actions.reportLostSocket(lost, openOutside));

    const add: AddCommand = (id, label, execute, more = {}) =>
      commands.addCommand(id, { label, execute, describedBy: { args: (ARGUMENTS[id] ?? {}) as ReadonlyJSONObject }, ...more });
    const targets = new Targets(manager, args => currentTarget(app, panel, tabs, args));
    add(CommandIDs.showPanel, trans.__('Ports and Services'), () => shell.activateById(panel.id), { icon: portsIcon });
    add(CommandIDs.refresh, trans.__('Refresh Ports and Services'), () => actions.attempt(() => manager.refresh()), { icon: refreshIcon });
    addOpenCommands(add, { shell, labShell, manager, state, tabs, actions, newPorts, targets, isolation, run, trans });
    addLogCommand(add, { shell, labShell, manager, targets, logs, api: requests, actions, trans });
    const inspection = { shell, labShell, manager, state, targets, api: requests, actions, trans };
    addInspectionCommands(add, inspection);
    void app.restored.then(() => followDiagnosisLink(inspection));
    addServiceCommands(add, { manager, actions, targets, contents, openIn, trans });
    addPortCommands(add, manager, actions, targets, trans);
    addForwardCommand(add, targets, trans);
    addFolderCommands(add, { manager, state, reviewing: folders.reviewing, actions, trans });

    addToPalette(palette, trans);
    restoreTabs(restorer, tabs, logs);

    const addressOf = (link: ILocalLink) => absoluteUrl(outsideUrl(isolation, { port: link.port }, link.url, link.path));
    const runWith = (command: string, link: ILocalLink) => void commands.execute(command, { ...link });
    const links = new LocalLinks(manager, addressOf, runWith, () => requests.request('GET', 'ports'));
    if (terminals) {
      links.followTerminals(terminals);
    }

    if (browsers) {
      folders.follow(browsers);
    }
    addTiles(launcher, manager);
    void actions.attempt(() => manager.refreshTemplates());
    followSettings(settings, loaded => {
      state.settings = loaded.composite as unknown as IRuleSettings;
      links.isEnabled = loaded.composite.links !== false;
      isolation.isEnabled = loaded.composite.isolate !== false;
    });
  }
};

/** The target of a command without one among its arguments. */
function currentTarget(app: JupyterFrontEnd, panel: PortsPanel, tabs: WidgetTracker<ServiceTab>, args: Args): Target | null {
  if (args.fromRow) {
    return panel.contextTarget;
  }
  if (args.fromRunning) {
    return runningTarget(app);
  }
  return tabs.currentWidget && tabs.currentWidget === app.shell.currentWidget ? tabs.currentWidget.target : null;
}

function addToPalette(palette: ICommandPalette | null, trans: TranslationBundle): void {
  for (const command of Object.values(CommandIDs)) {
    if (!('required' in (ARGUMENTS[command] ?? {}))) {
      palette?.addItem({ command, category: trans.__('Services') });
    }
  }
}

/** Restores the tabs after a reload. */
function restoreTabs(restorer: ILayoutRestorer | null, tabs: WidgetTracker<ServiceTab>, logs: WidgetTracker<MainAreaWidget>): void {
  void restorer?.restore(tabs, {
    command: CommandIDs.openInLab,
    args: tab => tab.restored,
    name: tab => tab.id
  });
  void restorer?.restore(logs, {
    command: CommandIDs.showLog,
    args: widget => ({ service: serviceOfLog(widget) }),
    name: widget => widget.id
  });
}

function addTiles(launcher: ILauncher | null, manager: IPortsManager): void {
  if (launcher) {
    // The first tile of the category, so that its icon is the category's.
    launcher.add({ command: CommandIDs.showPanel, category: 'Services', rank: -1 });
    const tiles = new Tiles(launcher);
    manager.changed.connect(() => tiles.update(manager.templates));
  }
}

/** Calls `apply` with the settings, now and after each change. */
function followSettings(registry: ISettingRegistry | null, apply: (settings: ISettingRegistry.ISettings) => void): void {
  void registry
    ?.load(plugin.id)
    .then(loaded => {
      loaded.changed.connect(apply);
      apply(loaded);
    })
    .catch(error => console.warn('The settings of jupyter-portproxy could not be loaded.', error));
}

export { CommandIDs, SERVER_PROXY_OPEN } from './commands';
export * from './tokens';
export default [managerPlugin, plugin, runningPlugin, menusPlugin, openUrlPlugin];
