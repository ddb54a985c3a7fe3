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

export class Isolation {
  constructor(api: IApi, find: typeof fetch = (...args) => fetch(...args)) {
    this.ready = this._ask(api, find).then(found => {
      this._found = found;
    });
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

  private async _ask(api: IApi, find: typeof fetch): Promise<boolean> {
    try {
      const { probe } = await api.ask<IOrigins>('GET', 'origins');
      if (probe === null) {
        return false;
      }
      const address = probe.replace(/^https?:/, window.location.protocol); // fronts may hide the scheme from the server
      return (await find(address, { cache: 'no-store', credentials: 'omit', signal: AbortSignal.timeout(PATIENCE) })).status === 204;
    } catch {
      return false; // a browser that does not resolve *.localhost, a front without the names, an older server
    }
  }

  private _found = false;
}
