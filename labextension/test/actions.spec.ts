// The notifications of a start and of a failure.

import { Clipboard, Notification } from '@jupyterlab/apputils';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Actions } from '../src/actions';
import { ApiError } from '../src/api';
import { iconOf } from '../src/icons';
import { Tiles } from '../src/launcher';
import { PortsManager } from '../src/manager';
import { ScriptedApi, ScriptedVisibility, service, template, trans } from './samples';

const open = vi.fn();
const showLog = vi.fn();
const edit = vi.fn();
const outside = { isDefault: (where: string) => where === 'browser', addressOf: (item: { url: string | null }) => `http://outside${item.url}` };
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
  actions = new Actions(manager, trans, open, showLog, edit, outside);
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

  it('of a service without HTTP opens no tab, and offers the command that reaches it', async () => {
    const copied = vi.spyOn(Clipboard, 'copyToSystem').mockImplementation(() => undefined);
    const opened = vi.spyOn(window, 'open');
    const db = service('db', { scheme: 'tcp', url: null, open_in: 'browser' });
    api.answers = { 'POST services': db };
    void actions.launch(template('db', { scheme: 'tcp', open_in: 'browser' }));
    await vi.advanceTimersByTimeAsync(3000);
    expect(opened).not.toHaveBeenCalled();
    expect(open).toHaveBeenCalledWith({ service: 'db' }, 'lab'); // which shows the panel
    press('Copy forward command');
    expect(copied).toHaveBeenCalledWith('jupyter portproxy forward db --server http://localhost:3000/');
    opened.mockRestore();
  });

  it('of a worker, which listens nowhere, has nothing to open', async () => {
    const opened = vi.spyOn(window, 'open');
    api.answers = { 'POST services': service('queue', { scheme: 'none', url: null, port: null, open_in: 'browser' }) };
    void actions.launch(template('queue', { scheme: 'none', open_in: 'browser' }));
    await vi.advanceTimersByTimeAsync(3000);
    expect(opened).not.toHaveBeenCalled();
    expect(notifications()).toEqual([['success', 'queue is up.']]);
    expect(Notification.manager.notifications[0]?.options.actions).toEqual([]);
    opened.mockRestore();
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
