// The rows of the Ports panel. Rows show their properties and run commands; they fetch nothing.
//
// Every text is a text node or an attribute, so that the title of a service cannot be markup.

import type { TranslationBundle } from '@jupyterlab/translation';
import { checkIcon, closeIcon, copyIcon, deleteIcon, editIcon, LabIcon, listIcon, refreshIcon, runIcon, stopIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CommandIDs, Target } from './commands';
import { outsideIcon, tabIcon } from './icons';
import type { RuleSet, Subject } from './rules';
import type { IPort, IReservation, IService } from './tokens';
import { formatDuration, portLabel, portTitle, hasPage, isActive, serviceLabel, stateText, stateTitle } from './labels';

/** Runs a command for a row. */
export type Run = (command: string, target: Target) => void;

interface IAction {
  command: string;
  label: string;
  icon: LabIcon;
}

interface IRowProps {
  target: Target;
  label: string;
  title: string;
  dot: string;
  dotTitle: string;
  detail: string;
  note?: string;
  /** Beside the label. */
  more?: string;
  dimmed?: boolean;
  actions: IAction[];
  run: Run;
}

/** One row: a button with the name, which opens it; its actions show while the pointer is over the row or it has the focus. */
export function Row(props: IRowProps): React.JSX.Element {
  const { target, label, title, dot, dotTitle, detail, note, more, dimmed, actions, run } = props;
  const [hovered, setHovered] = React.useState(false);
  const [focused, setFocused] = React.useState(false);
  const active = hovered || focused;
  const first = actions[0];
  const leave = (event: React.FocusEvent) => {
    if (!event.currentTarget.contains(event.relatedTarget)) {
      setFocused(false);
    }
  };
  return (
    <li
      className={`jp-PortProxy-row${dimmed ? ' jp-mod-dimmed' : ''}`}
      data-service={'service' in target ? target.service : undefined}
      data-port={'port' in target ? target.port : undefined}
      // React sends no "enter" for a row that moves under the pointer when another row is removed.
      onPointerOver={() => setHovered(true)}
      onPointerMove={() => setHovered(true)}
      onPointerLeave={() => setHovered(false)}
      onFocus={() => setFocused(true)}
      onBlur={leave}
    >
      <span className={`jp-PortProxy-dot jp-mod-${dot}`} role="img" aria-label={dotTitle} title={dotTitle} />
      <button
        className="jp-PortProxy-name"
        title={title}
        aria-disabled={dimmed || !first ? true : undefined}
        onClick={() => !dimmed && first && run(first.command, target)}
      >
        <span className="jp-PortProxy-label">{label}</span>
        {more ? <span className="jp-PortProxy-more">{more}</span> : null}
      </button>
      {active && actions.length ? (
        <span className="jp-PortProxy-actions">
          {actions.map(action => (
            <button
              key={action.command}
              className="jp-PortProxy-action"
              title={action.label}
              aria-label={`${action.label}: ${label}`}
              onClick={() => run(action.command, target)}
            >
              <action.icon.react tag="span" elementSize="normal" />
            </button>
          ))}
        </span>
      ) : (
        <span className="jp-PortProxy-detail">{detail}</span>
      )}
      {note ? <span className="jp-PortProxy-note">{note}</span> : null}
    </li>
  );
}

interface ICommonProps {
  now: number;
  trans: TranslationBundle;
  run: Run;
}

/** A service that was started here, or attached from elsewhere. */
export const ServiceRow = React.memo(function ServiceRow({ service, now, trans, run }: { service: IService } & ICommonProps) {
  const listens = service.port !== null && !['down', 'failed'].includes(service.state);
  const removed = service.removed ? trans.__('No longer in the project file') : '';
  const note = service.state === 'failed' || service.agent ? service.error : removed;
  return (
    <Row
      target={{ service: service.name }}
      label={serviceLabel(service)}
      more={service.runs ?? ''}
      title={stateTitle(service, trans)}
      dot={service.state}
      dotTitle={stateText(service.state, trans)}
      detail={[listens ? `:${service.port}` : '', formatDuration(service.since, now, trans)].filter(Boolean).join('  ')}
      {...(note ? { note } : {})}
      actions={serviceActions(service, trans)}
      run={run}
    />
  );
});

