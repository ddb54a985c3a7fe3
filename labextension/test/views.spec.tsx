// The rows, their actions, the empty panel and the form. No title can become markup.

import { cleanup, fireEvent, render, screen, within } from '@testing-library/react';
import * as React from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { ApiError } from '../src/api';
import { showStartDialog, StartForm } from '../src/form';
import { plainText } from '../src/log-view';
import { PortsManager } from '../src/manager';
import { PanelState, PortsSection, ServicesSection } from '../src/panel';
import { Notice } from '../src/tab';
import { PortRow, ServiceRow } from '../src/views';
import { formatDuration, matchesFilter, portLabel } from '../src/labels';
import { RuleSet } from '../src/rules';
import type { ITemplate } from '../src/tokens';
import { ScriptedApi, ScriptedVisibility, port, rule, service, template, trans } from './samples';

const run = vi.fn();
const common = { now: 60_000, trans, run };

beforeEach(() => run.mockReset());
afterEach(cleanup);

function rowOf(element: React.JSX.Element): HTMLElement {
  render(<ul>{element}</ul>);
  return screen.getByRole('listitem');
}

const actionsOf = (row: HTMLElement) => {
  fireEvent.pointerEnter(row);
  return [...row.querySelectorAll('.jp-PortProxy-action')].map(button => button.getAttribute('title'));
};

