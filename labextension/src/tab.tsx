// A service or port in a tab of JupyterLab: a frame, and a notice while there is no page to show.

import { MainAreaWidget } from '@jupyterlab/apputils';
import { URLExt } from '@jupyterlab/coreutils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { bugIcon, IFrame, ReactWidget, refreshIcon, Toolbar, ToolbarButton } from '@jupyterlab/ui-components';
import { Panel } from '@lumino/widgets';
import * as React from 'react';

import { CommandIDs, Target } from './commands';
import { iconOf, outsideIcon } from './icons';
import type { Isolation } from './isolation';
import { Steps } from './starting';
import type { IPortsManager, IService } from './tokens';
import { stateText } from './labels';
import { absoluteUrl, prefixOf, SANDBOX } from './urls';

/** The data to start a service again that the server's list no longer has. */
export type IRecipe = { template: string; arguments: Record<string, string> };

export interface ITabOptions {
  target: Target;
  /** Path of the first page, as the API gives it. */
  url: string;
  /** Path, below the URL's prefix, to show first; a restored tab has one. */
  path?: string;
  label: string;
  /** Address of its icon; without one, a letter is shown. */
  icon?: string;
  manager: IPortsManager;
  isolation?: Isolation;
  trans: TranslationBundle;
  run: (command: string, target: Target & { path?: string }) => void;
  /** How the service was started; a restored tab has one. */
  recipe?: IRecipe | undefined;
  start?: (recipe: IRecipe) => void;
  onNavigated?: (path: string) => void;
}

const FOCUS_PERIOD = 300; // ms
const MIN_ENTRY_PERIOD = 10_000; // ms

/** The part of the Navigation API (HTML Living Standard, 7.2.6) that is used here; TypeScript does not declare it. */
interface INavigateEvent extends Event {
  readonly destination: { readonly url: string };
  /** Caused by a click on a link or a form. */
  readonly userInitiated: boolean;
}

type WindowWithNavigation = Window & { navigation?: EventTarget };

const navigation = (window as WindowWithNavigation).navigation;

/**
 * The frame of a tab. It has the features of a browser tab: there is no sandbox, and at an isolated origin Jupyter's features are
 * delegated to that origin alone, not to the destinations of the page's links.
 *
 * Browsers prevent a frame of another origin from navigating the whole window before a click in it. This class does the same for
 * path-based URLs, which share JupyterLab's origin.
 */
class Frame extends Panel {
  constructor(private readonly _options: ITabOptions) {
    super();
    this.addClass('jp-PortProxy-frame');
    this._iframe = new IFrame({ referrerPolicy: 'same-origin' });
    if (navigation) {
      this.element.removeAttribute('sandbox');
      navigation.addEventListener('navigate', this._onWindowNavigates);
    } else {
      this.element.setAttribute('sandbox', SANDBOX);
    }
    window.addEventListener('message', this._onMessage);
    this._timer = window.setInterval(this._followFocus, FOCUS_PERIOD);
    this._notice = new NoticeView(_options, this._onState, () => void window.open(this.address, '_blank', 'noopener'));
    this._notice.addClass('jp-PortProxy-notice');
    this.addWidget(this._notice);
    this.addWidget(this._iframe);
    this.element.title = _options.label;
    this.element.addEventListener('load', () => {
      this._watchActivation();
      this._followDiagnosisLink();
      this._isStale ||= _options.manager.connection === 'lost';
      this._followAddress();
    });
  }

  override dispose(): void {
    navigation?.removeEventListener('navigate', this._onWindowNavigates);
    window.removeEventListener('message', this._onMessage);
    window.clearInterval(this._timer);
    super.dispose();
  }

  get element(): HTMLIFrameElement {
    return this._iframe.node.querySelector('iframe') as HTMLIFrameElement;
  }

  /** The current path below the prefix; the opened path if the browser does not permit reading it. */
  get path(): string {
    const { url } = this._options;
    try {
      const { pathname, search, hash } = (this.element.contentWindow as Window).location;
      const prefix = prefixOf(url);
      return pathname.startsWith(`${prefix}/`) ? pathname.slice(prefix.length) + search + hash : this._path;
    } catch {
      return this._path;
    }
  }

