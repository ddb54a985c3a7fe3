// Printed links to localhost: what counts as one, anchors of outputs, and the links of a terminal.

import { PageConfig } from '@jupyterlab/coreutils';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { ILocalLink, ITerminalWidget, LocalLinks, parseLocalUrl } from '../src/links';
import { PortsManager } from '../src/manager';
import { IPort } from '../src/tokens';
import { ScriptedApi, ScriptedVisibility, port } from './samples';

describe('parseLocalUrl', () => {
  it.each([
    ['http://localhost:8050', 8050, '/'],
    ['http://127.0.0.1:8050/a/b?c=1&d=%2F#e', 8050, '/a/b?c=1&d=%2F#e'],
    ['https://LOCALHOST:8443/', 8443, '/'],
    ['http://0.0.0.0:8000/', 8000, '/'],
    ['http://[::1]:8000/x', 8000, '/x'],
    ['http://[::]:8000/', 8000, '/'],
    ['http://localhost:8050/../../api/contents', 8050, '/api/contents'],
    ['http://localhost:8050/%2e%2e/%2E./api/contents', 8050, '/api/contents'],
    ['http://localhost:8050\\..\\..\\api\\contents', 8050, '/api/contents'],
    ['http://localhost:8050//evil.example/', 8050, '//evil.example/'],
    ['http://localhost:8050?next=/../../api', 8050, '/?next=/../../api'],
    ['http://localhost:8050/a..b/..c/', 8050, '/a..b/..c/']
  ])('%s', (text, number, path) => expect(parseLocalUrl(text)).toEqual({ port: number, path }));

  it.each([
    'http://localhost:8050@evil.example/',
    'http://user:secret@localhost:8050/',
    'http://localhost:8050.evil.example/',
    'http://localhost.evil.example:8050/',
    'http://localhost:70000/',
    'http://localhost:0/',
    'http://localhost:-1/',
    'http://localhost:٨٠٥٠/',
    'http://localhost/',
    'http://127.0.0.2:8050/',
    'http://192.168.1.2:8050/',
    'http://localhost:8050/..%2f..%2f..%2fapi/contents',
    'http://localhost:8050/%2e%2e%2Fapi',
    'http://localhost:8050/a%5c..%5capi',
    'javascript:alert(1)//http://localhost:8050/',
    'javascript://localhost:8050/%0aalert(1)',
    'ftp://localhost:8050/',
    'ws://localhost:8050/',
    'localhost:8050',
    '/proxy/port/8050/',
    ''
  ])('leaves %s alone', text => expect(parseLocalUrl(text)).toBeNull());
});

let api: ScriptedApi;
let manager: PortsManager;
let links: LocalLinks;
const run = vi.fn();
const listPorts = vi.fn<() => Promise<IPort[]>>();
const addressOf = ({ url, path }: ILocalLink) => `http://hub.example${url.slice(0, -1)}${path}`;
const begin = (hostname: string) => {
  links?.dispose();
  links = new LocalLinks(manager, addressOf, run, listPorts, { hostname });
};
const link = (number: number, path: string, url = `/proxy/port/${number}/`) => ({ port: number, path, url });

beforeEach(async () => {
  document.body.innerHTML = '';
  run.mockReset();
  listPorts.mockReset().mockResolvedValue([]);
  api = new ScriptedApi();
  manager = new PortsManager(api, new ScriptedVisibility());
  await vi.waitFor(() => expect(api.opened).toBe(1));
  const outside = port(8050, { allowed: false, may_allow: true, url: null });
  const denied = port(5432, { allowed: false, url: null });
  api.send('snapshot', { ports: [port(15000), outside, denied], services: [], reservations: [] });
  await vi.waitFor(() => expect(manager.connection).toBe('live'));
  begin('hub.example');
});

afterEach(() => {
  links.dispose();
  manager.dispose();
});

