// What the commands do, step by step, and what they tell the person meanwhile.

import { Clipboard, Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import { ApiError } from './api';
import type { Target } from './commands';
import { absolute } from './tab';
import type { ILostSocket, IPort, IPortsManager, IService } from './tokens';
import { IPortRule, portLabel, ruleFor, serviceLabel } from './words';

const DRAWN = 1000;

/** What the settings say about ports that appear. */
export interface INewPortSettings {
  onNewPort: 'notify' | 'open' | 'silent';
  ports: readonly IPortRule[];
}

/** Opens what a target is; the way that is usual for it if `where` is left out. */
export type Opener = (target: Target, where?: 'lab' | 'browser') => void;

export class Actions {
  constructor(
    private readonly _manager: IPortsManager,
    private readonly _trans: TranslationBundle,
    private readonly _open: Opener,
    private readonly _showLog: (name: string) => void
  ) {
    _manager.changed.connect(this._takeBack, this);
  }

  /** Path of the URL of a target; undefined if it is not there any more. */
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
      Clipboard.copyToSystem(absolute(url));
      Notification.info(this._trans.__('The URL is copied.'), { autoClose: 2000 });
    }
  }

  /** Starts, and says how it goes until it is up or has failed. */
  async start(template: string, label: string, name?: string, args?: Record<string, string>): Promise<void> {
    await this._tell(label, () => this._manager.start(template, name, args));
  }

  async restart(name: string): Promise<void> {
    const known = this._manager.service(name);
    await this._tell(known ? serviceLabel(known) : name, () => this._manager.restart(name));
  }

  /** Does something that may fail, and says so if it does. */
  async attempt(what: () => Promise<unknown>): Promise<void> {
    try {
      await what();
    } catch (error) {
      Notification.error(wordsOf(error), { autoClose: 10_000 });
    }
  }

  private async _tell(label: string, begin: () => Promise<IService>): Promise<void> {
    const trans = this._trans;
    const id = Notification.emit(trans.__('Starting %1…', label), 'in-progress', { autoClose: false });
    // JupyterLab loses an update that comes before its toast is drawn.
    const drawn = new Promise(resolve => setTimeout(resolve, DRAWN));
    try {
      const { name } = await begin();
      const service = await this._manager.settled(name);
      await drawn;
      if (service.state === 'up' || service.state === 'unhealthy') {
        const open = { label: trans.__('Open'), callback: () => this._open({ service: name }) };
        const message = trans.__('%1 is up.', label);
        Notification.update({ id, message, type: 'success', autoClose: 10_000, actions: [open] });
      } else {
        const log = { label: trans.__('Show log'), callback: () => this._showLog(name) };
        const message = trans.__('%1 did not start. %2', label, service.error);
        Notification.update({ id, message, type: 'error', autoClose: false, actions: [log] });
      }
    } catch (error) {
      await drawn;
      Notification.update({ id, message: wordsOf(error), type: 'error', autoClose: 10_000, actions: [] });
    }
  }

  /** A new listener: told, opened, or neither, as the settings say. */
  greet(port: IPort, settings: INewPortSettings): void {
    const action = ruleFor(port, settings.ports)?.action ?? settings.onNewPort;
    const target = { port: port.port };
    if (action === 'open') {
      this._open(target);
    } else if (action === 'notify') {
      const trans = this._trans;
      const what = portLabel(port, settings.ports, trans);
      this._dismiss(port.port);
      const id = Notification.info(trans.__('A service is running on port %1 (%2)', port.port, what), {
        autoClose: 20_000,
        actions: [
          { label: trans.__('Open'), callback: () => this._open(target), displayType: 'accent' },
          { label: trans.__('Ignore'), callback: () => undefined }
        ]
      });
      this._greeted.set(port.port, id);
    }
  }

  /** Nobody is offered to open what has gone. */
  private _takeBack(): void {
    [...this._greeted.keys()].filter(port => !this._manager.port(port)).forEach(port => this._dismiss(port));
  }

  private _dismiss(port: number): void {
    const id = this._greeted.get(port);
    if (id !== undefined) {
      Notification.dismiss(id);
      this._greeted.delete(port);
    }
  }

  /** A WebSocket that no prefix can mend: said, with the way to where it works if there is one. */
  tellOfLostSocket(lost: ILostSocket, openOutside: (url: string) => void): void {
    const trans = this._trans;
    const { path, url, isolated } = lost;
    const what = url
      ? trans.__('The service at %1 opened a WebSocket at %2, outside its prefix. It cannot work there.', url, path)
      : trans.__('A page opened a WebSocket at %1, where nothing is. A service must open it below its own prefix.', path);
    const open = { label: trans.__('Open at its own origin'), callback: () => openOutside(isolated ?? ''), displayType: 'accent' as const };
    Notification.warning(what, { autoClose: false, actions: isolated ? [open] : [] });
  }

  /** Port -> the note that tells of it. */
  private readonly _greeted = new Map<number, string>();
}

function wordsOf(error: unknown): string {
  return error instanceof ApiError ? [error.message, error.hint].join(' ').trim() : String(error);
}
