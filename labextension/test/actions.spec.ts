// The notifications: of a start, a failure, and a new port.

import { Notification } from '@jupyterlab/apputils';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Actions } from '../src/actions';
import { ApiError } from '../src/api';
import { iconOf } from '../src/icons';
import { Tiles } from '../src/launcher';
import { PortsManager } from '../src/manager';
import { RuleSet } from '../src/rules';
import type { IPort } from '../src/tokens';
import { ScriptedApi, ScriptedVisibility, port, rule, service, template, trans } from './samples';

const open = vi.fn();
const showLog = vi.fn();
const edit = vi.fn();
const showPanel = vi.fn();
const outside = { isDefault: (where: string) => where === 'browser', addressOf: (item: { url: string }) => `http://outside${item.url}` };
let api: ScriptedApi;
let manager: PortsManager;
let actions: Actions;

const notifications = () => Notification.manager.notifications.map(note => [note.type, note.message]);
const press = (label: string) => {
  const found = Notification.manager.notifications[0]?.options.actions?.find(action => action.label === label);
  found?.callback(new MouseEvent('click'));
};

beforeEach(() => {
  vi.useFakeTimers();
  open.mockReset();
  showLog.mockReset();
  sessionStorage.clear();
  Notification.manager.dismiss();
  api = new ScriptedApi();
  manager = new PortsManager(api, new ScriptedVisibility());
  actions = new Actions(manager, trans, open, showLog, edit, showPanel, outside);
});

afterEach(() => {
  manager.dispose();
  vi.useRealTimers();
});

describe('a start', () => {
  it('has a notification until it is up, and then opens', async () => {
    api.answers = { 'POST services': service('a', { state: 'starting' }), 'GET services/a': service('a', { title: 'A' }) };
    const started = actions.start('a', 'A');
    expect(notifications()).toEqual([['in-progress', 'Starting A…']]);
    await vi.advanceTimersByTimeAsync(3000);
    await started;
    expect(notifications()).toEqual([['success', 'A is up.']]);
    press('Open');
    expect(open).toHaveBeenCalledWith({ service: 'a' });
  });

  it('of a tile opens its tab as soon as the server has accepted it', async () => {
    api.answers = { 'POST services': service('a', { state: 'starting' }), 'GET services/a': service('a', { state: 'starting' }) };
    void actions.launch(template('a'));
    await vi.advanceTimersByTimeAsync(100);
    expect(open).toHaveBeenCalledWith({ service: 'a' }, 'lab');
    expect(notifications()).toEqual([['in-progress', 'Starting a…']]);
  });

  it('of a tile opens its browser tab in the click, with a text until the server has accepted it', async () => {
    const tab = { opener: window, document: document.implementation.createHTMLDocument(), location: { replace: vi.fn() }, close: vi.fn() };
    vi.spyOn(window, 'open').mockReturnValue(tab as unknown as Window);
    api.answers = { 'POST services': service('a', { state: 'starting' }), 'GET services/a': service('a', { state: 'starting' }) };
    void actions.launch(template('a', { title: '<b>A', open_in: 'browser' }));
    expect(window.open).toHaveBeenCalledTimes(1);
    expect([tab.opener, tab.document.title, tab.document.body.textContent]).toEqual([null, 'Starting <b>A…', 'Starting <b>A…']);
    expect(tab.location.replace).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(100);
    expect(tab.location.replace).toHaveBeenCalledWith('http://outside/proxy/service/a/');
    expect(open).not.toHaveBeenCalled();
    api.answers = { 'POST services': new ApiError(429, 'Too often.') };
    void actions.launch(template('b', { open_in: 'browser' }));
    await vi.advanceTimersByTimeAsync(100);
    expect(tab.close).toHaveBeenCalledTimes(1);
    vi.mocked(window.open).mockReturnValue(null); // blocked: the notification has a button
    api.answers = { 'POST services': service('a') };
    void actions.launch(template('a', { open_in: 'browser' }));
    await vi.advanceTimersByTimeAsync(3000);
    expect(notifications()).toContainEqual(['success', 'a is up.']);
    vi.mocked(window.open).mockRestore();
  });

  it('is reported under the name of the service', async () => {
    api.answers = { 'POST services': service('mine', { template: 'a', title: 'A' }) };
    const started = actions.start('a', 'A', 'mine');
    await vi.advanceTimersByTimeAsync(3000);
    await started;
    expect(notifications()).toEqual([['success', 'A (mine) is up.']]);
  });

  it('that fails can be edited', async () => {
    const failed = service('a', { state: 'failed', error: 'It ended with exit code 2. Its output: No such file' });
    const followed = actions.follow(failed);
    api.answers = { 'GET services/a': failed };
    await vi.advanceTimersByTimeAsync(3000);
    await followed;
    expect(notifications()).toEqual([['error', 'a did not start. It ended with exit code 2. Its output: No such file']]);
    press('Edit…');
    expect(edit).toHaveBeenCalledWith('a');
  });

  it('that fails shows the reason, with the log', async () => {
    api.answers = { 'POST services': service('a', { title: 'A', state: 'failed', error: 'It ended.' }) };
    const started = actions.start('a', 'A');
    await vi.advanceTimersByTimeAsync(3000);
    await started;
    expect(notifications()).toEqual([['error', 'A did not start. It ended.']]);
    press('Show log');
    expect(showLog).toHaveBeenCalledWith('a');
  });

  it('that is refused shows the message of the server', async () => {
    api.answers = { 'POST services': new ApiError(404, "There is no template named 'a'.", 'Look at the list.') };
    const started = actions.start('a', 'A');
    await vi.advanceTimersByTimeAsync(3000);
    await started;
    expect(notifications()).toEqual([['error', "There is no template named 'a'. Look at the list."]]);
  });
});

