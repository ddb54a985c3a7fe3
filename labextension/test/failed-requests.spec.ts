// The notice that requests of a page have failed.

import { Notification } from '@jupyterlab/apputils';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { FailedRequestsNotices } from '../src/failed-requests';
import { PortsManager } from '../src/manager';
import { PanelState } from '../src/panel';
import { port, ScriptedApi, ScriptedVisibility, service, trans } from './samples';

let api: ScriptedApi;
let manager: PortsManager;
const diagnose = vi.fn();
const turn = () => new Promise(resolve => setTimeout(resolve, 5));
const notes = () => Notification.manager.notifications.map(({ message }) => message);
const fail = async (target: string, count: number) => {
  api.send('notice', { kind: 'failed-requests', target, count });
  await turn();
};

beforeEach(async () => {
  Notification.manager.dismiss();
  diagnose.mockReset();
  api = new ScriptedApi();
  manager = new PortsManager(api, new ScriptedVisibility());
  new FailedRequestsNotices({ manager, state: new PanelState(manager), trans }, diagnose);
  await turn();
  api.send('snapshot', { ports: [port(8050, { title: 'Dash' })], services: [service('app', { title: 'x\u202e'.repeat(200) })], reservations: [] });
  await turn();
});

afterEach(() => manager.dispose());

it('names the page and leads to its diagnosis', async () => {
  await fail('8050', 12);
  expect(notes()).toEqual(['12 requests of Dash have failed.']);
  const [shown] = Notification.manager.notifications;
  expect(shown?.options.autoClose).toBeGreaterThan(0);
  shown?.options.actions?.[0]?.callback(new MouseEvent('click'));
  expect(diagnose).toHaveBeenCalledWith({ port: 8050 });
});

it('is one for each target, and short', async () => {
  await fail('8050', 3);
  await fail('8050', 5);
  await fail('app', 4);
  expect(notes()).toHaveLength(2);
  expect(notes()).toContain('5 requests of Dash have failed.');
  const long = notes().find(text => text.startsWith('4 requests of x⟨U+202E⟩'));
  expect(long?.length).toBeLessThanOrEqual(140);
});

it('does not come for notices of other kinds', async () => {
  api.send('notice', { kind: 'something-new', target: '8050', count: 3 });
  await turn();
  expect(notes()).toEqual([]);
});
