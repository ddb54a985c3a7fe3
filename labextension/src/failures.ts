// A notice when a service that this person started fails: once for each failure, whether or not the panel is shown.
//
// It waits a moment, because an event may come before the response to a start that reports the failure itself, and because a service may
// be restarted by its template.

import { Notification } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import type { TranslationBundle } from '@jupyterlab/translation';

import type { Actions } from './actions';
import { serviceLabel, visibleText } from './labels';
import type { IPortsManager, IService, State } from './tokens';

const DELAY = 1000;
/** JupyterLab cuts the text of a notification after 140 characters. */
const MAX_LENGTH = 140;
const MAX_LABEL = 50;
const MAX_LINES = 3;

interface IFailureParts {
  manager: IPortsManager;
  actions: Pick<Actions, 'restart' | 'reports'>;
  /** The name of the user; undefined until it is known. */
  user: () => string | undefined;
  showLog: (name: string) => void;
  trans: TranslationBundle;
}

/** Whether a failure is reported. Without a `health_period` a service is checked, and unhealthy, only while a panel is open. */
function hasFailed({ state, health_period }: IService): boolean {
  return state === 'failed' || (state === 'unhealthy' && !!health_period);
}

/** The sentence about a failure, and as much of the end of the output as a notification shows. */
export function failureText(service: IService, trans: TranslationBundle): string {
  const label = visibleText(serviceLabel(service)).slice(0, MAX_LABEL);
  const what = service.state === 'failed' ? trans.__('%1 has failed.', label) : trans.__('%1 is unhealthy.', label);
  const output = service.last_lines.map(line => visibleText(line.replace(/\t/g, ' ')).trim()).filter(Boolean);
  let text = '';
  for (const line of (output.length ? output : [service.error]).slice(-MAX_LINES).reverse()) {
    const free = MAX_LENGTH - what.length - text.length - 1;
    if (line.length > free && text) {
      break;
    }
    text = `\n${line.length > free ? `…${line.slice(1 - free)}` : line}${text}`;
  }
  return what + text;
}

export class Failures {
  constructor(private readonly _parts: IFailureParts) {
    _parts.manager.changed.connect(this._onChange, this);
  }

  private _onChange(): void {
    const { services } = this._parts.manager;
    for (const service of services) {
      const before = this._states.get(service.name);
      if (before !== undefined && before !== service.state && hasFailed(service)) {
        setTimeout(() => this._announce(service), DELAY);
      } else if (before !== service.state && !hasFailed(service)) {
        this._dismiss(service.name);
      }
    }
    const names = new Set(services.map(({ name }) => name));
    [...this._shown.keys()].filter(name => !names.has(name)).forEach(name => this._dismiss(name));
    this._states = new Map(services.map(({ name, state }) => [name, state]));
  }

  private _announce({ name, since }: IService): void {
    const { manager, actions, user, showLog, trans } = this._parts;
    const service = manager.service(name);
    const isCurrent = service !== undefined && hasFailed(service) && service.since === since;
    if (!isCurrent || !service.started_by || service.started_by !== user() || actions.reports(service) || !isFirst(service)) {
      return;
    }
    this._dismiss(name);
    const log = { label: trans.__('Show log'), callback: () => showLog(name) };
    const restart = { label: trans.__('Restart'), callback: () => void actions.restart(name) };
    this._shown.set(name, Notification.error(failureText(service, trans), { autoClose: false, actions: [log, restart] }));
  }

  private _dismiss(name: string): void {
    const id = this._shown.get(name);
    if (id !== undefined) {
      this._shown.delete(name);
      Notification.dismiss(id);
    }
  }

  private _states = new Map<string, State>();
  /** Name of a service -> its notification. */
  private readonly _shown = new Map<string, string>();
}

/** Whether no window of this browser has announced the failure. */
function isFirst({ name, since }: IService): boolean {
  try {
    const key = `portproxy-failed:${PageConfig.getBaseUrl()}${name}`;
    const isKnown = localStorage.getItem(key) === String(since);
    localStorage.setItem(key, String(since));
    return !isKnown;
  } catch {
    return true; // a browser that keeps no storage
  }
}