describe('a new port', () => {
  const rules = new RuleSet([], {
    onNewPort: 'notify',
    ports: [{ port: 15001, action: 'silent' }, { process: 'streamlit', action: 'open' }, { port: 15003, label: 'Mine' }]
  });

  const gathered = () => vi.advanceTimersByTimeAsync(500);

  it('is announced with its label, and opened from the notification', async () => {
    actions.announce(port(15003), rules);
    await gathered();
    expect(notifications()).toEqual([['info', 'A service is running on port 15003 (Mine)']]);
    press('Open');
    expect(open).toHaveBeenCalledWith({ port: 15003 });
  });

  it('is not announced if a tab shows it, and leaves the notification when its page is opened', async () => {
    actions.announce(port(15003), rules, true);
    await gathered();
    expect(notifications()).toEqual([]);
    actions.announce(port(15003), rules);
    actions.announce(port(15004), rules);
    await gathered();
    actions.removeFromNotification({ port: 15003 });
    actions.removeFromNotification({ service: 'a' });
    await gathered();
    expect(notifications()).toEqual([['info', 'A service is running on port 15004 (python)']]);
    actions.removeFromNotification({ port: 15004 });
    await gathered();
    expect(notifications()).toEqual([]);
  });

  it('shares one notification with all others while that is shown', async () => {
    for (let number = 15010; number < 15020; number++) {
      actions.announce(port(number), rules);
      await vi.advanceTimersByTimeAsync(number % 3 ? 100 : 2000);
    }
    await gathered();
    expect(notifications().map(note => note[1])).toEqual(['10 services are running on new ports: 15010, 15011, 15012, 15013, 15014 …']);
    press('Show');
    expect(showPanel).toHaveBeenCalled();
    Notification.manager.dismiss();
    actions.announce(port(15020), rules);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(notifications().map(note => note[1])).toEqual(['A service is running on port 15020 (python)']);
    Notification.manager.dismiss();
    actions.announce(port(15021), rules);
    await gathered();
    expect(notifications().map(note => note[1])).toEqual(['A service is running on port 15021 (python)']);
  });

  it('leaves the notification when it ends, and shows once when another program takes its place', async () => {
    api.send('snapshot', { ports: [port(15003), port(15004)], services: [], reservations: [] });
    await vi.waitFor(() => expect(manager.connection).toBe('live'));
    [port(15003), port(15004), port(15004, { pid: 2, process: 'other' })].forEach(found => actions.announce(found, rules));
    await gathered();
    expect(notifications().map(note => note[1])).toEqual(['2 services are running on new ports: 15003, 15004']);
    api.send('removed', { kind: 'port', ...port(15003) });
    await vi.waitFor(() => expect(notifications().map(note => note[1])).toEqual(['A service is running on port 15004 (other)']));
    api.send('removed', { kind: 'port', ...port(15004, { pid: 2 }) });
    api.send('removed', { kind: 'port', ...port(15004) });
    await vi.waitFor(() => expect(notifications()).toEqual([]));
  });

  it.each([
    ['a rule that silences it', port(15001), rules, 0],
    ['a rule that opens it', port(15002, { process: 'streamlit' }), rules, 1],
    ['silence for all', port(15004), new RuleSet([], { onNewPort: 'silent', ports: [] }), 0],
    ['ignoring all', port(15004), new RuleSet([], { onNewPort: 'ignore', ports: [] }), 0],
    ['opening all', port(15004), new RuleSet([], { onNewPort: 'open', ports: [] }), 1]
  ] as const)('is not announced with %s', async (_, found, settings, opened) => {
    actions.announce(found, settings);
    await gathered();
    expect(notifications()).toEqual([]);
    expect(open).toHaveBeenCalledTimes(opened);
  });

  it('is opened each time, once in the session of the browser, or beside the current tab', () => {
    const announce = (on_appear: 'open' | 'open_once' | 'preview', number: number) =>
      [1, 2].forEach(() => actions.announce(port(number), new RuleSet([rule({ ports: '1-65535' }, { on_appear })])));
    announce('open', 15005);
    announce('open_once', 15006);
    announce('preview', 15007);
    expect(open.mock.calls.map(([target, where]) => [target.port, where])).toEqual([
      [15005, undefined],
      [15005, undefined],
      [15006, undefined],
      [15007, 'preview'],
      [15007, 'preview']
    ]);
  });

  it('opens few tabs at once: the others of a wide rule are announced together', async () => {
    const all = new RuleSet([rule({ ports: '10000-20000' }, { on_appear: 'open' })]);
    Array.from({ length: 100 }, (_, index) => actions.announce(port(15000 + index), all));
    await gathered();
    expect(open).toHaveBeenCalledTimes(5);
    expect(notifications().map(([, message]) => message)).toEqual(['95 services are running on new ports: 15005, 15006, 15007, 15008, 15009 …']);
  });

  describe('whose program shall never be announced', () => {
    const show = async (rules: object, ...ports: IPort[]) => {
      api.send('snapshot', { ports, services: [], reservations: [], ...rules });
      await vi.waitFor(() => expect(manager.connection).toBe('live'));
      ports.forEach(found => actions.announce(found, new RuleSet(manager.portRules ?? [])));
      await gathered();
    };
    const offered = () => Notification.manager.notifications[0]?.options.actions?.map(action => action.label);

    it('gets a rule for its program, which can be undone at once', async () => {
      const stored = rule({ process: '^python python app\\.py( |$)' }, { on_appear: 'silent', id: 'a' });
      api.answers = { 'PUT port-rules': stored };
      await show({ port_rules: [] }, port(15003));
      press('Never for this process');
      await vi.waitFor(() => expect(notifications()[0]?.[1]).toMatch(/^New ports of app\.py are no longer announced\. .*Edit…/));
      expect(api.requests).toEqual([['PUT', 'port-rules', { process: '^python python app\\.py( |$)', on_appear: 'silent' }]]);
      expect(manager.portRules).toMatchObject([stored]);
      press('Undo');
      await vi.waitFor(() => expect(manager.portRules).toEqual([]));
      expect(api.requests[1]?.slice(0, 2)).toEqual(['DELETE', 'port-rules/a']);
    });

    it('shows why the server refuses it', async () => {
      api.answers = { 'PUT port-rules': new ApiError(400, 'There are 500 rules already.') };
      await show({ port_rules: [] }, port(15003));
      press('Never for this process');
      await vi.waitFor(() => expect(notifications()[0]).toEqual(['error', 'There are 500 rules already.']));
    });

    it.each([
      ['several ports of one program', { port_rules: [] }, [port(15003), port(15004)], true],
      ['ports of several programs', { port_rules: [] }, [port(15003), port(15004, { process: 'node' })], false],
      ['an unknown program', { port_rules: [] }, [port(15003, { process: '', command: [] })], false],
      ['a server without rules', {}, [port(15003)], false]
    ])('with %s', async (_, rules, ports, isOffered) => {
      await show(rules, ...ports);
      expect(offered()?.includes('Never for this process')).toBe(isOffered);
    });
  });
});

