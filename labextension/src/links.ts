// Links to localhost that programs print in cell outputs and terminals. In a browser on another machine they lead to that machine;
// here they open the proxied address of the port. The text stays as it was printed.
//
// Cell outputs: JupyterLab has made anchors of the URLs. Listeners on the document find the anchor of an event, so an output with
// thousands of links costs nothing. Its `href` is replaced when the pointer or the focus reaches it: the browser's own ways to open
// or copy a link (middle click, context menu, Ctrl) then have the proxied address too, and only a plain click needs code.
// Terminals: xterm finds the links, also those that wrap over several lines; `activate` of each is replaced when xterm asks for them.

import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import type { ITerminalTracker } from '@jupyterlab/terminal';

import { CommandIDs } from './commands';
import type { IPort, IPortsManager } from './tokens';

// As they are printed: programs that listen on all addresses print 0.0.0.0 or [::].
const LOCAL_HOSTS = new Set(['localhost', '127.0.0.1', '0.0.0.0', '[::1]', '[::]']);
const OUTPUT_LINK = '.jp-OutputArea-output a[href]';
// Dot segments with encoded parts. Some reverse proxies decode them, and the path would leave the prefix of the port.
const DOT_SEGMENT = /(?:\/|%2f|%5c)(?:\.|%2e){2}(?:\/|%2f|%5c|$)/i;

export interface ILocalUrl {
  port: number;
  /** Path, query and fragment, with a slash first and without dot segments. */
  path: string;
}

/** The arguments of the commands that open it; `url` is the URL path of the port's first page. */
export type ILocalLink = ILocalUrl & { url: string };

/** The port and path of a URL of this machine; null for all other texts, and for URLs without a port or with a user name. */
export function parseLocalUrl(text: string): ILocalUrl | null {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return null;
  }
  const isLocal = /^https?:$/.test(url.protocol) && LOCAL_HOSTS.has(url.hostname) && url.username + url.password === '';
  const port = Number(url.port);
  return isLocal && port > 0 && !DOT_SEGMENT.test(url.pathname) ? { port, path: url.pathname + url.search + url.hash } : null;
}

// Parts of JupyterLab's terminal and of xterm. The names with an underscore are private, see CONTRIBUTING.md.
interface ITerminalLink {
  readonly text: string;
  activate(event: MouseEvent, text: string): void;
}

interface ILinkProvider {
  provideLinks(row: number, callback: (links: ITerminalLink[] | undefined) => void): void;
}

export interface ITerminalWidget {
  ready?: Promise<void>;
  _term?: { _core?: { _linkProviderService?: { linkProviders?: ILinkProvider[] } } };
}

export class LocalLinks {
  /**
   * @param addressOf - The absolute proxied address of a link, for a browser tab.
   * @param run - Runs a command with a link as its arguments.
   * @param listPorts - The ports of this moment: a program prints its link before the manager's list has its port.
   * @param page - The address of JupyterLab's page.
   */
  constructor(
    private readonly _manager: IPortsManager,
    private readonly _addressOf: (link: ILocalLink) => string,
    private readonly _run: (command: string, link: ILocalLink) => void,
    private readonly _listPorts: () => Promise<readonly IPort[]>,
    private readonly _page: Pick<Location, 'hostname'> = window.location
  ) {
    for (const type of ['pointerover', 'focusin', 'click']) {
      document.addEventListener(type, this, true);
    }
  }

  /** The setting `links`. */
  isEnabled = true;

  dispose(): void {
    for (const type of ['pointerover', 'focusin', 'click']) {
      document.removeEventListener(type, this, true);
    }
  }

  handleEvent(event: Event): void {
    const anchor = event.target instanceof Element ? event.target.closest(OUTPUT_LINK) : null;
    const link = anchor instanceof HTMLAnchorElement ? this._update(anchor) : null;
    if (link && event.type === 'click' && isPlain(event as MouseEvent)) {
      event.preventDefault();
      event.stopPropagation();
      this._run(CommandIDs.openInLab, link);
    }
  }

