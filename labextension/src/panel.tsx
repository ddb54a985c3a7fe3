// The Ports panel in the left side bar: services and other ports, a filter, and a button that starts a service.

import { nullTranslator, ITranslator, TranslationBundle } from '@jupyterlab/translation';
import { addIcon, LabIcon, PanelWithToolbar, ReactWidget, refreshIcon, SidePanel } from '@jupyterlab/ui-components';
import { ISignal, Signal } from '@lumino/signaling';
import * as React from 'react';

import { messageOf } from './api';
import { AgentGroups, AttachTokens, isGrouped } from './attached';
import { CommandIDs, Target } from './commands';
import { FolderGroups, RunForFolder } from './folder-groups';
import { shownFolders } from './folders';
import { portsIcon } from './icons';
import { loadPart } from './parts';
import { Refusal } from './refusal';
import { RuleList } from './rule-list';
import { folderRules, IRuleSettings, RuleSet } from './rules';
import type { IFolder, IPort, IPortRule, IPortsManager, IService } from './tokens';
import { PortRow, ReservationRow, Run, ServiceRow, IWaitingPort, WaitingRow } from './views';
import { matchesFilter, portLabel, serviceLabel } from './labels';

const REDRAW_INTERVAL = 5000;

/** State that the sections share besides the manager: the filter's text, the settings for ports, and the folder in the file browser. */
export class PanelState {
  constructor(private readonly _manager: Pick<IPortsManager, 'portRules' | 'folders'>) {}

  get filter(): string {
    return this._filter;
  }

  set filter(filter: string) {
    this._filter = filter;
    this._changed.emit();
  }

  set settings(settings: IRuleSettings) {
    this._settings = settings;
    this._rules = undefined;
    this._changed.emit();
  }

  /** Path of the folder that the file browser shows, relative to the server's root; undefined if there is no file browser. */
  get path(): string | undefined {
    return this._path;
  }

  set path(path: string | undefined) {
    this._path = path;
    this._changed.emit();
  }

  /** The rules of the user, of folders and of the settings; another object after each change. */
  get rules(): RuleSet {
    const { portRules, folders } = this._manager;
    if (!this._rules || this._portRules !== portRules || this._folders !== folders) {
      this._portRules = portRules;
      this._folders = folders;
      this._rules = new RuleSet(portRules ?? [], this._settings, folderRules(folders));
    }
    return this._rules;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  private _filter = '';
  private _settings: IRuleSettings | undefined;
  private _path: string | undefined;
  private _portRules: readonly IPortRule[] | null = null;
  private _folders: readonly IFolder[] | null = null;
  private _rules: RuleSet | undefined;
  private readonly _changed = new Signal<this, void>(this);
}

interface IProps {
  manager: IPortsManager;
  state: PanelState;
  trans: TranslationBundle;
  run: Run;
  runForFolder: RunForFolder;
  onStart: () => void;
}

/** Redraws when the manager or the panel's state changes, at most once a frame, and each REDRAW_INTERVAL for the durations. */
export function useLive(manager: IPortsManager, state: PanelState): number {
  const [now, setNow] = React.useState(Date.now());
  React.useEffect(() => {
    let frame = 0;
    const draw = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        setNow(Date.now());
      });
    };
    const timer = setInterval(draw, REDRAW_INTERVAL);
    manager.changed.connect(draw);
    state.changed.connect(draw);
    return () => {
      clearInterval(timer);
      cancelAnimationFrame(frame);
      manager.changed.disconnect(draw);
      state.changed.disconnect(draw);
    };
  }, [manager, state]);
  return now;
}

