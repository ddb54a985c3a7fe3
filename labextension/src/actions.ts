// What the commands do, step by step, and what they tell the person meanwhile.

import { Clipboard, Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import { ApiError } from './api';
import type { Target } from './commands';
import { absolute } from './tab';
import type { ILostSocket, IPort, IPortsManager, IService } from './tokens';
import { IPortRule, portLabel, ruleFor, serviceLabel } from './words';

const DRAWN = 1000;
const GATHERED = 500;
const NEW_PORT_CLOSES = 20_000;

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
    private readonly _showLog: (name: string) => void,
    private readonly _edit: (name: string) => void,
    private readonly _showPanel: () => void
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

  /** Starts, and says how it goes until it is up or has failed. `label` is what it is called until the server has named it. */
  async start(template: string, label: string, name?: string, args?: Record<string, string>): Promise<void> {
    await this._tell(label, () => this._manager.start(template, name, args));
  }

  /** Says how a start goes that the server has accepted. */
  async follow(service: IService): Promise<void> {
    await this._tell(serviceLabel(service), () => Promise.resolve(service));
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
      Notification.error(textOf(error), { autoClose: 10_000 });
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
      const named = serviceLabel(service);
      await drawn;
      if (service.state === 'up' || service.state === 'unhealthy') {
        const open = { label: trans.__('Open'), callback: () => this._open({ service: name }) };
        const message = trans.__('%1 is up.', named);
        Notification.update({ id, message, type: 'success', autoClose: 10_000, actions: [open] });
      } else {
        const log = { label: trans.__('Show log'), callback: () => this._showLog(name) };
        const edit = { label: trans.__('Edit…'), callback: () => this._edit(name) };
        const message = trans.__('%1 did not start. %2', named, service.error);
        Notification.update({ id, message, type: 'error', autoClose: false, actions: [log, edit] });
      }
    } catch (error) {
      await drawn;
      Notification.update({ id, message: textOf(error), type: 'error', autoClose: 10_000, actions: [] });
    }
  }

  /** A new listener: told, opened, or neither, as the settings say. */
  greet(port: IPort, settings: INewPortSettings): void {
    const action = ruleFor(port, settings.ports)?.action ?? settings.onNewPort;
    const target = { port: port.port };
    if (action === 'open') {
      this._open(target);
    } else if (action === 'notify') {
      this._greeted.set(port.port, portLabel(port, settings.ports, this._trans));
      this._tellOfNewPorts();
    }
  }

  /** What has gone is not offered any more. */
  private _takeBack(): void {
    const gone = [...this._greeted.keys()].filter(port => !this._manager.port(port));
    gone.forEach(port => this._greeted.delete(port));
    if (gone.length) {
      this._tellOfNewPorts();
    }
  }

  /** One note for all ports that were greeted while it is there; written anew when no other has come for a moment. */
  private _tellOfNewPorts(): void {
    clearTimeout(this._gathering);
    this._gathering = setTimeout(() => {
      clearTimeout(this._closing);
      Notification.dismiss(this._note);
      const [first, ...others] = this._greeted;
      if (!first) {
        return;
      }
      this._closing = setTimeout(() => this._greeted.clear(), NEW_PORT_CLOSES);
      const { _trans: trans, _greeted: greeted } = this;
      const target = { port: first[0] };
      const answer = (act: () => void) => () => {
        greeted.clear();
        act();
      };
      const show = others.length
        ? { label: trans.__('Show'), callback: answer(this._showPanel) }
        : { label: trans.__('Open'), callback: answer(() => this._open(target)) };
      const message = others.length
        ? trans.__('%1 services are running on new ports: %2', greeted.size, listOf([...greeted.keys()]))
        : trans.__('A service is running on port %1 (%2)', first[0], first[1]);
      const ignore = { label: trans.__('Ignore'), callback: answer(() => undefined) };
      const actions = [{ ...show, displayType: 'accent' as const }, ignore];
      this._note = Notification.info(message, { autoClose: NEW_PORT_CLOSES, actions });
    }, GATHERED);
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

  /** Port -> what it is called, of those in the note that is there now. */
  private readonly _greeted = new Map<number, string>();
  private _note = '';
  private _gathering: ReturnType<typeof setTimeout> | undefined;
  private _closing: ReturnType<typeof setTimeout> | undefined;
}

const MAX_LISTED = 5;

function listOf(ports: number[]): string {
  const listed = ports.sort((a, b) => a - b).slice(0, MAX_LISTED);
  return listed.join(', ') + (listed.length < ports.length ? ' …' : '');
}

function textOf(error: unknown): string {
  return error instanceof ApiError ? error.text : String(error);
}
