// The view of a diagnosis: its progress, the findings with what cures them, and a look again at any page of the service or port.

import { Clipboard } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { bugIcon, ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { IApi, messageOf } from './api';
import type { Target } from './commands';
import { addressOf, IDiagnosis, IFinding, pagePath, parseLink, placeText, reportText, severityText, summaryOf, visibleLines } from './diagnosis';
import { IInspectionParts, LINK_PARAMETER } from './inspection';
import { showTab } from './inspection-tab';
import { labelOf } from './open-commands';
import { Refusal } from './refusal';

const RESET_POLL_INTERVAL = 500; // ms

/** Shows the tab of a target, and looks at its page: at the one that was looked at last, without a `path`. */
export function showDiagnosis(parts: IInspectionParts, target: Target, label: string, path?: string): void {
  void showView(parts, target, label).look(path);
}

/** Shows the tab of what a link names. Any site may have such a link: the page is looked at when the tab's button is pressed. */
export function showLinked(parts: IInspectionParts, link: string): void {
  removeLink();
  const linked = parseLink(link);
  if (linked) {
    showView(parts, linked.target, labelOf(parts, linked.target)).propose(linked.path);
  }
}

function showView(parts: IInspectionParts, target: Target, label: string): DiagnosisView {
  const id = `jp-portproxy-diagnosis-${'port' in target ? target.port : target.service}`;
  const title = parts.trans.__('Diagnosis: %1', label);
  return showTab(parts, id, title, bugIcon, () => new DiagnosisView(target, label, parts.api, parts.trans));
}

/** Removes the link from the address; again after JupyterLab has written the address without `reset`, which that of a new workspace has. */
function removeLink(): void {
  const url = new URL(window.location.href);
  if (url.searchParams.has(LINK_PARAMETER)) {
    url.searchParams.delete(LINK_PARAMETER);
    window.history.replaceState(window.history.state, '', url);
  }
  if (url.searchParams.has('reset')) {
    window.setTimeout(removeLink, RESET_POLL_INTERVAL);
  }
}

/** What is shown: nothing but a progress while it `isLooking`, then a report or why there is none. Before that, it may be `isProposed`. */
interface IState {
  path: string;
  isLooking: boolean;
  isProposed?: boolean;
  report?: IDiagnosis;
  problem?: string;
}

export class DiagnosisView extends ReactWidget {
  constructor(
    private readonly _target: Target,
    private readonly _label: string,
    private readonly _api: Pick<IApi, 'request'>,
    private readonly _trans: TranslationBundle
  ) {
    super();
    this.addClass('jp-PortProxy-inspection');
    this.node.tabIndex = 0;
  }

  /** Looks at a page; does nothing while it looks at one. Ends with the view. */
  look = async (path = this._state.path): Promise<void> => {
    if (this._abort) {
      return;
    }
    const { signal } = (this._abort = new AbortController());
    this._show({ path, isLooking: true });
    try {
      const report = await this._api.request<IDiagnosis>('POST', 'diagnose', { ...this._target, path: pagePath(path) }, signal);
      this._show({ path, isLooking: false, report });
    } catch (error) {
      this._show({ path, isLooking: false, problem: messageOf(error) });
    } finally {
      this._abort = undefined;
    }
  };

  /** Waits for the button before it looks at a page; does nothing while it looks at one. */
  propose(path: string): void {
    if (!this._abort) {
      this._show({ path, isLooking: false, isProposed: true });
    }
  }

  override dispose(): void {
    this._abort?.abort();
    super.dispose();
  }

  protected override render(): React.JSX.Element {
    return <Diagnosis label={this._label} {...this._state} onLook={this.look} trans={this._trans} />;
  }

  private _show(state: IState): void {
    this._state = state;
    this.update();
  }

  private _state: IState = { path: '/', isLooking: false };
  private _abort: AbortController | undefined;
}

interface IDiagnosisProps extends IState {
  label: string;
  onLook: (path: string) => unknown;
  trans: TranslationBundle;
}

export function Diagnosis({ label, path, isLooking, isProposed, report, problem, onLook, trans }: IDiagnosisProps): React.JSX.Element {
  const [page, setPage] = React.useState(path);
  React.useEffect(() => setPage(path), [path]);
  const [isCopied, setCopied] = React.useState(false);
  const look = (event: React.FormEvent) => {
    event.preventDefault();
    setCopied(false);
    onLook(page);
  };
  const copy = () => {
    Clipboard.copyToSystem(report ? reportText(report, trans) : '');
    setCopied(true);
  };
  const looking = trans.__('Looking at the page of %1 and at what it loads, direct and through Jupyter, for at most 20 seconds…', label);
  return (
    <>
      <form className="jp-PortProxy-inspectionBar" onSubmit={look}>
        <label>
          {trans.__('Page')}
          <input className="jp-mod-styled" value={page} spellCheck={false} onChange={event => setPage(event.target.value)} />
        </label>
        <button className="jp-mod-styled jp-mod-accept" aria-disabled={isLooking}>
          {isProposed ? trans.__('Diagnose') : trans.__('Look again')}
        </button>
        {report ? (
          <button type="button" className="jp-mod-styled" onClick={copy}>
            {isCopied ? trans.__('Copied') : trans.__('Copy as text')}
          </button>
        ) : null}
      </form>
      <div role="status">
        {isProposed ? <p>{trans.__('A link has led here. The page of %1 is requested when you press Diagnose.', label)}</p> : null}
        {isLooking ? <p>{looking}</p> : null}
        {report ? <p className={report.problem || report.findings.length ? '' : 'jp-PortProxy-well'}>{summaryOf(report, trans)}</p> : null}
      </div>
      {isLooking ? <progress aria-label={trans.__('Looking')} /> : null}
      <Refusal text={problem} />
      {report ? <Report report={report} trans={trans} /> : null}
    </>
  );
}

function Report({ report, trans }: { report: IDiagnosis; trans: TranslationBundle }): React.JSX.Element {
  return (
    <>
      {report.findings.length ? (
        <ol className="jp-PortProxy-findings">
          {report.findings.map((finding, index) => (
            <Finding key={index} finding={finding} trans={trans} />
          ))}
        </ol>
      ) : null}
      {report.notes.map((note, index) => (
        <p key={index}>{trans.__('Note: %1', note)}</p>
      ))}
    </>
  );
}

function Finding({ finding, trans }: { finding: IFinding; trans: TranslationBundle }): React.JSX.Element {
  const { severity, title, sentence, evidence, remedies, documentation } = finding;
  const excerpt = visibleLines(evidence.excerpt);
  const address = addressOf(finding.link);
  const about = addressOf(documentation);
  return (
    <li className={`jp-mod-${severity}`}>
      <h2>
        <span className="jp-PortProxy-severity">{severityText(severity, trans)}</span> {title}
      </h2>
      <p>{withCode(sentence)}</p>
      <p className="jp-PortProxy-place">{trans.__('at %1', placeText(finding, trans))}</p>
      {excerpt.length ? <pre tabIndex={0}>{excerpt.join('\n')}</pre> : null}
      {remedies.length ? (
        <>
          <h3>{remedies.length > 1 ? trans.__('Any of these cures it') : trans.__('What cures it')}</h3>
          <ul>
            {remedies.map((remedy, index) => (
              <li key={index}>{withCode(remedy)}</li>
            ))}
          </ul>
        </>
      ) : null}
      <p className="jp-PortProxy-links">
        {address ? <Link address={address} text={trans.__('Open %1', address)} /> : null}
        {about ? <Link address={about} text={trans.__('More about this')} /> : null}
      </p>
    </li>
  );
}

/** A sentence whose parts between backticks are code. */
function withCode(text: string): React.ReactNode {
  const parts = text.split('`');
  return parts.length % 2 ? parts.map((part, index) => (index % 2 ? <code key={index}>{part}</code> : part)) : text;
}

function Link({ address, text }: { address: string; text: string }): React.JSX.Element {
  return (
    <a href={address} target="_blank" rel="noopener noreferrer">
      {text}
    </a>
  );
}
