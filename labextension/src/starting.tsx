// What is shown while a service starts: the steps in its tab, and a browser tab that is opened by the click.

import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import type { IService } from './tokens';

/** The steps of a service that is starting, and the time since this was first shown: the clock of the server may differ. */
export function Steps({ service, trans }: { service: IService; trans: TranslationBundle }): React.JSX.Element {
  const begin = React.useMemo(() => Date.now(), [service.since]);
  const [, tick] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    const timer = setInterval(tick, 1000);
    return () => clearInterval(timer);
  }, []);
  return (
    <>
      <ol className="jp-PortProxy-steps">
        <li className="jp-mod-done">{trans.__('Starting the program')}</li>
        <li aria-current="step">{service.port ? trans.__('Waiting for port %1', service.port) : trans.__('Waiting for its socket')}</li>
        <li>{trans.__('Ready')}</li>
      </ol>
      <p aria-live="off">{trans.__('%1 s since the start', Math.floor((Date.now() - begin) / 1000))}</p>
    </>
  );
}

/**
 * A browser tab for a page whose address is not known yet. Browsers block it unless it is opened while a click is handled.
 * It shows a text until then, and its page has no access to this window.
 */
export class BrowserTab {
  constructor(text: string) {
    this._window = window.open('', '_blank');
    if (this._window) {
      this._window.opener = null;
      this._window.document.title = text;
      this._window.document.body.textContent = text;
    }
  }

  go(address: string): void {
    this._window?.location.replace(address);
  }

  close(): void {
    this._window?.close();
  }

  private readonly _window: Window | null;
}

/** Which services open in a browser tab, and their addresses there. */
export interface IOutside {
  /** Whether a service opens there unless a command opens it elsewhere. */
  isDefault(openIn: 'lab' | 'browser'): boolean;
  addressOf(service: IService): string;
}
