// The command that reaches a port or service from another computer.

import { CommandRegistry } from '@lumino/commands';
import { Clipboard } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import { afterEach, describe, expect, it, vi } from 'vitest';

import { AddCommand, Args, CommandIDs, Target } from '../src/commands';
import { addForwardCommand, forwardCommand, isWithoutPage } from '../src/forward';
import { Targets } from '../src/targets';
import type { IPortsManager } from '../src/tokens';
import { port, service, trans } from './samples';

const manager = {
  port: (number: number) => [port(15432, { tcp: true }), port(8050), port(80, { allowed: false, tcp: true })].find(item => item.port === number),
  service: (name: string) => [service('web'), service('db', { scheme: 'tcp', url: null }), service('worker', { scheme: 'none', url: null })].find(item => item.name === name)
} as unknown as IPortsManager;

describe('the command', () => {
  it.each([
    [{ port: 15432 }, 'http://127.0.0.1:8888/', 'jupyter portproxy forward 15432 --server http://127.0.0.1:8888/'],
    [{ service: 'my-db' }, 'https://hub.example.org/user/ada%40b/', 'jupyter portproxy forward my-db --server https://hub.example.org/user/ada%40b/'],
    [{ port: 1 }, "https://h/a;b'c$(d)/", "jupyter portproxy forward 1 --server 'https://h/a;b%27c$(d)/'"]
  ] as [Target, string, string][])('for %j at %s is one word after the other in a shell', (target, server, command) => {
    expect(forwardCommand(target, server)).toBe(command);
  });
});

describe('the command of the panel', () => {
  const commands = new CommandRegistry();
  const add: AddCommand = (id, label, execute, more = {}) =>
    commands.addCommand(id, { label: label as string, execute, isEnabled: args => more.isEnabled?.(args as Args) ?? true });
  addForwardCommand(add, new Targets(manager, () => null), trans);
  afterEach(() => vi.restoreAllMocks());

  it('names the server of the page', async () => {
    const copied = vi.spyOn(Clipboard, 'copyToSystem').mockImplementation(() => undefined);
    vi.spyOn(PageConfig, 'getBaseUrl').mockReturnValue('https://hub.example.org/user/ada/');
    await commands.execute(CommandIDs.copyForwardCommand, { service: 'db' });
    expect(copied).toHaveBeenCalledWith('jupyter portproxy forward db --server https://hub.example.org/user/ada/');
  });

  it.each([
    [{ port: 15432 }, true],
    [{ port: 8050 }, true],
    [{ port: 80 }, false],
    [{ service: 'web' }, true],
    [{ service: 'worker' }, false],
    [{}, false]
  ])('for %j is enabled: %s', (args, enabled) => {
    expect(commands.isEnabled(CommandIDs.copyForwardCommand, args)).toBe(enabled);
  });
});

it('knows what speaks no HTTP', () => {
  const targets: Target[] = [{ port: 15432 }, { port: 8050 }, { port: 9 }, { service: 'db' }, { service: 'web' }, { service: 'none' }, { service: 'worker' }];
  expect(targets.map(target => isWithoutPage(target, manager))).toEqual([true, false, false, true, false, false, true]);
});