  /** Follows the terminals of this page, now and later. */
  followTerminals(tracker: ITerminalTracker): void {
    const follow = (widget: { content: unknown }) => void this.followTerminal(widget.content as ITerminalWidget);
    tracker.forEach(follow);
    tracker.widgetAdded.connect((_, widget) => follow(widget));
  }

  /**
   * Replaces `activate` of a terminal's links. A provider of ours would come after JupyterLab's, which has precedence. Where a
   * private name is missing, links open as JupyterLab opens them.
   */
  async followTerminal(terminal: ITerminalWidget): Promise<void> {
    await terminal.ready?.catch(() => undefined); // the terminal reports it
    for (const provider of terminal._term?._core?._linkProviderService?.linkProviders ?? []) {
      const provide = provider.provideLinks.bind(provider);
      provider.provideLinks = (row, callback) =>
        provide(row, links => {
          links?.forEach(link => {
            this._linkOf(link.text); // at a port that is not listed yet, the click finds it
            this._replaceActivate(link);
          });
          callback(links);
        });
    }
  }

  private _replaceActivate(link: ITerminalLink): void {
    const activate = link.activate.bind(link);
    link.activate = (event, text) => {
      const local = this._linkOf(text);
      if (!local) {
        activate(event, text);
      } else if (event.button !== 2) {
        this._run(isPlain(event) ? CommandIDs.openInLab : CommandIDs.openInBrowser, local);
      }
    };
  }

  /** Gives an anchor the proxied address, or its own one if it is to be left alone (again). */
  private _update(anchor: HTMLAnchorElement): ILocalLink | null {
    const known = this._replaced.get(anchor);
    const printed = known?.proxied === anchor.href ? known.printed : anchor.href; // a renderer may have set another one
    const link = this._linkOf(printed);
    if (link) {
      anchor.href = this._addressOf(link);
      anchor.target = '_blank';
      this._replaced.set(anchor, { printed, proxied: anchor.href });
    } else if (anchor.href !== printed) {
      anchor.href = printed;
    }
    return link;
  }

  private _linkOf(text: string): ILocalLink | null {
    const local = this.isEnabled ? parseLocalUrl(text) : null;
    const url = (port: number) => URLExt.join(basePath(), 'proxy/port', String(port), '/');
    return local && this._isProxied(local) ? { ...local, url: url(local.port) } : null;
  }

  /**
   * False if a link works better as it is printed: Jupyter's own, and in a browser on the same machine that of a port that the
   * gateway cannot reach. The server does not list its own port.
   */
  private _isProxied({ port, path }: ILocalUrl): boolean {
    const known = this._manager.port(port) ?? this._recentPorts.find(item => item.port === port);
    if (LOCAL_HOSTS.has(this._page.hostname)) {
      if (!known) {
        this._readPorts();
      }
      return known !== undefined && (known.allowed || known.may_allow);
    }
    const base = basePath();
    const isJupyter = !known && ((base !== '/' && path.startsWith(base)) || /[?&]token=/.test(path));
    return !isJupyter;
  }

  /** One request at a time, when the pointer or the focus reaches a link. */
  private _readPorts(): void {
    this._reading ??= this._listPorts()
      .then(
        ports => {
          this._recentPorts = ports;
        },
        () => undefined // the link stays as it is printed
      )
      .finally(() => {
        this._reading = null;
      });
  }

  private _recentPorts: readonly IPort[] = [];
  private _reading: Promise<void> | null = null;
  private readonly _replaced = new WeakMap<HTMLAnchorElement, { printed: string; proxied: string }>();
}

/** A click without modifiers, or Enter. */
function isPlain({ button, ctrlKey, metaKey, shiftKey }: MouseEvent): boolean {
  return button === 0 && !ctrlKey && !metaKey && !shiftKey;
}

function basePath(): string {
  return new URL(PageConfig.getBaseUrl(), window.location.href).pathname;
}
