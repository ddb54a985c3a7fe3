// The commands that open a service or port, in a tab of JupyterLab or of the browser, and the one that copies its URL.

import type { ILabShell, JupyterFrontEnd } from '@jupyterlab/application';
import type { WidgetTracker } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { copyIcon } from '@jupyterlab/ui-components';

import type { Actions } from './actions';
import { AddCommand, Args, CommandIDs, Target } from './commands';
import { outsideIcon, tabIcon } from './icons';
import type { Isolation } from './isolation';
import { isActive, portLabel, serviceLabel } from './labels';
import type { NewPorts } from './new-ports';
import type { PanelState } from './panel';
import { loadPart } from './parts';
import type { IRecipe, ServiceTab } from './tab';
import type { Targets } from './targets';
import type { IPortsManager, ITemplate } from './tokens';
import { absoluteUrl, prefixOf } from './urls';
import type { Run } from './views';

/** What the commands use. Without a `labShell`, as in Notebook, every page opens in a tab of the browser. */
export interface IOpenParts {
  shell: JupyterFrontEnd.IShell;
  labShell: ILabShell | null;
  manager: IPortsManager;
  state: Pick<PanelState, 'rules'>;
  tabs: WidgetTracker<ServiceTab>;
  actions: Actions;
  newPorts: NewPorts;
  targets: Targets;
  isolation: Isolation;
  run: Run;
  trans: TranslationBundle;
}

/** The tab of a target; undefined if it has none. */
export function findTab(tabs: WidgetTracker<ServiceTab>, target: Target): ServiceTab | undefined {
  return tabs.find(tab => JSON.stringify(tab.target) === JSON.stringify(target));
}

/** The URL for a tab of the browser: at the isolated origin, if the target has one. */
export function outsideUrl(isolation: Isolation, target: Target, url: string, path?: string): string {
  const entryPath = isolation.entryPath(target);
  const prefix = prefixOf(url);
  if (entryPath === undefined && path === undefined) {
    return url;
  }
  return (entryPath ?? prefix) + (path ?? absoluteUrl(url).slice(absoluteUrl(prefix).length));
}

export function openOutside(url: string): void {
  window.open(absoluteUrl(url), '_blank', 'noopener');
}

export function addOpenCommands(add: AddCommand, parts: IOpenParts): void {
  const { actions, newPorts, targets, isolation, trans } = parts;
  /** The URL of a target. A restored tab and a printed link have one as an argument, for a target that is not listed or not allowed. */
  const urlOf = (args: Args, target: Target) => actions.urlOf(target) ?? (typeof args.url === 'string' ? args.url : undefined);
  const hasUrl = (args: Args) => {
    const target = targets.of(args);
    return target !== null && actions.urlOf(target) !== undefined;
  };
  const isOpenable = (args: Args) => typeof args.url === 'string' || (hasUrl(args) && isActive(targets.service(args) ?? { state: 'up' }));
  const openInLab = async (args: Args) => {
    const target = targets.of(args);
    const url = target && urlOf(args, target);
    await isolation.ready;
    if (target && url) {
      newPorts.remove(target);
      await actions.attempt(() => openTab(parts, target, url, args));
    }
  };
  const openInBrowser = (args: Args) => {
    const target = targets.of(args);
    const url = target && urlOf(args, target);
    if (target && url) {
      newPorts.remove(target);
      openOutside(outsideUrl(isolation, target, url, typeof args.path === 'string' ? args.path : undefined));
    }
  };
  const copyUrl = (args: Args) => {
    const target = targets.of(args);
    if (target) {
      actions.copyUrl(target);
    }
  };
  add(CommandIDs.openInLab, trans.__('Open in a Lab Tab'), openInLab, { icon: tabIcon, isEnabled: isOpenable });
  add(CommandIDs.openInBrowser, trans.__('Open in a Browser Tab'), openInBrowser, { icon: outsideIcon, isEnabled: isOpenable });
  add(CommandIDs.copyUrl, trans.__('Copy Service URL'), copyUrl, { icon: copyIcon, isEnabled: hasUrl });
}

/** Opens the tab of a target, or brings it to the front. A preview does not take the focus. */
async function openTab(parts: IOpenParts, target: Target, url: string, args: Args): Promise<void> {
  const { shell, labShell, tabs, isolation } = parts;
  const path = typeof args.path === 'string' ? args.path : undefined;
  const isPreview = args.preview === true;
  if (!labShell) {
    openOutside(outsideUrl(isolation, target, url, path)); // Notebook shows one document only
    return;
  }
  const { ServiceTab } = await loadPart(() => import('./tab'));
  let tab = findTab(tabs, target);
  if (!tab) {
    tab = makeTab(ServiceTab, parts, target, url, args, path);
    void tabs.add(tab);
    shell.add(tab, 'main', { type: 'Service', ...(isPreview ? { mode: 'split-right', activate: false } : {}) });
  } else if (path !== undefined && path !== tab.content.path) {
    tab.content.go(path);
  }
  if (!isPreview) {
    shell.activateById(tab.id);
  }
}

function makeTab(type: typeof ServiceTab, parts: IOpenParts, target: Target, url: string, args: Args, path: string | undefined): ServiceTab {
  const { manager, tabs, actions, isolation, run, trans } = parts;
  const recipe = args.recipe as IRecipe | undefined;
  const label = typeof args.label === 'string' ? args.label : labelOf(parts, target);
  const shown = 'service' in target ? (manager.service(target.service) ?? templateNamed(manager, target.service)) : undefined;
  const icon = typeof args.icon === 'string' ? args.icon : (shown?.icon ?? '');
  const start = (how: IRecipe) => void actions.start(how.template, label, 'service' in target ? target.service : undefined, how.arguments);
  const options = { target, url, label, icon, manager, isolation, trans, run, recipe, start, ...(path ? { path } : {}) };
  const tab: ServiceTab = new type({ ...options, onNavigated: () => void tabs.save(tab) });
  return tab;
}

/** The name of a target for people. */
export function labelOf({ manager, state, trans }: Pick<IOpenParts, 'manager' | 'state' | 'trans'>, target: Target): string {
  if ('service' in target) {
    const service = manager.service(target.service);
    return service ? serviceLabel(service) : (templateNamed(manager, target.service)?.title ?? target.service);
  }
  const port = manager.port(target.port);
  const label = port ? portLabel(port, state.rules, trans) : trans.__('Port %1', target.port);
  return label === port?.process ? `${label}:${target.port}` : label; // several ports may have one process
}

function templateNamed({ templates }: IPortsManager, name: string): ITemplate | undefined {
  return templates.find(item => item.name === name);
}