  go(path: string): void {
    const { isolation, target, url, manager } = this._options;
    const port = 'service' in target ? manager.service(target.service)?.port : undefined;
    this._notice.isRefused = false;
    this._path = path.startsWith('/') ? path : `/${path}`;
    this.element.allow = isolation?.allow(target, port ?? null) ?? '';
    this._iframe.url = absoluteUrl((isolation?.framePath(target) ?? prefixOf(url)) + this._path);
    this._shown = true;
    this._isStale = false;
  }

  /** The absolute address of the shown page for a browser tab: the entry to the isolated origin, or the path-based URL. */
  get address(): string {
    const { isolation, target, url } = this._options;
    return absoluteUrl((isolation?.entryPath(target) ?? prefixOf(url)) + this.path);
  }

  reload(): void {
    try {
      (this.element.contentWindow as Window).location.reload();
    } catch {
      this.go(this._path);
    }
  }

  /** Shows the frame while there is a page. Loads it at the start, and again if it was loaded while the server was unreachable. */
  private _onState = (state: PageState): void => {
    this._iframe.setHidden(state !== 'shown');
    this._notice.setHidden(state === 'shown');
    if (state === 'shown' && (!this._shown || this._isStale)) {
      this.go(this._path);
    }
    if (state === 'gone' && this._shown) {
      this._shown = false;
      this._path = this.path;
      this._iframe.url = 'about:blank'; // otherwise the page continues to send requests
    }
  };

  /** Handles the message of the gateway's error pages for a page that forbids frames, and for one without a session. */
  private _onMessage = ({ source, data }: MessageEvent): void => {
    if (source !== this.element.contentWindow) {
      return;
    }
    const { portproxyNotFramed: refused, portproxyNotEntered: lost } = (data ?? {}) as { portproxyNotFramed?: unknown; portproxyNotEntered?: unknown };
    const path = refused ?? lost;
    if (typeof path !== 'string' || !path.startsWith('/')) {
      return;
    }
    // Without dot segments, which would lead from the entry path to other paths of Jupyter.
    const { pathname, search, hash } = new URL(window.location.origin + path);
    const prefix = prefixOf(this._options.url);
    const below = (pathname.startsWith(`${prefix}/`) ? pathname.slice(prefix.length) : pathname) + search + hash;
    if (refused !== undefined) {
      this._path = below;
      this._notice.isRefused = true;
    } else if (Date.now() - this._entered > MIN_ENTRY_PERIOD) {
      this._entered = Date.now();
      this.go(below);
    }
  };

  /** Makes the tab the current one when its page has got the focus: browsers report a click in a frame to its own window alone. */
  private _followFocus = (): void => {
    const isFocused = document.activeElement === this.element;
    if (isFocused && !this._isFocused && this.isVisible) {
      this.element.dispatchEvent(new FocusEvent('focus'));
    }
    this._isFocused = isFocused;
  };

  /** Reports the address, again whenever a script of the page changes it. Addresses of other origins are not accessible. */
  private _followAddress(): void {
    const report = () => this._options.onNavigated?.(this.path);
    try {
      (this.element.contentWindow as WindowWithNavigation).navigation?.addEventListener('currententrychange', report);
    } catch {
      // a page of another origin
    }
    report();
  }

  /** Prevents a page of this service from replacing JupyterLab's window without a click in its frame. */
  private _onWindowNavigates = (event: Event): void => {
    const { destination, userInitiated } = event as INavigateEvent;
    const isBelow = destination.url.startsWith(`${absoluteUrl(prefixOf(this._options.url))}/`);
    if (event.cancelable && isBelow && !userInitiated && this._activated !== this.element.contentDocument) {
      event.preventDefault();
    }
  };

  /** Records clicks and key presses in the page. Documents of other origins are not accessible. */
  private _watchActivation(): void {
    const { contentDocument } = this.element;
    for (const type of ['pointerdown', 'keydown']) {
      contentDocument?.addEventListener(type, () => (this._activated = contentDocument), true);
    }
  }

  /** Diagnoses in this window by the link of the gateway's error page, which opens another window elsewhere. */
  private _followDiagnosisLink(): void {
    const { run, target } = this._options;
    this.element.contentDocument?.querySelector('a[data-portproxy-diagnose]')?.addEventListener('click', event => {
      event.preventDefault();
      run(CommandIDs.diagnose, { ...target, path: this.path });
    });
  }

