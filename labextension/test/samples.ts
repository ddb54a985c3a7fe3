// Objects of the API, and an API whose answers a test sets.

import { nullTranslator } from '@jupyterlab/translation';

import type { IApi } from '../src/api';
import type { IFolder, IFolderService, IPort, IPortRule, IService, ITemplate } from '../src/tokens';

export const trans = nullTranslator.load('jupyter-portproxy');

export function service(name: string, more: Partial<IService> = {}): IService {
  return {
    name,
    template: name,
    title: name,
    icon: '',
    arguments: {},
    state: 'up',
    since: 0,
    error: '',
    exit_code: null,
    port: 15000,
    url: `/proxy/service/${name}/`,
    scheme: 'http',
    open_in: 'lab',
    last_lines: [],
    ...more
  };
}

export function port(number: number, more: Partial<IPort> = {}): IPort {
  return {
    port: number,
    addresses: ['127.0.0.1'],
    owner: 'me',
    mine: true,
    pid: number,
    process: 'python',
    command: ['python', 'app.py'],
    since: 0,
    allowed: true,
    may_allow: false,
    allowed_by_user: false,
    reason: '',
    reason_code: '',
    url: `/proxy/port/${number}/`,
    http: true,
    tcp: false,
    scheme: 'http',
    label: '',
    title: '',
    icon: '',
    service: null,
    ...more
  };
}

/** A rule of the server; its id is its match. */
export function rule(match: { ports: string } | { process: string }, more: Partial<IPortRule> = {}): IPortRule {
  return {
    id: Object.values(match)[0] ?? '',
    ports: null,
    process: null,
    label: '',
    on_appear: null,
    scheme: null,
    keep_host: null,
    pinned: false,
    activity: null,
    ...match,
    ...more
  };
}

export function template(name: string, more: Partial<ITemplate> = {}): ITemplate {
  return {
    name,
    title: name,
    category: 'Services',
    icon: '',
    open_in: 'lab',
    launcher: 'Services',
    external: false,
    url: null,
    scheme: 'http',
    available: true,
    hint: '',
    arguments: [],
    ...more
  };
}

export function folderService(name: string, more: Partial<IFolderService> = {}): IFolderService {
  return {
    name,
    service: null,
    state: null,
    command: ['python', 'app.py'],
    cwd: '/home/me/shop',
    kernel: '',
    autostart: 'ask',
    restart: 'never',
    depends_on: [],
    environment: {},
    environment_file: '',
    ...more
  };
}

/** A folder; its path is relative to the server's root. */
export function folder(path: string, more: Partial<IFolder> = {}): IFolder {
  return {
    path,
    folder: `/home/me/${path}`,
    name: path || 'me',
    files: [{ path: 'portproxy.toml', kind: 'portproxy.toml' }],
    services: [folderService('db'), folderService('api')],
    ports: [],
    problems: [],
    notes: [],
    digest: 'd1',
    consent: 'none',
    ...more
  };
}

/** Answers with the values that the test has set, and records the requests. */
export class ScriptedApi implements IApi {
  requests: [string, string, object | undefined][] = [];
  answers: Record<string, unknown> = {};
  opened = 0;
  refusal: Error | null = null;

  async request<T>(method: string, path: string, body?: object): Promise<T> {
    this.requests.push([method, path, body]);
    const answer = this.answers[`${method} ${path}`];
    if (answer instanceof Error) {
      throw answer;
    }
    return answer as T;
  }

  async openStream(_path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    this.opened++;
    if (this.refusal) {
      throw this.refusal;
    }
    return new ReadableStream({
      start: controller => {
        this._controller = controller;
        signal.addEventListener('abort', () => controller.error(new Error('aborted')));
      }
    });
  }

  send(event: string, data: unknown): void {
    this.sendText(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  sendText(text: string): void {
    this._controller?.enqueue(new TextEncoder().encode(text));
  }

  cut(): void {
    this._controller?.close();
  }

  private _controller: ReadableStreamDefaultController<Uint8Array> | undefined;
}

/** A document that a test hides and shows. */
export class ScriptedVisibility {
  hidden = false;
  private _listeners = new Set<() => void>();

  addEventListener(_type: string, listener: () => void): void {
    this._listeners.add(listener);
  }

  removeEventListener(_type: string, listener: () => void): void {
    this._listeners.delete(listener);
  }

  get listeners(): number {
    return this._listeners.size;
  }

  show(shown: boolean): void {
    this.hidden = !shown;
    this._listeners.forEach(listener => listener());
  }
}
