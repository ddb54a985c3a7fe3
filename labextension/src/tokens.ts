// The interfaces of this extension's parts and for other extensions. The objects are those of docs/openapi.yaml.

import { Token } from '@lumino/coreutils';
import type { ISignal } from '@lumino/signaling';

export type State = 'starting' | 'up' | 'unhealthy' | 'stopping' | 'down' | 'failed';

export interface IService {
  name: string;
  template: string;
  title: string;
  icon: string;
  arguments: Record<string, string>;
  /** Summary for people: its script or folder. */
  runs?: string;
  state: State;
  /** Seconds since 1970. */
  since: number;
  error: string;
  exit_code: number | null;
  port: number | null;
  /** Null if it speaks no HTTP. */
  url: string | null;
  scheme: ServiceScheme;
  open_in: 'lab' | 'browser';
  /** The agent that has attached it from elsewhere; null for a service of this machine. */
  agent?: string | null;
  /** Real path of the folder whose project file has it; empty for others. */
  folder?: string;
  /** The project files of its folder no longer have it. */
  removed?: boolean;
  /** The name of the user who started it; empty for what starts by itself. */
  started_by?: string;
  /** The kernel in whose environment it runs; null for the server's own Python. */
  kernel?: string | null;
  depends_on?: string[];
  /** Seconds between two health checks; 0 for none. */
  health_period?: number;
  last_lines: string[];
}

/** What starts a service of a folder: `never` by itself, `ask` after a question, `always` with the server. */
export type Autostart = 'never' | 'ask' | 'always';

/** A service as a project file describes it. */
export interface IFolderService {
  /** In the project file. */
  name: string;
  /** The service that runs of it; null if none does. */
  service: string | null;
  state: State | null;
  command: string[];
  cwd: string;
  kernel: string;
  autostart: Autostart;
  /** With "always" it starts again after a restart of the server, too. */
  restart: 'never' | 'on-failure' | 'on-unhealthy' | 'always';
  depends_on: string[];
  environment: Record<string, string>;
  environment_file: string;
  activity?: 'all' | 'people' | 'none';
  /** Regular expressions of paths without activity. */
  activity_exclude?: string[];
  /** The Jupyter server is active while it runs. */
  running_is_activity?: boolean;
}

/** An entry of a project file that is wrong and left out; `line` is null if it is unknown. */
export interface IFolderProblem {
  file: string;
  line: number | null;
  key: string;
  message: string;
  hint: string;
}

/** What the project files of a folder say. Nothing of it has an effect without consent. */
export interface IFolder {
  /** Relative to the server's root, which is empty; absolute outside of it. */
  path: string;
  /** The real path. */
  folder: string;
  name: string;
  files: { path: string; kind: string }[];
  services: IFolderService[];
  ports: IPortRule[];
  problems: IFolderProblem[];
  notes: { file: string; line: number | null; message: string }[];
  /** Of the content that a person allows. */
  digest: string;
  /** `changed`: another content was allowed. */
  consent: 'none' | 'given' | 'changed';
  /** After a start: the services that could not be started. */
  failures?: { name: string; message: string }[];
}

/** A program that attaches services from elsewhere. */
export interface IAgent {
  name: string;
  host: string;
  /** `lost` returns by itself. */
  state: 'up' | 'lost' | 'ended';
  since: number;
  error: string;
  /** The `id` of its attach token. */
  token: string;
  services: string[];
}

/** A token with which agents attach services. Times are in seconds since 1970. */
export interface IAttachToken {
  id: string;
  name: string;
  created: number;
  until: number;
  used: number | null;
}