describe('a row', () => {
  it.each([
    ['up', ['Open in a Lab tab', 'Open in a browser tab', 'Copy URL', 'Show log', 'Restart', 'Stop']],
    ['unhealthy', ['Open in a Lab tab', 'Open in a browser tab', 'Copy URL', 'Show log', 'Restart', 'Stop']],
    ['down', ['Start', 'Edit and start…', 'Show log', 'Remove']],
    ['failed', ['Show log', 'Start', 'Edit and start…', 'Remove']],
    ['stopping', ['Show log']]
  ] as const)('of a service that is %s offers what is possible', (state, offered) => {
    expect(actionsOf(rowOf(<ServiceRow service={service('a', { state })} {...common} />))).toEqual(offered);
  });

  it('opens with its name, and its buttons have labels', () => {
    const row = rowOf(<ServiceRow service={service('a')} {...common} />);
    fireEvent.click(screen.getByRole('button', { name: 'a' }));
    expect(run).toHaveBeenLastCalledWith('portproxy:open-in-lab', { service: 'a' });
    fireEvent.focus(row);
    fireEvent.click(screen.getByRole('button', { name: 'Stop: a' }));
    expect(run).toHaveBeenLastCalledWith('portproxy:stop', { service: 'a' });
  });

  it('shows the error of a service, and its state as text too', () => {
    rowOf(<ServiceRow service={service('a', { state: 'failed', error: 'It ended with exit code 3.' })} {...common} />);
    expect(screen.getByText('It ended with exit code 3.')).toBeTruthy();
    expect(screen.getByRole('img', { name: 'Failed' })).toBeTruthy();
  });

  it('says that the project file no longer has a service', () => {
    rowOf(<ServiceRow service={service('a', { removed: true })} {...common} />);
    expect(screen.getByText('No longer in the project file')).toBeTruthy();
  });

  it('shows what runs', () => {
    const row = rowOf(<ServiceRow service={service('a', { runs: 'reports/app.py' })} {...common} />);
    expect(row.querySelector('.jp-PortProxy-more')?.textContent).toBe('reports/app.py');
    expect(row.querySelector('button')?.title).toBe('a\nreports/app.py\nUp');
  });

  it('names the port of a service only while it listens', () => {
    const row = rowOf(<ServiceRow service={service('a')} {...common} />);
    expect(row.textContent).toContain(':15000');
    cleanup();
    expect(rowOf(<ServiceRow service={service('a', { state: 'failed' })} {...common} />).textContent).not.toContain(':15000');
  });

  it('has the whole title as its tooltip, however narrow it is', () => {
    const title = 'A title that is too long for the panel';
    rowOf(<ServiceRow service={service('a', { title, state: 'failed', error: 'It ended.' })} {...common} />);
    expect(screen.getByRole('button', { name: title }).title).toBe(`${title}\nFailed: It ended.`);
    cleanup();
    rowOf(<PortRow port={port(15000, { title })} rules={new RuleSet()} {...common} />);
    expect(screen.getByRole('button', { name: title }).title.split('\n')[0]).toBe(title);
  });

  it('shows markup as text, and truncates long text', () => {
    const title = '<img src=x onerror=alert(1)>';
    const row = rowOf(<PortRow port={port(15000, { title, command: ['x'.repeat(2000)] })} rules={new RuleSet()} {...common} />);
    expect(screen.getByText(title)).toBeTruthy();
    expect(row.querySelector('img')).toBeNull();
    expect(row.querySelector('.jp-PortProxy-name')?.getAttribute('title')?.length).toBeLessThan(400);
  });

  it('of a port that cannot be reached shows the reason and does nothing', () => {
    const row = rowOf(<PortRow port={port(80, { allowed: false, url: null, reason: 'Port 80 is outside.' })} rules={new RuleSet()} {...common} />);
    expect(screen.getByText('Port 80 is outside.')).toBeTruthy();
    fireEvent.click(screen.getByRole('button'));
    expect(run).not.toHaveBeenCalled();
    expect(actionsOf(row)).toEqual(['Edit…']);
  });

  it.each([
    [{}, ['Open in a Lab tab', 'Open in a browser tab', 'Copy URL', 'Edit…']],
    [{ allowed_by_user: true }, ['Open in a Lab tab', 'Open in a browser tab', 'Copy URL', 'Edit…', 'Do not allow this port any more']],
    [{ allowed: false, may_allow: true }, ['Allow this port', 'Edit…']]
  ])('of a port with %j offers what is possible', (more, offered) => {
    expect(actionsOf(rowOf(<PortRow port={port(15000, more)} rules={new RuleSet()} {...common} />))).toEqual(offered);
  });

  it.each([
    ['up', { scheme: 'none', url: null }, ['Show log', 'Restart', 'Stop']],
    ['down', { folder: '/home/me/shop' }, ['Start', 'Show log', 'Remove']],
    ['failed', { folder: '/home/me/shop' }, ['Show log', 'Start', 'Remove']]
  ] as const)('of a service that is %s and has %j offers what is possible', (state, more, offered) => {
    expect(actionsOf(rowOf(<ServiceRow service={service('a', { state, ...more })} {...common} />))).toEqual(offered);
  });

  it.each([
    ['up', ['Copy forward command', 'Show log', 'Restart', 'Stop']],
    ['down', ['Start', 'Edit and start…', 'Show log', 'Remove']]
  ] as const)('of a service without HTTP that is %s offers the command that reaches it', (state, offered) => {
    const row = rowOf(<ServiceRow service={service('db', { state, scheme: 'tcp', url: null })} {...common} />);
    expect(actionsOf(row)).toEqual(offered);
  });

  it('of a port that has answered no HTTP copies the command that reaches it', () => {
    const row = rowOf(<PortRow port={port(15432, { http: false, tcp: true, title: 'db' })} rules={new RuleSet()} {...common} />);
    expect(actionsOf(row)).toEqual(['Copy forward command', 'Edit…']);
    fireEvent.click(screen.getByRole('button', { name: 'db' }));
    expect(run).toHaveBeenLastCalledWith('portproxy:copy-forward-command', { port: 15432 });
  });

  it('of a port that cannot be reached offers no command that would fail', () => {
    const row = rowOf(<PortRow port={port(80, { allowed: false, url: null, tcp: true })} rules={new RuleSet()} {...common} />);
    expect(actionsOf(row)).toEqual(['Edit…']);
  });

  it('of a port that is tcp by a rule has no page to open', () => {
    const rules = new RuleSet([rule({ ports: '15000' }, { scheme: 'tcp', label: 'My database' })]);
    const row = rowOf(<PortRow port={port(15000, { http: false, url: null, scheme: 'tcp', tcp: true })} rules={rules} {...common} />);
    fireEvent.click(screen.getByRole('button', { name: 'My database' }));
    expect(run).toHaveBeenLastCalledWith('portproxy:copy-forward-command', { port: 15000 });
    expect(actionsOf(row)).toEqual(['Copy forward command', 'Edit…']);
  });
});

