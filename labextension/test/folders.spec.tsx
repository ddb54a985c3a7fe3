// Folders with project files: what the panel lists of them, when they are asked for, and the one notice.

import { Notification } from '@jupyterlab/apputils';
import { cleanup, fireEvent, render, screen, within } from '@testing-library/react';
import { Signal } from '@lumino/signaling';
import * as React from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { ApiError } from '../src/api';
import { FolderWatch, requestOf, shownFolders } from '../src/folders';
import { PortsManager } from '../src/manager';
import { PanelState, PortsSection, ServicesSection } from '../src/panel';
import type { IFolder, IService } from '../src/tokens';
import { folder, folderService, rule, ScriptedApi, ScriptedVisibility, service, trans } from './samples';

let api: ScriptedApi;
let manager: PortsManager;
let state: PanelState;
const run = vi.fn();
const runForFolder = vi.fn();

beforeEach(async () => {
  localStorage.clear();
  sessionStorage.clear();
  Notification.manager.dismiss();
  runForFolder.mockReset();
  api = new ScriptedApi();
  manager = new PortsManager(api, new ScriptedVisibility());
  state = new PanelState(manager);
  await Promise.resolve();
});

afterEach(() => {
  manager.dispose();
  cleanup();
  vi.useRealTimers();
});

const live = async (folders: IFolder[] | undefined, ...services: IService[]) => {
  api.send('snapshot', { ports: [], services, reservations: [], ...(folders ? { folders } : {}) });
  await vi.waitFor(() => expect(manager.connection).toBe('live'));
};
const changed = (item: IFolder) => api.send('changed', { kind: 'folder', ...item });

