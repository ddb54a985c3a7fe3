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
  /** An isolated origin, `{target}` in place of a port or a service's name. */
  origin: string | null;
  /** Names for `allow`, for browsers that do not list the features that they gate. */
  features: string[];
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

  /**
   * The `allow` attribute of a target's frame: whatever this page may use (camera, clipboard, full screen ...) is delegated to the
   * target's own origin. A frame of Jupyter's origin has it anyway.
   *
   * @param port - That of a service: its origin has it where a host name cannot have the service's.
   */
  allow(target: Target, port: number | null): string {
    const { _origin: origin } = this;
    if (this.entrance(target) === undefined || origin === null) {
      return '';
    }
    const names = 'port' in target ? [target.port] : [target.service, ...(port ? [port] : [])];
    const origins = names.map(name => origin.replace('{target}', String(name))).join(' ');
    const policy = (document as { featurePolicy?: { allowedFeatures(): string[] } }).featurePolicy;
    return (policy?.allowedFeatures() ?? this._features).map(feature => `${feature} ${origins}`).join('; ');
  }

  private async _ask(api: IApi, find: typeof fetch, stores: (address: string) => Promise<boolean>): Promise<void> {
    try {
      const { probe, origin, features } = await api.ask<IOrigins>('GET', 'origins');
      if (probe === null) {
        return;
      }
      const seen = (url: string) => url.replace(/^https?:/, window.location.protocol); // reverse proxies may hide the scheme from the server
      const address = seen(probe);
      this._origin = origin && seen(origin);
      this._features = features;
      const answer = await find(address, { cache: 'no-store', credentials: 'omit', signal: AbortSignal.timeout(PATIENCE) });
      this._found = answer.status === 204;
      this._stores = this._found && (await stores(new URL('storage', address).href));
    } catch {
      return; // a browser that does not resolve *.localhost, a front without the names, an older server
    }
  }

  private _origin: string | null = null;
  private _features: string[] = [];
  private _found = false;
  private _stores = false;
}
