// The notice that requests of a page have failed, with a button that leads to the page's diagnosis.

import { Notification } from '@jupyterlab/apputils';

import type { Target } from './commands';
import type { IInspectionParts } from './inspection';
import { visibleText } from './labels';
import { labelOf } from './open-commands';
import type { IFailedRequests, IPortsManager } from './tokens';

const MAX_LABEL = 60;
const NOTICE_TIME = 20_000; // ms

/** A later notice for the same target replaces the one before. */
export class FailedRequestsNotices {
  constructor(
    private readonly _parts: Pick<IInspectionParts, 'manager' | 'state' | 'trans'>,
    private readonly _diagnose: (target: Target) => void
  ) {
    _parts.manager.requestsFailed.connect(this._onFailed, this);
  }

  private _onFailed(_: IPortsManager, { target: name, count }: IFailedRequests): void {
    const { trans } = this._parts;
    const target = /^\d+$/.test(name) ? { port: Number(name) } : { service: name };
    const label = visibleText(labelOf(this._parts, target)).slice(0, MAX_LABEL);
    const text = trans._n('%1 request of %2 has failed.', '%1 requests of %2 have failed.', count, label);
    const before = this._shown.get(name);
    if (before !== undefined) {
      Notification.dismiss(before);
    }
    const diagnose = { label: trans.__('Diagnose'), callback: () => this._diagnose(target) };
    this._shown.set(name, Notification.info(text, { autoClose: NOTICE_TIME, actions: [diagnose] }));
  }

  /** Name of a target -> its notification. */
  private readonly _shown = new Map<string, string>();
}