describe('a link in an output', () => {
  const anchor = (href: string, around = 'jp-OutputArea-output'): HTMLAnchorElement => {
    document.body.innerHTML = `<div class="${around}"><pre>Running on <a><b>text</b></a></pre></div>`;
    const made = document.querySelector('a') as HTMLAnchorElement;
    made.href = href;
    return made;
  };
  const send = (target: Element, type: string, options: MouseEventInit = {}) => {
    const event = new MouseEvent(type, { bubbles: true, cancelable: true, ...options });
    return target.dispatchEvent(event); // false: the browser would not follow the link
  };
  const click = (target: HTMLAnchorElement, options: MouseEventInit = {}) => {
    target.addEventListener('click', event => event.preventDefault(), { once: true }); // jsdom cannot navigate
    send(target, 'click', options);
  };

  it('opens a tab and keeps its text', () => {
    const made = anchor('http://localhost:8050/a?b=1#c');
    expect(send(made.firstElementChild as Element, 'click')).toBe(false);
    expect(run.mock.calls).toEqual([['portproxy:open-in-lab', link(8050, '/a?b=1#c')]]);
    expect(made.textContent).toBe('text');
  });

  it.each(['pointerover', 'focusin'])('has the proxied address at %s, for the ways of the browser', type => {
    const made = anchor('http://127.0.0.1:15000/a');
    expect(made.href).toBe('http://127.0.0.1:15000/a');
    send(made, type);
    expect([made.href, made.target]).toEqual(['http://hub.example/proxy/port/15000/a', '_blank']);
    click(made, { ctrlKey: true });
    expect(run).not.toHaveBeenCalled();
    click(made);
    expect(run.mock.calls).toEqual([['portproxy:open-in-lab', link(15000, '/a')]]);
  });

  it('gets its own address back when the setting is off', () => {
    const made = anchor('http://localhost:15000/a');
    send(made, 'pointerover');
    links.isEnabled = false;
    click(made);
    expect([made.href, run.mock.calls]).toEqual(['http://localhost:15000/a', []]);
  });

  it('that a renderer changes is read again', () => {
    const made = anchor('http://localhost:15000/a');
    send(made, 'pointerover');
    made.href = 'http://localhost:15000/b';
    send(made, 'pointerover');
    expect(made.href).toBe('http://hub.example/proxy/port/15000/b');
    made.href = 'https://elsewhere.example/';
    send(made, 'pointerover');
    expect(made.href).toBe('https://elsewhere.example/');
  });

  it.each([
    ['http://localhost:15000/', 'jp-MarkdownOutput'],
    ['http://localhost:15000@evil.example/', 'jp-OutputArea-output'],
    ['javascript:void(0)', 'jp-OutputArea-output'],
    ['https://elsewhere.example/', 'jp-OutputArea-output']
  ])('%s in %s is left alone', (href, around) => {
    const made = anchor(href, around);
    send(made, 'pointerover');
    click(made);
    expect([made.href, made.target, run.mock.calls]).toEqual([href, '', []]);
  });

  it('to a port that is not listed yet is found while the pointer is on it', async () => {
    begin('localhost');
    const made = anchor('http://localhost:9999/a');
    listPorts.mockRejectedValueOnce(new Error('away'));
    send(made, 'pointerover');
    await new Promise(done => setTimeout(done));
    expect(made.href).toBe('http://localhost:9999/a');
    listPorts.mockResolvedValue([port(9999)]);
    send(made, 'pointerover');
    send(made, 'pointerover');
    await new Promise(done => setTimeout(done));
    expect(listPorts).toHaveBeenCalledTimes(2); // one at a time
    click(made);
    expect([made.href, run.mock.calls]).toEqual([
      'http://hub.example/proxy/port/9999/a',
      [['portproxy:open-in-lab', link(9999, '/a')]]
    ]);
    send(anchor('http://localhost:15000/'), 'pointerover');
    expect(listPorts).toHaveBeenCalledTimes(2); // none for a port that is listed
  });
});

