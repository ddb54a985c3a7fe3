// The requests to a service or port, recorded while this view is open: a live table with details of each row.

import { Clipboard } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { listIcon, ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { ApiError, eventsOf, IApi, IEvent, messageOf } from './api';
import type { Target } from './commands';
import type { IInspectionParts } from './inspection';
import { showTab } from './inspection-tab';
import { matchesFilter, visibleText } from './labels';
import { Refusal } from './refusal';
import { cookieText, deeds, durationText, hasFailed, IExchange, pathOf, sizeText, statusText, withExchange } from './requests';

const FIRST_RETRY_DELAY = 1000;
const MAX_RETRY_DELAY = 15_000;
const COLUMNS = 8;

/** Shows the tab of a target, which records as long as it is there. */
export function showRequests(parts: IInspectionParts, target: Target, label: string): void {
  const name = String('port' in target ? target.port : target.service);
  const title = parts.trans.__('Requests: %1', label);
  showTab(parts, `jp-portproxy-requests-${name}`, title, listIcon, () => new RequestsView(name, label, parts.api, parts.trans));
}

export class RequestsView extends ReactWidget {
  constructor(
    private readonly _name: string,
    private readonly _label: string,
    private readonly _api: IApi,
    private readonly _trans: TranslationBundle
  ) {
    super();
    this.addClass('jp-PortProxy-inspection');
    this.node.tabIndex = 0;
    void this._follow();
  }

  override dispose(): void {
    this._abort.abort();
    super.dispose();
  }

  protected override render(): React.JSX.Element {
    const { _exchanges: exchanges, _problem: problem, _label: label, _trans: trans } = this;
    return <Requests {...{ exchanges, problem, label, trans }} onClear={this._clear} onSave={this._save} />;
  }

  /** Follows the event stream, again when it is cut. A refusal ends it. */
  private async _follow(): Promise<void> {
    const { signal } = this._abort;
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        const stream = await this._api.openStream(`exchanges/events?${this._query}`, signal);
        for await (const event of eventsOf(stream)) {
          failures = 0;
          this._receive(event);
        }
        this._problem = this._trans.__('The connection to the Jupyter server is cut.');
      } catch (error) {
        this._problem = messageOf(error);
        if (error instanceof ApiError && error.status) {
          this.update();
          return;
        }
      }
      if (!signal.aborted) {
        this.update();
        await new Promise(resolve => setTimeout(resolve, Math.min(FIRST_RETRY_DELAY * 2 ** failures, MAX_RETRY_DELAY)));
      }
    }
  }

  private _receive({ event, data }: IEvent): void {
    if (event === 'snapshot') {
      this._exchanges = (data as { exchanges: IExchange[] }).exchanges;
      this._problem = '';
    } else if (event === 'exchange') {
      this._exchanges = withExchange(this._exchanges, data as IExchange);
    } else if (event === 'cleared') {
      this._exchanges = [];
    } else {
      return;
    }
    this.update();
  }

  private _clear = () => this._attempt(() => this._api.request('DELETE', `exchanges?${this._query}`));

  private _save = () =>
    this._attempt(async () => {
      const archive = await this._api.request<object>('GET', `exchanges?${this._query}&format=har`);
      const link = document.createElement('a');
      link.href = URL.createObjectURL(new Blob([JSON.stringify(archive, null, 1)], { type: 'application/json' }));
      link.download = `${this._name}.har`;
      link.click();
      URL.revokeObjectURL(link.href);
    });

  private async _attempt(what: () => Promise<unknown>): Promise<void> {
    try {
      await what();
      this._problem = '';
    } catch (error) {
      this._problem = messageOf(error);
    }
    this.update();
  }

  private readonly _query = `target=${encodeURIComponent(this._name)}`;
  private _exchanges: readonly IExchange[] = [];
  private _problem = '';
  private readonly _abort = new AbortController();
}

interface IRequestsProps {
  exchanges: readonly IExchange[];
  problem: string;
  label: string;
  onClear: () => unknown;
  onSave: () => unknown;
  trans: TranslationBundle;
}