describe('the sections', () => {
  let api: ScriptedApi;
  let manager: PortsManager;
  let state: PanelState;
  const onStart = vi.fn();
  const onAdd = vi.fn();
  const props = () => ({ manager, state, trans, run, runForFolder: vi.fn(), onStart, onAdd });

  beforeEach(async () => {
    api = new ScriptedApi();
    manager = new PortsManager(api, new ScriptedVisibility());
    state = new PanelState(manager);
    await Promise.resolve();
  });
  afterEach(() => manager.dispose());

  const live = async (more: object) => {
    api.send('snapshot', { ports: [], services: [], reservations: [], ...more });
    await vi.waitFor(() => expect(manager.connection).toBe('live'));
  };

  it('show how to begin when they are empty', async () => {
    render(<ServicesSection {...props()} />);
    fireEvent.click(screen.getByRole('button', { name: 'Start a service…' }));
    expect(onStart).toHaveBeenCalled();
  });

  it('follow the model and the filter', async () => {
    render(<ServicesSection {...props()} />);
    const reservations = [{ name: 'held', port: 15009, until: 0, used: false, url: '/x/' }];
    await live({ services: [service('alpha'), service('beta')], reservations });
    await screen.findByText('beta');
    expect(screen.getAllByRole('listitem')).toHaveLength(3);
    state.filter = 'ALP 15000';
    await vi.waitFor(() => expect(screen.getAllByRole('listitem')).toHaveLength(1));
    state.filter = 'nothing';
    await screen.findByText('No service matches the filter.');
  });

  it('show that the list is not current', async () => {
    render(<ServicesSection {...props()} />);
    await live({ services: [service('alpha')] });
    api.cut();
    await screen.findByText(/The connection to the Jupyter server is cut\./);
    expect(screen.getByText('alpha')).toBeTruthy();
  });

  it('list reachable ports first', async () => {
    render(<PortsSection {...props()} />);
    await live({ ports: [port(80, { allowed: false, reason: 'No.' }), port(15001), port(15000), port(90, { allowed: false, reason: 'No.' })] });
    await vi.waitFor(() => expect(screen.getAllByRole('listitem')).toHaveLength(4));
    expect(screen.getAllByRole('listitem').map(row => row.dataset.port)).toEqual(['15000', '15001', '80', '90']);
  });

  const listed = () => screen.queryAllByRole('listitem').map(row => row.dataset.port);

  it('list an added port also while no program listens', async () => {
    render(<PortsSection {...props()} />);
    const added = rule({ ports: '8501' }, { pinned: true, label: 'Mine' });
    await live({ ports: [port(80, { allowed: false }), port(15000)], port_rules: [added, rule({ ports: '8502' })] });
    await vi.waitFor(() => expect(listed().slice(0, 3)).toEqual(['15000', '8501', '80']));
    expect(screen.getByText('Waiting for its program')).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'Mine' }));
    expect(run).not.toHaveBeenCalled();
    const row = screen.getByRole('button', { name: 'Mine' }).closest('li') as HTMLElement;
    expect(actionsOf(row)).toEqual(['Edit…', 'Remove']);
    api.send('changed', { kind: 'port', ...port(8501) });
    await vi.waitFor(() => expect(screen.queryByText('Waiting for its program')).toBeNull());
    fireEvent.click(screen.getByRole('button', { name: 'Mine' }));
    expect(run).toHaveBeenLastCalledWith('portproxy:open-in-lab', { port: 8501 });
  });

  it('offer to add a port while they list none', async () => {
    render(<PortsSection {...props()} />);
    fireEvent.click(screen.getByRole('button', { name: 'Add a port…' }));
    expect(onAdd).toHaveBeenCalled();
  });

  it('hide ignored ports, and show them on request', async () => {
    render(<PortsSection {...props()} />);
    await live({ ports: [port(15000), port(15001), port(15002)] });
    state.settings = { onNewPort: 'notify', ports: [{ port: 15000, action: 'ignore' }] };
    await screen.findByText('1 port is ignored.', { exact: false });
    api.send('changed', { kind: 'port_rule', ...rule({ ports: '15001' }, { on_appear: 'ignore' }) });
    await screen.findByText('2 ports are ignored.', { exact: false });
    expect(listed().slice(0, 1)).toEqual(['15002']);
    fireEvent.click(screen.getByRole('button', { name: 'Show' }));
    expect(within(screen.getByRole('list', { name: 'Ignored ports' })).getAllByRole('listitem')).toHaveLength(2);
    fireEvent.click(screen.getByRole('button', { name: 'Hide' }));
    expect(screen.queryByRole('list', { name: 'Ignored ports' })).toBeNull();
    state.settings = { onNewPort: 'notify', ports: [] };
    api.send('removed', { kind: 'port_rule', ...rule({ ports: '15001' }) });
    await vi.waitFor(() => expect(screen.queryByText('ignored', { exact: false })).toBeNull());
  });

  it('list all rules, each of which can be removed', async () => {
    render(<PortsSection {...props()} />);
    const rules = [rule({ process: '<b>' }, { on_appear: 'silent' }), rule({ ports: '8501' }, { label: 'Mine', scheme: 'https', keep_host: true })];
    await live({ port_rules: rules });
    await screen.findByText('2 rules');
    expect(screen.getByText("Mine, HTTPS, Keeps the browser's Host")).toBeTruthy();
    api.answers = { 'DELETE port-rules/%3Cb%3E': new ApiError(400, 'The file is damaged.') };
    const remove = screen.getByRole('button', { name: 'Remove rule: <b>', hidden: true });
    fireEvent.click(remove);
    await screen.findByText('The file is damaged.');
    api.answers = {};
    fireEvent.click(remove);
    await screen.findByText('1 rule');
    expect(screen.queryByText('The file is damaged.')).toBeNull();
  });

  it('list a port of a service only there, and 500 ports at once', async () => {
    const ports = Array.from({ length: 500 }, (_, index) => port(10000 + index));
    render(<PortsSection {...props()} />);
    await live({ ports: [...ports, port(20000, { service: 'alpha' })] });
    await vi.waitFor(() => expect(screen.getAllByRole('listitem')).toHaveLength(500));
  });
});

