// The list of the rules for ports, where each of the user's can be removed, also while no port that it is for is listed; the rules
// of folders; and the patterns that cannot be used.

import type { TranslationBundle } from '@jupyterlab/translation';
import { deleteIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { messageOf } from './api';
import { activityText, appearText, patternProblemText, visibleText } from './labels';
import { Refusal } from './refusal';
import { folderRules, IUnusedPattern } from './rules';
import type { IPortRule, IPortsManager } from './tokens';

const MAX_UNUSED = 3;

interface IRuleListProps {
  manager: IPortsManager;
  unused: readonly IUnusedPattern[];
  trans: TranslationBundle;
}

export function RuleList({ manager, unused, trans }: IRuleListProps): React.JSX.Element {
  return (
    <>
      {unused.slice(0, MAX_UNUSED).map(({ pattern, problem }) => (
        <Refusal key={pattern} text={trans.__('A rule is not used: %1', patternProblemText(pattern, problem, trans))} />
      ))}
      <Rules {...{ manager, trans }} />
    </>
  );
}

function Rules({ manager, trans }: Pick<IRuleListProps, 'manager' | 'trans'>): React.JSX.Element | null {
  const [problem, setProblem] = React.useState('');
  const rules = manager.portRules ?? [];
  const folders = (manager.folders ?? []).filter(({ consent }) => consent === 'given');
  const count = rules.length + folderRules(folders).length;
  const remove = (rule: IPortRule) => void manager.removeRule(rule.id).then(() => setProblem(''), error => setProblem(messageOf(error)));
  return count ? (
    <details className="jp-PortProxy-rules">
      <summary>{trans._n('%1 rule', '%1 rules', count)}</summary>
      <ul className="jp-PortProxy-list" aria-label={trans.__('Rules')}>
        {rules.map(rule => (
          <li key={rule.id}>
            <Rule rule={rule} trans={trans} />
            <button
              className="jp-PortProxy-action"
              title={trans.__('Remove rule')}
              aria-label={`${trans.__('Remove rule')}: ${rule.ports ?? rule.process}`}
              onClick={() => remove(rule)}
            >
              <deleteIcon.react tag="span" elementSize="normal" />
            </button>
          </li>
        ))}
        {folders.flatMap(folder =>
          folder.ports.map(rule => (
            <li key={`${folder.folder}/${rule.id}`}>
              <Rule rule={rule} origin={trans.__('by the folder %1', visibleText(folder.name))} trans={trans} />
            </li>
          ))
        )}
      </ul>
      <Refusal text={problem} />
    </details>
  ) : null;
}

/** `origin`: where it comes from, if that is not the user. */
function Rule({ rule, origin, trans }: { rule: IPortRule; origin?: string; trans: TranslationBundle }): React.JSX.Element {
  const summary = [summaryOf(rule, trans), origin].filter(Boolean).join(', ');
  return (
    <span title={summary}>
      {rule.ports ?? rule.process} <span className="jp-PortProxy-more">{summary}</span>
    </span>
  );
}

export function summaryOf({ label, on_appear, scheme, keep_host, activity }: IPortRule, trans: TranslationBundle): string {
  const host = keep_host === null ? '' : keep_host ? trans.__("Keeps the browser's Host") : trans.__("Does not keep the browser's Host");
  return [label, on_appear && appearText(on_appear, trans), scheme?.toUpperCase(), host, activity && activityText(activity, trans)].filter(Boolean).join(', ');
}
