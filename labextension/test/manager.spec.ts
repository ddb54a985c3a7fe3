// The model: updated by one stream, paused while the document is hidden, and retried while the server does not answer.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { ApiError } from '../src/api';
import { PortsManager } from '../src/manager';
import type { IPort } from '../src/tokens';
import { ScriptedApi, ScriptedVisibility, port, rule, service, template } from './samples';

let api: ScriptedApi;
let page: ScriptedVisibility;
let manager: PortsManager;

const settle = () => vi.advanceTimersByTimeAsync(1);
const snapshot = (more: object = {}) => ({ ports: [], services: [], reservations: [], ...more });

beforeEach(async () => {
  vi.useFakeTimers();
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  api = new ScriptedApi();
  page = new ScriptedVisibility();
  manager = new PortsManager(api, page);
  await settle();
});

afterEach(() => {
  manager.dispose();
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe('the stream', () => {
  it('fills the model and keeps it live', async () => {
    api.send('snapshot', snapshot({ ports: [port(15001), port(15000)], services: [service('b'), service('a')] }));
    await settle();
    expect(manager.connection).toBe('live');
    expect(manager.ports.map(item => item.port)).toEqual([15000, 15001]);
    expect(manager.services.map(item => item.name)).toEqual(['a', 'b']);
    api.send('changed', { kind: 'service', ...service('a', { state: 'failed' }) });
    api.send('removed', { kind: 'port', ...port(15000) });
    await settle();
    expect(manager.service('a')?.state).toBe('failed');
    expect(manager.port(15000)).toBeUndefined();
    expect(api.opened).toBe(1);
  });

  it('is read from pieces with any boundaries', async () => {
    const bytes = `: hi\n\nevent: snapshot\ndata: ${JSON.stringify(snapshot({ services: [service('ü')] }))}\n\n`;
    for (const character of bytes) {
      api.sendText(character);
      await settle();
    }
    expect(manager.services.map(item => item.name)).toEqual(['ü']);
  });

  it('is opened again when it is cut, with growing delays of at most 15 s', async () => {
    api.refusal = new ApiError(0, 'The Jupyter server does not answer.', 'Is it running?');
    api.send('snapshot', snapshot({ services: [service('a')] }));
    await settle();
    api.cut();
    await settle();
    expect([manager.connection, manager.isAway]).toEqual(['lost', false]); // it may be the stream alone
    expect(manager.services).toHaveLength(1);
    const before = api.opened;
    await vi.advanceTimersByTimeAsync(10 * 60_000);
    expect(manager.problem).toBe('The Jupyter server does not answer. Is it running?');
    expect(manager.isAway).toBe(true);
    expect(api.opened - before).toBeGreaterThan(35);
    expect(api.opened - before).toBeLessThan(50);
    api.refusal = null;
    await vi.advanceTimersByTimeAsync(15_000);
    api.send('snapshot', snapshot());
    await settle();
    expect([manager.connection, manager.problem, manager.services.length]).toEqual(['live', '', 0]);
    expect(manager.isAway).toBe(false);
  });

  it('counts as cut when the heartbeat stops', async () => {
    api.send('snapshot', snapshot());
    await settle();
    for (let i = 0; i < 8; i++) {
      await vi.advanceTimersByTimeAsync(15_000);
      api.sendText(': still here\n\n');
      await settle();
    }
    expect([manager.connection, api.opened]).toEqual(['live', 1]);
    await vi.advanceTimersByTimeAsync(47_000);
    expect(api.opened).toBe(2);
  });

  it('pauses while the page is hidden', async () => {
    page.show(false);
    await vi.advanceTimersByTimeAsync(10 * 60_000);
    expect([manager.connection, api.opened]).toEqual(['paused', 1]);
    page.show(true);
    await settle();
    expect(api.opened).toBe(2);
  });

  it('ends with the manager', async () => {
    manager.dispose();
    await vi.advanceTimersByTimeAsync(10 * 60_000);
    expect([api.opened, page.listeners]).toEqual([1, 0]);
  });
});

describe('new ports', () => {
  let greeted: IPort[];
  beforeEach(async () => {
    greeted = [];
    manager.appeared.connect((_, found) => void greeted.push(found));
    api.send('snapshot', snapshot({ ports: [port(15000)] }));
    await settle();
  });

  it('are announced once, and those of the first snapshot never', async () => {
    api.send('changed', { kind: 'port', ...port(15000, { title: 'x' }) });
    api.send('changed', { kind: 'port', ...port(15001) });
    api.send('changed', { kind: 'port', ...port(15001, { title: 'x' }) });
    await settle();
    expect(greeted.map(found => found.port)).toEqual([15001]);
  });

  it('are announced when they begin to answer, and after an interruption', async () => {
    api.send('changed', { kind: 'port', ...port(15001, { http: false }) });
    api.send('changed', { kind: 'port', ...port(15001) });
    api.cut();
    await vi.advanceTimersByTimeAsync(2000);
    api.send('snapshot', snapshot({ ports: [port(15000), port(15001), port(15002)] }));
    await settle();
    expect(greeted.map(found => found.port)).toEqual([15001, 15002]);
  });

  it.each([{ mine: false }, { allowed: false }, { http: false }, { service: 'a' }])('are not announced with %j', async more => {
    api.send('changed', { kind: 'port', ...port(15001, more) });
    await settle();
    expect(greeted).toEqual([]);
  });
});

describe('notices', () => {
  it('are passed on, unknown ones are ignored, and nothing else changes', async () => {
    const told: unknown[] = [];
    let changes = 0;
    manager.socketLost.connect((_, notice) => void told.push(notice));
    api.send('snapshot', snapshot());
    await settle();
    manager.changed.connect(() => void changes++);
    const notice = { kind: 'lost-socket', path: '/ws', url: null, isolated: null };
    api.send('notice', notice);
    api.send('notice', { kind: 'of-a-later-version' });
    await settle();
    expect([told, changes]).toEqual([[notice], 0]);
  });
});

describe('rules for ports', () => {
  const [one, other] = [rule({ ports: '8501' }, { label: 'one' }), rule({ process: 'x' }, { id: 'a b' })];

  it('are null where the server keeps none', async () => {
    api.send('snapshot', snapshot());
    await settle();
    expect(manager.portRules).toBeNull();
  });

  it('follow the stream, in the order of the server', async () => {
    api.send('snapshot', snapshot({ port_rules: [one, other] }));
    await settle();
    const before = manager.portRules;
    api.send('changed', { kind: 'port_rule', ...one, label: 'two' });
    api.send('changed', { kind: 'port_rule', ...rule({ ports: '9000' }) });
    api.send('removed', { kind: 'port_rule', ...other });
    await settle();
    expect(manager.portRules?.map(({ id, label }) => [id, label])).toEqual([['8501', 'two'], ['9000', '']]);
    expect(before).toEqual([one, other]);
  });

  it('are set and removed, and one that is gone already is removed too', async () => {
    api.answers = { 'PUT port-rules': other, 'DELETE port-rules/8501': new ApiError(404, 'There is no such rule.') };
    api.send('snapshot', snapshot({ port_rules: [one] }));
    await settle();
    expect(await manager.setRule({ process: 'x' })).toEqual(other);
    expect(manager.portRules?.map(({ id }) => id)).toEqual(['8501', 'a b']);
    await manager.removeRule('a b');
    await manager.removeRule('8501');
    expect(manager.portRules).toEqual([]);
    expect(api.requests.map(([method, path]) => `${method} ${path}`)).toEqual([
      'PUT port-rules',
      'DELETE port-rules/a%20b',
      'DELETE port-rules/8501'
    ]);
  });

  it('are changed by the server, which keeps the other attributes', async () => {
    const changed = { ...one, pinned: true };
    api.answers = { 'PATCH port-rules': changed };
    api.send('snapshot', snapshot({ port_rules: [one, other] }));
    await settle();
    expect(await manager.changeRule({ ports: '8501', pinned: true })).toEqual(changed);
    expect(manager.portRules).toMatchObject([changed, other]);
    expect(api.requests.at(-1)).toEqual(['PATCH', 'port-rules', { ports: '8501', pinned: true }]);
  });

  it('stay when the server refuses a change', async () => {
    const refusal = new ApiError(400, 'The list of rules cannot be written.');
    api.answers = { 'PUT port-rules': refusal, 'DELETE port-rules/8501': refusal };
    api.send('snapshot', snapshot({ port_rules: [one] }));
    await settle();
    await expect(manager.setRule({ ports: '8501' })).rejects.toBe(refusal);
    await expect(manager.removeRule('8501')).rejects.toBe(refusal);
    expect(manager.portRules).toEqual([one]);
  });
});

describe('requests to the server', () => {
  it('allows a port, takes it back, and shows the change at once', async () => {
    api.send('snapshot', snapshot({ ports: [port(5000, { allowed: false, may_allow: true })] }));
    await settle();
    for (const [allowed, call] of [[true, 'PUT allowed-ports'], [false, 'DELETE allowed-ports/5000']] as const) {
      api.answers = { [call]: {}, 'GET ports?look=5000': [port(5000, { allowed, allowed_by_user: allowed })] };
      await manager.setAllowed(5000, allowed);
      expect(manager.port(5000)).toMatchObject({ allowed, allowed_by_user: allowed });
    }
  });

  it('starts, restarts, stops and forgets', async () => {
    const started = service('a b', { state: 'starting' });
    api.answers = {
      'POST services': started,
      'POST services/a%20b/restart': started,
      'POST services/a%20b/stop': { ...started, state: 'down' }
    };
    await manager.start('t', 'a b', { x: '1' });
    expect(api.requests[0]).toEqual(['POST', 'services', { template: 't', name: 'a b', arguments: { x: '1' } }]);
    expect(manager.service('a b')?.state).toBe('starting');
    await manager.restart('a b');
    await manager.stop('a b');
    expect(manager.service('a b')?.state).toBe('down');
    await manager.forget('a b');
    expect(manager.services).toEqual([]);
  });

  it('passes its refusal on', async () => {
    api.answers = { 'POST services': new ApiError(404, "There is no template named 't'.") };
    await expect(manager.start('t')).rejects.toThrow("There is no template named 't'.");
    expect(manager.services).toEqual([]);
  });

  it('waits until a service has started, by the stream or, without it, by requests', async () => {
    api.answers = { 'POST services': service('a', { state: 'starting' }), 'GET services/a': service('a', { state: 'failed' }) };
    api.send('snapshot', snapshot());
    await settle();
    await manager.start('t', 'a');
    const whenSettled = manager.whenSettled('a');
    api.send('changed', { kind: 'service', ...service('a') });
    await settle();
    expect((await whenSettled).state).toBe('up');
    page.show(false);
    await manager.start('t', 'a');
    const asked = manager.whenSettled('a');
    await vi.advanceTimersByTimeAsync(1100);
    expect((await asked).state).toBe('failed');
  });

  describe('a restart', () => {
    const stages = (['up', 'stopping', 'down', 'starting', 'up'] as const).map((state, since) => service('a', { state, since }));
    const tell = (from: number, to: number) =>
      stages.slice(from, to).forEach(stage => api.send('changed', { kind: 'service', ...stage }));

    beforeEach(async () => {
      api.answers = { 'POST services/a/restart': stages[3] };
      api.send('snapshot', snapshot({ services: [stages[0]] }));
      await settle();
    });

    it('ends with its own start, though the event of the stop arrives after the answer', async () => {
      const restarted = manager.restart('a').then(({ name }) => manager.whenSettled(name));
      await settle();
      tell(1, 4);
      await settle();
      api.send('removed', { kind: 'service', ...stages[2] });
      await settle();
      expect(manager.service('a')?.state).toBe('starting');
      tell(4, 5);
      await settle();
      expect((await restarted).state).toBe('up');
    });

    it('ends where the answer arrives after the event that it is up', async () => {
      tell(1, 5);
      await settle();
      expect((await manager.restart('a')).state).toBe('up');
      expect((await manager.whenSettled('a')).state).toBe('up');
    });
  });

  it('reads the templates', async () => {
    api.answers = { 'GET templates': [template('t')] };
    await manager.refreshTemplates();
    expect(manager.templates.map(item => item.name)).toEqual(['t']);
  });
});
