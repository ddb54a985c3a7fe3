// The section of projects: their live ports, and the forms of their owners. A form keeps its text until the server accepts it.

import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { messageOf } from './api';
import { matchesFilter } from './labels';
import { PanelState, useLive } from './panel';
import { Refusal } from './refusal';
import type { IPortsManager, IProject } from './tokens';
import { absoluteUrl } from './urls';

interface IProps {
  manager: IPortsManager;
  filter: string;
  trans: TranslationBundle;
}

interface ISectionProps extends Omit<IProps, 'filter'> {
  state: PanelState;
}

export function ProjectsSection({ manager, state, trans }: ISectionProps): React.JSX.Element {
  useLive(manager, state);
  return <ProjectList {...{ manager, filter: state.filter, trans }} />;
}

/** The projects that match the filter. */
function ProjectList({ manager, filter, trans }: IProps): React.JSX.Element {
  const projects = (manager.projects ?? []).filter(project =>
    matchesFilter(filter, labelOf(project), project.key, ...project.ports.flatMap(port => [port.port, port.title]))
  );
  if (!projects.length) {
    const text = filter ? trans.__('No project matches the filter.') : trans.__('You are in no project. The owner of a project can add you.');
    return (
      <div className="jp-PortProxy-empty">
        <p>{text}</p>
      </div>
    );
  }
  return (
    <ul className="jp-PortProxy-list" aria-label={trans.__('Projects')}>
      {projects.map(project => (
        <Project key={project.key} {...{ project, manager, trans }} />
      ))}
    </ul>
  );
}

function labelOf(project: IProject): string {
  return `${project.owner}/${project.name || project.key}`;
}

function Project({ project, manager, trans }: { project: IProject; manager: IPortsManager; trans: TranslationBundle }): React.JSX.Element {
  const label = labelOf(project);
  const own = project.allowed_ports ? trans.__('ports %1', project.allowed_ports.join(', ')) : trans.__('no ports of its own');
  return (
    <li className="jp-PortProxy-project" data-project={project.key}>
      <div className="jp-PortProxy-projectHead" title={trans.__('Key %1, %2', project.key, own)}>
        <span className="jp-PortProxy-label">{label}</span>
        <span className="jp-PortProxy-detail">{project.role}</span>
      </div>
      {project.ports.map(port => {
        const title = port.title || trans.__('Port %1', port.port);
        return (
          <div key={port.port} className="jp-PortProxy-projectPort">
            <a href={absoluteUrl(port.url)} target="_blank" rel="noopener" aria-label={trans.__('Open %1 of %2, port %3', title, label, port.port)}>
              {title}
            </a>
            <span className="jp-PortProxy-detail">{`:${port.port}`}</span>
            <a
              href={absoluteUrl(port.key_url)}
              target="_blank"
              rel="noopener"
              title={trans.__('For services that expect to be at /')}
              aria-label={trans.__('Open port %1 of %2 by key', port.port, label)}
            >
              {trans.__('by key')}
            </a>
          </div>
        );
      })}
      {project.ports.length ? null : <p className="jp-PortProxy-note">{trans.__('No live port on this machine.')}</p>}
      {project.members ? <Settings {...{ project, members: project.members, manager, trans }} /> : null}
    </li>
  );
}

interface ISettings {
  project: IProject;
  members: NonNullable<IProject['members']>;
  manager: IPortsManager;
  trans: TranslationBundle;
}

/** What an owner may change. */
function Settings({ project, members, manager, trans }: ISettings): React.JSX.Element {
  const [problem, setProblem] = React.useState('');
  const label = labelOf(project);
  const change = (method: string, path: string, body?: object) => manager.changeProject(project.key, method, path, body);
  const remove = (path: string) => void change('DELETE', path).then(() => setProblem(''), error => setProblem(messageOf(error)));
  const removal = (name: string, detail: string, button: string, path: string) => (
    <div key={path} className="jp-PortProxy-projectPort">
      <span className="jp-PortProxy-label">{name}</span>
      <span className="jp-PortProxy-detail">{detail}</span>
      <button className="jp-mod-styled" aria-label={`${button}: ${name}, ${label}`} onClick={() => remove(`${path}/${encodeURIComponent(name)}`)}>
        {button}
      </button>
    </div>
  );
  return (
    <details className="jp-PortProxy-projectSettings">
      <summary aria-label={trans.__('Members and ports of %1', label)}>{trans.__('Members and ports')}</summary>
      {members.map(member => removal(member.name, member.role, trans.__('Remove'), 'members'))}
      {(project.reservations ?? []).map(item => removal(item.name, `:${item.port}`, trans.__('Release'), 'reservations'))}
      <Refusal text={problem} />
      <Form
        label={trans.__('Add a member of %1', label)}
        button={trans.__('Add')}
        submit={field => change('PUT', `members/${encodeURIComponent(field('name'))}`, { role: field('role') })}
      >
        <input className="jp-mod-styled" name="name" required autoComplete="off" placeholder={trans.__('User')} aria-label={trans.__('User, or @ and a group')} />
        <select className="jp-mod-styled" name="role" aria-label={trans.__('Role')}>
          {['viewer', 'member', 'owner'].map(role => (
            <option key={role}>{role}</option>
          ))}
        </select>
      </Form>
      <Form label={trans.__('Ports of %1', label)} button={trans.__('Change')} submit={field => change('PATCH', '', { allowed_ports: split(field('ports')) })}>
        <input
          key={String(project.allowed_ports)}
          className="jp-mod-styled"
          name="ports"
          autoComplete="off"
          placeholder={trans.__('Ports: none of its own')}
          defaultValue={(project.allowed_ports ?? []).join(', ')}
          aria-label={trans.__('Ports; empty for none of its own')}
        />
      </Form>
      <Form label={trans.__('Reserve a port of %1', label)} button={trans.__('Reserve')} submit={field => change('POST', 'reservations', { name: field('name') })}>
        <input className="jp-mod-styled" name="name" required autoComplete="off" placeholder={trans.__('Name of a port')} aria-label={trans.__('Name of a port to reserve')} />
      </Form>
    </details>
  );
}

interface IForm {
  label: string;
  button: string;
  submit: (field: (name: string) => string) => Promise<void>;
  children: React.ReactNode;
}

function Form({ label, button, submit, children }: IForm): React.JSX.Element {
  const [problem, setProblem] = React.useState('');
  const [busy, setBusy] = React.useState(false);
  const onSubmit = async (event: React.FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    const data = new FormData(form);
    setBusy(true);
    try {
      await submit(name => String(data.get(name) ?? ''));
      setProblem('');
      form.reset();
    } catch (error) {
      setProblem(messageOf(error));
    }
    setBusy(false);
  };
  return (
    <form className="jp-PortProxy-projectForm" aria-label={label} onSubmit={event => void onSubmit(event)}>
      {children}
      <button className="jp-mod-styled" disabled={busy} aria-label={`${button}: ${label}`}>
        {button}
      </button>
      <Refusal text={problem} />
    </form>
  );
}

function split(ports: string): string[] | null {
  return ports.trim() ? ports.split(',').map(item => item.trim()) : null;
}
