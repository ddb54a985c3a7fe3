// The folders with project files: which of them the panel shows, what they ask for, and the one notice about it.
//
// The folder that the file browser shows is opened when its path changes; what the server knows comes with its events.

import { Notification } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import type { IFileBrowserFactory } from '@jupyterlab/filebrowser';
import type { Contents } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';

import { isActive, visibleText } from './labels';
import type { IFolder, IPortsManager, IService } from './tokens';

const DELAY = 500;
/** A folder without a project file is not asked for again within this time, in ms. */
const MEMORY = 60_000;
const DURATION = 20_000;
/** Drives that show the server's own files; the second one is that of jupyter-collaboration. */
const DRIVES = ['', 'RTC'];

/** What runs, or has ended, of a folder. */
export function servicesOf(manager: Pick<IPortsManager, 'services'>, { folder }: IFolder): IService[] {
  return manager.services.filter(service => service.folder === folder);
}

/** The folders that the panel lists: the server's root, the one in the file browser or above it, and those of which something runs. */
export function shownFolders(manager: Pick<IPortsManager, 'services' | 'folders'>, path: string | undefined): IFolder[] {
  const isAbove = (above: string) => above === '' || (path !== undefined && `${path}/`.startsWith(`${above}/`));
  return (manager.folders ?? []).filter(folder => isAbove(folder.path) || servicesOf(manager, folder).some(isActive));
}

/** What a folder asks for, or what has changed; undefined if it has been allowed as it is. */
export function requestOf(folder: IFolder, trans: TranslationBundle): string | undefined {
  const { consent, services, ports, files } = folder;
  const name = visibleText(folder.name);
  if (consent === 'given') {
    return undefined;
  }
  if (consent === 'changed') {
    return files.length === 1 ? trans.__('%1 has changed.', visibleText(files[0]?.path ?? '')) : trans.__('The project files have changed.');
  }
  if (services.length) {
    return trans._n('%2 has %1 service to start.', '%2 has %1 services to start.', services.length, name);
  }
  return ports.length
    ? trans._n('%2 describes %1 port.', '%2 describes %1 ports.', ports.length, name)
    : trans.__('The project files of %1 cannot be used.', name);
}

/** Whether something can be allowed. */
export function isAllowable({ services, ports }: IFolder): boolean {
  return services.length + ports.length > 0;
}

interface IWatchParts {
  manager: IPortsManager;
  /** Takes the path of the folder in the file browser. */
  state: { path: string | undefined };
  contents: Pick<Contents.IManager, 'driveName' | 'localPath'>;
  review: (folder: IFolder) => void;
  start: (folder: IFolder) => void;
  trans: TranslationBundle;
}

export class FolderWatch {
  /** Real paths of the folders whose content a dialog shows. There is no notice about them. */
  readonly reviewing = new Set<string>();

  constructor(private readonly _parts: IWatchParts) {
    _parts.manager.changed.connect(this._onChange, this);
  }

  /** Follows the file browsers of a page: the one whose path changed last counts. */
  follow({ tracker }: Pick<IFileBrowserFactory, 'tracker'>): void {
    const add = ({ model }: { model: FolderWatch.IModel }) => {
      model.pathChanged.connect(() => this._show(model.path));
      this._show(model.path);
    };
    tracker.forEach(add);
    tracker.widgetAdded.connect((_, browser) => add(browser));
  }

  private _show(browsed: string): void {
    const { contents, state } = this._parts;
    if (!DRIVES.includes(contents.driveName(browsed))) {
      return;
    }
    state.path = contents.localPath(browsed);
    clearTimeout(this._asking);
    this._asking = setTimeout(() => this._ask(), DELAY);
  }

  /** Opens the folder in the file browser. The server has opened its root itself; one that is known is opened once. */
  private _ask(): void {
    const { manager, state } = this._parts;
    const { path } = state;
    if (!manager.folders || path === undefined) {
      return;
    }
    const isKnown = manager.folders.some(folder => folder.path === path);
    const now = Date.now();
    const asked = this._asked.get(path) ?? (path === '' && isKnown ? now : undefined);
    if (asked === undefined || (!isKnown && now - asked >= MEMORY)) {
      this._asked.set(path, now);
      manager.openFolder(path).catch(() => undefined); // a folder that this user may not read has no project file for them
    }
  }

