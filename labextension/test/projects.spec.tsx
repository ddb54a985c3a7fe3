// The section of projects: what members and owners see, and that a form keeps its text until it is accepted.

import { cleanup, fireEvent, render, screen, within } from '@testing-library/react';
import * as React from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { ApiError } from '../src/api';
import { PortsManager } from '../src/manager';
import { PanelState } from '../src/panel';
import { ProjectsSection } from '../src/projects';
import type { IProject } from '../src/tokens';
import { ScriptedApi, ScriptedVisibility, trans } from './samples';

function project(key: string, more: Partial<IProject> = {}): IProject {
  return {
    key,
    owner: 'ann',
    name: key,
    role: 'owner',
    visibility: 'private',
    allowed_ports: ['15000-15099'],
    ports: [{ port: 15000, http: true, title: 'Sold out', url: `/ann/${key}/?port=15000`, key_url: `/${key}/server/15000/` }],
    members: [{ name: 'eve', role: 'viewer', allowed_ports: null }],
    reservations: [],
    ...more
  };
}

describe('the section of projects', () => {
  let api: ScriptedApi;
  let manager: PortsManager;
  let state: PanelState;

  beforeEach(async () => {
    api = new ScriptedApi();
    manager = new PortsManager(api, new ScriptedVisibility());
    state = new PanelState(manager);
    await Promise.resolve();
    render(<ProjectsSection {...{ manager, state, trans, run: vi.fn(), runForFolder: vi.fn(), onStart: vi.fn() }} />);
  });
  afterEach(() => {
    manager.dispose();
    cleanup();
  });

  const live = async (...projects: IProject[]) => {
    api.send('snapshot', { ports: [], services: [], reservations: [], projects });
    await vi.waitFor(() => expect(manager.connection).toBe('live'));
  };
  const form = (name: string) => within(screen.getByRole('form', { name, hidden: true }));
  const type = (name: string, label: string, value: string) =>
    fireEvent.change(form(name).getByLabelText(label), { target: { value } });
  const submit = (name: string) => fireEvent.submit(screen.getByRole('form', { name, hidden: true }));

  it('is none of a server without projects', async () => {
    api.send('snapshot', { ports: [], services: [], reservations: [] });
    await vi.waitFor(() => expect(manager.connection).toBe('live'));
    expect(manager.projects).toBeNull();
  });

  it('links live ports by name and by key, and shows members nothing to change', async () => {
    await live(project('p1', { role: 'member', members: null, reservations: null }));
    const byName = await screen.findByRole('link', { name: 'Open Sold out of ann/p1, port 15000' });
    expect(byName.getAttribute('href')).toMatch(/\/ann\/p1\/\?port=15000$/);
    expect(screen.getByRole('link', { name: 'Open port 15000 of ann/p1 by key' }).getAttribute('href')).toMatch(/\/p1\/server\/15000\/$/);
    expect(screen.getByText('member')).toBeTruthy();
    expect(screen.queryByText('Members and ports')).toBeNull();
  });

  it('follows the events and the filter', async () => {
    await live(project('p1'), project('p2'));
    await screen.findByText('ann/p2');
    api.send('changed', { kind: 'project', ...project('p1', { ports: [] }) });
    await screen.findByText('No live port on this machine.');
    api.send('removed', { kind: 'project', ...project('p2') });
    await vi.waitFor(() => expect(screen.queryByText('ann/p2')).toBeNull());
    state.filter = 'nothing';
    await screen.findByText('No project matches the filter.');
  });

  it('sends what an owner changes, and reads the projects again', async () => {
    await live(project('p1'));
    await screen.findByText('ann/p1');
    api.answers['GET projects'] = [project('p1', { members: [{ name: 'a/b', role: 'member', allowed_ports: null }] })];
    type('Add a member of ann/p1', 'User, or @ and a group', 'a/b');
    type('Add a member of ann/p1', 'Role', 'member');
    submit('Add a member of ann/p1');
    fireEvent.click(await screen.findByRole('button', { name: 'Remove: a/b, ann/p1', hidden: true }));
    type('Ports of ann/p1', 'Ports; empty for none of its own', '15001, 15003-15004');
    submit('Ports of ann/p1');
    await vi.waitFor(() => expect(api.requests.filter(([method]) => method !== 'GET')).toHaveLength(3));
    expect(api.requests.filter(([method]) => method !== 'GET')).toEqual([
      ['PUT', 'projects/p1/members/a%2Fb', { role: 'member' }],
      ['DELETE', 'projects/p1/members/a%2Fb', undefined],
      ['PATCH', 'projects/p1', { allowed_ports: ['15001', '15003-15004'] }]
    ]);
  });

  it('shows a refusal beside its form, which keeps the text', async () => {
    await live(project('p1'));
    await screen.findByText('ann/p1');
    const label = 'Ports; empty for none of its own';
    api.answers['PATCH projects/p1'] = new ApiError(400, 'Port 22 is outside allowed range (10000-20000)', 'Take ports of that range.');
    type('Ports of ann/p1', label, '22');
    submit('Ports of ann/p1');
    const alert = await form('Ports of ann/p1').findByRole('alert', { hidden: true });
    expect(alert.textContent).toBe('Port 22 is outside allowed range (10000-20000) Take ports of that range.');
    expect((form('Ports of ann/p1').getByLabelText(label) as HTMLInputElement).value).toBe('22');
    expect(form('Add a member of ann/p1').queryByRole('alert', { hidden: true })).toBeNull();
  });

  it('shows markup as text', async () => {
    const title = '<img src=x onerror=alert(1)>';
    await live(project('p1', { name: title, members: [{ name: title, role: title, allowed_ports: null }] }));
    await screen.findByText(`ann/${title}`);
    expect(document.querySelector('img')).toBeNull();
  });
});