export function ServicesSection({ manager, state, trans, run, runForFolder, onStart }: IProps): React.JSX.Element {
  const now = useLive(manager, state);
  const services = manager.services.filter(s => matchesFilter(state.filter, serviceLabel(s), s.runs ?? '', s.port, s.state));
  const rowOf = (service: IService) => <ServiceRow key={service.name} {...{ service, now, trans, run }} />;
  const reservations = manager.reservations.filter(r => matchesFilter(state.filter, r.name, r.port) && !manager.service(r.name));
  const folders = shownFolders(manager, state.path).filter(
    folder => matchesFilter(state.filter, folder.name, ...folder.services.map(({ name }) => name)) || services.some(s => s.folder === folder.folder)
  );
  const isBelow = (service: IService) => isGrouped(manager, service) || folders.some(({ folder }) => folder === service.folder);
  return (
    <>
      <Problem manager={manager} trans={trans} />
      {services.length + reservations.length + folders.length ? (
        <ul className="jp-PortProxy-list" aria-label={trans.__('Services')}>
          <FolderGroups {...{ manager, folders, services, rowOf, trans }} run={runForFolder} />
          {services.filter(service => !isBelow(service)).map(rowOf)}
          {reservations.map(reservation => (
            <ReservationRow key={reservation.name} {...{ reservation, now, trans, run }} />
          ))}
          <AgentGroups {...{ manager, services, rowOf, now, trans }} />
        </ul>
      ) : (
        <div className="jp-PortProxy-empty">
          <p>{state.filter ? trans.__('No service matches the filter.') : trans.__('No service was started yet.')}</p>
          <button className="jp-mod-styled jp-mod-accept" onClick={onStart}>
            {trans.__('Start a service…')}
          </button>
        </div>
      )}
      <AttachTokens {...{ manager, trans }} />
    </>
  );
}

function Problem({ manager, trans }: { manager: IPortsManager; trans: TranslationBundle }): React.JSX.Element | null {
  return manager.connection === 'lost' ? (
    <p className="jp-PortProxy-problem" role="status">
      {manager.problem} {trans.__('The list may be out of date. Trying again…')}
    </p>
  ) : null;
}

export function PortsSection({ manager, state, trans, run, onAdd }: IProps & { onAdd: () => void }): React.JSX.Element {
  const now = useLive(manager, state);
  const [isShown, setShown] = React.useState(false);
  const { rules, filter } = state;
  const listed = portsOf(manager).filter(port => matchesFilter(filter, portLabel(port, rules, trans), port.port, port.process, port.owner));
  const isIgnored = (port: IListed) => rules.of(port).on_appear === 'ignore';
  const ignored = listed.filter(isIgnored);
  const rowOf = (port: IListed) =>
    'pid' in port ? (
      <PortRow key={`${port.port}/${port.pid}`} {...{ port, rules, now, trans, run }} />
    ) : (
      <WaitingRow key={port.port} {...{ port, rules, now, trans, run }} />
    );
  const toggle = isShown ? trans.__('Hide') : trans.__('Show');
  return (
    <>
      {listed.length > ignored.length ? (
        <ul className="jp-PortProxy-list" aria-label={trans.__('Other ports')}>
          {listed.filter(port => !isIgnored(port)).map(rowOf)}
        </ul>
      ) : (
        <div className="jp-PortProxy-empty">
          <p>
            {filter
              ? trans.__('No port matches the filter.')
              : ignored.length
                ? trans.__('No other port is shown.')
                : trans.__('No other program listens on a port. Start one, for example in a terminal, and it appears here.')}
          </p>
          {filter ? null : (
            <button className="jp-mod-styled" onClick={onAdd}>
              {trans.__('Add a port…')}
            </button>
          )}
        </div>
      )}
      {ignored.length ? (
        <p className="jp-PortProxy-ignored">
          {trans._n('%1 port is ignored.', '%1 ports are ignored.', ignored.length)}{' '}
          <button className="jp-mod-styled" aria-expanded={isShown} onClick={() => setShown(!isShown)}>
            {toggle}
          </button>
        </p>
      ) : null}
      {ignored.length && isShown ? (
        <ul className="jp-PortProxy-list" aria-label={trans.__('Ignored ports')}>
          {ignored.map(rowOf)}
        </ul>
      ) : null}
      <RuleList {...{ manager, trans }} unused={rules.unused} />
    </>
  );
}

/** A listening port, or one that was added and waits for its program. */
type IListed = IPort | IWaitingPort;