  private _onChange(): void {
    const { manager, state } = this._parts;
    if (manager.folders && !this._isLive) {
      this._ask(); // the file browser was there before the first snapshot
    }
    this._isLive = !!manager.folders;
    this._removeAnswered();
    const first = shownFolders(manager, state.path).filter(folder => this._isNew(folder)).find(folder => this._isDue(folder));
    if (first) {
      this._notify(first);
    }
  }

  /** Removes the notice if the folder is in another state by now, or runs. */
  private _removeAnswered(): void {
    const { manager } = this._parts;
    const noticed = this._noticed;
    if (noticed) {
      const now = manager.folders?.find(({ folder }) => folder === noticed.folder);
      if (now?.consent !== noticed.consent || this.reviewing.has(noticed.folder) || servicesOf(manager, noticed).some(isActive)) {
        Notification.dismiss(this._notice);
        this._noticed = undefined;
      }
    }
  }

  /** True at the first call with this content in this state. */
  private _isNew({ folder, digest, consent }: IFolder): boolean {
    const key = JSON.stringify([folder, digest, consent]);
    return !this._seen.has(key) && !!this._seen.add(key);
  }

  /** Whether a notice about a folder is due: once for its content in this browser, or to start what runs after a question, once in its session. */
  private _isDue(folder: IFolder): boolean {
    const asksToStart = folder.services.some(({ autostart }) => autostart === 'ask');
    const isWanted = asksToStart || (folder.consent !== 'given' && folder.services.some(({ autostart }) => autostart === 'always'));
    return isWanted && !this.reviewing.has(folder.folder) && !isNoted(folder) && !servicesOf(this._parts.manager, folder).some(isActive);
  }

  private _notify(folder: IFolder): void {
    const { manager, review, start, trans } = this._parts;
    noteFolder(folder);
    Notification.dismiss(this._notice);
    const current = () => manager.folders?.find(other => other.folder === folder.folder) ?? folder;
    const count = folder.services.length;
    const name = visibleText(folder.name);
    const request = requestOf(folder, trans) ?? trans._n('Start %1 service of %2?', 'Start %1 services of %2?', count, name);
    const message = folder.consent === 'changed' ? trans.__('%1: %2', name, request) : request;
    const answer =
      folder.consent === 'given'
        ? { label: trans.__('Start'), callback: () => start(current()) }
        : { label: trans.__('Review…'), callback: () => review(current()) };
    const later = { label: trans.__('Not now'), callback: () => undefined };
    this._noticed = folder;
    this._notice = Notification.info(message, { autoClose: DURATION, actions: [{ ...answer, displayType: 'accent' }, later] });
  }

  private _asking: ReturnType<typeof setTimeout> | undefined;
  private _isLive = false;
  private _notice = '';
  /** The folder of the notice that is shown. */
  private _noticed: IFolder | undefined;
  private readonly _seen = new Set<string>();
  /** Path -> time when it was opened, in ms. */
  private readonly _asked = new Map<string, number>();
}

export namespace FolderWatch {
  /** What is used of a file browser's model. */
  export interface IModel {
    readonly path: string;
    readonly pathChanged: { connect(slot: () => void): unknown };
  }
}

/** Where a notice about a folder is noted: its content for this browser, its start for the session. */
function noteOf({ consent, folder, digest }: IFolder): [Storage, string, string] {
  const key = `portproxy-folder:${PageConfig.getBaseUrl()}${folder}`;
  return consent === 'given' ? [sessionStorage, key, 'asked'] : [localStorage, key, digest];
}

function isNoted(folder: IFolder): boolean {
  try {
    const [storage, key, value] = noteOf(folder);
    return storage.getItem(key) === value;
  } catch {
    return true; // a browser that keeps no storage would ask again and again
  }
}

/** Prevents a notice about a folder in this state. */
export function noteFolder(folder: IFolder): void {
  try {
    const [storage, key, value] = noteOf(folder);
    storage.setItem(key, value);
  } catch {
    return; // see isNoted
  }
}
