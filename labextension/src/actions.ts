// The actions of the commands, with the notifications that report their progress.

import { Clipboard, Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import { messageOf } from './api';
import type { Target } from './commands';
import { programName, programPattern, RuleSet } from './rules';
import { BrowserTab, IOutside } from './starting';
import { absoluteUrl } from './tab';
import type { ILostSocket, IPort, IPortsManager, IService, ITemplate } from './tokens';
import { portLabel, serviceLabel } from './labels';

const TOAST_DELAY = 1000;
const GATHERING_DELAY = 500;
const MAX_OPENED = 5;
const OPENING_PERIOD = 10_000;
const NEW_PORT_DURATION = 20_000;

/** Opens a target; without `where` in its default place. */
export type Opener = (target: Target, where?: 'lab' | 'browser' | 'preview') => void;

export class Actions {
  constructor(
    private readonly _manager: IPortsManager,
    private readonly _trans: TranslationBundle,
    private readonly _open: Opener,
    private readonly _showLog: (name: string) => void,
    private readonly _edit: (name: string) => void,
    private readonly _showPanel: () => void,
    private readonly _outside: IOutside
  ) {
    _manager.changed.connect(this._removeGonePorts, this);
  }

  /** Path of the URL of a target; undefined if the target has ended. */
  urlOf(target: Target): string | undefined {
    if ('port' in target) {
      return this._manager.port(target.port)?.url ?? undefined;
    }
    const reserved = this._manager.reservations.find(item => item.name === target.service);
    const template = this._manager.templates.find(item => item.name === target.service);
    return this._manager.service(target.service)?.url ?? reserved?.url ?? template?.url ?? undefined;
  }

  copyUrl(target: Target): void {
    const url = this.urlOf(target);
    if (url !== undefined) {
      Clipboard.copyToSystem(absoluteUrl(url));
      Notification.info(this._trans.__('The URL is copied.'), { autoClose: 2000 });
    }
  }

  /** Starts a service, with a notification until it is up or has failed. `label` names it until the server has answered. */
  async start(template: string, label: string, name?: string, args?: Record<string, string>): Promise<void> {
    await this._reportStart(label, () => this._manager.start(template, name, args));
  }

  /** Starts a service of a template, and opens its tab at once, which shows the progress. To be called while a click is handled. */
  async launch({ name: template, title, open_in }: ITemplate): Promise<void> {
    const tab = this._outside.isDefault(open_in) ? new BrowserTab(this._trans.__('Starting %1…', title)) : undefined;
    await this._reportStart(title, async () => {
      try {
        const service = await this._manager.start(template);
        this._show(service, tab);
        return service;
      } catch (error) {
        tab?.close();
        throw error;
      }
    });
  }

  /** Opens the tab of a service whose start the server has accepted, and shows the notification. */
  async follow(service: IService): Promise<void> {
    const isOutside = this._outside.isDefault(service.open_in);
    this._show(service, isOutside ? new BrowserTab(this._trans.__('Starting %1…', serviceLabel(service))) : undefined);
    await this._reportStart(serviceLabel(service), () => Promise.resolve(service));
  }

  async restart(name: string): Promise<void> {
    const known = this._manager.service(name);
    await this._reportStart(known ? serviceLabel(known) : name, () => this._manager.restart(name));
  }

  /** Runs an action; shows a notification if it fails. */
  async attempt(what: () => Promise<unknown>): Promise<void> {
    try {
      await what();
    } catch (error) {
      Notification.error(messageOf(error), { autoClose: 10_000 });
    }
  }

  private _show(service: IService, tab: BrowserTab | undefined): void {
    if (tab) {
      tab.go(this._outside.addressOf(service));
    } else {
      this._open({ service: service.name }, 'lab');
    }
  }

  private async _reportStart(label: string, begin: () => Promise<IService>): Promise<void> {
    const trans = this._trans;
    const id = Notification.emit(trans.__('Starting %1…', label), 'in-progress', { autoClose: false });
    // JupyterLab drops an update of a notification that is not shown yet.
    const toastShown = new Promise(resolve => setTimeout(resolve, TOAST_DELAY));
    try {
      const { name } = await begin();
      const service = await this._manager.whenSettled(name);
      const startedLabel = serviceLabel(service);
      await toastShown;
      if (service.state === 'up' || service.state === 'unhealthy') {
        const open = { label: trans.__('Open'), callback: () => this._open({ service: name }) };
        const message = trans.__('%1 is up.', startedLabel);
        Notification.update({ id, message, type: 'success', autoClose: 10_000, actions: [open] });
      } else {
        const log = { label: trans.__('Show log'), callback: () => this._showLog(name) };
        const edit = { label: trans.__('Edit…'), callback: () => this._edit(name) };
        const message = trans.__('%1 did not start. %2', startedLabel, service.error);
        Notification.update({ id, message, type: 'error', autoClose: false, actions: [log, edit] });
      }
    } catch (error) {
      await toastShown;
      Notification.update({ id, message: messageOf(error), type: 'error', autoClose: 10_000, actions: [] });
    }
  }

  /** Opens or announces a new port, according to the rules. A port that a tab shows already (`isShown`) is not announced. */
  announce(port: IPort, rules: RuleSet, isShown = false): void {
    const { on_appear } = rules.of(port);
    const target = { port: port.port };
    const opens = on_appear === 'open' || on_appear === 'preview' || (on_appear === 'open_once' && isFirst(`portproxy-opened:${port.url}`));
    if (opens && this._mayOpen()) {
      this._open(target, on_appear === 'preview' ? 'preview' : undefined);
    } else if (opens || (on_appear === 'notify' && !isShown)) {
      this._announced.set(port.port, portLabel(port, rules, this._trans));
      this._updatePortNotification();
    }
  }

  /** False if new ports have opened MAX_OPENED tabs within OPENING_PERIOD: one rule may match hundreds of ports. */
  private _mayOpen(): boolean {
    const now = Date.now();
    this._openings = this._openings.filter(time => now - time < OPENING_PERIOD);
    return this._openings.length < MAX_OPENED && this._openings.push(now) > 0;
  }

  /** Removes a port from the notification, because its page is opened by another way. */
  removeFromNotification(target: Target): void {
    if ('port' in target && this._announced.delete(target.port)) {
      this._updatePortNotification();
    }
  }

  /** Makes a rule for the program of a port, and offers to undo it. */
  private async _silence(port: IPort): Promise<void> {
    const trans = this._trans;
    const rule = await this._manager.setRule({ process: programPattern(port), on_appear: 'silent' });
    const message = trans.__('New ports of %1 are no longer announced. Later, Edit… in the row of such a port changes that.', programName(port));
    const undo = { label: trans.__('Undo'), callback: () => void this.attempt(() => this._manager.removeRule(rule.id)) };
    Notification.info(message, { autoClose: 10_000, actions: [undo] });
  }

  /** A port of the notification, if all of them are of one program for which a rule can be made. */
  private get _silencable(): IPort | undefined {
    const ports = [...this._announced.keys()].map(port => this._manager.port(port));
    const patterns = new Set(ports.map(port => port && programPattern(port)));
    return this._manager.portRules && patterns.size === 1 && ports[0]?.process ? ports[0] : undefined;
  }

  /** Removes ports that have ended from the notification. */
  private _removeGonePorts(): void {
    const gone = [...this._announced.keys()].filter(port => !this._manager.port(port));
    gone.forEach(port => this._announced.delete(port));
    if (gone.length) {
      this._updatePortNotification();
    }
  }

  /** One notification for all announced ports; replaced after GATHERING_DELAY without another new port. */
  private _updatePortNotification(): void {
    clearTimeout(this._gathering);
    this._gathering = setTimeout(() => {
      clearTimeout(this._closing);
      Notification.dismiss(this._notificationId);
      const [first, ...others] = this._announced;
      if (!first) {
        return;
      }
      this._closing = setTimeout(() => this._announced.clear(), NEW_PORT_DURATION);
      const { _trans: trans, _announced: announced } = this;
      const target = { port: first[0] };
      const dismissAnd = (act: () => void) => () => {
        announced.clear();
        act();
      };
      const show = others.length
        ? { label: trans.__('Show'), callback: dismissAnd(this._showPanel) }
        : { label: trans.__('Open'), callback: dismissAnd(() => this._open(target)) };
      const message = others.length
        ? trans.__('%1 services are running on new ports: %2', announced.size, listPorts([...announced.keys()]))
        : trans.__('A service is running on port %1 (%2)', first[0], first[1]);
      const port = this._silencable;
      const silence = port && (() => void this.attempt(() => this._silence(port)));
      const never = silence ? [{ label: trans.__('Never for this process'), callback: dismissAnd(silence) }] : [];
      const dismiss = { label: trans.__('Dismiss'), callback: dismissAnd(() => undefined) };
      const actions = [{ ...show, displayType: 'accent' as const }, ...never, dismiss];
      this._notificationId = Notification.info(message, { autoClose: NEW_PORT_DURATION, actions });
    }, GATHERING_DELAY);
  }

  /** Reports a WebSocket outside its service's prefix, with a button for the isolated origin if there is one. */
  reportLostSocket(lost: ILostSocket, openOutside: (url: string) => void): void {
    const trans = this._trans;
    const { path, url, isolated } = lost;
    const what = url
      ? trans.__('The service at %1 opened a WebSocket at %2, outside its prefix. It cannot work there.', url, path)
      : trans.__('A page opened a WebSocket at %1, where no handler exists. A service must open it below its own prefix.', path);
    const open = { label: trans.__('Open at its isolated origin'), callback: () => openOutside(isolated ?? ''), displayType: 'accent' as const };
    Notification.warning(what, { autoClose: false, actions: isolated ? [open] : [] });
  }

  /** Port -> label, for the ports of the current notification. */
  private readonly _announced = new Map<number, string>();
  private _notificationId = '';
  /** Times of the tabs that new ports have opened, in ms. */
  private _openings: number[] = [];
  private _gathering: ReturnType<typeof setTimeout> | undefined;
  private _closing: ReturnType<typeof setTimeout> | undefined;
}

const MAX_LISTED = 5;

function listPorts(ports: number[]): string {
  const listed = ports.sort((a, b) => a - b).slice(0, MAX_LISTED);
  return listed.join(', ') + (listed.length < ports.length ? ' …' : '');
}

/** Whether this is the first call with this key in the session of the browser. */
function isFirst(key: string): boolean {
  try {
    const isKnown = sessionStorage.getItem(key) !== null;
    sessionStorage.setItem(key, '1');
    return !isKnown;
  } catch {
    return true; // a browser that keeps no storage
  }
}