  private readonly _iframe: IFrame;
  private readonly _notice: NoticeView;
  private _shown = false;
  private _isStale = false;
  /** When the page was last loaded because it had no session, in ms. */
  private _entered = 0;
  private _isFocused = false;
  private readonly _timer: number;
  /** The document of the last click or key press. */
  private _activated: Document | undefined;
  private _path = this._options.path ?? new URL(absoluteUrl(this._options.url)).href.slice(absoluteUrl(prefixOf(this._options.url)).length);
}

/** `hidden`: the page stays loaded behind a notice. `gone`: the service or port has ended. */
export type PageState = 'shown' | 'hidden' | 'gone';

interface INoticeProps extends ITabOptions {
  /** The page forbids frames. */
  isRefused: boolean;
  onChange: (state: PageState) => void;
  openOutside: () => void;
}

class NoticeView extends ReactWidget {
  constructor(
    private readonly _options: ITabOptions,
    private readonly _onChange: (state: PageState) => void,
    private readonly _openOutside: () => void
  ) {
    super();
  }

  set isRefused(isRefused: boolean) {
    this._isRefused = isRefused;
    this.update();
  }

  protected override render(): React.JSX.Element {
    return <Notice {...this._options} isRefused={this._isRefused} onChange={this._onChange} openOutside={this._openOutside} />;
  }

  private _isRefused = false;
}

/** The notice in place of a page: the state of a service, a port without a listener, or a page that forbids frames. */
export function Notice(props: INoticeProps): React.JSX.Element | null {
  const { target, label, manager, trans, run, isRefused, onChange, openOutside, start } = props;
  const [, draw] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    manager.changed.connect(draw);
    return () => void manager.changed.disconnect(draw);
  }, [manager]);
  const service = 'service' in target ? manager.service(target.service) : undefined;
  const remembered = React.useRef(props.recipe);
  const recipe = (remembered.current = recipeOf({ ...props, recipe: remembered.current }));
  const gone = manager.connection === 'live' && !isUsable(target, manager, service);
  const state = gone ? 'gone' : isRefused || manager.isAway ? 'hidden' : 'shown';
  React.useEffect(() => onChange(state), [state]);
  if (state === 'shown') {
    return null;
  }
  if (!gone) {
    const text = trans.__('%1 does not allow its page in a frame, such as a tab of JupyterLab.', label);
    return manager.isAway ? (
      <Message text={`${manager.problem} ${trans.__('Trying again…')}`} busy />
    ) : (
      <Message text={text}>
        <Button label={trans.__('Open in a browser tab')} isAccent onClick={openOutside} />
        <Button label={trans.__('Diagnose')} onClick={() => run(CommandIDs.diagnose, target)} />
      </Message>
    );
  }
  if ('port' in target) {
    return <Message text={trans.__('No program listens on port %1.', target.port)} />;
  }
  const text = service
    ? `${label}: ${stateText(service.state, trans)}. ${service.error}`
    : trans.__('The service %1 no longer exists.', target.service);
  const isEnded = service && ['down', 'failed'].includes(service.state);
  const begin = isEnded ? () => run(CommandIDs.restart, target) : recipe && start && !service ? () => start(recipe) : null;
  return (
    <Message text={text} lines={service?.last_lines ?? []} steps={service?.state === 'starting' ? <Steps service={service} trans={trans} /> : null}>
      {begin ? <Button label={trans.__('Start')} isAccent onClick={begin} /> : null}
      {service?.state === 'failed' ? <Button label={trans.__('Edit…')} onClick={() => run(CommandIDs.edit, target)} /> : null}
      {service ? <Button label={trans.__('Show log')} onClick={() => run(CommandIDs.showLog, target)} /> : null}
    </Message>
  );
}

/** How to start a tab's service: as it was started, else from the template of its name if all arguments have defaults. */
export function recipeOf({ target, manager, recipe }: ITabOptions): IRecipe | undefined {
  if (!('service' in target)) {
    return undefined;
  }
  const service = manager.service(target.service);
  const template = manager.templates.find(item => item.name === target.service);
  const usual = template?.arguments.every(arg => arg.default !== '') ? { template: template.name, arguments: {} } : undefined;
  return service ? { template: service.template, arguments: service.arguments } : (recipe ?? usual);
}