describe('the form', () => {
  const complete = async (path: string) => (path === 'da' ? ['data/'] : []);
  const templates = [
    template('plain'),
    template('full', {
      title: 'Full',
      arguments: [
        { name: 'file', label: 'File', default: '', kind: 'path', choices: [] },
        { name: 'level', label: 'Level', default: 'low', kind: 'choice', choices: ['low', 'high'] }
      ]
    })
  ];

  const only = { templates, kernels: [], templatesOf: async () => templates, complete, trans };

  it('begins with the arguments of a service, and shows the reason of a refusal', () => {
    const told = vi.fn();
    const first = { template: 'full', name: 'mine', arguments: { file: 'data.csv', level: 'high' }, kernel: null };
    render(<StartForm {...{ ...only, first, problem: 'No such file.' }} onChange={told} />);
    expect(told).toHaveBeenLastCalledWith(first, true);
    expect((screen.getByLabelText('File') as HTMLInputElement).value).toBe('data.csv');
    expect(screen.getByRole('alert').textContent).toBe('No such file.');
  });

  it('requires arguments without a default, completes paths, and keeps the input', async () => {
    const told = vi.fn();
    const first = { template: 'full', name: '', arguments: {}, kernel: null };
    render(<StartForm {...{ ...only, first }} onChange={told} />);
    expect(screen.queryByLabelText('Environment')).toBeNull();
    expect(told).toHaveBeenLastCalledWith({ template: 'full', name: '', arguments: { file: '', level: 'low' }, kernel: null }, false);
    fireEvent.change(screen.getByLabelText('File'), { target: { value: 'da' } });
    fireEvent.change(screen.getByLabelText('Level'), { target: { value: 'high' } });
    fireEvent.change(screen.getByLabelText('Name (optional)'), { target: { value: 'mine' } });
    const choice = { template: 'full', name: 'mine', arguments: { file: 'da', level: 'high' }, kernel: null };
    expect(told).toHaveBeenLastCalledWith(choice, true);
    await vi.waitFor(() => expect(document.querySelector('datalist option')?.getAttribute('value')).toBe('data/'));
    fireEvent.change(screen.getByLabelText('Service'), { target: { value: 'plain' } });
    fireEvent.change(screen.getByLabelText('Service'), { target: { value: 'full' } });
    expect((screen.getByLabelText('File') as HTMLInputElement).value).toBe('da');
  });

  describe('with kernels', () => {
    const kernels = [
      { name: 'shop', title: 'Shop <b>3.12', available: true, reason: '', own: false },
      { name: 'far', title: 'Far', available: false, reason: 'It runs elsewhere.', own: false }
    ];
    const lacking = template('plain', { title: 'Plain', available: false, hint: 'Install it.' });
    const show = (props: { templatesOf: () => Promise<ITemplate[]>; kernel?: string | null; template?: string; told?: () => void }) => {
      const { templatesOf, kernel = null, template: name = '', told = vi.fn() } = props;
      const first = { template: name, name: '', arguments: {}, kernel };
      render(<StartForm {...{ ...only, templates: [lacking, template('other')], kernels, templatesOf, first }} onChange={told} />);
      return told;
    };
    const offered = (label: string) => [...(screen.getByLabelText(label) as HTMLSelectElement).options].map(option => option.text);
    const choose = (kernel: string) => fireEvent.change(screen.getByLabelText('Environment'), { target: { value: kernel } });

    it('offers what is installed in the environment that is chosen', async () => {
      const templatesOf = vi.fn(async () => [template('plain', { title: 'Plain' })]);
      const told = show({ templatesOf });
      expect(offered('Environment')).toEqual(["This server's Python", 'Shop <b>3.12', 'Far']);
      expect(screen.getByRole('option', { name: 'Far' })).toHaveProperty('disabled', true);
      expect(offered('Service')).toEqual(['other']);
      choose('shop');
      await vi.waitFor(() => expect(offered('Service')).toEqual(['Plain']));
      expect(templatesOf).toHaveBeenCalledExactlyOnceWith('shop');
      expect(told).toHaveBeenLastCalledWith({ template: 'plain', name: '', arguments: {}, kernel: 'shop' }, true);
    });

    it('keeps the service that was chosen, and shows that it is not installed there', async () => {
      const told = show({ templatesOf: async () => [lacking], template: 'other', kernel: 'shop' });
      expect((screen.getByLabelText('Environment') as HTMLSelectElement).value).toBe('shop');
      fireEvent.change(screen.getByLabelText('Service'), { target: { value: 'other' } });
      expect(told).toHaveBeenLastCalledWith(expect.objectContaining({ template: 'other', kernel: 'shop' }), true);
      cleanup();
      const other = show({ templatesOf: async () => [lacking], template: 'plain' });
      expect(offered('Service')).toEqual(['Plain', 'other']);
      expect(screen.getByRole('alert').textContent).toBe('Install it.');
      expect(other).toHaveBeenLastCalledWith(expect.objectContaining({ template: 'plain' }), false);
    });

    it('shows the environment of the template until another is chosen', async () => {
      const first = { template: 'own', name: '', arguments: {}, kernel: null };
      const told = vi.fn();
      const shown = [template('own', { kernel: 'shop' }), template('other')];
      render(<StartForm {...{ ...only, templates: shown, kernels, templatesOf: async () => shown, first }} onChange={told} />);
      const environment = () => (screen.getByLabelText('Environment') as HTMLSelectElement).value;
      expect(environment()).toBe('shop');
      expect(told).toHaveBeenLastCalledWith(first, true);
      fireEvent.change(screen.getByLabelText('Service'), { target: { value: 'other' } });
      expect(environment()).toBe('');
      choose('shop');
      choose('');
      fireEvent.change(screen.getByLabelText('Service'), { target: { value: 'own' } });
      expect(told).toHaveBeenLastCalledWith(expect.objectContaining({ template: 'own', kernel: '' }), true);
    });

    it('are not offered if they are the server\'s own, but for a service that has one', async () => {
      const own = { name: 'python3', title: 'Python 3', available: true, reason: '', own: true };
      const api = new ScriptedApi();
      const manager = new PortsManager(api, new ScriptedVisibility());
      const show = async (kernel?: string) => {
        api.answers = { 'GET kernels': [own], 'GET templates?kernel=python3': [template('plain')] };
        void showStartDialog({ manager, first: { template: 'plain', ...(kernel ? { kernel } : {}) }, complete, submit: vi.fn(), trans });
        await vi.waitFor(() => expect(document.querySelector('.jp-Dialog select')).toBeTruthy());
        const found = screen.queryByLabelText('Environment') as HTMLSelectElement | null;
        document.querySelector<HTMLButtonElement>('.jp-Dialog-button')?.click();
        await vi.waitFor(() => expect(document.querySelector('.jp-Dialog')).toBeNull());
        return found?.value;
      };
      expect(await show()).toBeUndefined();
      expect(await show('python3')).toBe('python3');
      expect(await show('gone')).toBeUndefined();
      manager.dispose();
    });

    it('says why the templates of an environment are not known', async () => {
      const told = show({ templatesOf: () => Promise.reject(new ApiError(400, 'There is no such kernel.')) });
      choose('shop');
      expect((await screen.findByRole('alert')).textContent).toBe('There is no such kernel.');
      expect(told).toHaveBeenLastCalledWith(expect.objectContaining({ kernel: 'shop' }), false);
    });

    it('ignores the answer for an environment that is no longer chosen', async () => {
      const answers: ((templates: ITemplate[]) => void)[] = [];
      show({ templatesOf: () => new Promise(resolve => answers.push(resolve)) });
      choose('shop');
      choose('');
      answers[1]?.([template('second')]);
      answers[0]?.([template('first')]);
      await vi.waitFor(() => expect(offered('Service')).toEqual(['second']));
      await new Promise(resolve => setTimeout(resolve));
      expect(offered('Service')).toEqual(['second']);
    });
  });
});