describe('the panel', () => {
  const show = () => render(<ServicesSection {...{ manager, state, trans, run, runForFolder, onStart: vi.fn() }} />);

  it('lists the root, the folder in the file browser and those above it, and folders of which something runs', async () => {
    const folders = [folder(''), folder('shop'), folder('shop/web'), folder('other'), folder('runs')];
    await live(folders, service('s', { folder: '/home/me/runs' }), service('t', { folder: '/home/me/other', state: 'down' }));
    const names = (path: string | undefined) => shownFolders(manager, path).map(item => item.path);
    expect(names(undefined)).toEqual(['', 'runs']);
    expect(names('shop')).toEqual(['', 'shop', 'runs']);
    expect(names('shop/web/src')).toEqual(['', 'shop', 'shop/web', 'runs']);
    expect(names('shopping')).toEqual(['', 'runs']);
  });

  it.each<[string, Partial<IFolder>, string | undefined]>([
    ['services', {}, 'shop has 2 services to start.'],
    ['one service', { services: [folderService('a')] }, 'shop has 1 service to start.'],
    ['ports alone', { services: [], ports: [rule({ ports: '1' })] }, 'shop describes 1 port.'],
    ['nothing that can be used', { services: [] }, 'The project files of shop cannot be used.'],
    ['another content', { consent: 'changed' }, 'portproxy.toml has changed.'],
    ['another content of several files', { consent: 'changed', files: [{ path: 'a', kind: '' }, { path: 'b', kind: '' }] }, 'The project files have changed.'],
    ['an allowed content', { consent: 'given' }, undefined],
    ['a name that is not seen', { name: 'a\u202eb' }, 'a⟨U+202E⟩b has 2 services to start.']
  ])('says what a folder asks for: %s', (_, more, text) => {
    expect(requestOf(folder('shop', more), trans)).toBe(text);
  });

  it('has a button that reviews it, and nothing that starts it without consent', async () => {
    await live([folder('', { name: '<b>shop' })]);
    show();
    expect(screen.getByText('<b>shop has 2 services to start.', { exact: false })).toBeTruthy();
    expect(screen.queryByText('No service was started yet.')).toBeNull();
    expect(screen.getAllByRole('button').map(button => button.textContent)).toEqual(['Review…']);
    fireEvent.click(screen.getByRole('button', { name: 'Review… <b>shop' }));
    expect(runForFolder).toHaveBeenCalledWith('portproxy:review-folder', expect.objectContaining({ folder: '/home/me/' }));
  });

  it('lists the services of a folder below its name, with those that are not started', async () => {
    await live([folder('', { consent: 'given' })], service('db-shop', { template: 'db', folder: '/home/me/' }), service('mine'));
    show();
    const list = screen.getByRole('list', { name: 'Services of me' });
    expect(within(list).getAllByRole('listitem').map(item => item.textContent)).toEqual([expect.stringContaining('db-shop'), 'apiNot started']);
    expect(screen.getByText('1 of 2 run')).toBeTruthy();
    expect(within(list).queryByText('mine')).toBeNull();
    fireEvent.click(screen.getByRole('button', { name: 'Start all: me' }));
    fireEvent.click(screen.getByRole('button', { name: 'Stop all: me' }));
    fireEvent.click(screen.getByRole('button', { name: 'Start: api' }));
    expect(runForFolder.mock.calls.map(([command, , name]) => [command, name])).toEqual([
      ['portproxy:start-folder', undefined],
      ['portproxy:stop-folder', undefined],
      ['portproxy:start-folder', 'api']
    ]);
  });

  it('asks again when the content changes, and offers to stop what still runs', async () => {
    await live([folder('', { consent: 'given' })], service('db', { folder: '/home/me/' }));
    show();
    changed(folder('', { consent: 'changed', digest: 'd2' }));
    await screen.findByText('portproxy.toml has changed.', { exact: false });
    expect(screen.queryByRole('button', { name: 'Start all: me' })).toBeNull();
    expect(screen.getByRole('button', { name: 'Stop all: me' })).toBeTruthy();
    api.send('removed', { kind: 'folder', ...folder('') });
    await vi.waitFor(() => expect(screen.queryByText('portproxy.toml has changed.', { exact: false })).toBeNull());
    expect(screen.getByText('db')).toBeTruthy();
  });

  it('shows the rules of an allowed folder with where they come from, and cannot remove them', async () => {
    await live([folder('', { consent: 'given', ports: [rule({ ports: '3000' }, { label: 'Web' })] })]);
    render(<PortsSection {...{ manager, state, trans, run, runForFolder, onStart: vi.fn(), onAdd: vi.fn() }} />);
    const list = screen.getByText('1 rule').closest('details')!;
    expect(list.textContent).toContain('3000 Web, by the folder me');
    expect(list.querySelector('button')).toBeNull();
    api.send('changed', { kind: 'port_rule', ...rule({ ports: '4000' }) });
    await screen.findByText('2 rules');
    changed(folder('', { consent: 'changed', ports: [rule({ ports: '3000' })] }));
    await screen.findByText('1 rule');
    expect(list.textContent).toContain('4000');
    expect(list.textContent).not.toContain('3000');
  });
});

