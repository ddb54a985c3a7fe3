// New ports: opened, announced in one notification, or ignored.

import { Notification } from '@jupyterlab/apputils';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Actions } from '../src/actions';
import { ApiError } from '../src/api';
import { PortsManager } from '../src/manager';
import { NewPorts } from '../src/new-ports';
import { RuleSet } from '../src/rules';
import type { IPort } from '../src/tokens';
import { ScriptedApi, ScriptedVisibility, port, rule, trans } from './samples';

const open = vi.fn();
const showPanel = vi.fn();
let api: ScriptedApi;
let manager: PortsManager;
let newPorts: NewPorts;

const notifications = () => Notification.manager.notifications.map(note => [note.type, note.message]);
const press = (label: string) => {
  const found = Notification.manager.notifications[0]?.options.actions?.find(action => action.label === label);
  found?.callback(new MouseEvent('click'));
};

beforeEach(() => {
  vi.useFakeTimers();
  open.mockReset();
  sessionStorage.clear();
  Notification.manager.dismiss();
  api = new ScriptedApi();
  manager = new PortsManager(api, new ScriptedVisibility());
  const outside = { isDefault: () => false, addressOf: () => '' };
  newPorts = new NewPorts(manager, trans, open, showPanel, new Actions(manager, trans, open, vi.fn(), vi.fn(), outside));
});

afterEach(() => {
  manager.dispose();
  vi.useRealTimers();
});

describe('a new port', () => {
  const rules = new RuleSet([], {
    onNewPort: 'notify',
    ports: [{ port: 15001, action: 'silent' }, { process: 'streamlit', action: 'open' }, { port: 15003, label: 'Mine' }]
  });

  const gathered = () => vi.advanceTimersByTimeAsync(500);

  it('is announced with its label, and opened from the notification', async () => {
    newPorts.announce(port(15003), rules);
    await gathered();
    expect(notifications()).toEqual([['info', 'A service is running on port 15003 (Mine)']]);
    press('Open');
    expect(open).toHaveBeenCalledWith({ port: 15003 });
  });

  it('is not announced if a tab shows it, and leaves the notification when its page is opened', async () => {
    newPorts.announce(port(15003), rules, true);
    await gathered();
    expect(notifications()).toEqual([]);
    newPorts.announce(port(15003), rules);
    newPorts.announce(port(15004), rules);
    await gathered();
    newPorts.remove({ port: 15003 });
    newPorts.remove({ service: 'a' });
    await gathered();
    expect(notifications()).toEqual([['info', 'A service is running on port 15004 (python)']]);
    newPorts.remove({ port: 15004 });
    await gathered();
    expect(notifications()).toEqual([]);
  });

  it('shares one notification with all others while that is shown', async () => {
    for (let number = 15010; number < 15020; number++) {
      newPorts.announce(port(number), rules);
      await vi.advanceTimersByTimeAsync(number % 3 ? 100 : 2000);
    }
    await gathered();
    expect(notifications().map(note => note[1])).toEqual(['10 services are running on new ports: 15010, 15011, 15012, 15013, 15014 …']);
    press('Show');
    expect(showPanel).toHaveBeenCalled();
    Notification.manager.dismiss();
    newPorts.announce(port(15020), rules);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(notifications().map(note => note[1])).toEqual(['A service is running on port 15020 (python)']);
    Notification.manager.dismiss();
    newPorts.announce(port(15021), rules);
    await gathered();
    expect(notifications().map(note => note[1])).toEqual(['A service is running on port 15021 (python)']);
  });

  it('leaves the notification when it ends, and shows once when another program takes its place', async () => {
    api.send('snapshot', { ports: [port(15003), port(15004)], services: [], reservations: [] });
    await vi.waitFor(() => expect(manager.connection).toBe('live'));
    [port(15003), port(15004), port(15004, { pid: 2, process: 'other' })].forEach(found => newPorts.announce(found, rules));
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
    newPorts.announce(found, settings);
    await gathered();
    expect(notifications()).toEqual([]);
    expect(open).toHaveBeenCalledTimes(opened);
  });

  it('is opened each time, once in the session of the browser, or beside the current tab', () => {
    const announce = (on_appear: 'open' | 'open_once' | 'preview', number: number) =>
      [1, 2].forEach(() => newPorts.announce(port(number), new RuleSet([rule({ ports: '1-65535' }, { on_appear })])));
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
    Array.from({ length: 100 }, (_, index) => newPorts.announce(port(15000 + index), all));
    await gathered();
    expect(open).toHaveBeenCalledTimes(5);
    expect(notifications().map(([, message]) => message)).toEqual(['95 services are running on new ports: 15005, 15006, 15007, 15008, 15009 …']);
  });

  describe('whose program shall never be announced', () => {
    const show = async (rules: object, ...ports: IPort[]) => {
      api.send('snapshot', { ports, services: [], reservations: [], ...rules });
      await vi.waitFor(() => expect(manager.connection).toBe('live'));
      ports.forEach(found => newPorts.announce(found, new RuleSet(manager.portRules ?? [])));
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