export function Requests({ exchanges, problem, label, onClear, onSave, trans }: IRequestsProps): React.JSX.Element {
  const [filter, setFilter] = React.useState('');
  const [open, setOpen] = React.useState<number | null>(null);
  const toggle = React.useCallback((id: number) => setOpen(before => (before === id ? null : id)), []);
  const shown = exchanges.filter(item => matchesFilter(filter, item.kind, item.method, pathOf(item.url), statusText(item, trans), ...deeds(item, trans)));
  const heads = [trans.__('Time'), trans.__('Method'), trans.__('Path'), trans.__('Status'), trans.__('First byte'), trans.__('In all')];
  return (
    <>
      <div className="jp-PortProxy-inspectionBar">
        <label>
          {trans.__('Filter')}
          <input className="jp-mod-styled" type="search" value={filter} spellCheck={false} onChange={event => setFilter(event.target.value)} />
        </label>
        <button className="jp-mod-styled" onClick={onSave}>
          {trans.__('Save as HAR')}
        </button>
        <button className="jp-mod-styled" onClick={onClear}>
          {trans.__('Clear')}
        </button>
      </div>
      <Refusal text={problem} />
      <p>
        {exchanges.length
          ? trans.__('%1 of %2 requests, the last one first. Values that read *** were not recorded.', shown.length, exchanges.length)
          : trans.__('Requests to %1 are recorded from now on, without content and without secrets. Open its page, or reload it.', label)}
      </p>
      {shown.length ? (
        <table className="jp-PortProxy-requests">
          <thead>
            <tr>
              {[...heads, trans.__('Up / down'), trans.__('What Jupyter did')].map(head => (
                <th key={head} scope="col">
                  {head}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {[...shown].reverse().map(exchange => (
              <ExchangeRow key={exchange.id} exchange={exchange} isOpen={open === exchange.id} onToggle={toggle} trans={trans} />
            ))}
          </tbody>
        </table>
      ) : null}
    </>
  );
}

interface IRowProps {
  exchange: IExchange;
  isOpen: boolean;
  onToggle: (id: number) => void;
  trans: TranslationBundle;
}

const ExchangeRow = React.memo(function ExchangeRow({ exchange, isOpen, onToggle, trans }: IRowProps) {
  const { id, since, kind, method, url, first_byte, seconds, bytes_up, bytes_down } = exchange;
  return (
    <>
      <tr className={hasFailed(exchange) ? 'jp-mod-error' : ''}>
        <td>{new Date(since * 1000).toLocaleTimeString()}</td>
        <td>{kind === 'http' ? method : kind === 'websocket' ? 'WebSocket' : 'TCP'}</td>
        <td>
          <button aria-expanded={isOpen} onClick={() => onToggle(id)}>
            {visibleText(pathOf(url))}
          </button>
        </td>
        <td>{statusText(exchange, trans)}</td>
        <td>{durationText(first_byte)}</td>
        <td>{durationText(seconds)}</td>
        <td>{`${sizeText(bytes_up)} / ${sizeText(bytes_down)}`}</td>
        <td>{deeds(exchange, trans).join(', ')}</td>
      </tr>
      {isOpen ? (
        <tr>
          <td colSpan={COLUMNS}>
            <Details exchange={exchange} trans={trans} />
          </td>
        </tr>
      ) : null}
    </>
  );
});

function Details({ exchange, trans }: { exchange: IExchange; trans: TranslationBundle }): React.JSX.Element {
  const { url, gateway, curl, request_fields, response_fields } = exchange;
  const [isCopied, setCopied] = React.useState(false);
  const copy = () => {
    Clipboard.copyToSystem(curl);
    setCopied(true);
  };
  const facts = [
    url,
    gateway.redirect ? trans.__('Redirect: from %1 to %2', gateway.redirect.from, gateway.redirect.to) : '',
    gateway.removed.length ? trans.__('Not passed to the service: %1', gateway.removed.join(', ')) : '',
    gateway.removed_response.length ? trans.__('Not passed to the client: %1', gateway.removed_response.join(', ')) : '',
    ...gateway.refused_cookies.map(({ name, reason }) => trans.__('Cookie %1 refused: %2', name, cookieText(reason, trans)))
  ].filter(Boolean);
  const lines = (fields: [string, string][]) => fields.map(([name, value]) => visibleText(`${name}: ${value}`)).join('\n');
  return (
    <div className="jp-PortProxy-exchange">
      {facts.map((fact, index) => (
        <p key={index}>{visibleText(fact)}</p>
      ))}
      <button className="jp-mod-styled" onClick={copy}>
        {isCopied ? trans.__('Copied') : trans.__('Copy as curl')}
      </button>
      <h2>{trans.__('Request')}</h2>
      <pre tabIndex={0}>{lines(request_fields)}</pre>
      <h2>{trans.__('Response')}</h2>
      <pre tabIndex={0}>{lines(response_fields)}</pre>
    </div>
  );
}