describe('the folder in the file browser', () => {
  const contents = { driveName: (path: string) => (path.includes(':') ? (path.split(':')[0] ?? '') : ''), localPath: (path: string) => path.split(':').pop() ?? '' };
  const review = vi.fn();
  const start = vi.fn();
  let model: { path: string; pathChanged: Signal<object, void> };
  let watch: FolderWatch;
  const asked = () => api.requests.filter(([, path]) => path === 'folders/open').map(([, , body]) => (body as { path: string }).path);
  const go = async (path: string, pause = 600) => {
    model.path = path;
    model.pathChanged.emit();
    await vi.advanceTimersByTimeAsync(pause);
  };
  const notes = () => Notification.manager.notifications.map(({ message }) => message);

  beforeEach(() => {
    vi.useFakeTimers();
    review.mockReset();
    start.mockReset();
    model = { path: 'one', pathChanged: new Signal({}) };
    watch = new FolderWatch({ manager, state, contents, review, start, trans });
    const tracker = { forEach: (each: (browser: object) => void) => each({ model }), widgetAdded: new Signal({}) };
    watch.follow({ tracker } as unknown as Parameters<FolderWatch['follow']>[0]);
  });

  it('is asked for once it rests, and not again soon', async () => {
    await live([]);
    await vi.advanceTimersByTimeAsync(600);
    expect(asked()).toEqual(['one']);
    await go('two', 100);
    await go('three/a b', 450);
    expect(asked()).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(100);
    expect(asked()).toEqual(['one', 'three/a b']);
    await go('one');
    expect(asked()).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(60_000);
    await go('two');
    await go('one');
    expect(asked().slice(2)).toEqual(['two', 'one']);
  });

  it('is opened once if the server knows it, also for services that start then', async () => {
    await live([folder(''), folder('one')]);
    await vi.advanceTimersByTimeAsync(600);
    await go('');
    await vi.advanceTimersByTimeAsync(60_000);
    await go('one');
    expect(asked()).toEqual(['one']); // the server has opened its root
  });

  it('is not opened if the server reads no project files, or another drive has it', async () => {
    await go('', 100);
    await live([folder('')]);
    await vi.advanceTimersByTimeAsync(600);
    await go('GDrive:two');
    expect(state.path).toBe('');
    await live(undefined);
    await vi.waitFor(() => expect(manager.folders).toBeNull());
    await go('two');
    expect(asked()).toEqual([]);
    await live([]);
    await vi.waitFor(() => expect(asked()).toEqual(['two'])); // as soon as it is known that the server reads them
    await go('RTC:three');
    expect(asked()).toEqual(['two', 'three']);
  });

  it('may have no project file', async () => {
    api.answers = { 'POST folders/open': null, 'GET folders?path=%2Fhome%2Fme%2Fone': new ApiError(404, 'There is none.') };
    await live([]);
    await vi.advanceTimersByTimeAsync(600);
    expect(manager.folders).toEqual([]);
    expect(notes()).toEqual([]);
    expect(await manager.readFolder(folder('one'))).toBeNull();
  });

  it('has one notice, which reviews it, and not again in this browser', async () => {
    await live([folder(''), folder('one')]);
    expect(notes()).toEqual(['me has 2 services to start.']);
    Notification.manager.notifications[0]?.options.actions?.[0]?.callback(new MouseEvent('click'));
    expect(review).toHaveBeenCalledWith(expect.objectContaining({ path: '' }));
    Notification.manager.dismiss();
    new FolderWatch({ manager, state, contents, review, start, trans });
    changed(folder('', { notes: [{ file: 'a', line: 1, message: 'b' }] }));
    await vi.advanceTimersByTimeAsync(10);
    expect(notes()).toEqual(['one has 2 services to start.']); // the next page tells of the other folder
    Notification.manager.dismiss();
    changed(folder('', { digest: 'd2', consent: 'changed' }));
    await vi.waitFor(() => expect(notes()).toEqual(['me: portproxy.toml has changed.']));
  });

  it('loses its notice with the answer, and has none while a dialog shows it', async () => {
    await live([folder('')]);
    changed(folder('', { consent: 'given' }));
    await vi.waitFor(() => expect(notes()).toEqual(['Start 2 services of me?'])); // allowed elsewhere
    api.send('changed', { kind: 'service', ...service('db', { folder: '/home/me/' }) });
    await vi.waitFor(() => expect(notes()).toEqual([]));
    watch.reviewing.add('/home/me/one');
    changed(folder('one'));
    await vi.advanceTimersByTimeAsync(10);
    expect(notes()).toEqual([]);
  });

  it('has no notice if nothing of it starts without a person', async () => {
    await live([folder('', { services: [folderService('a', { autostart: 'never' })] }), folder('one', { services: [] })]);
    expect(notes()).toEqual([]);
  });

  it('is asked about what starts after a question, once in a session, unless it runs', async () => {
    await live([folder('', { consent: 'given' })], service('db', { folder: '/home/me/' }));
    expect(notes()).toEqual([]);
    api.send('removed', { kind: 'service', ...service('db', { folder: '/home/me/' }) });
    await vi.advanceTimersByTimeAsync(10);
    expect(notes()).toEqual([]); // a person has stopped it
    new FolderWatch({ manager, state, contents, review, start, trans });
    changed(folder('', { consent: 'given' }));
    await vi.waitFor(() => expect(notes()).toEqual(['Start 2 services of me?']));
    Notification.manager.notifications[0]?.options.actions?.[0]?.callback(new MouseEvent('click'));
    expect(start).toHaveBeenCalledTimes(1);
    Notification.manager.dismiss();
    new FolderWatch({ manager, state, contents, review, start, trans });
    changed(folder('', { consent: 'given' }));
    await vi.advanceTimersByTimeAsync(10);
    expect(notes()).toEqual([]);
  });
});