describe('a lost socket', () => {
  it('is reported with a button for the isolated origin', () => {
    const outside = vi.fn();
    const lost = { kind: 'lost-socket', path: '/ws', url: '/proxy/port/15000/', isolated: '/proxy/enter/15000/' } as const;
    actions.reportLostSocket(lost, outside);
    expect(notifications()).toEqual([
      ['warning', 'The service at /proxy/port/15000/ opened a WebSocket at /ws, outside its prefix. It cannot work there.']
    ]);
    press('Open at its isolated origin');
    expect(outside).toHaveBeenCalledWith('/proxy/enter/15000/');
  });

  it('is reported without a button where the service is unknown', () => {
    actions.reportLostSocket({ kind: 'lost-socket', path: '/ws', url: null, isolated: null }, vi.fn());
    expect(Notification.manager.notifications[0]?.options.actions).toEqual([]);
    expect(notifications()[0]?.[1]).toContain('/ws');
  });
});

describe('an icon', () => {
  it('is the picture of a template, if it has one, in every category of the launcher', () => {
    const icon = iconOf({ title: 'A', icon: '/server-proxy/icon/a?x=1&y="<' });
    const picture = icon.element({}).querySelector('image');
    expect(picture?.getAttribute('href')).toMatch(/^http.*\/server-proxy\/icon\/a\?x=1&y=%22%3C$/);
    expect(iconOf({ title: 'B', icon: '/server-proxy/icon/a?x=1&y="<' })).toBe(icon);
    expect(iconOf({ title: 'B', icon: '' }).svgstr).toContain('>B</text>');
  });
});

describe('tiles', () => {
  it('are those of available templates, and change with them', () => {
    const shown = new Set<unknown>();
    const add = (item: { args?: unknown; category?: string; kernelIconUrl?: string }) => {
      const tile = [item.args, item.category, item.kernelIconUrl];
      shown.add(tile);
      return { isDisposed: false, dispose: () => void shown.delete(tile) };
    };
    const tiles = new Tiles({ add } as never);
    const templates = [
      template('a'),
      template('b', { launcher: 'Notebook', icon: '/icon/b' }),
      template('c', { available: false }),
      template('d', { launcher: '' })
    ];
    tiles.update(templates);
    tiles.update(templates);
    expect([...shown]).toEqual([
      [{ template: 'a' }, 'Services', undefined],
      [{ template: 'b' }, 'Notebook', '/icon/b']
    ]);
    tiles.update([template('e')]);
    expect([...shown]).toEqual([[{ template: 'e' }, 'Services', undefined]]);
  });
});
