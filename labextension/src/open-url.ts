// The command that opens an address: a service or port in its tab, another page of this server in a frame, another origin in a browser tab.
//
// `server-proxy:open` is the same command, for extensions that were written for jupyter-server-proxy.

import { ILabShell, ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { MainAreaWidget, Notification, WidgetTracker } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { IFrame } from '@jupyterlab/ui-components';
import type { ReadonlyJSONObject } from '@lumino/coreutils';

import { Args, ARGUMENTS, CommandIDs, SERVER_PROXY_OPEN, Target } from './commands';
import { iconOf, tabIcon } from './icons';
import { IPortsManager } from './tokens';
import { prefixOf, SANDBOX } from './urls';

const SERVER_PROXY_PLUGIN = '@jupyterhub/jupyter-server-proxy:add-launcher-entries';
/** `proxy/port/N`, jupyter-server-proxy's `proxy/N`, or `proxy/service/NAME`. A service sees the prefix of the absolute forms. */
const BELOW_PROXY = /^proxy\/(?:(?:port\/)?([1-9]\d{0,4})|service\/([\w.-]+))(?=\/|$)/;

/** An address. Of the page of a service or port it has the target, the URL of the target's prefix, and the path below that. */
export interface IAddress {
  href: string;
  /** Below the base URL of this server. */
  isBelow: boolean;
  page?: { target: Target; url: string; path: string };
}

/** Parses an address; undefined if it is not an http or https address. */
export function parseAddress(text: unknown, manager: IPortsManager): IAddress | undefined {
  const base = new URL(PageConfig.getBaseUrl(), window.location.href);
  const address = typeof text === 'string' && text ? parseUrl(text, base) : undefined;
  if (!address || !['http:', 'https:'].includes(address.protocol)) {
    return undefined;
  }
  const { href, origin, pathname, search, hash } = address;
  if (origin !== base.origin || !pathname.startsWith(base.pathname)) {
    return { href, isBelow: false };
  }
  const [form, port, service] = BELOW_PROXY.exec(pathname.slice(base.pathname.length)) ?? [];
  const page = (target: Target, prefix: string, url = `${prefix}/`): IAddress => {
    const path = (pathname.slice(prefix.length) || '/') + search + hash;
    return { href, isBelow: true, page: { target, url, path } };
  };
  if (port) {
    return page({ port: Number(port) }, base.pathname + form, `${base.pathname}proxy/port/${port}/`);
  }
  if (service) {
    return page({ service }, base.pathname + form);
  }
  const isPrefix = ({ url }: { url: string | null }) => url && `${pathname}/`.startsWith(`${prefixOf(url)}/`);
  const named = [...manager.services, ...manager.templates].find(isPrefix);
  return named ? page({ service: named.name }, prefixOf(named.url ?? '')) : { href, isBelow: true };
}

function parseUrl(text: string, base: URL): URL | undefined {
  try {
    return new URL(text, base);
  } catch {
    return undefined;
  }
}

/** A page of this server that belongs to no service, in a frame. */
class PageTab extends MainAreaWidget<IFrame> {
  constructor(id: string, url: string, label: string) {
    super({ content: new IFrame() });
    this.content.node.querySelector('iframe')?.setAttribute('sandbox', SANDBOX);
    this.content.url = url;
    this.id = id;
    this.title.label = label;
    this.title.icon = tabIcon;
    this.title.closable = true;
  }
}

export const openUrlPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-portproxy:open-url',
  description: 'The command that opens an address of this server, also as server-proxy:open.',
  autoStart: true,
  requires: [IPortsManager],
  optional: [ITranslator, ILabShell, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    manager: IPortsManager,
    translator: ITranslator | null,
    labShell: ILabShell | null,
    restorer: ILayoutRestorer | null
  ): void => {
    const { commands, shell } = app;
    const trans = (translator ?? nullTranslator).load('jupyter-portproxy');
    const tabs = new WidgetTracker<PageTab>({ namespace: 'portproxy-pages' });
    const open = ({ url, title, id, newBrowserTab }: Args): unknown => {
      const address = parseAddress(url, manager);
      if (!address) {
        Notification.error(trans.__("Cannot open '%1': it is not an http or https address.", String(url)), { autoClose: 10_000 });
        return;
      }
      const label = typeof title === 'string' && title ? title : undefined;
      if (address.page) {
        const { target, url, path } = address.page;
        const page = path === '/' ? {} : { path }; // a tab that is open stays at its page
        return commands.execute(newBrowserTab ? CommandIDs.openInBrowser : CommandIDs.openInLab, { ...target, url, ...page, ...(label ? { label } : {}) });
      }
      if (newBrowserTab || !labShell || !address.isBelow) {
        window.open(address.href, '_blank', 'noopener');
        return;
      }
      const tabId = `jp-portproxy-page-${encodeURIComponent(typeof id === 'string' ? id : address.href)}`;
      const known = tabs.find(tab => tab.id === tabId);
      const tab = known ?? new PageTab(tabId, address.href, label ?? address.href);
      if (!known) {
        void tabs.add(tab);
        shell.add(tab, 'main', { type: 'Page' });
      }
      shell.activateById(tabId);
      return tab;
    };
    const register = (command: string) =>
      commands.addCommand(command, {
        label: args => (typeof args.title === 'string' ? args.title : trans.__('Open an Address')),
        icon: args => {
          const { target } = parseAddress(args.url, manager)?.page ?? {};
          const name = target && 'service' in target ? target.service : undefined;
          return name === undefined ? tabIcon : iconOf(manager.service(name) ?? manager.templates.find(item => item.name === name));
        },
        describedBy: { args: ARGUMENTS[CommandIDs.openUrl] as ReadonlyJSONObject },
        execute: open
      });
    register(CommandIDs.openUrl);
    void restorer?.restore(tabs, {
      command: CommandIDs.openUrl,
      args: tab => ({ url: tab.content.url, title: tab.title.label, id: decodeURIComponent(tab.id.slice('jp-portproxy-page-'.length)) }),
      name: tab => tab.id
    });
    // jupyter-server-proxy's own extension fails if its command exists already, and has none on some pages of Notebook.
    const other = app.hasPlugin(SERVER_PROXY_PLUGIN) ? app.activatePlugin(SERVER_PROXY_PLUGIN).catch(() => undefined) : Promise.resolve();
    void other.then(() => commands.hasCommand(SERVER_PROXY_OPEN) || register(SERVER_PROXY_OPEN));
  }
};
