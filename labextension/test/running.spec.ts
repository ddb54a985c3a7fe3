// Services among the running sessions, and the menus that list templates.

import type { IRunningSessions } from '@jupyterlab/running';
import { CommandRegistry } from '@lumino/commands';
import { Menu } from '@lumino/widgets';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { CommandIDs } from '../src/commands';
import { PortsManager } from '../src/manager';
import { listTemplates } from '../src/menus';
import { runningServices, runningTarget } from '../src/running';
import { ScriptedApi, ScriptedVisibility, service, template, trans } from './samples';

const run = vi.fn();
let sessions: IRunningSessions.IManager;

beforeEach(async () => {
  run.mockReset();
  const api = new ScriptedApi();
  const manager = new PortsManager(api, new ScriptedVisibility());
  for (const each of [
    service('b', { title: 'B', template: 'other' }),
    service('a', { title: '<b>A', state: 'starting', open_in: 'browser' }),
    service('c', { state: 'down' }),
    service('d', { state: 'failed' })
  ]) {
    api.answers['POST services'] = each;
    await manager.start(each.name);
  }
  sessions = runningServices(manager, run, trans);
});

describe('the running services', () => {
  const items = () => sessions.running({ mode: 'list' });

  it('are those that can be stopped, with label and state', () => {
    expect(items().map(item => [item.label(), item.detail?.(), item.context])).toEqual([
      ['<b>A', 'Starting', 'portproxy:a'],
      ['B (b)', '', 'portproxy:b']
    ]);
  });

  it('are opened at their place, and stopped', () => {
    items().forEach(item => item.open?.());
    items()[1]?.shutdown?.();
    expect(run.mock.calls).toEqual([
      [CommandIDs.openInBrowser, { service: 'a' }],
      [CommandIDs.openInLab, { service: 'b' }],
      [CommandIDs.stop, { service: 'b' }]
    ]);
  });

  it('are all stopped', () => {
    sessions.shutdownAll();
    expect(run.mock.calls).toEqual([
      [CommandIDs.stop, { service: 'a' }],
      [CommandIDs.stop, { service: 'b' }]
    ]);
  });

  it('are found below the pointer', () => {
    const nodes = ['', 'portproxy:a:b', 'portproxy:'].map(context => Object.assign(document.createElement('li').dataset, { context }));
    const contextMenuHitTest = (test: (node: HTMLElement) => boolean) =>
      nodes.map(dataset => ({ dataset }) as unknown as HTMLElement).find(node => test(node));
    expect(runningTarget({ contextMenuHitTest })).toEqual({ service: 'a:b' });
    nodes.splice(1);
    expect(runningTarget({ contextMenuHitTest })).toBeNull();
  });
});

describe('a menu', () => {
  it('has the templates with a tile after its other items, once', () => {
    const commands = new CommandRegistry();
    const menu = new Menu({ commands });
    menu.addItem({ command: CommandIDs.startForm });
    listTemplates(menu, [template('a'), template('b', { available: false }), template('c', { launcher: '' }), template('d')]);
    listTemplates(menu, [template('a'), template('e')]);
    expect(menu.items.map(item => [item.command, item.args.template])).toEqual([
      [CommandIDs.startForm, undefined],
      [CommandIDs.launch, 'a'],
      [CommandIDs.launch, 'e']
    ]);
  });
});
