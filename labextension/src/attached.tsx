// What agents have attached from elsewhere: their services below a line with the agent's name, and the attach tokens.

import type { TranslationBundle } from '@jupyterlab/translation';
import { closeIcon, deleteIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { messageOf } from './api';
import { formatDuration } from './labels';
import { Refusal } from './refusal';
import type { IAgent, IAttachToken, IPortsManager, IService } from './tokens';

interface IProps {
  manager: IPortsManager;
  now: number;
  trans: TranslationBundle;
}

interface IGroupsProps extends IProps {
  /** Those that the filter shows. */
  services: readonly IService[];
  rowOf: (service: IService) => React.JSX.Element;
}

/** The groups of agents that have services to show. */
export function AgentGroups({ manager, services, rowOf, now, trans }: IGroupsProps): React.JSX.Element {
  const groups = (manager.agents ?? []).map(agent => ({ agent, rows: services.filter(service => service.agent === agent.name) }));
  return (
    <>
      {groups
        .filter(({ rows }) => rows.length)
        .map(({ agent, rows }) => (
          <AgentGroup key={agent.name} {...{ agent, manager, now, trans }}>
            {rows.map(rowOf)}
          </AgentGroup>
        ))}
    </>
  );
}

/** True if the service has its row in a group. */
export function isGrouped(manager: IPortsManager, service: IService): boolean {
  return !!service.agent && !!manager.agents?.some(agent => agent.name === service.agent);
}

function AgentGroup(props: IProps & { agent: IAgent; children: React.ReactNode }): React.JSX.Element {
  const { agent, manager, now, trans, children } = props;
  const [problem, setProblem] = React.useState('');
  const label = trans.__('%1 on %2', agent.name, agent.host);
  const state = agent.state === 'up' ? trans.__('Attached') : agent.state === 'lost' ? trans.__('Connection lost') : trans.__('Ended');
  const detach = () => void manager.detach(agent.name).then(() => setProblem(''), error => setProblem(messageOf(error)));
  return (
    <li className="jp-PortProxy-agent" data-agent={agent.name}>
      <div className="jp-PortProxy-projectHead" title={[label, agent.error || state].join('\n')}>
        <span className={`jp-PortProxy-dot jp-mod-${agent.state === 'up' ? 'up' : 'down'}`} role="img" aria-label={state} />
        <span className="jp-PortProxy-label">{label}</span>
        <span className="jp-PortProxy-detail">{formatDuration(agent.since, now, trans)}</span>
        {agent.state === 'ended' ? null : (
          <button
            className="jp-PortProxy-action"
            title={trans.__('Detach')}
            aria-label={`${trans.__('Detach')}: ${agent.name}`}
            onClick={detach}
          >
            <closeIcon.react tag="span" elementSize="normal" />
          </button>
        )}
      </div>
      <Refusal text={problem} />
      <ul className="jp-PortProxy-list" aria-label={label}>
        {children}
      </ul>
    </li>
  );
}

/** The attach tokens, read when the list is opened and when agents change; nothing on a server without agents. */
export function AttachTokens({ manager, trans }: Omit<IProps, 'now'>): React.JSX.Element | null {
  const [tokens, setTokens] = React.useState<readonly IAttachToken[]>();
  const [isOpen, setOpen] = React.useState(false);
  const [problem, setProblem] = React.useState('');
  const agents = manager.agents;
  const read = (done: Promise<unknown> = Promise.resolve()) =>
    void done.then(() => manager.attachTokens()).then(
      found => {
        setTokens(found);
        setProblem('');
      },
      error => setProblem(messageOf(error))
    );
  React.useEffect(() => {
    if (isOpen) {
      read();
    }
  }, [isOpen, agents]);
  return agents?.length ? (
    <details className="jp-PortProxy-rules" onToggle={event => setOpen(event.currentTarget.open)}>
      <summary>{trans.__('Attach tokens')}</summary>
      <ul className="jp-PortProxy-list" aria-label={trans.__('Attach tokens')}>
        {tokens?.map(token => (
          <li key={token.id}>
            <span>
              {token.name || token.id}{' '}
              <span className="jp-PortProxy-more">{trans.__('until %1', new Date(token.until * 1000).toLocaleString())}</span>
            </span>
            <button
              className="jp-PortProxy-action"
              title={trans.__('Revoke')}
              aria-label={`${trans.__('Revoke')}: ${token.name || token.id}`}
              onClick={() => read(manager.revokeToken(token.id))}
            >
              <deleteIcon.react tag="span" elementSize="normal" />
            </button>
          </li>
        ))}
      </ul>
      <Refusal text={problem} />
    </details>
  ) : null;
}
