// The actions of the commands, with the notifications that report their progress.

import { Clipboard, Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import { messageOf } from './api';
import type { Target } from './commands';
import { copyForwardCommand } from './forward';
import { BrowserTab, IOutside } from './starting';
import type { ILostSocket, IPortsManager, IService, ITemplate } from './tokens';
import { hasPage, serviceLabel } from './labels';
import { absoluteUrl } from './urls';

const TOAST_DELAY = 1000;

/** Opens a target; without `where` in its default place. */
export type Opener = (target: Target, where?: 'lab' | 'browser' | 'preview') => void;

export class Actions {
  constructor(
    private readonly _manager: IPortsManager,
    private readonly _trans: TranslationBundle,
    private readonly _open: Opener,
    private readonly _showLog: (name: string) => void,
    private readonly _edit: (name: string) => void,
    private readonly _outside: IOutside
  ) {}

  /** Path of the URL of a target; undefined if the target has ended, or speaks no HTTP. */
  urlOf(target: Target): string | undefined {
    if ('port' in target) {
      const port = this._manager.port(target.port);
      return port?.tcp ? undefined : (port?.url ?? undefined);
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
  async launch({ name: template, title, open_in, scheme }: ITemplate): Promise<void> {
    const tab = hasPage(scheme) && this._outside.isDefault(open_in) ? new BrowserTab(this._trans.__('Starting %1…', title)) : undefined;
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
    const isOutside = hasPage(service.scheme) && this._outside.isDefault(service.open_in);
    this._show(service, isOutside ? new BrowserTab(this._trans.__('Starting %1…', serviceLabel(service))) : undefined);
    await this._reportStart(serviceLabel(service), () => Promise.resolve(service));
  }

  /** Whether the notification of a start reports the failure of a service. */
  reports({ name, since }: IService): boolean {
    return this._starting.has(name) || this._failed.get(name) === since;
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
    let starting = '';
    try {
      const { name } = await begin();
      this._starting.add((starting = name));
      const service = await this._manager.whenSettled(name);
      const startedLabel = serviceLabel(service);
      await toastShown;
      if (service.state === 'up' || service.state === 'unhealthy') {
        const forward = { label: trans.__('Copy forward command'), callback: () => copyForwardCommand({ service: name }, trans) };
        const open = { label: trans.__('Open'), callback: () => this._open({ service: name }) };
        const actions = hasPage(service.scheme) ? [open] : service.scheme === 'tcp' ? [forward] : [];
        const message = trans.__('%1 is up.', startedLabel);
        Notification.update({ id, message, type: 'success', autoClose: 10_000, actions });
      } else {
        this._failed.set(name, service.since);
        const log = { label: trans.__('Show log'), callback: () => this._showLog(name) };
        const edit = { label: trans.__('Edit…'), callback: () => this._edit(name) };
        const message = trans.__('%1 did not start. %2', startedLabel, service.error);
        Notification.update({ id, message, type: 'error', autoClose: false, actions: [log, edit] });
      }
    } catch (error) {
      await toastShown;
      Notification.update({ id, message: messageOf(error), type: 'error', autoClose: 10_000, actions: [] });
    } finally {
      this._starting.delete(starting);
    }
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

  /** The services whose start has a notification. */
  private readonly _starting = new Set<string>();
  /** Name -> time of the failure that a notification has reported. */
  private readonly _failed = new Map<string, number>();
}