describe('a terminal', () => {
  const terminalWith = (uri: string, activate: (event: MouseEvent, text: string) => void) => {
    const provider = {
      provideLinks: (_row: number, callback: (found: object[] | undefined) => void) => callback(uri ? [{ text: uri, activate }] : undefined)
    };
    const terminal = { ready: Promise.resolve(), _term: { _core: { _linkProviderService: { linkProviders: [provider] } } } };
    const press = (options: MouseEventInit = {}) =>
      provider.provideLinks(1, found =>
        (found as { text: string; activate: typeof activate }[] | undefined)?.forEach(item =>
          item.activate(new MouseEvent('mouseup', options), item.text)
        )
      );
    const ask = () => provider.provideLinks(1, () => undefined);
    return { terminal: terminal as ITerminalWidget, press, ask };
  };

  it('opens a link in a tab, with Ctrl or the middle button in the browser, and not with the right button', async () => {
    const own = vi.fn();
    const { terminal, press } = terminalWith('http://localhost:8050/a', own);
    await links.followTerminal(terminal);
    press();
    press({ ctrlKey: true });
    press({ button: 1 });
    press({ button: 2 });
    const inBrowser = ['portproxy:open-in-browser', link(8050, '/a')];
    expect(run.mock.calls).toEqual([['portproxy:open-in-lab', link(8050, '/a')], inBrowser, inBrowser]);
    links.isEnabled = false;
    press();
    expect([own.mock.calls.length, run.mock.calls.length]).toEqual([1, 3]);
  });

  it('finds a port that is not listed yet when xterm asks for its links, before the click', async () => {
    begin('localhost');
    const own = vi.fn();
    const { terminal, press, ask } = terminalWith('http://localhost:9999/', own);
    await links.followTerminal(terminal);
    listPorts.mockResolvedValue([port(9999)]);
    ask();
    await new Promise(done => setTimeout(done));
    press();
    expect([own.mock.calls, run.mock.calls]).toEqual([[], [['portproxy:open-in-lab', link(9999, '/')]]]);
  });

  it('opens other links itself', async () => {
    const own = vi.fn();
    const { terminal, press } = terminalWith('http://localhost:8050@evil.example/', own);
    await links.followTerminal(terminal);
    press();
    expect(own).toHaveBeenCalledOnce();
    const { terminal: empty, press: pressNothing } = terminalWith('', own);
    await links.followTerminal(empty);
    pressNothing();
    expect(run).not.toHaveBeenCalled();
  });

  it.each<() => ITerminalWidget>([
    () => ({}),
    () => ({ ready: Promise.reject(new Error('no xterm')) }),
    () => ({ _term: {} }),
    () => ({ _term: { _core: {} } }),
    () => ({ _term: { _core: { _linkProviderService: {} } } })
  ])('without the private names stays as it is', async makeTerminal => {
    await expect(links.followTerminal(makeTerminal())).resolves.toBeUndefined();
  });
});

describe('the port of a link', () => {
  const opens = async (uri: string): Promise<boolean> => {
    const provider = { provideLinks: (_row: number, callback: (found: object[]) => void) => callback([{ activate: () => undefined }]) };
    await links.followTerminal({ _term: { _core: { _linkProviderService: { linkProviders: [provider] } } } } as unknown as ITerminalWidget);
    provider.provideLinks(1, found => (found[0] as { activate: (event: MouseEvent, text: string) => void }).activate(new MouseEvent('mouseup'), uri));
    return run.mock.calls.length > 0;
  };

  it.each([
    ['http://localhost:15000/', true],
    ['http://localhost:8050/', true],
    ['http://localhost:5432/', true],
    ['http://localhost:9999/', true],
    ['http://localhost:8888/lab?token=abc', false],
    ['http://localhost:15000/lab?token=abc', true]
  ])('%s at a server elsewhere: %s', async (uri, expected) => {
    expect(await opens(uri)).toBe(expected);
  });

  it.each([
    ['http://localhost:15000/', true],
    ['http://localhost:8050/', true],
    ['http://localhost:5432/', false],
    ['http://localhost:9999/', false]
  ])('%s at a server on the same machine: %s', async (uri, expected) => {
    begin('localhost');
    expect(await opens(uri)).toBe(expected);
  });

  it('that is Jupyter itself below a base URL is left alone', async () => {
    const before = PageConfig.setOption('baseUrl', '/user/ada/');
    expect(await opens('http://127.0.0.1:40123/user/ada/lab')).toBe(false);
    expect(await opens('http://127.0.0.1:40123/users')).toBe(true);
    expect(run.mock.calls[0]).toEqual(['portproxy:open-in-lab', link(40123, '/users', '/user/ada/proxy/port/40123/')]);
    PageConfig.setOption('baseUrl', before);
  });
});
