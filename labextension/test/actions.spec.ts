// What a person is told: while something starts, when it fails, and when a port appears.

import { Notification } from '@jupyterlab/apputils';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Actions, INewPortSettings } from '../src/actions';
import { ApiError } from '../src/api';
import { iconOf } from '../src/icons';
import { Tiles } from '../src/launcher';
import { PortsManager } from '../src/manager';
import { PlayedApi, PlayedDocument, port, service, template, trans } from './samples';

const open = vi.fn();
const showLog = vi.fn();
const edit = vi.fn();
const showPanel = vi.fn();
let api: PlayedApi;
let manager: PortsManager;
let actions: Actions;

const told = () => Notification.manager.notifications.map(note => [note.type, note.message]);
const press = (label: string) => {
  const found = Notification.manager.notifications[0]?.options.actions?.find(action => action.label === label);
  found?.callback(new MouseEvent('click'));
};

beforeEach(() => {
  vi.useFakeTimers();
  open.mockReset();
  showLog.mockReset();
  Notification.manager.dismiss();
  api = new PlayedApi();
  manager = new PortsManager(api, new PlayedDocument());
  actions = new Actions(manager, trans, open, showLog, edit, showPanel);
});

afterEach(() => {
  manager.dispose();
  vi.useRealTimers();
});

describe('a start', () => {
  it('is told until it is up, and then opens', async () => {
    api.answers = { 'POST services': service('a', { state: 'starting' }), 'GET services/a': service('a', { title: 'A' }) };
    const started = actions.start('a', 'A');
    expect(told()).toEqual([['in-progress', 'Starting A…']]);
    await vi.advanceTimersByTimeAsync(3000);
    await started;
    expect(told()).toEqual([['success', 'A is up.']]);
    press('Open');
    expect(open).toHaveBeenCalledWith({ service: 'a' });
  });

  it('is told by the name that the service has', async () => {
    api.answers = { 'POST services': service('mine', { template: 'a', title: 'A' }) };
    const started = actions.start('a', 'A', 'mine');
    await vi.advanceTimersByTimeAsync(3000);
    await started;
    expect(told()).toEqual([['success', 'A (mine) is up.']]);
  });

  it('that fails can be edited', async () => {
    const failed = service('a', { state: 'failed', error: 'It ended with exit code 2. Its output: No such file' });
    const followed = actions.follow(failed);
    api.answers = { 'GET services/a': failed };
    await vi.advanceTimersByTimeAsync(3000);
    await followed;
    expect(told()).toEqual([['error', 'a did not start. It ended with exit code 2. Its output: No such file']]);
    press('Edit…');
    expect(edit).toHaveBeenCalledWith('a');
  });

  it('that fails tells why, with the log', async () => {
    api.answers = { 'POST services': service('a', { title: 'A', state: 'failed', error: 'It ended.' }) };
    const started = actions.start('a', 'A');
    await vi.advanceTimersByTimeAsync(3000);
    await started;
    expect(told()).toEqual([['error', 'A did not start. It ended.']]);
    press('Show log');
    expect(showLog).toHaveBeenCalledWith('a');
  });

  it('that is refused is told in the words of the server', async () => {
    api.answers = { 'POST services': new ApiError(404, "There is no template named 'a'.", 'Look at the list.') };
    const started = actions.start('a', 'A');
    await vi.advanceTimersByTimeAsync(3000);
    await started;
    expect(told()).toEqual([['error', "There is no template named 'a'. Look at the list."]]);
  });
});

describe('a new port', () => {
  const rules: INewPortSettings = {
    onNewPort: 'notify',
    ports: [{ port: 15001, action: 'silent' }, { process: 'streamlit', action: 'open' }, { port: 15003, label: 'Mine' }]
  };

  const gathered = () => vi.advanceTimersByTimeAsync(500);

  it('is told with what it is, and opened from there', async () => {
    actions.greet(port(15003), rules);
    await gathered();
    expect(told()).toEqual([['info', 'A service is running on port 15003 (Mine)']]);
    press('Open');
    expect(open).toHaveBeenCalledWith({ port: 15003 });
  });

  it('is told in one note with all others, while that is there', async () => {
    for (let number = 15010; number < 15020; number++) {
      actions.greet(port(number), rules);
      await vi.advanceTimersByTimeAsync(number % 3 ? 100 : 2000);
    }
    await gathered();
    expect(told().map(note => note[1])).toEqual(['10 services are running on new ports: 15010, 15011, 15012, 15013, 15014 …']);
    press('Show');
    expect(showPanel).toHaveBeenCalled();
    Notification.manager.dismiss();
    actions.greet(port(15020), rules);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(told().map(note => note[1])).toEqual(['A service is running on port 15020 (python)']);
    Notification.manager.dismiss();
    actions.greet(port(15021), rules);
    await gathered();
    expect(told().map(note => note[1])).toEqual(['A service is running on port 15021 (python)']);
  });

  it('is offered no longer when it has gone, and once when another program takes its place', async () => {
    api.send('snapshot', { ports: [port(15003), port(15004)], services: [], reservations: [] });
    await vi.waitFor(() => expect(manager.connection).toBe('live'));
    [port(15003), port(15004), port(15004, { pid: 2, process: 'other' })].forEach(found => actions.greet(found, rules));
    await gathered();
    expect(told().map(note => note[1])).toEqual(['2 services are running on new ports: 15003, 15004']);
    api.send('removed', { kind: 'port', ...port(15003) });
    await vi.waitFor(() => expect(told().map(note => note[1])).toEqual(['A service is running on port 15004 (other)']));
    api.send('removed', { kind: 'port', ...port(15004, { pid: 2 }) });
    api.send('removed', { kind: 'port', ...port(15004) });
    await vi.waitFor(() => expect(told()).toEqual([]));
  });

  it.each([
    ['a rule that silences it', port(15001), rules, 0],
    ['a rule that opens it', port(15002, { process: 'streamlit' }), rules, 1],
    ['silence for all', port(15004), { onNewPort: 'silent', ports: [] }, 0],
    ['opening all', port(15004), { onNewPort: 'open', ports: [] }, 1]
  ] as const)('is not told with %s', async (_, found, settings, opened) => {
    actions.greet(found, settings);
    await gathered();
    expect(told()).toEqual([]);
    expect(open).toHaveBeenCalledTimes(opened);
  });
});

describe('a lost socket', () => {
  it('is told with the way to where it works', () => {
    const outside = vi.fn();
    const lost = { kind: 'lost-socket', path: '/ws', url: '/proxy/port/15000/', isolated: '/proxy/enter/15000/' } as const;
    actions.tellOfLostSocket(lost, outside);
    expect(told()).toEqual([
      ['warning', 'The service at /proxy/port/15000/ opened a WebSocket at /ws, outside its prefix. It cannot work there.']
    ]);
    press('Open at its own origin');
    expect(outside).toHaveBeenCalledWith('/proxy/enter/15000/');
  });

  it('is told without a link where no service can be told', () => {
    actions.tellOfLostSocket({ kind: 'lost-socket', path: '/ws', url: null, isolated: null }, vi.fn());
    expect(Notification.manager.notifications[0]?.options.actions).toEqual([]);
    expect(told()[0]?.[1]).toContain('/ws');
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
  it('are those of templates that can be started, and follow them', () => {
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
