// The view of a log: the output of a service, followed while it runs and after each start.

import { MainAreaWidget } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { listIcon } from '@jupyterlab/ui-components';
import { Widget } from '@lumino/widgets';

import { ApiError, IApi, textOf } from './api';
import { serviceLabel } from './labels';
import type { IPortsManager } from './tokens';

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

export function makeLog(id: string, name: string, api: IApi, manager: IPortsManager, trans: TranslationBundle): MainAreaWidget {
  const widget = new MainAreaWidget({ content: new LogView(name, api, manager, trans) });
  widget.id = id;
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
