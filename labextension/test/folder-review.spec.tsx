// The dialog in which a person allows what a folder starts and sets.

import { cleanup, fireEvent, render, screen, within } from '@testing-library/react';
import * as React from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { ApiError } from '../src/api';
import { commandLine, FolderContent, inOrder, showReview } from '../src/folder-review';
import { PortsManager } from '../src/manager';
import type { IFolder } from '../src/tokens';
import { folder, folderService, rule, ScriptedApi, ScriptedVisibility, trans } from './samples';

afterEach(cleanup);

describe('the content of a folder', () => {
  const show = (more: Partial<IFolder>) => render(<FolderContent folder={folder('shop', more)} trans={trans} />).container;

  it('has commands as text, with each character that is not seen', () => {
    const command = ['sh', '-c', "echo it's\u202e <b>x</b>;\n\u200brm -r\u00a0~", ''];
    const container = show({ services: [folderService('a\u0007', { command })] });
    expect(container.querySelector('code')?.textContent).toBe("sh -c 'echo it'\\\\''sU+202E <b>x</b>;U+000AU+200Brm -rU+00A0~' ''".replace('\\\\', '\\'));
    expect([...container.querySelectorAll('code .jp-PortProxy-unseen')].map(({ textContent }) => textContent)).toEqual(['U+202E', 'U+000A', 'U+200B', 'U+00A0']);
    expect(container.querySelector('strong')?.textContent).toBe('aU+0007');
    expect(container.querySelector('code b')).toBeNull();
  });

  it('has each service in the order of the start, with all that it takes', () => {
    const more = { cwd: '/srv/web', environment: { DEBUG: '1', NAME: 'a b' }, environment_file: '.env', kernel: 'shop', depends_on: ['db'], autostart: 'always' } as const;
    const container = show({ services: [folderService('web', { ...more, depends_on: ['db'] }), folderService('db', { cwd: '', restart: 'always' })] });
    expect([...container.querySelectorAll('strong')].map(({ textContent }) => textContent)).toEqual(['db', 'web']);
    const [db, web] = within(screen.getByRole('list', { name: 'Services' })).getAllByRole('listitem');
    expect([...web!.querySelectorAll('dt')].map(({ textContent }) => textContent)).toEqual(['Folder', 'Variables', 'Variables of', 'Environment of the kernel', 'After', 'Starts']);
    expect([...web!.querySelectorAll('dd')].map(({ textContent }) => textContent)).toEqual(['/srv/web', "DEBUG=1 'NAME=a b'", '.env', 'shop', 'db', 'with the server, without a question']);
    expect([...db!.querySelectorAll('dt')].map(({ textContent }) => textContent)).toEqual(['Starts']);
    expect(db!.querySelector('dd')!.textContent).toBe('after a question, when the folder is opened; again after a restart of the server');
  });

  it('has what is activity of the server, where that is not the default', () => {
    const more = { activity: 'people', activity_exclude: ['.*/poll$', '/a'], running_is_activity: true } as const;
    const container = show({ services: [folderService('web', { ...more, activity_exclude: [...more.activity_exclude] })] });
    expect([...container.querySelectorAll('dt')].map(({ textContent }) => textContent)).toEqual(['Folder', 'Starts', 'Activity', 'No activity']);
    expect([...container.querySelectorAll('dd')].slice(2).map(({ textContent }) => textContent)).toEqual(['What a person does is activity; The server is active while it runs',
      "'.*/poll$' /a"
    ]);
  });

  it('has ports, and problems with file and line', () => {
    const problems = [
      { file: 'portproxy.toml', line: 7, key: 'services.api.restart', message: "'daily' is no value.", hint: 'Write never.' },
      { file: 'Procfile', line: null, key: '', message: 'It is too large.', hint: '' }
    ];
    const notes = [{ file: 'compose.yaml', line: 3, message: 'db:5432 is a port of another container.' }];
    show({ ports: [rule({ ports: '3000-3010' }, { label: 'Web', scheme: 'https' })], problems, notes });
    expect(screen.getByText('3000-3010: Web, HTTPS')).toBeTruthy();
    expect(screen.getByText("portproxy.toml:7: services.api.restart 'daily' is no value. Write never.")).toBeTruthy();
    expect(screen.getByText('Procfile: It is too large.')).toBeTruthy();
    expect(screen.getByText('compose.yaml:3: db:5432 is a port of another container.')).toBeTruthy();
  });

  it('is in an order also with a cycle', () => {
    const [a, b] = [folderService('a', { depends_on: ['b'] }), folderService('b', { depends_on: ['a'] })];
    expect(inOrder([a, b]).map(({ name }) => name)).toEqual(['b', 'a']);
  });

  it('quotes words', () => {
    expect(commandLine(['python', '-m', 'a.b', '{port}', 'x y', '$HOME', "it's"])).toBe("python -m a.b {port} 'x y' '$HOME' 'it'\\''s'");
  });
});

