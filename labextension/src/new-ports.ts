// New ports: each is opened, announced or ignored according to the rules. One notification announces all of them.

import { Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import type { Actions, Opener } from './actions';
import type { Target } from './commands';
import { portLabel } from './labels';
import { programName, programPattern, RuleSet } from './rules';
import type { IPort, IPortsManager } from './tokens';

const GATHERING_DELAY = 500;
const MAX_OPENED = 5;
const OPENING_PERIOD = 10_000;
const DURATION = 20_000;
const MAX_LISTED = 5;

export class NewPorts {
  constructor(
    private readonly _manager: IPortsManager,
    private readonly _trans: TranslationBundle,
    private readonly _open: Opener,
    private readonly _showPanel: () => void,
    private readonly _actions: Pick<Actions, 'attempt'>
  ) {
    _manager.changed.connect(this._removeGone, this);
  }

  /** Opens or announces a new port, according to the rules. A port that a tab shows already (`isShown`) is not announced. */
  announce(port: IPort, rules: RuleSet, isShown = false): void {
    const { on_appear } = rules.of(port);
    const target = { port: port.port };
    const opens = on_appear === 'open' || on_appear === 'preview' || (on_appear === 'open_once' && isFirst(`portproxy-opened:${port.url}`));
    if (opens && this._mayOpen()) {
      this._open(target, on_appear === 'preview' ? 'preview' : undefined);
    } else if ((opens || on_appear === 'notify') && !isShown) {
      this._announced.set(port.port, portLabel(port, rules, this._trans));
      this._update();
    }
  }

  /** False if new ports have opened MAX_OPENED tabs within OPENING_PERIOD: one rule may match hundreds of ports. */
  private _mayOpen(): boolean {
    const now = Date.now();
    this._openings = this._openings.filter(time => now - time < OPENING_PERIOD);
    return this._openings.length < MAX_OPENED && this._openings.push(now) > 0;
  }

  /** Removes a port from the notification, because its page is opened by another way. */
  remove(target: Target): void {
    if ('port' in target && this._announced.delete(target.port)) {
      this._update();
    }
  }

  /** Makes a rule for the program of a port, and offers to undo it. */
  private async _silence(port: IPort): Promise<void> {
    const trans = this._trans;
    const rule = await this._manager.setRule({ process: programPattern(port), on_appear: 'silent' });
    const message = trans.__('New ports of %1 are no longer announced. Later, Edit… in the row of such a port changes that.', programName(port));
    const undo = { label: trans.__('Undo'), callback: () => void this._actions.attempt(() => this._manager.removeRule(rule.id)) };
    Notification.info(message, { autoClose: 10_000, actions: [undo] });
  }

  /** A port of the notification, if all of them are of one program for which a rule can be made. */
  private get _silencable(): IPort | undefined {
    const ports = [...this._announced.keys()].map(port => this._manager.port(port));
    const patterns = new Set(ports.map(port => port && programPattern(port)));
    return this._manager.portRules && patterns.size === 1 && ports[0]?.process ? ports[0] : undefined;
  }

  /** Removes ports that have ended from the notification. */
  private _removeGone(): void {
    const gone = [...this._announced.keys()].filter(port => !this._manager.port(port));
    gone.forEach(port => this._announced.delete(port));
    if (gone.length) {
      this._update();
    }
  }

  /** One notification for all announced ports; replaced after GATHERING_DELAY without another new port. */
  private _update(): void {
    clearTimeout(this._gathering);
    this._gathering = setTimeout(() => {
      clearTimeout(this._closing);
      Notification.dismiss(this._notificationId);
      const [first, ...others] = this._announced;
      if (!first) {
        return;
      }
      this._closing = setTimeout(() => this._announced.clear(), DURATION);
      const { _trans: trans, _announced: announced } = this;
      const target = { port: first[0] };
      const dismissAnd = (act: () => void) => () => {
        announced.clear();
        act();
      };
      const show = others.length
        ? { label: trans.__('Show'), callback: dismissAnd(this._showPanel) }
        : { label: trans.__('Open'), callback: dismissAnd(() => this._open(target)) };
      const message = others.length
        ? trans.__('%1 services are running on new ports: %2', announced.size, listPorts([...announced.keys()]))
        : trans.__('A service is running on port %1 (%2)', first[0], first[1]);
      const port = this._silencable;
      const silence = port && (() => void this._actions.attempt(() => this._silence(port)));
      const never = silence ? [{ label: trans.__('Never for this process'), callback: dismissAnd(silence) }] : [];
      const dismiss = { label: trans.__('Dismiss'), callback: dismissAnd(() => undefined) };
      const actions = [{ ...show, displayType: 'accent' as const }, ...never, dismiss];
      this._notificationId = Notification.info(message, { autoClose: DURATION, actions });
    }, GATHERING_DELAY);
  }

  /** Port -> label, for the ports of the current notification. */
  private readonly _announced = new Map<number, string>();
  private _notificationId = '';
  /** Times of the tabs that new ports have opened, in ms. */
  private _openings: number[] = [];
  private _gathering: ReturnType<typeof setTimeout> | undefined;
  private _closing: ReturnType<typeof setTimeout> | undefined;
}

function listPorts(ports: number[]): string {
  const listed = ports.sort((a, b) => a - b).slice(0, MAX_LISTED);
  return listed.join(', ') + (listed.length < ports.length ? ' …' : '');
}

/** Whether this is the first call with this key in the session of the browser. */
function isFirst(key: string): boolean {
  try {
    const isKnown = sessionStorage.getItem(key) !== null;
    sessionStorage.setItem(key, '1');
    return !isKnown;
  } catch {
    return true; // a browser that keeps no storage
  }
}
