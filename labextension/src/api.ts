// Client of the REST API and event stream below `proxy/api/`. Every failure is an ApiError with a sentence for people.

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

/** Status of a request for something that is another one by now. */
export const CONFLICT = 409;

/** A failed request, with a message for people. `status` is 0 without a response. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint = '',
    readonly details: readonly string[] = []
  ) {
    super(message);
  }

  /** The message and its remedy. */
  get text(): string {
    return [this.message, this.hint].join(' ').trim();
  }
}

/** The sentence for people about anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof ApiError ? error.text : String(error);
}

/** One server-sent event. */
export interface IEvent {
  event: string;
  data: unknown;
}

export interface IApi {
  request<T>(method: string, path: string, body?: object, signal?: AbortSignal): Promise<T>;
  openStream(path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>>;
}

export class Api implements IApi {
  constructor(private readonly _settings: ServerConnection.ISettings = ServerConnection.makeSettings()) {}

  async request<T>(method: string, path: string, body?: object, signal?: AbortSignal): Promise<T> {
    const response = await this._request(path, {
      method,
      ...(body ? { body: JSON.stringify(body) } : {}),
      ...(signal ? { signal } : {})
    });
    const text = await response.text();
    return (text ? JSON.parse(text) : undefined) as T;
  }

  async openStream(path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const response = await this._request(path, { signal, cache: 'no-store' });
    if (!response.body) {
      throw new ApiError(0, 'The server sent no stream.');
    }
    return response.body;
  }

  private async _request(path: string, init: RequestInit): Promise<Response> {
    const url = URLExt.join(this._settings.baseUrl, 'proxy/api', path);
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(url, init, this._settings);
    } catch {
      throw new ApiError(0, 'The Jupyter server does not answer.', 'Is it running, and is the network up?');
    }
    if (!response.ok) {
      throw await errorOf(response);
    }
    return response;
  }
}

async function errorOf(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  if (response.status === 401 || (response.status === 403 && body.code !== 'forbidden')) {
    return new ApiError(response.status, 'Your login has ended.', 'Log in to Jupyter again.');
  }
  const details = Array.isArray(body.details) ? body.details.map(String) : [];
  const message = String(body.message ?? '') || `The server answered with status ${response.status}.`;
  return new ApiError(response.status, message, String(body.hint ?? ''), details);
}

/** The text of a stream in pieces that end at character boundaries. */
export async function* textOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

/** The events of a stream (HTML Living Standard, 9.2); a comment is an event without a name. */
export async function* eventsOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<IEvent> {
  let rest = '';
  for await (const text of textOf(stream)) {
    const blocks = (rest + text).split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      yield readEvent(block);
    }
  }
}

function readEvent(block: string): IEvent {
  let event = '';
  let data = '';
  for (const line of block.split('\n')) {
    if (line.startsWith('event: ')) {
      event = line.slice(7);
    } else if (line.startsWith('data: ')) {
      data += line.slice(6);
    }
  }
  return { event, data: data ? JSON.parse(data) : null };
}