describe('a tab without a page', () => {
  it('shows the state, and a stopped service can be started from it', async () => {
    const api = new ScriptedApi();
    const manager = new PortsManager(api, new ScriptedVisibility());
    await Promise.resolve();
    const onChange = vi.fn();
    const tab = { target: { service: 'a' }, url: '/proxy/service/a/', label: 'A', manager, trans, run, onChange, isRefused: false };
    const recipe = { template: 'a', arguments: { x: '1' } };
    const start = vi.fn();
    render(<Notice {...tab} start={start} openOutside={vi.fn()} />);
    expect(onChange).toHaveBeenLastCalledWith('shown');
    const services = [service('a', { state: 'failed', error: 'It broke.', last_lines: ['this is why'], arguments: { x: '1' } })];
    api.send('snapshot', { ports: [], services, reservations: [] });
    await screen.findByText('A: Failed. It broke.');
    expect(screen.getByText('this is why')).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'Start' }));
    expect(run).toHaveBeenLastCalledWith('portproxy:restart', { service: 'a' });
    expect(onChange).toHaveBeenLastCalledWith('gone');
    fireEvent.click(screen.getByRole('button', { name: 'Edit…' }));
    expect(run).toHaveBeenLastCalledWith('portproxy:edit', { service: 'a' });
    api.send('removed', { kind: 'service', ...services[0] });
    await screen.findByText('The service a no longer exists.');
    fireEvent.click(screen.getByRole('button', { name: 'Start' }));
    expect(start).toHaveBeenLastCalledWith(recipe);
    manager.dispose();
  });

  it('shows the steps and the last lines of a service that is starting, and then its page', async () => {
    const api = new ScriptedApi();
    const manager = new PortsManager(api, new ScriptedVisibility());
    await Promise.resolve();
    const onChange = vi.fn();
    const tab = { target: { service: 'a' }, url: '/proxy/service/a/', label: 'A', manager, trans, run, onChange, isRefused: false };
    render(<Notice {...tab} openOutside={vi.fn()} />);
    const starting = service('a', { state: 'starting', last_lines: ['<b>one'] });
    api.send('snapshot', { ports: [], services: [starting], reservations: [] });
    expect((await screen.findByText('Waiting for port 15000')).getAttribute('aria-current')).toBe('step');
    expect(screen.getByText('<b>one').tagName).toBe('PRE');
    expect(screen.getByText(/^\d+ s since the start$/)).toBeTruthy();
    expect(onChange).toHaveBeenLastCalledWith('gone');
    api.send('changed', { kind: 'service', ...starting, last_lines: ['<b>one', 'two'] });
    await screen.findByText(/two$/);
    api.send('changed', { kind: 'service', ...service('a') });
    await vi.waitFor(() => expect(onChange).toHaveBeenLastCalledWith('shown'));
    manager.dispose();
  });

  it('shows that the server does not answer, and keeps the page meanwhile', async () => {
    const api = new ScriptedApi();
    api.refusal = new ApiError(0, 'The Jupyter server does not answer.', 'Is it running?');
    const manager = new PortsManager(api, new ScriptedVisibility());
    const onChange = vi.fn();
    const tab = { target: { port: 15000 }, url: '/proxy/port/15000/', label: 'A', manager, trans, run, onChange, isRefused: false };
    render(<Notice {...tab} openOutside={vi.fn()} />);
    await screen.findByText('The Jupyter server does not answer. Is it running? Trying again…');
    expect(onChange).toHaveBeenLastCalledWith('hidden');
    manager.dispose();
  });

  it('shows that the page forbids frames, with a button for a browser tab', () => {
    const manager = new PortsManager(new ScriptedApi(), new ScriptedVisibility());
    const [onChange, openOutside] = [vi.fn(), vi.fn()];
    const tab = { target: { port: 15000 }, url: '/proxy/port/15000/', label: 'A', manager, trans, run, onChange, isRefused: true };
    render(<Notice {...tab} openOutside={openOutside} />);
    expect(screen.getByRole('status').textContent).toContain('A does not allow its page in a frame');
    fireEvent.click(screen.getByRole('button', { name: 'Open in a browser tab' }));
    expect(openOutside).toHaveBeenCalled();
    expect(onChange).toHaveBeenLastCalledWith('hidden');
    manager.dispose();
  });
});

