// Services that agents have attached: their rows below the agent's line, and the attach tokens.

import { cleanup, fireEvent, render, screen, within } from '@testing-library/react';
import * as React from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { ApiError } from '../src/api';
import { PortsManager } from '../src/manager';
import { PanelState, ServicesSection } from '../src/panel';
import type { IAgent, IService } from '../src/tokens';
import { ScriptedApi, ScriptedVisibility, service, trans } from './samples';

function agent(name: string, more: Partial<IAgent> = {}): IAgent {
  return { name, host: 'n0123', state: 'up', since: 0, error: '', token: 'ab12', services: [], ...more };
}

const attached = (name: string, more: Partial<IService> = {}) => service(name, { port: null, agent: 'trainer', ...more });

describe('the services of an agent', () => {
  let api: ScriptedApi;
  let manager: PortsManager;
  let state: PanelState;
  const run = vi.fn();

  beforeEach(async () => {
    run.mockReset();
    api = new ScriptedApi();
    manager = new PortsManager(api, new ScriptedVisibility());
    state = new PanelState(manager);
    await Promise.resolve();
    render(<ServicesSection {...{ manager, state, trans, run, runForFolder: vi.fn(), onStart: vi.fn() }} />);
  });
  afterEach(() => {
    manager.dispose();
    cleanup();
  });

  const live = async (agents: IAgent[] | undefined, ...services: IService[]) => {
    api.send('snapshot', { ports: [], services, reservations: [], ...(agents ? { agents } : {}) });
    await vi.waitFor(() => expect(manager.connection).toBe('live'));
  };
  const group = () => screen.findByRole('list', { name: 'trainer on n0123' });

  it('are listed below its line, and others are not', async () => {
    await live([agent('trainer')], service('here'), attached('trainer-6006'), attached('trainer-8265'));
    expect(within(await group()).getAllByRole('listitem')).toHaveLength(2);
    expect(within(await group()).queryByText('here')).toBeNull();
    expect(screen.getByText('here')).toBeTruthy();
  });

  it('are listed alone once the agent is forgotten, and on a server without agents', async () => {
    await live([], attached('trainer-6006'));
    expect(await screen.findByText('trainer-6006')).toBeTruthy();
    expect(screen.queryByText(/ on n0123/)).toBeNull();
    expect(screen.queryByText('Attach tokens')).toBeNull();
    await live(undefined, attached('trainer-6006'));
    await vi.waitFor(() => expect(manager.agents).toBeNull());
  });

  it('can be detached, and not be started again here', async () => {
    const lost = { state: 'down', error: 'The connection is lost.' } as const;
    await live([agent('trainer')], attached('trainer-6006'), attached('trainer-8265', lost));
    const titles = (row: HTMLElement) => {
      fireEvent.pointerOver(row);
      return [...row.querySelectorAll('button[title]')].map(button => button.getAttribute('title'));
    };
    const [up, down] = within(await group()).getAllByRole('listitem');
    expect(titles(up!)).toEqual(expect.arrayContaining(['Show log', 'Detach']));
    expect(titles(up!)).not.toContain('Restart');
    expect(titles(down!).filter(title => !title?.includes('\n'))).toEqual(['Show log', 'Remove']);
    expect(within(down!).getByText('The connection is lost.')).toBeTruthy();
  });

  it('follow the state of their agent', async () => {
    await live([agent('trainer')], attached('trainer-6006'));
    await group();
    expect(screen.getByRole('img', { name: 'Attached' })).toBeTruthy();
    api.send('changed', { kind: 'agent', ...agent('trainer', { state: 'lost', error: 'It is lost.' }) });
    expect(await screen.findByRole('img', { name: 'Connection lost' })).toBeTruthy();
    api.send('removed', { kind: 'agent', ...agent('trainer') });
    await vi.waitFor(() => expect(screen.queryByText('trainer on n0123')).toBeNull());
  });

  it('go with a button of the agent, which tells why it failed', async () => {
    await live([agent('trainer')], attached('trainer-6006'));
    await group();
    fireEvent.click(screen.getByRole('button', { name: 'Detach: trainer' }));
    expect(api.requests).toContainEqual(['DELETE', 'attached/trainer', undefined]);
    api.answers['DELETE attached/trainer'] = new ApiError(404, 'There is no agent named trainer.');
    fireEvent.click(screen.getByRole('button', { name: 'Detach: trainer' }));
    expect((await screen.findByRole('alert')).textContent).toBe('There is no agent named trainer.');
  });

  it('have no markup of an agent', async () => {
    await live([agent('trainer', { host: '<img src=x>' })], attached('trainer-6006', { title: '<b>x</b>' }));
    expect(await screen.findByText('trainer on <img src=x>')).toBeTruthy();
    expect(document.querySelector('img, b')).toBeNull();
  });

  it('come with attach tokens, which are read when they are shown, and can be revoked', async () => {
    await live([agent('trainer')], attached('trainer-6006'));
    await group();
    expect(api.requests.filter(([, path]) => path === 'attach-tokens')).toHaveLength(0);
    api.answers['GET attach-tokens'] = [{ id: 'ab12', name: 'job', created: 0, until: 4e9, used: null }];
    const details = screen.getByText('Attach tokens').closest('details')!;
    details.open = true;
    fireEvent(details, new Event('toggle'));
    const revoke = await screen.findByRole('button', { name: 'Revoke: job' });
    api.answers['GET attach-tokens'] = [];
    fireEvent.click(revoke);
    await vi.waitFor(() => expect(screen.queryByRole('button', { name: 'Revoke: job' })).toBeNull());
    expect(api.requests).toContainEqual(['DELETE', 'attach-tokens/ab12', undefined]);
  });
});
