// The notice of a service that has failed.

import { Notification } from '@jupyterlab/apputils';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { Actions } from '../src/actions';
import { Failures, failureText } from '../src/failures';
import { PortsManager } from '../src/manager';
import type { IService } from '../src/tokens';
import { ScriptedApi, ScriptedVisibility, service, trans } from './samples';

let api: ScriptedApi;
let manager: PortsManager;
let actions: Actions;
const showLog = vi.fn();

const notes = () => Notification.manager.notifications.map(({ message }) => message);
const mine = (state: IService['state'], since: number, more: Partial<IService> = {}) =>
  service('app', { title: 'App', state, since, started_by: 'ada', last_lines: ['Loading', 'No model'], ...more });
const change = async (item: IService, pause = 1500) => {
  api.send('changed', { kind: 'service', ...item });
  await vi.advanceTimersByTimeAsync(pause);
};

beforeEach(async () => {
  vi.useFakeTimers();
  localStorage.clear();
  Notification.manager.dismiss();
  showLog.mockReset();
  api = new ScriptedApi();
  manager = new PortsManager(api, new ScriptedVisibility());
  const outside = { isDefault: () => false, addressOf: () => '' };
  actions = new Actions(manager, trans, vi.fn(), showLog, vi.fn(), outside);
  new Failures({ manager, actions, user: () => 'ada', showLog, trans });
  await vi.advanceTimersByTimeAsync(1);
});

afterEach(() => {
  manager.dispose();
  vi.useRealTimers();
});

const snapshot = async (...services: IService[]) => {
  api.send('snapshot', { ports: [], services, reservations: [] });
  await vi.advanceTimersByTimeAsync(1500);
};

it('has the last lines, the log and a restart', async () => {
  await snapshot(mine('up', 1));
  await change(mine('failed', 2));
  expect(notes()).toEqual(['App has failed.\nLoading\nNo model']);
  const [log, restart] = Notification.manager.notifications[0]?.options.actions ?? [];
  expect([log?.label, restart?.label]).toEqual(['Show log', 'Restart']);
  log?.callback(new MouseEvent('click'));
  expect(showLog).toHaveBeenCalledWith('app');
  restart?.callback(new MouseEvent('click'));
  expect(api.requests).toContainEqual(['POST', 'services/app/restart', {}]);
});

it('comes once for each failure, also in another window, and goes with the failure', async () => {
  const other = new Failures({ manager, actions, user: () => 'ada', showLog, trans });
  expect(other).toBeTruthy();
  await snapshot(mine('up', 1));
  await change(mine('failed', 2));
  await change(mine('failed', 2, { last_lines: ['more'] }));
  expect(notes()).toHaveLength(1);
  await change(mine('starting', 3));
  expect(notes()).toEqual([]);
  await change(mine('failed', 4));
  expect(notes()).toHaveLength(1);
});

it.each<[string, IService, IService]>([
  ['of another person', mine('up', 1), mine('failed', 2, { started_by: 'bob' })],
  ['that started by itself', mine('up', 1), mine('failed', 2, { started_by: '' })],
  ['of an older server', service('app'), service('app', { state: 'failed', since: 2 })],
  ['that had failed before the page was loaded', mine('failed', 1), mine('failed', 1, { last_lines: [] })],
  ['that a person has stopped', mine('up', 1), mine('down', 2)],
  ['that is unhealthy while a page looks at it', mine('up', 1), mine('unhealthy', 2)]
])('does not come for a service %s', async (_, before, after) => {
  await snapshot(before);
  await change(after);
  expect(notes()).toEqual([]);
});

it('comes for a service whose health is always checked', async () => {
  await snapshot(mine('up', 1, { health_period: 30 }));
  await change(mine('unhealthy', 2, { health_period: 30, last_lines: [], error: 'It does not answer.' }));
  expect(notes()).toEqual(['App is unhealthy.\nIt does not answer.']);
});

it('does not come for a service that its template restarts at once', async () => {
  await snapshot(mine('up', 1));
  await change(mine('failed', 2), 100);
  await change(mine('starting', 3));
  expect(notes()).toEqual([]);
});

it('does not come for a start that reports it itself', async () => {
  await snapshot();
  api.answers = { 'POST services': mine('starting', 1) };
  const started = actions.start('app', 'App');
  await vi.advanceTimersByTimeAsync(100);
  await change(mine('failed', 2));
  await started;
  await vi.advanceTimersByTimeAsync(3000);
  expect(notes()).toEqual(['App did not start. ']);
});

it('fits into a notification, with the end of the output', () => {
  const text = (last_lines: string[], more: Partial<IService> = {}) => failureText(mine('failed', 1, { last_lines, ...more }), trans);
  expect(text(['a'.repeat(100), 'b'.repeat(60), 'c'.repeat(60)])).toBe(`App has failed.\n${'b'.repeat(60)}\n${'c'.repeat(60)}`.slice(0, 140));
  expect(text([`${'x'.repeat(500)}end`])).toMatch(/^App has failed\.\n…x+end$/);
  for (const title of ['App', 'y'.repeat(300)]) {
    expect(text([`${'x'.repeat(500)}end`], { title }).length).toBeLessThanOrEqual(140);
  }
  expect(text(['1', '', '  ', '2', '3', '4\u001b'])).toBe('App has failed.\n2\n3\n4⟨U+001B⟩');
});
