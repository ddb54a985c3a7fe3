// The log of a service in a tab: its output, followed while it runs and after each start.

import type { ILabShell, JupyterFrontEnd } from '@jupyterlab/application';
import { MainAreaWidget, WidgetTracker } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { listIcon } from '@jupyterlab/ui-components';
import { Widget } from '@lumino/widgets';

import { ApiError, IApi, textOf } from './api';
import { AddCommand, CommandIDs } from './commands';
import type { Targets } from './targets';
import type { IPortsManager } from './tokens';
import { serviceLabel } from './labels';

const ID_PREFIX = 'jp-portproxy-log-';
const MAX_LOG_LENGTH = 1 << 20;
/** Colours, titles and character sets of terminals (ECMA-48: control sequences, control strings, other escape sequences). */
const CONTROL = /\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)|[ -/]*[0-OQ-WYZ\\`-~])|\u009b[0-?]*[ -/]*[@-~]/g;

/** The last MiB of a text without terminal controls, and with only the last state of a progress bar. */
export function plainText(text: string): string {
  const lines = text.replace(CONTROL, '').replace(/\r+\n/g, '\n').split('\n');
  return lines.map(line => line.slice(line.lastIndexOf('\r', line.length - 2) + 1)).join('\n').slice(-MAX_LOG_LENGTH);
}

class LogView extends Widget {
  constructor(
    private readonly _name: string,
    private readonly _api: IApi,
    private readonly _manager: IPortsManager,
    private readonly _trans: TranslationBundle
  ) {
    super({ node: document.createElement('pre') });
    this.addClass('jp-PortProxy-log');
    this.node.tabIndex = 0;
    this.node.setAttribute('role', 'log');
    this.node.setAttribute('aria-label', _trans.__('Log of %1', _name));
    this._manager.changed.connect(this._onChange, this);
    void this._follow();
  }

  override dispose(): void {
    this._abort?.abort();
    this._manager.changed.disconnect(this._onChange, this);
    super.dispose();
  }

  private async _follow(): Promise<void> {
    const abort = (this._abort = new AbortController());
    this._text = '';
    try {
      const path = `services/${encodeURIComponent(this._name)}/logs?follow=1`;
      for await (const piece of textOf(await this._api.openStream(path, abort.signal))) {
        this._show(piece);
      }
      this._show(`\n— ${this._trans.__('ended')} —\n`);
    } catch (error) {
      if (!abort.signal.aborted) {
        this._show(`\n— ${error instanceof ApiError ? error.message : this._trans.__('The log is cut.')} —\n`);
      }
    }
    if (this._abort === abort) {
      this._abort = undefined;
    }
  }

  /** Follows a service again after a restart. */
  private _onChange(): void {
    if (!this._abort && this._manager.service(this._name)?.state === 'starting') {
      void this._follow();
    }
  }

  /** Appends text, and scrolls if the end was in view. */
  private _show(piece: string): void {
    const { node } = this;
    const atEnd = node.scrollHeight - node.scrollTop - node.clientHeight < 40;
    this._text = plainText(this._text + piece);
    node.textContent = this._text;
    if (atEnd) {
      node.scrollTop = node.scrollHeight;
    }
  }

  private _text = '';
  private _abort: AbortController | undefined;
}

function makeLog(name: string, api: IApi, manager: IPortsManager, trans: TranslationBundle): MainAreaWidget {
  const widget = new MainAreaWidget({ content: new LogView(name, api, manager, trans) });
  widget.id = ID_PREFIX + name;
  const updateTitle = () => {
    const service = manager.service(name); // undefined if a tab is restored before the list is loaded
    widget.title.label = trans.__('Log: %1', service ? serviceLabel(service) : name);
  };
  manager.changed.connect(updateTitle);
  widget.disposed.connect(() => manager.changed.disconnect(updateTitle));
  updateTitle();
  widget.title.icon = listIcon;
  widget.title.closable = true;
  return widget;
}

/** The name of the service whose log a tab shows. */
export function serviceOfLog(tab: Widget): string {
  return tab.id.slice(ID_PREFIX.length);
}

export interface ILogParts {
  shell: JupyterFrontEnd.IShell;
  labShell: ILabShell | null;
  manager: IPortsManager;
  targets: Targets;
  logs: WidgetTracker<MainAreaWidget>;
  api: IApi;
  trans: TranslationBundle;
}

/** Adds the command that shows a log in its tab; without a `labShell` in a tab of the browser. */
export function addLogCommand(add: AddCommand, { shell, labShell, manager, targets, logs, api, trans }: ILogParts): void {
  const show = (name: string) => {
    if (!labShell) {
      window.open(`${PageConfig.getBaseUrl()}proxy/api/services/${encodeURIComponent(name)}/logs?follow=1`, '_blank', 'noopener');
      return;
    }
    const id = ID_PREFIX + name;
    if (!logs.find(widget => widget.id === id)) {
      const log = makeLog(name, api, manager, trans);
      void logs.add(log);
      shell.add(log, 'main', { type: 'Log' });
    }
    shell.activateById(id);
  };
  const showNamed = (name: string | undefined) => (name === undefined ? undefined : show(name));
  add(CommandIDs.showLog, trans.__('Show Service Log'), args => showNamed(targets.serviceName(args)), {
    icon: listIcon,
    isEnabled: args => typeof args.service === 'string' || targets.service(args) !== undefined
  });
}