export interface IPort {
  port: number;
  addresses: string[];
  owner: string;
  mine: boolean;
  pid: number | null;
  process: string;
  command: string[];
  since: number | null;
  allowed: boolean;
  reason: string;
  /** Stable; empty if it can be reached. */
  reason_code: string;
  /** The user of the server may allow it. */
  may_allow: boolean;
  /** The user of the server has allowed it. */
  allowed_by_user: boolean;
  /** Null if it cannot be reached, or speaks no HTTP. */
  url: string | null;
  http: boolean;
  /** It speaks no HTTP, by its scheme or by what it has answered. */
  tcp: boolean;
  /** By the user's rules for ports or the configuration. */
  scheme: Scheme;
  /** By the user's rules for ports; may be empty. */
  label: string;
  title: string;
  icon: string;
  service: string | null;
}

export type Scheme = 'http' | 'https' | 'tcp';

/** `none`: it listens nowhere. */
export type ServiceScheme = Scheme | 'none';

/** What happens when a program begins to answer on a port. `open_once`: the first time in a session of the browser. */
export type OnAppear = 'open' | 'open_once' | 'preview' | 'notify' | 'silent' | 'ignore';

/** Which requests are activity of the Jupyter server: `people` are what a person does, no polls. */
export type Activity = 'all' | 'people' | 'none';

/** A rule of the server's user, for exactly one of `ports` and `process`. Null: another rule or the default decides. */
export interface IPortRule {
  /** Made by the server from `ports` or `process`. */
  id: string;
  /** A port or a range, "8000-8999". */
  ports: string | null;
  /** A regular expression on the process's name and command line. */
  process: string | null;
  label: string;
  on_appear: OnAppear | null;
  /** Only with `ports`, as is `keep_host`. */
  scheme: Scheme | null;
  keep_host: boolean | null;
  /** The port is listed also while no program listens. */
  pinned: boolean;
  /** Which requests are activity of the server; only with `ports`. */
  activity: Activity | null;
}

export interface IReservation {
  name: string;
  port: number;
  until: number;
  used: boolean;
  url: string;
}

export interface IArgument {
  name: string;
  label: string;
  default: string;
  kind: 'path' | 'text' | 'number' | 'choice';
  choices: string[];
}

export interface ITemplate {
  name: string;
  title: string;
  category: string;
  icon: string;
  open_in: 'lab' | 'browser';
  /** Category of its launcher tile; empty if it has none. */
  launcher: string;
  external: boolean;
  url: string | null;
  scheme: ServiceScheme;
  /** The kernel in whose environment its services run; null for the server's own Python. */
  kernel?: string | null;
  available: boolean;
  hint: string;
  arguments: IArgument[];
}

/** A kernel in whose environment services can run. */
export interface IKernel {
  name: string;
  title: string;
  available: boolean;
  /** Why it has no environment here. */
  reason: string;
  /** Its environment is the server's own. */
  own: boolean;
}

/** A listening port of a project. */
export interface IProjectPort {
  port: number;
  http: boolean;
  title: string;
  /** By owner and name. */
  url: string;
  key_url: string;
}

export interface IProjectMember {
  name: string;
  role: string;
  allowed_ports: string[] | null;
}

export interface IProject {
  key: string;
  owner: string;
  name: string;
  role: 'owner' | 'member' | 'viewer';
  visibility: string;
  allowed_ports: string[] | null;
  ports: IProjectPort[];
  /** For owners. */
  members: IProjectMember[] | null;
  /** For owners. */
  reservations: IReservation[] | null;
}

/** A WebSocket that a page of a service opened at a path without a handler. */
export interface ILostSocket {
  kind: 'lost-socket';
  path: string;
  /** The service; null if it cannot be identified. */
  url: string | null;
  /** URL that leads to the service's isolated origin, where such a WebSocket works. */
  isolated: string | null;
}

/** A page of a service or port was loaded, and several of its requests have failed. */
export interface IFailedRequests {
  kind: 'failed-requests';
  /** A port or the name of a service. */
  target: string;
  count: number;
}

/** `lost`: the server does not answer, or refuses the login; `problem` has the reason. `paused`: the document is hidden. */
export type Connection = 'connecting' | 'live' | 'paused' | 'lost';

