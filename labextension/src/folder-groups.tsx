// The folders with project files in the panel: what each asks for, and its services below its name.

import type { TranslationBundle } from '@jupyterlab/translation';
import { LabIcon, listIcon, runIcon, stopIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CommandIDs } from './commands';
import { requestOf, servicesOf } from './folders';
import { isActive, visibleText } from './labels';
import type { IFolder, IPortsManager, IService } from './tokens';

/** Runs a command for a folder, or for a service of its project file. */
export type RunForFolder = (command: string, folder: IFolder, service?: string) => void;

interface IProps {
  manager: IPortsManager;
  folders: readonly IFolder[];
  /** Those that the filter shows. */
  services: readonly IService[];
  rowOf: (service: IService) => React.JSX.Element;
  run: RunForFolder;
  trans: TranslationBundle;
}

export function FolderGroups({ folders, ...others }: IProps): React.JSX.Element {
  return (
    <>
      {folders.map(folder => (
        <FolderGroup key={folder.folder} folder={folder} {...others} />
      ))}
    </>
  );
}

function FolderGroup({ folder, manager, services, rowOf, run, trans }: Omit<IProps, 'folders'> & { folder: IFolder }): React.JSX.Element {
  const all = servicesOf(manager, folder);
  const rows = services.filter(service => service.folder === folder.folder);
  const active = all.filter(isActive).length;
  const waiting = folder.services.filter(({ name }) => !all.some(service => service.template === name));
  const name = visibleText(folder.name);
  const request = requestOf(folder, trans);
  const isAllowed = folder.consent === 'given';
  const action = (command: string, label: string, icon: LabIcon, service?: string) => (
    <button
      className="jp-PortProxy-action"
      title={label}
      aria-label={`${label}: ${service === undefined ? name : visibleText(service)}`}
      onClick={() => run(command, folder, service)}
    >
      <icon.react tag="span" elementSize="normal" />
    </button>
  );
  return (
    <li className="jp-PortProxy-folder" data-folder={folder.folder}>
      <div className="jp-PortProxy-folderHead" title={visibleText(folder.folder)}>
        <span className="jp-PortProxy-label">{name}</span>
        <span className="jp-PortProxy-detail">
          {isAllowed && folder.services.length ? trans.__('%1 of %2 run', active, folder.services.length) : ''}
        </span>
        {isAllowed && active < folder.services.length ? action(CommandIDs.startFolder, trans.__('Start all'), runIcon) : null}
        {active ? action(CommandIDs.stopFolder, trans.__('Stop all'), stopIcon) : null}
        {isAllowed ? action(CommandIDs.reviewFolder, trans.__('Show what it starts…'), listIcon) : null}
      </div>
      {request ? (
        <p className="jp-PortProxy-request">
          {request}{' '}
          <button className="jp-mod-styled" aria-label={`${trans.__('Review…')} ${name}`} onClick={() => run(CommandIDs.reviewFolder, folder)}>
            {trans.__('Review…')}
          </button>
        </p>
      ) : null}
      {isAllowed && folder.problems.length ? (
        <p className="jp-PortProxy-request">
          {trans._n('%1 entry of its project files is left out.', '%1 entries of its project files are left out.', folder.problems.length)}
        </p>
      ) : null}
      <ul className="jp-PortProxy-list" aria-label={trans.__('Services of %1', name)}>
        {rows.map(rowOf)}
        {isAllowed
          ? waiting.map(service => (
              <li key={service.name} className="jp-PortProxy-row jp-mod-dimmed">
                <span className="jp-PortProxy-dot jp-mod-down" role="img" aria-label={trans.__('Not started')} />
                <span className="jp-PortProxy-name">
                  <span className="jp-PortProxy-label">{visibleText(service.name)}</span>
                </span>
                <span className="jp-PortProxy-detail">{trans.__('Not started')}</span>
                {action(CommandIDs.startFolder, trans.__('Start'), runIcon, service.name)}
              </li>
            ))
          : null}
      </ul>
    </li>
  );
}
