// The commands for a folder.

import { Notification } from '@jupyterlab/apputils';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { ApiError } from '../src/api';
import type { Args } from '../src/commands';
import { addFolderCommands } from '../src/folder-commands';
import { PortsManager } from '../src/manager';
import type { IFolder } from '../src/tokens';
import { folder, ScriptedApi, ScriptedVisibility, service, trans } from './samples';

interface ICommand {
  execute: (args: Args) => unknown;
  isEnabled: (args: Args) => boolean;
}

let api: ScriptedApi;
let manager: PortsManager;
let commands: Record<string, ICommand>;
const state: { path: string | undefined } = { path: undefined };
const reviewing = new Set<string>();
const attempt = (what: () => Promise<unknown>) => what().then(() => undefined);

beforeEach(async () => {
  Notification.manager.dismiss();
  state.path = undefined;
  commands = {};
  api = new ScriptedApi();
  manager = new PortsManager(api, new ScriptedVisibility());
  await Promise.resolve();
  const add = (id: string, _label: unknown, execute: (args: Args) => unknown, more: object = {}) =>
    (commands[id.replace('portproxy:', '')] = { execute, ...more } as ICommand);
  addFolderCommands(add, { manager, state, reviewing, actions: { attempt }, trans });
});

afterEach(() => {
  document.querySelector<HTMLButtonElement>('.jp-Dialog-button')?.click();
  manager.dispose();
});

const live = async (...folders: IFolder[]) => {
  const services = [service('s', { folder: '/home/me/runs' }), service('t', { folder: '/home/me/ended', state: 'down' })];
  api.send('snapshot', { ports: [], services, reservations: [], folders });
  await vi.waitFor(() => expect(manager.connection).toBe('live'));
};
const sent = () => api.requests.filter(([method]) => method === 'POST').map(([, path, body]) => [path, body]);

it('are for the folder that is named, else for that of the file browser, else for the root', async () => {
  await live(folder(''), folder('shop'), folder('other'));
  api.answers = { 'POST folders/down': folder('other') };
  await commands['stop-folder']?.execute({ folder: '/home/me/other' });
  await commands['stop-folder']?.execute({ folder: '/gone' });
  await commands['stop-folder']?.execute({});
  state.path = 'shop';
  await commands['stop-folder']?.execute({});
  expect(sent().map(([, body]) => (body as { path: string }).path)).toEqual(['/home/me/other', '/home/me/', '/home/me/shop']);
});

it('are enabled where they have an effect', async () => {
  await live(folder('shop', { consent: 'given' }), folder('runs', { consent: 'changed' }), folder('ended'));
  const enabled = (id: string) => ['shop', 'runs', 'ended', 'gone'].filter(name => commands[id]?.isEnabled({ folder: `/home/me/${name}` }));
  expect(enabled('review-folder')).toEqual(['shop', 'runs', 'ended']);
  expect(enabled('start-folder')).toEqual(['shop']);
  expect(enabled('stop-folder')).toEqual(['runs']);
});

it('start all services of a folder or one', async () => {
  await live(folder('', { consent: 'given' }));
  api.answers = { 'POST folders/up': folder('', { consent: 'given' }) };
  await commands['start-folder']?.execute({});
  await commands['start-folder']?.execute({ service: 'db' });
  const content = { path: '/home/me/', digest: 'd1' };
  expect(sent()).toEqual([
    ['folders/up', content],
    ['folders/up', { ...content, services: ['db'] }]
  ]);
});

it('show what a folder has by now, if it is another content', async () => {
  await live(folder('', { consent: 'given' }));
  api.answers = {
    'POST folders/up': new ApiError(409, 'It has changed.'),
    'GET folders?path=%2Fhome%2Fme%2F': folder('', { consent: 'changed', digest: 'd2' })
  };
  const done = commands['start-folder']?.execute({});
  await vi.waitFor(() => expect(document.querySelector('.jp-Dialog-header')?.textContent).toBe('Allow what me starts and sets?'));
  expect([...reviewing]).toEqual(['/home/me/']);
  document.querySelector<HTMLButtonElement>('.jp-Dialog-button')?.click();
  await done;
  expect([...reviewing]).toEqual([]);
});

it('say why a folder is not started otherwise', async () => {
  await live(folder('', { consent: 'given' }));
  api.answers = { 'POST folders/up': new ApiError(400, 'No.') };
  await expect(commands['start-folder']?.execute({})).rejects.toThrow('No.');
});

it('say which services could not be started', async () => {
  await live(folder('', { consent: 'given' }));
  const failures = [
    { name: 'db', message: 'Port 15000 is in use.' },
    { name: 'api', message: "It needs 'db'." }
  ];
  api.answers = { 'POST folders/up': folder('', { consent: 'given', failures }) };
  await expect(commands['start-folder']?.execute({})).rejects.toThrow("db: Port 15000 is in use. api: It needs 'db'.");
});