describe('the dialog', () => {
  let api: ScriptedApi;
  let manager: PortsManager;

  beforeEach(() => {
    sessionStorage.clear();
    api = new ScriptedApi();
    manager = new PortsManager(api, new ScriptedVisibility());
  });
  afterEach(() => {
    document.querySelector<HTMLButtonElement>('.jp-Dialog-button.jp-mod-reject, .jp-Dialog-button')?.click();
    manager.dispose();
  });

  const open = async (item: IFolder) => {
    void showReview(item, manager, trans);
    await vi.waitFor(() => expect(document.activeElement?.closest('.jp-Dialog')?.querySelector('.jp-PortProxy-review')).toBeTruthy());
  };
  const labels = () => [...document.querySelectorAll('.jp-Dialog-button')].map(({ textContent }) => textContent);
  const button = (label: string) => [...document.querySelectorAll<HTMLButtonElement>('.jp-Dialog-button')].find(({ textContent }) => textContent === label)!;
  const press = (label: string) => button(label).click();
  const sent = () => api.requests.filter(([method]) => method !== 'GET').map(([method, path, body]) => [method, path, body]);
  const content = { path: '/home/me/shop', digest: 'd1' };

  it('allows the content, and starts it if that is asked for', async () => {
    api.answers = { 'PUT folders/consent': folder('shop', { consent: 'given' }), 'POST folders/up': folder('shop', { consent: 'given' }) };
    await open(folder('shop'));
    expect(labels()).toEqual(['Not now', 'Allow', 'Allow and start']);
    press('Allow');
    await vi.waitFor(() => expect(labels()).toEqual([]));
    expect(sent()).toEqual([['PUT', 'folders/consent', content]]);
    expect(manager.folders?.[0]?.consent).toBe('given');
    await open(folder('shop'));
    press('Allow and start');
    await vi.waitFor(() => expect(labels()).toEqual([]));
    expect(sent().slice(1)).toEqual([
      ['PUT', 'folders/consent', content],
      ['POST', 'folders/up', content]
    ]);
  });

  it('sends nothing for Not now, Escape and Enter in the text', async () => {
    for (const close of [
      () => press('Not now'),
      () => fireEvent.keyDown(document.querySelector('.jp-PortProxy-review')!, { key: 'Escape' }),
      () => fireEvent.keyDown(document.querySelector('.jp-PortProxy-review')!, { key: 'Enter' })
    ]) {
      await open(folder('shop'));
      await vi.waitFor(() => expect(document.activeElement?.className).toBe('jp-PortProxy-review'));
      close();
      await vi.waitFor(() => expect(labels()).toEqual([]));
    }
    expect(sent()).toEqual([]);
  });

  it('shows another content that the folder has by now, and takes no click until it can be read', async () => {
    const changed = folder('shop', { digest: 'd2', services: [folderService('evil', { command: ['rm', '-r', '/'] })] });
    api.answers = {
      'PUT folders/consent': new ApiError(409, 'It has changed.'),
      'GET folders?path=%2Fhome%2Fme%2Fshop': changed
    };
    await open(folder('shop'));
    press('Allow and start');
    await vi.waitFor(() => expect(document.querySelector('.jp-Dialog code')?.textContent).toBe('rm -r /'));
    expect(document.querySelector('.jp-Dialog [role=alert]')?.textContent).toBe('The files have changed while this dialog was open. Review what they say now.');
    api.answers['PUT folders/consent'] = folder('shop', { digest: 'd2', consent: 'given' });
    expect([button('Allow').disabled, button('Allow and start').disabled]).toEqual([true, true]);
    press('Allow');
    expect(sent()).toHaveLength(1);
    await vi.waitFor(() => expect(button('Allow').disabled).toBe(false), { timeout: 2000 });
    press('Allow');
    await vi.waitFor(() => expect(labels()).toEqual([]));
    expect(sent()[1]).toEqual(['PUT', 'folders/consent', { ...content, digest: 'd2' }]);
  });

  it('stays open with any other refusal', async () => {
    api.answers = { 'PUT folders/consent': new ApiError(400, 'Too late.') };
    await open(folder('shop'));
    press('Allow');
    await vi.waitFor(() => expect(document.querySelector('.jp-Dialog [role=alert]')?.textContent).toBe('Too late.'));
    expect(button('Allow').disabled).toBe(false);
  });

  it('of an allowed content starts it or takes the consent back', async () => {
    api.answers = { 'DELETE folders/consent?path=%2Fhome%2Fme%2Fshop': folder('shop') };
    await open(folder('shop', { consent: 'given' }));
    expect(labels()).toEqual(['Disallow and stop', 'Close', 'Start all']);
    press('Disallow and stop');
    await vi.waitFor(() => expect(labels()).toEqual([]));
    expect(manager.folders?.[0]?.consent).toBe('none');
  });

  it('has nothing to allow of files that cannot be used, and no start without services', async () => {
    await open(folder('shop', { services: [] }));
    expect(labels()).toEqual(['Close']);
    press('Close');
    await vi.waitFor(() => expect(labels()).toEqual([]));
    await open(folder('shop', { services: [], ports: [rule({ ports: '1' })] }));
    expect(labels()).toEqual(['Not now', 'Allow']);
  });
});
