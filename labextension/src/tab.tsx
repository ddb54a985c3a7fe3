// A service or port in a tab of JupyterLab: a frame, and what to say while there is nothing to frame.

import { MainAreaWidget } from '@jupyterlab/apputils';
import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { IFrame, ReactWidget, refreshIcon, Toolbar, ToolbarButton } from '@jupyterlab/ui-components';
import { Panel } from '@lumino/widgets';
import * as React from 'react';

import { CommandIDs, Target } from './commands';
import { iconOf, outsideIcon } from './icons';
import type { Isolation } from './isolation';
import type { IPortsManager, IService } from './tokens';
import { stateText } from './words';

// All that a page of its own could do, but to navigate JupyterLab's window away.
const SANDBOX: IFrame.SandboxExceptions[] = [
  'allow-same-origin',
  'allow-scripts',
  'allow-forms',
  'allow-popups',
  'allow-modals',
  'allow-presentation',
  'allow-pointer-lock',
  'allow-orientation-lock',
  'allow-downloads'
];

export interface ITabOptions {
  target: Target;
  /** Path of the first page, as the API gives it. */
  url: string;
  /** Path, below the URL's prefix, to show first; a restored tab has one. */
  path?: string;
  label: string;
  /** Address of its picture; a letter is shown without one. */
  icon?: string;
  manager: IPortsManager;
  isolation?: Isolation;
  trans: TranslationBundle;
  run: (command: string, target: Target) => void;
  onNavigated?: (path: string) => void;
}

/** The absolute address of a path that the API gave. */
export function absolute(url: string): string {
  return new URL(url, new URL(PageConfig.getBaseUrl(), window.location.href)).href;
}

/** The prefix of a service's or port's URLs: what its own paths hang below. */
export function prefixOf(url: string): string {
  const path = new URL(absolute(url)).pathname;
  const match = /^(.*?\/proxy\/(?:port|service)\/[^/]+)\//.exec(path);
  const base = new URL(PageConfig.getBaseUrl(), window.location.href).pathname;
  return match?.[1] ?? base + (path.slice(base.length).split('/')[0] ?? '');
}

class Frame extends Panel {
  constructor(private readonly _options: ITabOptions) {
    super();
    this.addClass('jp-PortProxy-frame');
    this._iframe = new IFrame({ sandbox: SANDBOX, referrerPolicy: 'same-origin' });
    this._notice = ReactWidget.create(<Notice {..._options} onChange={this._onState} />);
    this._notice.addClass('jp-PortProxy-notice');
    this.addWidget(this._notice);
    this.addWidget(this._iframe);
    this.element.title = _options.label;
    this.element.addEventListener('load', () => this._options.onNavigated?.(this.path));
  }

  get element(): HTMLIFrameElement {
    return this._iframe.node.querySelector('iframe') as HTMLIFrameElement;
  }

  /** Where the frame is, below the prefix; what was asked for where the page does not tell. */
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
    this._path = path;
    this._iframe.url = this.addressOf(path.startsWith('/') ? path : `/${path}`);
    this._shown = true;
  }

  /** The absolute address of a path: at the service's own origin, by way of Jupyter, or below Jupyter's. */
  addressOf(path: string): string {
    const { isolation, target, url } = this._options;
    return absolute((isolation?.framed(target, this._needsStorage) ?? prefixOf(url)) + path);
  }

  reload(): void {
    try {
      (this.element.contentWindow as Window).location.reload();
    } catch {
      this.go(this._path);
    }
  }

  /** The frame is shown while there is a page; it is loaded when that begins. */
  private _onState = (usable: boolean): void => {
    this._iframe.setHidden(!usable);
    this._notice.setHidden(usable);
    if (usable && !this._shown) {
      this.go(this._path);
    }
    if (!usable && this._shown) {
      this._shown = false;
      this._path = this.path;
      this._iframe.url = 'about:blank'; // else the page goes on asking for what is not there
    }
  };

  private get _needsStorage(): boolean {
    const { manager, target } = this._options;
    const name = 'service' in target ? target.service : undefined;
    const known = name !== undefined ? (manager.service(name) ?? manager.templates.find(item => item.name === name)) : undefined;
    return known?.needs_storage ?? false;
  }

  private readonly _iframe: IFrame;
  private readonly _notice: ReactWidget;
  private _shown = false;
  private _path = this._options.path ?? new URL(absolute(this._options.url)).href.slice(absolute(prefixOf(this._options.url)).length);
}

interface INoticeProps extends ITabOptions {
  onChange: (usable: boolean) => void;
}

/** Says what there is instead of a page: the state of a service, or that nobody listens. */
export function Notice({ target, label, manager, trans, run, onChange }: INoticeProps): React.JSX.Element | null {
  const [, draw] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    manager.changed.connect(draw);
    return () => void manager.changed.disconnect(draw);
  }, [manager]);
  const known = manager.connection === 'live';
  const service = 'service' in target ? manager.service(target.service) : undefined;
  const usable = !known || isUsable(target, manager, service);
  React.useEffect(() => onChange(usable), [usable]);
  if (usable) {
    return null;
  }
  if ('port' in target) {
    return <Message text={trans.__('Nothing listens on port %1.', target.port)} />;
  }
  const text = service
    ? `${label}: ${stateText(service.state, trans)}. ${service.error}`
    : trans.__('There is no service named %1 any more.', target.service);
  return (
    <Message text={text} lines={service?.last_lines ?? []} busy={service?.state === 'starting'}>
      {service && ['down', 'failed'].includes(service.state) ? (
        <button className="jp-mod-styled jp-mod-accept" onClick={() => run(CommandIDs.restart, target)}>
          {trans.__('Start')}
        </button>
      ) : null}
      {service ? (
        <button className="jp-mod-styled" onClick={() => run(CommandIDs.showLog, target)}>
          {trans.__('Show log')}
        </button>
      ) : null}
    </Message>
  );
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

function Message(props: { text: string; lines?: string[]; busy?: boolean; children?: React.ReactNode }): React.JSX.Element {
  return (
    <div className="jp-PortProxy-message" role="status">
      <p>{props.text}</p>
      {props.busy ? <progress /> : null}
      {props.lines?.length ? <pre tabIndex={0}>{props.lines.join('\n')}</pre> : null}
      <div className="jp-PortProxy-messageButtons">{props.children}</div>
    </div>
  );
}

export namespace ServiceTab {
  export type Restored = { path: string; url: string; label: string; icon: string } & Target;
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
    super({ content, toolbar: new Toolbar() }); // one that does not fold: the address takes what is left
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
    this.toolbar.addItem('reload', reload);
    this.toolbar.addItem('address', address);
    this.toolbar.addItem('outside', outside);
  }

  readonly target: Target;

  /** The absolute address of what is shown. */
  get address(): string {
    return this.content.addressOf(this.content.path);
  }

  /** What it takes to restore this tab after a reload of JupyterLab. */
  get restored(): ServiceTab.Restored {
    const { url, label, icon = '' } = this._options;
    return { ...this.target, url, label, icon, path: this.content.path };
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
