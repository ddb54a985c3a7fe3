// The list of the rules for ports, where each can be removed, also while no port that it is for is listed; and the patterns that
// cannot be used.

import type { TranslationBundle } from '@jupyterlab/translation';
import { deleteIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { messageOf } from './api';
import { appearText, patternProblemText } from './labels';
import { Refusal } from './refusal';
import type { IUnusedPattern } from './rules';
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
  const remove = (rule: IPortRule) => void manager.removeRule(rule.id).then(() => setProblem(''), error => setProblem(messageOf(error)));
  return rules.length ? (
    <details className="jp-PortProxy-rules">
      <summary>{trans._n('%1 rule', '%1 rules', rules.length)}</summary>
      <ul className="jp-PortProxy-list" aria-label={trans.__('Rules')}>
        {rules.map(rule => (
          <li key={rule.id}>
            <span title={summaryOf(rule, trans)}>
              {rule.ports ?? rule.process} <span className="jp-PortProxy-more">{summaryOf(rule, trans)}</span>
            </span>
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
      </ul>
      <Refusal text={problem} />
    </details>
  ) : null;
}

function summaryOf({ label, on_appear, scheme, keep_host }: IPortRule, trans: TranslationBundle): string {
  const host = keep_host === null ? '' : keep_host ? trans.__("Keeps the browser's Host") : trans.__("Does not keep the browser's Host");
  return [label, on_appear && appearText(on_appear, trans), scheme?.toUpperCase(), host].filter(Boolean).join(', ');
}
