// The model: the services, ports and reservations of the server, updated by its event stream. It uses no widgets.
//
// Connection: `connecting` -> `live` with the first snapshot -> `lost` when the stream fails, retried with growing delays;
// `paused` while the document is hidden. Only `_setConnection` changes it.

import type { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';

import { ApiError, eventsOf, IApi, IEvent } from './api';
import { visibleText } from './labels';
import type {
  Connection,
  IAgent,
  IAttachToken,
  IFailedRequests,
  IFolder,
  IKernel,
  ILostSocket,
  IPort,
  IPortRule,
  IPortsManager,
  IProject,
  IReservation,
  IService,
  ITemplate
} from './tokens';

const FIRST_RETRY_DELAY = 1000;
const MAX_RETRY_DELAY = 15_000;
/** The server sends a comment every 15 s; three missed ones mean that the connection is dead. */
const SILENCE_TIMEOUT = 45_000;
const POLL_INTERVAL = 1000;

interface ISnapshot {
  ports: IPort[];
  services: IService[];
  reservations: IReservation[];
  projects?: IProject[];
  port_rules?: IPortRule[];
  agents?: IAgent[];
  folders?: IFolder[];
}

type Item =
  | ({ kind: 'port' } & IPort)
  | ({ kind: 'service' } & IService)
  | ({ kind: 'reservation' } & IReservation)
  | ({ kind: 'project' } & IProject)
  | ({ kind: 'port_rule' } & IPortRule)
  | ({ kind: 'agent' } & IAgent)
  | ({ kind: 'folder' } & IFolder);

/** The visibility of a document. */
export interface IVisibility {
  readonly hidden: boolean;
  addEventListener(type: 'visibilitychange', listener: () => void): void;
  removeEventListener(type: 'visibilitychange', listener: () => void): void;
}

export class PortsManager implements IPortsManager, IDisposable {
  constructor(
    private readonly _api: IApi,
    private readonly _visibility: IVisibility = document
  ) {
    this._visibility.addEventListener('visibilitychange', this._onVisibility);
    this._onVisibility();
  }

  get services(): readonly IService[] {
    return [...this._services.values()].sort((a, b) => a.name.localeCompare(b.name));
  }

  get ports(): readonly IPort[] {
    return [...this._ports.values()].sort((a, b) => a.port - b.port);
  }

  get reservations(): readonly IReservation[] {
    return [...this._reservations.values()].sort((a, b) => a.name.localeCompare(b.name));
  }

  get templates(): readonly ITemplate[] {
    return this._templates;
  }

  get projects(): readonly IProject[] | null {
    return this._projects && [...this._projects.values()];
  }

  get portRules(): readonly IPortRule[] | null {
    return this._portRules;
  }

  get agents(): readonly IAgent[] | null {
    return this._agents;
  }

  get folders(): readonly IFolder[] | null {
    return this._folders;
  }

  get connection(): Connection {
    return this._connection;
  }

  get problem(): string {
    return this._problem;
  }

  get isAway(): boolean {
    return this._connection === 'lost' && this._isAway;
  }

  get changed(): ISignal<IPortsManager, void> {
    return this._changed;
  }

  get appeared(): ISignal<IPortsManager, IPort> {
    return this._appeared;
  }

  get socketLost(): ISignal<IPortsManager, ILostSocket> {
    return this._socketLost;
  }

  get requestsFailed(): ISignal<IPortsManager, IFailedRequests> {
    return this._requestsFailed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  service(name: string): IService | undefined {
    return this._services.get(name);
  }

  port(port: number): IPort | undefined {
    return this.ports.find(item => item.port === port);
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this._visibility.removeEventListener('visibilitychange', this._onVisibility);
    this._disconnect();
    Signal.clearData(this);
  }

  async refresh(): Promise<void> {
    await this.refreshTemplates();
    this._failures = 0;
    this._disconnect();
    this._onVisibility();
  }

  async refreshTemplates(): Promise<void> {
    this._templates = await this._api.request<ITemplate[]>('GET', 'templates');
    this._changed.emit();
  }

  kernels(): Promise<IKernel[]> {
    return this._api.request('GET', 'kernels');
  }

  templatesOf(kernel: string): Promise<ITemplate[]> {
    return this._api.request('GET', `templates?kernel=${encodeURIComponent(kernel)}`);
  }

  async start(template: string, name?: string, args: Record<string, string> = {}, kernel: string | null = null): Promise<IService> {
    const body = { template, arguments: args, ...(name ? { name } : {}), ...(kernel === null ? {} : { kernel }) };
    return this._store(await this._api.request<IService>('POST', 'services', body));
  }

  async restart(name: string): Promise<IService> {
    return this._store(await this._api.request<IService>('POST', `${pathOf(name)}/restart`, {}));
  }

  async stop(name: string): Promise<IService> {
    return this._store(await this._api.request<IService>('POST', `${pathOf(name)}/stop`, {}));
  }

  async forget(name: string): Promise<void> {
    await this._api.request('DELETE', pathOf(name));
    this._services.delete(name);
    this._changed.emit();
  }

  async release(name: string): Promise<void> {
    await this._api.request('DELETE', `reservations/${encodeURIComponent(name)}`);
    this._reservations.delete(name);
    this._changed.emit();
  }

  async changeProject(key: string, method: string, path: string, body?: object): Promise<void> {
    await this._api.request(method, ['projects', encodeURIComponent(key), path].filter(Boolean).join('/'), body);
    this._setProjects(await this._api.request<IProject[]>('GET', 'projects'));
    this._changed.emit();
  }

  private _setProjects(projects: IProject[] | undefined): void {
    this._projects = projects ? new Map(projects.map(project => [project.key, project])) : null;
  }

  async setAllowed(port: number, allowed: boolean): Promise<void> {
    await (allowed ? this._api.request('PUT', 'allowed-ports', { port }) : this._api.request('DELETE', `allowed-ports/${port}`));
    for (const item of await this._api.request<IPort[]>('GET', `ports?look=${port}`)) {
      this._put({ kind: 'port', ...item });
    }
    this._changed.emit();
  }

  setRule(rule: Partial<Omit<IPortRule, 'id'>>): Promise<IPortRule> {
    return this._storeRule('PUT', rule);
  }

  changeRule(rule: Partial<Omit<IPortRule, 'id'>>): Promise<IPortRule> {
    return this._storeRule('PATCH', rule);
  }

  private async _storeRule(method: string, rule: Partial<Omit<IPortRule, 'id'>>): Promise<IPortRule> {
    const stored = await this._api.request<IPortRule>(method, 'port-rules', rule);
    this._put({ kind: 'port_rule', ...stored });
    this._changed.emit();
    return stored;
  }

  async removeRule(id: string): Promise<void> {
    try {
      await this._api.request('DELETE', `port-rules/${encodeURIComponent(id)}`);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) {
        throw error;
      }
    }
    this._dropRule(id);
    this._changed.emit();
  }

  async detach(agent: string): Promise<void> {
    await this._api.request('DELETE', `attached/${encodeURIComponent(agent)}`);
  }

  attachTokens(): Promise<IAttachToken[]> {
    return this._api.request('GET', 'attach-tokens');
  }

  async revokeToken(id: string): Promise<void> {
    await this._api.request('DELETE', `attach-tokens/${encodeURIComponent(id)}`);
  }

  async openFolder(path: string): Promise<IFolder | null> {
    const found = await this._api.request<IFolder | null>('POST', 'folders/open', { path });
    return found ? this._storeFolder(found) : null;
  }

  async readFolder({ folder }: IFolder): Promise<IFolder | null> {
    try {
      return await this._changeFolder('GET', `folders?path=${encodeURIComponent(folder)}`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) {
        return null;
      }
      throw error;
    }
  }

  giveConsent({ folder: path, digest }: IFolder): Promise<IFolder> {
    return this._changeFolder('PUT', 'folders/consent', { path, digest });
  }

  withdrawConsent({ folder }: IFolder): Promise<IFolder> {
    return this._changeFolder('DELETE', `folders/consent?path=${encodeURIComponent(folder)}`);
  }

  async startFolder({ folder: path, digest }: IFolder, services?: string[]): Promise<IFolder> {
    const folder = await this._changeFolder('POST', 'folders/up', { path, digest, ...(services ? { services } : {}) });
    if (folder.failures?.length) {
      throw new ApiError(0, folder.failures.map(({ name, message }) => `${visibleText(name)}: ${visibleText(message)}`).join(' '));
    }
    return folder;
  }

  stopFolder({ folder: path }: IFolder): Promise<IFolder> {
    return this._changeFolder('POST', 'folders/down', { path });
  }

  /** Sends a request whose response is a folder. */
  private async _changeFolder(method: string, path: string, body?: object): Promise<IFolder> {
    return this._storeFolder(await this._api.request<IFolder>(method, path, body));
  }

  private _storeFolder(folder: IFolder): IFolder {
    this._put({ kind: 'folder', ...folder });
    this._changed.emit();
    return folder;
  }

  async whenSettled(name: string): Promise<IService> {
    for (;;) {
      const known = this._services.get(name);
      if (known && known.state !== 'starting') {
        return known;
      }
      await this._nextChange();
      if (this._connection !== 'live') {
        this._store(await this._api.request<IService>('GET', pathOf(name)));
      }
    }
  }

  /** Resolves at the next change, or after POLL_INTERVAL. */
  private _nextChange(): Promise<void> {
    return new Promise(resolve => {
      const done = () => {
        clearTimeout(timer);
        this._changed.disconnect(done);
        resolve();
      };
      const timer = setTimeout(done, POLL_INTERVAL);
      this._changed.connect(done);
    });
  }

  private _store(service: IService): IService {
    this._storeUnlessOld(service);
    this._changed.emit();
    return this._services.get(service.name) ?? service;
  }

  /** Responses and events arrive on separate connections in any order: ignores a state older than the stored one. */
  private _storeUnlessOld(service: IService): void {
    if (!this._isOld(service)) {
      this._services.set(service.name, service);
    }
  }

  private _isOld(service: IService): boolean {
    return service.since < (this._services.get(service.name)?.since ?? service.since);
  }

  // ---- the stream ----

  private _onVisibility = (): void => {
    if (this._visibility.hidden) {
      this._disconnect();
      this._setConnection('paused');
    } else if (!this._abort) {
      void this._follow();
    }
  };

  private _disconnect(): void {
    clearTimeout(this._retry);
    clearTimeout(this._watchdog);
    this._retry = undefined;
    this._abort?.abort();
    this._abort = undefined;
  }

  private async _follow(): Promise<void> {
    const abort = (this._abort = new AbortController());
    clearTimeout(this._retry);
    if (this._connection !== 'lost') {
      this._setConnection('connecting');
    }
    let problem = '';
    let isAway = false;
    try {
      for await (const event of eventsOf(await this._api.openStream('events', abort.signal))) {
        this._restartWatchdog(abort);
        this._receive(event);
      }
    } catch (error) {
      problem = error instanceof ApiError ? error.text : '';
      isAway = error instanceof ApiError && error.status === 0;
    }
    if (this._abort === abort) {
      this._isAway = isAway;
      this._abort = undefined;
      this._scheduleRetry(problem || 'The connection to the Jupyter server is cut.');
    }
  }

  private _restartWatchdog(abort: AbortController): void {
    clearTimeout(this._watchdog);
    this._watchdog = setTimeout(() => abort.abort(), SILENCE_TIMEOUT);
  }

  private _scheduleRetry(problem: string): void {
    clearTimeout(this._watchdog);
    const pause = Math.min(FIRST_RETRY_DELAY * 2 ** this._failures++, MAX_RETRY_DELAY);
    this._setConnection('lost', problem);
    this._retry = setTimeout(() => void this._follow(), pause * (0.75 + Math.random() / 2));
  }

  private _setConnection(connection: Connection, problem = ''): void {
    if (connection !== this._connection || problem !== this._problem) {
      this._connection = connection;
      this._problem = problem;
      this._changed.emit();
    }
  }

  private _receive({ event, data }: IEvent): void {
    if (event === 'snapshot') {
      this._failures = 0;
      this._replace(data as ISnapshot);
      this._setConnection('live');
    } else if (event === 'changed') {
      this._put(data as Item);
    } else if (event === 'removed') {
      this._remove(data as Item);
    } else if (event === 'notice') {
      const notice = data as ILostSocket | IFailedRequests;
      if (notice.kind === 'lost-socket') {
        this._socketLost.emit(notice);
      } else if (notice.kind === 'failed-requests') {
        this._requestsFailed.emit(notice);
      }
      return;
    } else {
      return;
    }
    this._changed.emit();
  }

  private _replace(snapshot: ISnapshot): void {
    const before = this._hasSnapshot ? new Set(this._ports.keys()) : null;
    this._ports = new Map(snapshot.ports.map(port => [keyOf(port), port]));
    this._services = new Map(snapshot.services.map(service => [service.name, service]));
    this._reservations = new Map(snapshot.reservations.map(reservation => [reservation.name, reservation]));
    this._setProjects(snapshot.projects);
    this._portRules = snapshot.port_rules ?? null;
    this._agents = snapshot.agents ?? null;
    this._folders = snapshot.folders ?? null;
    this._hasSnapshot = true;
    if (before) {
      snapshot.ports.filter(port => !before.has(keyOf(port))).forEach(port => this._announceNewPort(port));
    }
  }

  private _put(item: Item): void {
    if (item.kind === 'port') {
      const known = this._ports.get(keyOf(item));
      this._ports.set(keyOf(item), item);
      if (!known?.http) {
        this._announceNewPort(item);
      }
    } else if (item.kind === 'service') {
      this._storeUnlessOld(item);
    } else if (item.kind === 'project') {
      this._projects?.set(item.key, item);
    } else if (item.kind === 'port_rule') {
      const rules = this._portRules ?? [];
      const isKnown = rules.some(rule => rule.id === item.id);
      this._portRules = isKnown ? rules.map(rule => (rule.id === item.id ? item : rule)) : [...rules, item];
    } else if (item.kind === 'agent') {
      this._agents = [...this._otherAgents(item.name), item].sort((a, b) => a.name.localeCompare(b.name));
    } else if (item.kind === 'folder') {
      this._folders = [...this._otherFolders(item), item].sort((a, b) => a.folder.localeCompare(b.folder));
    } else {
      this._reservations.set(item.name, item);
    }
  }

  private _remove(item: Item): void {
    if (item.kind === 'port') {
      this._ports.delete(keyOf(item));
    } else if (item.kind === 'service') {
      if (!this._isOld(item)) {
        this._services.delete(item.name);
      }
    } else if (item.kind === 'project') {
      this._projects?.delete(item.key);
    } else if (item.kind === 'port_rule') {
      this._dropRule(item.id);
    } else if (item.kind === 'agent') {
      this._agents = this._otherAgents(item.name);
    } else if (item.kind === 'folder') {
      this._folders = this._otherFolders(item);
    } else {
      this._reservations.delete(item.name);
    }
  }

  private _otherAgents(name: string): IAgent[] {
    return (this._agents ?? []).filter(agent => agent.name !== name);
  }

  private _otherFolders({ folder }: IFolder): IFolder[] {
    return (this._folders ?? []).filter(other => other.folder !== folder);
  }

  private _dropRule(id: string): void {
    this._portRules = this._portRules && this._portRules.filter(rule => rule.id !== id);
  }

  private _announceNewPort(port: IPort): void {
    if (port.mine && port.allowed && port.http && !port.service) {
      this._appeared.emit(port);
    }
  }

  private _ports = new Map<string, IPort>();
  private _services = new Map<string, IService>();
  private _reservations = new Map<string, IReservation>();
  private _projects: Map<string, IProject> | null = null;
  private _portRules: IPortRule[] | null = null;
  private _agents: IAgent[] | null = null;
  private _folders: IFolder[] | null = null;
  private _templates: ITemplate[] = [];
  private _connection: Connection = 'connecting';
  private _problem = '';
  private _isAway = false;
  private _failures = 0;
  private _hasSnapshot = false;
  private _abort: AbortController | undefined;
  private _retry: ReturnType<typeof setTimeout> | undefined;
  private _watchdog: ReturnType<typeof setTimeout> | undefined;
  private _isDisposed = false;
  private readonly _changed = new Signal<IPortsManager, void>(this);
  private readonly _socketLost = new Signal<IPortsManager, ILostSocket>(this);
  private readonly _requestsFailed = new Signal<IPortsManager, IFailedRequests>(this);
  private readonly _appeared = new Signal<IPortsManager, IPort>(this);
}

function keyOf(port: IPort): string {
  return `${port.port}/${port.pid}`;
}

function pathOf(name: string): string {
  return `services/${encodeURIComponent(name)}`;
}
