// Origins of their own for services: whether this browser finds them, and the way there.
//
// Rule of this file: it asks once. Where in doubt, services stay below Jupyter's own address.

import { PageConfig, URLExt } from '@jupyterlab/coreutils';

import type { IApi } from './api';
import type { Target } from './commands';

const PATIENCE = 2000;

interface IOrigins {
  isolate: 'auto' | 'always' | 'never';
  probe: string | null;
}

/** Whether a frame of that address may store anything; its page says so. */
function framesStore(address: string): Promise<boolean> {
  return new Promise(resolve => {
    const frame = document.createElement('iframe');
    const end = (stores: boolean) => {
      window.clearTimeout(timer);
      window.removeEventListener('message', hear);
      frame.remove();
      resolve(stores);
    };
    const hear = (event: MessageEvent) => {
      if (event.source === frame.contentWindow) {
        end(event.data === 'stored');
      }
    };
    const timer = window.setTimeout(() => end(false), PATIENCE);
    window.addEventListener('message', hear);
    frame.hidden = true;
    frame.src = address;
    document.body.append(frame);
  });
}

export class Isolation {
  constructor(api: IApi, find: typeof fetch = (...args) => fetch(...args), stores = framesStore) {
    this.ready = this._ask(api, find, stores);
  }

  /** Resolves when it is known; never rejects. */
  readonly ready: Promise<void>;

  /** The setting: people may want the address below Jupyter's. */
  wanted = true;

  /** What stands in front of the paths of a target, as a URL path without a final slash; undefined if they stay where they are. */
  entrance(target: Target): string | undefined {
    const name = 'port' in target ? String(target.port) : target.service;
    return this._found && this.wanted ? new URL(URLExt.join(PageConfig.getBaseUrl(), 'proxy/enter', name), window.location.href).pathname : undefined;
  }

  /** The same for a frame: a service that cannot do without storage stays below Jupyter's address where browsers deny it. */
  framed(target: Target, needsStorage: boolean): string | undefined {
    return needsStorage && !this._stores ? undefined : this.entrance(target);
  }

  private async _ask(api: IApi, find: typeof fetch, stores: (address: string) => Promise<boolean>): Promise<void> {
    try {
      const { probe } = await api.ask<IOrigins>('GET', 'origins');
      if (probe === null) {
        return;
      }
      const address = probe.replace(/^https?:/, window.location.protocol); // fronts may hide the scheme from the server
      const answer = await find(address, { cache: 'no-store', credentials: 'omit', signal: AbortSignal.timeout(PATIENCE) });
      this._found = answer.status === 204;
      this._stores = this._found && (await stores(new URL('storage', address).href));
    } catch {
      return; // a browser that does not resolve *.localhost, a front without the names, an older server
    }
  }

  private _found = false;
  private _stores = false;
}