export interface IPortsManager {
  readonly services: readonly IService[];
  readonly ports: readonly IPort[];
  readonly reservations: readonly IReservation[];
  readonly templates: readonly ITemplate[];
  /** Those that the user may see; null if the server has no projects. */
  readonly projects: readonly IProject[] | null;
  /** In the server's order; null if the server keeps no rules. */
  readonly portRules: readonly IPortRule[] | null;
  /** Those that attach services; null if nothing can be attached to the server. */
  readonly agents: readonly IAgent[] | null;
  /** Those with a project file that the server knows; null if it reads none. */
  readonly folders: readonly IFolder[] | null;
  readonly connection: Connection;
  /** One sentence for people while the connection is lost. */
  readonly problem: string;
  /** The last request had no response. */
  readonly isAway: boolean;
  /** Any of the above has changed. */
  readonly changed: ISignal<IPortsManager, void>;
  /** A port of this user that answers HTTP, belongs to no service, and was not there before. */
  readonly appeared: ISignal<IPortsManager, IPort>;
  /** A WebSocket outside its service's prefix; emitted once for each. */
  readonly socketLost: ISignal<IPortsManager, ILostSocket>;
  /** At most once for each load of a page. */
  readonly requestsFailed: ISignal<IPortsManager, IFailedRequests>;

  service(name: string): IService | undefined;
  port(port: number): IPort | undefined;
  refresh(): Promise<void>;
  refreshTemplates(): Promise<void>;
  /** The kernels in whose environment services can run; none on a server that offers no choice. */
  kernels(): Promise<IKernel[]>;
  /** The templates, with what is installed in the environment of a kernel. */
  templatesOf(kernel: string): Promise<ITemplate[]>;
  /** `kernel`: the kernel in whose environment it runs, empty for the server's own; null: the template decides. */
  start(template: string, name?: string, args?: Record<string, string>, kernel?: string | null): Promise<IService>;
  restart(name: string): Promise<IService>;
  stop(name: string): Promise<IService>;
  forget(name: string): Promise<void>;
  release(name: string): Promise<void>;
  /** Sends a change by an owner to a path below the project's. */
  changeProject(key: string, method: string, path: string, body?: object): Promise<void>;
  /** Allows a port outside the configured ones for the user of the server, or takes it back. */
  setAllowed(port: number, allowed: boolean): Promise<void>;
  /** Makes the rule for `ports` or `process`, or replaces it with all its attributes. */
  setRule(rule: Partial<Omit<IPortRule, 'id'>>): Promise<IPortRule>;
  /** Changes the given attributes of the rule for `ports` or `process`, or makes it. */
  changeRule(rule: Partial<Omit<IPortRule, 'id'>>): Promise<IPortRule>;
  /** Removes a rule. One that does not exist any more is no error. */
  removeRule(id: string): Promise<void>;
  /** Ends an agent. */
  detach(agent: string): Promise<void>;
  attachTokens(): Promise<IAttachToken[]>;
  revokeToken(id: string): Promise<void>;
  /** A person looks at a folder, absolute or relative to the server's root; null if it has no project file. */
  openFolder(path: string): Promise<IFolder | null>;
  /** Reads the project files of a folder again; null if it has none any more. */
  readFolder(folder: IFolder): Promise<IFolder | null>;
  /** Allows the content that a folder has now, if it is the one with this digest. */
  giveConsent(folder: IFolder): Promise<IFolder>;
  withdrawConsent(folder: IFolder): Promise<IFolder>;
  /** Starts the services of a folder, or those with the given names. Its content must be allowed. Rejected if one could not be started. */
  startFolder(folder: IFolder, services?: string[]): Promise<IFolder>;
  stopFolder(folder: IFolder): Promise<IFolder>;
  /** The service once it is no longer starting. */
  whenSettled(name: string): Promise<IService>;
}

export const IPortsManager = new Token<IPortsManager>(
  'jupyter-portproxy:IPortsManager',
  'The services, ports and reservations of the Jupyter server.'
);