/** The ports that belong to no service: those that can be reached, those that wait, the others. */
function portsOf(manager: IPortsManager): IListed[] {
  const listening = new Set(manager.ports.map(port => port.port));
  const ports = manager.ports.filter(port => !port.service);
  const waiting = (manager.portRules ?? [])
    .filter(rule => rule.pinned && !listening.has(Number(rule.ports)))
    .map((rule): IWaitingPort => ({ port: Number(rule.ports), process: '', command: [], owner: '' }))
    .sort((a, b) => a.port - b.port);
  return [...ports.filter(port => port.allowed), ...waiting, ...ports.filter(port => !port.allowed)];
}

/** The panel. `run` runs a command for a row. */
export class PortsPanel extends SidePanel {
  constructor(manager: IPortsManager, state: PanelState, run: Run, commands: PortsPanel.ICommands, translator?: ITranslator) {
    super({ translator: translator ?? nullTranslator });
    const trans = (translator ?? nullTranslator).load('jupyter-portproxy');
    this.id = 'jp-portproxy-panel';
    this.title.icon = portsIcon;
    this.title.caption = trans.__('Ports and services');
    this.addClass('jp-PortProxy-panel');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', trans.__('Ports and services'));
    this.toolbar.addItem('filter', filterBox(state, trans));
    this.toolbar.addItem('start', button(addIcon, trans.__('Start a service…'), () => commands.execute(CommandIDs.startForm)));
    const onAdd = () => void commands.execute(CommandIDs.addPort);
    this.toolbar.addItem('refresh', button(refreshIcon, trans.__('Refresh'), () => commands.execute(CommandIDs.refresh)));
    const props: IProps = {
      ...{ manager, state, trans, run },
      onStart: () => void commands.execute(CommandIDs.startForm),
      runForFolder: (command, { folder }, service) => void commands.execute(command, { folder, ...(service === undefined ? {} : { service }) })
    };
    this.node.addEventListener('contextmenu', event => this._setContextTarget(event.target as Element), true);
    this.addWidget(section(trans.__('Services'), <ServicesSection {...props} />));
    const ports = section(trans.__('Other ports'), <PortsSection {...props} onAdd={onAdd} />);
    ports.toolbar.addItem('add', button(addIcon, trans.__('Add a port…'), onAdd)); // in the head of the section
    this.addWidget(ports);
    const addProjects = () => {
      if (manager.projects) {
        manager.changed.disconnect(addProjects);
        void loadPart(() => import('./projects'))
          .then(({ ProjectsSection }) => <ProjectsSection {...props} />)
          .catch(error => <Refusal text={messageOf(error)} />)
          .then(element => this.addWidget(section(trans.__('Projects'), element)));
      }
    };
    manager.changed.connect(addProjects);
  }

  /** The target of the row on which the context menu was opened last. The row itself may have been redrawn since. */
  get contextTarget(): Target | null {
    return this._contextTarget;
  }

  private _setContextTarget(element: Element): void {
    const row = element.closest<HTMLElement>('.jp-PortProxy-row');
    const { service, port } = row?.dataset ?? {};
    this._contextTarget = service !== undefined ? { service } : port !== undefined ? { port: Number(port) } : null;
  }

  private _contextTarget: Target | null = null;
}

export namespace PortsPanel {
  export interface ICommands {
    execute(id: string, args?: { folder: string; service?: string }): unknown;
  }
}

function section(title: string, element: React.JSX.Element): PanelWithToolbar {
  const widget = new PanelWithToolbar();
  widget.addWidget(ReactWidget.create(element));
  widget.title.label = title;
  widget.addClass('jp-PortProxy-section');
  return widget;
}

/** A button of a toolbar. Those of JupyterLab have an attribute that their role does not allow (`aria-pressed`). */
function button(icon: LabIcon, label: string, onClick: () => void): ReactWidget {
  return ReactWidget.create(
    <button className="jp-PortProxy-action" title={label} aria-label={label} onClick={onClick}>
      <icon.react tag="span" elementSize="normal" />
    </button>
  );
}

function filterBox(state: PanelState, trans: TranslationBundle): ReactWidget {
  const text = trans.__('Filter');
  const widget = ReactWidget.create(
    <input
      className="jp-PortProxy-filter"
      type="search"
      placeholder={text}
      aria-label={trans.__('Filter services and ports')}
      onChange={event => {
        state.filter = event.target.value;
      }}
    />
  );
  widget.addClass('jp-PortProxy-filterBox');
  return widget;
}
