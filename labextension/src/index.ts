// The plugins: the model and its user interface. This module connects the parts, and registers the commands of the panel and of pages.

import { ILabShell, ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, MainAreaWidget, WidgetTracker } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import { ILauncher } from '@jupyterlab/launcher';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITerminalTracker } from '@jupyterlab/terminal';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { copyIcon, listIcon, refreshIcon } from '@jupyterlab/ui-components';
import type { ReadonlyJSONObject } from '@lumino/coreutils';

import { Actions, Opener } from './actions';
import { Api, IApi } from './api';
import { AddCommand, Args, ARGUMENTS, CommandIDs, Target } from './commands';
import { addForwardCommand, isTcp } from './forward';
import { outsideIcon, portsIcon, tabIcon } from './icons';
import { Isolation } from './isolation';
import { Tiles } from './launcher';
import { ILocalLink, LocalLinks } from './links';
import { makeLog } from './log';
import { PortsManager } from './manager';
import { NewPorts } from './new-ports';
import { menusPlugin } from './menus';
import { openUrlPlugin } from './open-url';
import { PanelState, PortsPanel } from './panel';
import { addPortCommands } from './port-commands';
import type { IRuleSettings } from './rules';
import { runningPlugin, runningTarget } from './running';
import { addServiceCommands } from './service-commands';
import type { IOutside } from './starting';
import { absoluteUrl, IRecipe, prefixOf, ServiceTab } from './tab';
import { Targets } from './targets';
import { IPortsManager, ITemplate } from './tokens';
import { portLabel, isActive, serviceLabel } from './labels';

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
  optional: [ITranslator, ILauncher, ICommandPalette, ISettingRegistry, ILayoutRestorer, ILabShell, ITerminalTracker],
  activate: (
    app: JupyterFrontEnd,
    manager: IPortsManager,
    translator: ITranslator | null,
    launcher: ILauncher | null,
    palette: ICommandPalette | null,
    settings: ISettingRegistry | null,
    restorer: ILayoutRestorer | null,
    labShell: ILabShell | null,
    terminals: ITerminalTracker | null
  ): void => {
    const { commands, shell } = app;
    const trans = (translator ?? nullTranslator).load('jupyter-portproxy');
    const state = new PanelState(manager);
    const tabs = new WidgetTracker<ServiceTab>({ namespace: 'portproxy-tabs' });
    const logs = new WidgetTracker<MainAreaWidget>({ namespace: 'portproxy-logs' });
    const run = (command: string, target: Target) => void commands.execute(command, target);
    const openIn = (where: 'lab' | 'browser' | 'preview', target: Target) =>
      isTcp(target, manager)
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
      addressOf: ({ name, url }) => absoluteUrl(outsideUrl({ service: name }, url ?? ''))
    };
    const actions = new Actions(manager, trans, open, showLog, edit, outside);
    const newPorts = new NewPorts(manager, trans, open, showPanel, actions);
    const requests = apis.get(manager) ?? new Api(app.serviceManager.serverSettings);
    const isolation = new Isolation(requests);

    const panel = new PortsPanel(manager, state, run, commands, translator ?? nullTranslator);
    shell.add(panel, 'left', { rank: 350, type: 'Ports' });
    restorer?.add(panel, panel.id);
    const tabOf = (target: Target) => tabs.find(tab => JSON.stringify(tab.target) === JSON.stringify(target));
    manager.appeared.connect((_, port) => newPorts.announce(port, state.rules, tabOf({ port: port.port }) !== undefined));

    // ---- the target of a command ----

    const currentTarget = (args: Args): Target | null => {
      if (args.fromRow) {
        return panel.contextTarget;
      }
      if (args.fromRunning) {
        return runningTarget(app);
      }
      return tabs.currentWidget && tabs.currentWidget === shell.currentWidget ? tabs.currentWidget.target : null;
    };
    const targets = new Targets(manager, currentTarget);
    /** The URL of a target. A restored tab and a printed link have one as an argument, for a target that is not listed or not allowed. */
    const urlOf = (args: Args, target: Target) => actions.urlOf(target) ?? (typeof args.url === 'string' ? args.url : undefined);
    const hasUrl = (args: Args) => {
      const target = targets.of(args);
      return target !== null && actions.urlOf(target) !== undefined;
    };
    const isOpenable = (args: Args) => typeof args.url === 'string' || (hasUrl(args) && isActive(targets.service(args) ?? { state: 'up' }));
    const labelOf = (target: Target): string => {
      if ('service' in target) {
        const service = manager.service(target.service);
        return service ? serviceLabel(service) : (templateNamed(target.service)?.title ?? target.service);
      }
      const port = manager.port(target.port);
      return port ? portLabel(port, state.rules, trans) : trans.__('Port %1', target.port);
    };
    const templateNamed = (name: string): ITemplate | undefined => manager.templates.find(item => item.name === name);

    // ---- commands ----

    const openOutside = (url: string) => void window.open(absoluteUrl(url), '_blank', 'noopener');
    manager.socketLost.connect((_, lost) => actions.reportLostSocket(lost, openOutside));
    const outsideUrl = (target: Target, url: string, path?: string): string => {
      const entryPath = isolation.entryPath(target);
      const prefix = prefixOf(url);
      if (entryPath === undefined && path === undefined) {
        return url;
      }
      return (entryPath ?? prefix) + (path ?? absoluteUrl(url).slice(absoluteUrl(prefix).length));
    };
    const openTab = (target: Target, url: string, label: string, icon: string, args: Args): void => {
      const recipe = args.recipe as IRecipe | undefined;
      const path = typeof args.path === 'string' ? args.path : undefined;
      if (!labShell) {
        openOutside(outsideUrl(target, url, path)); // Notebook shows one document only
        return;
      }
      const open = tabOf(target);
      const isPreview = args.preview === true;
      if (open) {
        if (path !== undefined && path !== open.content.path) {
          open.content.go(path);
        }
        if (!isPreview) {
          shell.activateById(open.id);
        }
        return;
      }
      const start = (how: IRecipe) => void actions.start(how.template, label, 'service' in target ? target.service : undefined, how.arguments);
      const options = { target, url, label, icon, manager, isolation, trans, run, recipe, start, ...(path ? { path } : {}) };
      const tab = new ServiceTab({ ...options, onNavigated: () => void tabs.save(tab) });
      void tabs.add(tab);
      shell.add(tab, 'main', { type: 'Service', ...(isPreview ? { mode: 'split-right', activate: false } : {}) });
      if (!isPreview) {
        shell.activateById(tab.id);
      }
    };

    const add: AddCommand = (id, label, execute, more = {}) =>
      commands.addCommand(id, { label, execute, describedBy: { args: (ARGUMENTS[id] ?? {}) as ReadonlyJSONObject }, ...more });

    add(CommandIDs.showPanel, trans.__('Ports and Services'), () => shell.activateById(panel.id), { icon: portsIcon });
    add(CommandIDs.refresh, trans.__('Refresh Ports and Services'), () => actions.attempt(() => manager.refresh()), { icon: refreshIcon });
    add(
      CommandIDs.openInLab,
      trans.__('Open in a Lab Tab'),
      async args => {
        const target = targets.of(args);
        const url = target && urlOf(args, target);
        await isolation.ready;
        if (target && url) {
          const label = typeof args.label === 'string' ? args.label : labelOf(target);
          const shown = 'service' in target ? (manager.service(target.service) ?? templateNamed(target.service)) : undefined;
          const icon = typeof args.icon === 'string' ? args.icon : (shown?.icon ?? '');
          newPorts.remove(target);
          openTab(target, url, label, icon, args);
        }
      },
      { icon: tabIcon, isEnabled: isOpenable }
    );
    add(
      CommandIDs.openInBrowser,
      trans.__('Open in a Browser Tab'),
      args => {
        const target = targets.of(args);
        const url = target && urlOf(args, target);
        if (target && url) {
          newPorts.remove(target);
          openOutside(outsideUrl(target, url, typeof args.path === 'string' ? args.path : undefined));
        }
      },
      { icon: outsideIcon, isEnabled: isOpenable }
    );
    add(
      CommandIDs.copyUrl,
      trans.__('Copy Service URL'),
      args => {
        const target = targets.of(args);
        if (target) {
          actions.copyUrl(target);
        }
      },
      { icon: copyIcon, isEnabled: hasUrl }
    );
    add(
      CommandIDs.showLog,
      trans.__('Show Service Log'),
      args => {
        const name = targets.serviceName(args);
        const api = apis.get(manager);
        if (name === undefined || !api) {
          return;
        }
        if (!labShell) {
          openOutside(`${PageConfig.getBaseUrl()}proxy/api/services/${encodeURIComponent(name)}/logs?follow=1`);
          return;
        }
        const id = `jp-portproxy-log-${name}`;
        if (!logs.find(widget => widget.id === id)) {
          const log = makeLog(name, api, manager, trans);
          void logs.add(log);
          shell.add(log, 'main', { type: 'Log' });
        }
        shell.activateById(id);
      },
      { icon: listIcon, isEnabled: args => typeof args.service === 'string' || targets.service(args) !== undefined }
    );
    addServiceCommands(add, { manager, actions, targets, contents: app.serviceManager.contents, openIn, trans });
    addPortCommands(add, manager, actions, targets, trans);
    addForwardCommand(add, targets, trans);

    for (const command of Object.values(CommandIDs)) {
      if (!('required' in (ARGUMENTS[command] ?? {}))) {
        palette?.addItem({ command, category: trans.__('Services') });
      }
    }

    // ---- restored after a reload ----

    void restorer?.restore(tabs, {
      command: CommandIDs.openInLab,
      args: tab => tab.restored,
      name: tab => tab.id
    });
    void restorer?.restore(logs, {
      command: CommandIDs.showLog,
      args: widget => ({ service: widget.id.slice('jp-portproxy-log-'.length) }),
      name: widget => widget.id
    });

    // ---- printed links ----

    const addressOf = (link: ILocalLink) => absoluteUrl(outsideUrl({ port: link.port }, link.url, link.path));
    const runWith = (command: string, link: ILocalLink) => void commands.execute(command, { ...link });
    const links = new LocalLinks(manager, addressOf, runWith, () => requests.request('GET', 'ports'));
    if (terminals) {
      links.followTerminals(terminals);
    }

    // ---- templates and settings ----

    if (launcher) {
      // The first tile of the category, so that its icon is the category's.
      launcher.add({ command: CommandIDs.showPanel, category: 'Services', rank: -1 });
      const tiles = new Tiles(launcher);
      manager.changed.connect(() => tiles.update(manager.templates));
    }
    void actions.attempt(() => manager.refreshTemplates());
    void settings
      ?.load(plugin.id)
      .then(loaded => {
        const read = () => {
          state.settings = loaded.composite as unknown as IRuleSettings;
          links.isEnabled = loaded.composite.links !== false;
          isolation.isEnabled = loaded.composite.isolate !== false;
        };
        loaded.changed.connect(read);
        read();
      })
      .catch(error => console.warn('The settings of jupyter-portproxy could not be loaded.', error));
  }
};

export { CommandIDs, SERVER_PROXY_OPEN } from './commands';
export * from './tokens';
export default [managerPlugin, plugin, runningPlugin, menusPlugin, openUrlPlugin];