describe('labels', () => {
  it.each([
    [0, '0 s'],
    [59, '59 s'],
    [60, '1 min'],
    [7200, '2 h'],
    [3 * 86_400, '3 d'],
    [-5, '0 s']
  ])('%d seconds are %s', (seconds, text) => expect(formatDuration(1000, (1000 + seconds) * 1000, trans)).toBe(text));

  it('of a port is that of a rule, the title of its page, its process, or its number', () => {
    const rules = new RuleSet([rule({ ports: '1' }, { label: 'one' })]);
    expect(portLabel(port(1, { title: 'x' }), rules, trans)).toBe('one');
    expect(portLabel(port(2, { title: 'x' }), rules, trans)).toBe('x');
    expect(portLabel(port(2), rules, trans)).toBe('python');
    expect(portLabel(port(2, { process: '' }), rules, trans)).toBe('Port 2');
  });

  it('every word of the filter must occur', () => {
    expect(matchesFilter('a  B', 'xb', 'ya')).toBe(true);
    expect(matchesFilter('a c', 'xb', 'ya')).toBe(false);
    expect(matchesFilter('')).toBe(true);
  });

  it('a log is shown without terminal controls', () => {
    expect(plainText('\u001b[1;31mred\u001b[0m\r\n\u001b]0;title\u0007end')).toBe('red\nend');
    expect(plainText('\u001b(B\u001b[m\u001b7a\u001b8\u001bPq;\u001b\\b\u009b1mc')).toBe('abc');
    expect(plainText('10 %\r50 %\r90 %\ndone\r')).toBe('90 %\ndone\r');
  });
});