function isUsable(target: Target, manager: IPortsManager, service: IService | undefined): boolean {
  if ('port' in target) {
    return manager.port(target.port) !== undefined;
  }
  if (service) {
    return service.state === 'up' || service.state === 'unhealthy';
  }
  const external = manager.templates.some(template => template.name === target.service && template.url !== null);
  return external || manager.reservations.some(reservation => reservation.name === target.service);
}

function Button({ label, isAccent, onClick }: { label: string; isAccent?: boolean; onClick: () => void }): React.JSX.Element {
  return (
    <button className={`jp-mod-styled${isAccent ? ' jp-mod-accept' : ''}`} onClick={onClick}>
      {label}
    </button>
  );
}

function Message(props: { text: string; lines?: string[]; steps?: React.ReactNode; busy?: boolean; children?: React.ReactNode }): React.JSX.Element {
  return (
    <div className="jp-PortProxy-message" role="status">
      <p>{props.text}</p>
      {props.busy ? <progress /> : null}
      {props.steps}
      {props.lines?.length ? <pre tabIndex={0}>{props.lines.join('\n')}</pre> : null}
      <div className="jp-PortProxy-messageButtons">{props.children}</div>
    </div>
  );
}

export namespace ServiceTab {
  export type Restored = { path: string; url: string; label: string; icon: string; recipe?: IRecipe } & Target;
}

/** The tab. */
export class ServiceTab extends MainAreaWidget<Frame> {
  constructor(options: ITabOptions) {
    const address = new Address(path => this.content.go(path), options.trans.__('Address below the prefix'));
    const content = new Frame({
      ...options,
      onNavigated: path => {
        address.setPath(path);
        options.onNavigated?.(path);
      }
    });
    super({ content, toolbar: new Toolbar() }); // a toolbar without a popup for hidden items: the address takes the remaining width
    this.addClass('jp-PortProxy-tab');
    this.target = options.target;
    this._options = options;
    this.id = `jp-portproxy-tab-${URLExt.encodeParts(JSON.stringify(options.target))}`;
    this.title.label = options.label;
    this.title.icon = iconOf({ title: options.label, icon: options.icon ?? '' });
    this.title.closable = true;
    const { trans } = options;
    const reload = new ToolbarButton({ icon: refreshIcon, tooltip: trans.__('Reload'), onClick: () => this.content.reload() });
    const outside = new ToolbarButton({
      icon: outsideIcon,
      tooltip: trans.__('Open in a browser tab'),
      onClick: () => void window.open(this.address, '_blank', 'noopener')
    });
    const diagnose = new ToolbarButton({
      icon: bugIcon,
      tooltip: trans.__('Diagnose'),
      onClick: () => options.run(CommandIDs.diagnose, { ...options.target, path: this.content.path })
    });
    this.toolbar.addItem('reload', reload);
    this.toolbar.addItem('address', address);
    this.toolbar.addItem('diagnose', diagnose);
    this.toolbar.addItem('outside', outside);
  }

  readonly target: Target;

  /** The absolute address of the shown page. */
  get address(): string {
    return this.content.address;
  }

  /** The data to restore this tab after a reload of JupyterLab. */
  get restored(): ServiceTab.Restored {
    const { url, label, icon = '' } = this._options;
    const recipe = recipeOf(this._options);
    return { ...this.target, url, label, icon, path: this.content.path, ...(recipe ? { recipe } : {}) };
  }

  private readonly _options: ITabOptions;
}

/** The path below the prefix; Enter goes there. */
class Address extends ReactWidget {
  constructor(
    private readonly _go: (path: string) => void,
    private readonly _label: string
  ) {
    super();
    this.addClass('jp-PortProxy-address');
  }

  setPath(path: string): void {
    this._path = path;
    this.update();
  }

  protected override render(): React.JSX.Element {
    return <AddressBox key={this._path} path={this._path} label={this._label} go={this._go} />;
  }

  private _path = '/';
}

function AddressBox({ path, label, go }: { path: string; label: string; go: (path: string) => void }): React.JSX.Element {
  const [text, setText] = React.useState(path);
  return (
    <input
      type="text"
      spellCheck={false}
      aria-label={label}
      value={text}
      onChange={event => setText(event.target.value)}
      onKeyDown={event => event.key === 'Enter' && go(text)}
    />
  );
}
