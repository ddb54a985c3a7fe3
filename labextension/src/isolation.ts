// Isolated origins of services: whether this browser can reach them, and the URLs that lead to them.
//
// One request at the start decides. If it fails, services use path-based URLs.

import { PageConfig, URLExt } from '@jupyterlab/coreutils';

import type { IApi } from './api';
import type { Target } from './commands';

const PROBE_TIMEOUT = 2000;

interface IOrigins {
  isolate: 'auto' | 'always' | 'never';
  probe: string | null;
  /** An isolated origin, `{target}` in place of a port or a service's name. */
  origin: string | null;
  /** Features for `allow`, for browsers without `featurePolicy.allowedFeatures()`. */
  features: string[];
}

/** True if the browser keeps cookies and storage in a frame of that address; its page reports it by a message. */
function testFrame(address: string): Promise<boolean> {
  return new Promise(resolve => {
    const frame = document.createElement('iframe');
    const end = (isUsable: boolean) => {
      window.clearTimeout(timer);
      window.removeEventListener('message', onMessage);
      frame.remove();
      resolve(isUsable);
    };
    const onMessage = (event: MessageEvent) => {
      if (event.source === frame.contentWindow) {
        end(event.data === 'usable');
      }
    };
    const timer = window.setTimeout(() => end(false), PROBE_TIMEOUT);
    window.addEventListener('message', onMessage);
    frame.hidden = true;
    frame.src = address;
    document.body.append(frame);
  });
}

export class Isolation {
  constructor(api: IApi, fetchProbe: typeof fetch = (...args) => fetch(...args), test = testFrame) {
    this.ready = this._probe(api, fetchProbe, test);
  }

  /** Resolves when the probe has ended; never rejects. */
  readonly ready: Promise<void>;

  /** The setting `isolate`. */
  isEnabled = true;

  /** The URL path that leads to a target's isolated origin, without a final slash; undefined if path-based URLs are used. */
  entryPath(target: Target): string | undefined {
    const name = 'port' in target ? String(target.port) : target.service;
    return this._isReachable && this.isEnabled ? new URL(URLExt.join(PageConfig.getBaseUrl(), 'proxy/enter', name), window.location.href).pathname : undefined;
  }

  /** The same for a frame; undefined also where the browser keeps no cookies or no storage in frames of other sites. */
  framePath(target: Target): string | undefined {
    return this._isUsableInFrames ? this.entryPath(target) : undefined;
  }

  /**
   * The `allow` attribute of a target's frame: it delegates the features of this page (camera, clipboard, full screen ...) to the
   * target's isolated origin. A frame of Jupyter's origin needs no delegation.
   *
   * @param port - Port of a service, which its host name has if the service's name is not valid in one.
   */
  allow(target: Target, port: number | null): string {
    const { _origin: origin } = this;
    if (this.framePath(target) === undefined || origin === null) {
      return '';
    }
    const names = 'port' in target ? [target.port] : [target.service, ...(port ? [port] : [])];
    const origins = names.map(name => origin.replace('{target}', String(name))).join(' ');
    const policy = (document as { featurePolicy?: { allowedFeatures(): string[] } }).featurePolicy;
    return (policy?.allowedFeatures() ?? this._features).map(feature => `${feature} ${origins}`).join('; ');
  }

  private async _probe(api: IApi, fetchProbe: typeof fetch, test: typeof testFrame): Promise<void> {
    try {
      const { probe, origin, features } = await api.request<IOrigins>('GET', 'origins');
      if (probe === null) {
        return;
      }
      const withPageScheme = (url: string) => url.replace(/^https?:/, window.location.protocol); // a reverse proxy may hide the scheme from the server
      const address = withPageScheme(probe);
      this._origin = origin && withPageScheme(origin);
      this._features = features;
      const response = await fetchProbe(address, { cache: 'no-store', credentials: 'omit', signal: AbortSignal.timeout(PROBE_TIMEOUT) });
      this._isReachable = response.status === 204;
      this._isUsableInFrames = this._isReachable && (await test(new URL('frame', address).href));
    } catch {
      return; // *.localhost is not resolved, the reverse proxy lacks the names, or the server is older
    }
  }

  private _origin: string | null = null;
  private _features: string[] = [];
  private _isReachable = false;
  private _isUsableInFrames = false;
}