function serviceActions(service: IService, trans: TranslationBundle): IAction[] {
  const log = { command: CommandIDs.showLog, label: trans.__('Show log'), icon: listIcon };
  if (!isActive(service) && service.agent) {
    return [log, { command: CommandIDs.forget, label: trans.__('Remove'), icon: deleteIcon }];
  }
  if (!isActive(service)) {
    const start = { command: CommandIDs.restart, label: trans.__('Start'), icon: runIcon };
    const forget = { command: CommandIDs.forget, label: trans.__('Remove'), icon: deleteIcon };
    const edit = { command: CommandIDs.edit, label: trans.__('Edit and start…'), icon: editIcon };
    const begin = service.folder ? [start] : [start, edit]; // a project file says how a service of it is started
    return service.state === 'stopping' ? [log] : service.state === 'failed' ? [log, ...begin, forget] : [...begin, log, forget];
  }
  return [
    ...(hasPage(service.scheme) ? openActions(trans, service.open_in) : service.scheme === 'tcp' ? [forwardAction(trans)] : []),
    log,
    ...(service.agent ? [] : [{ command: CommandIDs.restart, label: trans.__('Restart'), icon: refreshIcon }]),
    { command: CommandIDs.stop, label: service.agent ? trans.__('Detach') : trans.__('Stop'), icon: stopIcon }
  ];
}

function openActions(trans: TranslationBundle, first: 'lab' | 'browser' = 'lab'): IAction[] {
  const lab = { command: CommandIDs.openInLab, label: trans.__('Open in a Lab tab'), icon: tabIcon };
  const browser = { command: CommandIDs.openInBrowser, label: trans.__('Open in a browser tab'), icon: outsideIcon };
  const copy = { command: CommandIDs.copyUrl, label: trans.__('Copy URL'), icon: copyIcon };
  return first === 'lab' ? [lab, browser, copy] : [browser, lab, copy];
}

/** A port that a script has reserved by name. */
export const ReservationRow = React.memo(function ReservationRow(props: { reservation: IReservation } & ICommonProps) {
  const { reservation, trans, run } = props;
  const state = reservation.used ? trans.__('In use') : trans.__('Waiting for its program');
  return (
    <Row
      target={{ service: reservation.name }}
      label={reservation.name}
      title={trans.__('Reserved port %1. %2', reservation.port, state)}
      dot={reservation.used ? 'up' : 'starting'}
      dotTitle={state}
      detail={`:${reservation.port}`}
      dimmed={!reservation.used}
      actions={[
        ...(reservation.used ? openActions(trans) : []),
        { command: CommandIDs.forget, label: trans.__('Release the port'), icon: closeIcon }
      ]}
      run={run}
    />
  );
});

/** The first one is that of a click on the name. */
function portActions(port: IPort, trans: TranslationBundle): IAction[] {
  const edit = editAction(trans);
  if (!port.allowed) {
    return port.may_allow ? [{ command: CommandIDs.allowPort, label: trans.__('Allow this port'), icon: checkIcon }, edit] : [edit];
  }
  const takeBack = { command: CommandIDs.disallowPort, label: trans.__('Do not allow this port any more'), icon: closeIcon };
  const open = port.tcp ? [forwardAction(trans)] : port.url === null ? [] : openActions(trans);
  return [...open, edit, ...(port.allowed_by_user ? [takeBack] : [])];
}

/** The action of what speaks no HTTP. */
function forwardAction(trans: TranslationBundle): IAction {
  return { command: CommandIDs.copyForwardCommand, label: trans.__('Copy forward command'), icon: copyIcon };
}

function editAction(trans: TranslationBundle): IAction {
  return { command: CommandIDs.editPort, label: trans.__('Edit…'), icon: editIcon };
}

/** A port of a program that is not a service. */
export const PortRow = React.memo(function PortRow(props: { port: IPort; rules: RuleSet } & ICommonProps) {
  const { port, rules, now, trans, run } = props;
  return (
    <Row
      target={{ port: port.port }}
      label={portLabel(port, rules, trans)}
      title={portTitle(port, rules, trans)}
      dot={port.allowed ? (port.http ? 'up' : 'tcp') : 'forbidden'}
      dotTitle={port.allowed ? (port.http ? trans.__('Answers HTTP') : trans.__('Listens')) : trans.__('Not reachable')}
      detail={[`:${port.port}`, formatDuration(port.since, now, trans)].filter(Boolean).join('  ')}
      {...(port.allowed ? {} : { note: port.reason })}
      dimmed={!port.allowed}
      actions={portActions(port, trans)}
      run={run}
    />
  );
});

/** A port that was added, while no program listens. */
export interface IWaitingPort extends Subject {
  owner: '';
}

export const WaitingRow = React.memo(function WaitingRow(props: { port: IWaitingPort; rules: RuleSet } & ICommonProps) {
  const { port, rules, trans, run } = props;
  const state = trans.__('Waiting for its program');
  const label = portLabel(port, rules, trans);
  return (
    <Row
      target={{ port: port.port }}
      label={label}
      title={`${label}\n${state}`}
      dot="waiting"
      dotTitle={state}
      detail={`:${port.port}`}
      note={state}
      dimmed
      actions={[editAction(trans), { command: CommandIDs.removePort, label: trans.__('Remove'), icon: deleteIcon }]}
      run={run}
    />
  );
});
