// Texts of a row: labels, states and durations. Pure functions.

import type { TranslationBundle } from '@jupyterlab/translation';

import { IPatternProblem, MAX_SIZE } from './process-pattern';
import type { RuleSet, Subject } from './rules';
import type { Activity, IPort, IService, OnAppear, ServiceScheme, State } from './tokens';

const MAX_LENGTH = 300;

export function stateText(state: State, trans: TranslationBundle): string {
  switch (state) {
    case 'starting':
      return trans.__('Starting');
    case 'up':
      return trans.__('Up');
    case 'unhealthy':
      return trans.__('Unhealthy');
    case 'stopping':
      return trans.__('Stopping');
    case 'down':
      return trans.__('Stopped');
    case 'failed':
      return trans.__('Failed');
  }
}

/** Why a pattern cannot be used. */
export function patternProblemText(pattern: string, { kind, part }: IPatternProblem, trans: TranslationBundle): string {
  switch (kind) {
    case 'syntax':
      return trans.__('“%1” is not a regular expression.', pattern);
    case 'unsupported':
      return trans.__('“%1” has “%2”. Patterns for programs have no look-around, no references and no named groups.', pattern, part);
    case 'size':
      return trans.__('“%1” is too large: with its repetitions written out, it may have %2 characters.', pattern, MAX_SIZE);
  }
}

export function appearText(onAppear: OnAppear, trans: TranslationBundle): string {
  switch (onAppear) {
    case 'notify':
      return trans.__('Show a notification');
    case 'open':
      return trans.__('Open it in a tab, each time');
    case 'open_once':
      return trans.__('Open it in a tab, once in a browser session');
    case 'preview':
      return trans.__('Show it beside the current tab');
    case 'silent':
      return trans.__('List it without a notification');
    case 'ignore':
      return trans.__('Ignore it: neither listed nor announced');
  }
}

export function activityText(activity: Activity, trans: TranslationBundle): string {
  switch (activity) {
    case 'all':
      return trans.__('Every request is activity');
    case 'people':
      return trans.__('What a person does is activity');
    case 'none':
      return trans.__('No request is activity');
  }
}

/** The tooltip of a service: label, summary, state, and the error if there is one. */
export function stateTitle(service: IService, trans: TranslationBundle): string {
  const state = stateText(service.state, trans);
  const called = [serviceLabel(service), service.runs ?? ''].filter(Boolean).map(truncate).join('\n');
  return `${called}\n${service.error ? `${state}: ${truncate(service.error)}` : state}`;
}

/** Whether a service can be opened and stopped. */
export function isActive(service: Pick<IService, 'state'>): boolean {
  return ['starting', 'up', 'unhealthy'].includes(service.state);
}

/** Whether services of this scheme have a page to open. */
export function hasPage(scheme: ServiceScheme): boolean {
  return scheme === 'http' || scheme === 'https';
}

/** The label of a service: its title, and its name if that differs from the template's. */
export function serviceLabel(service: IService): string {
  return service.name === service.template ? service.title : `${service.title} (${service.name})`;
}

export function portLabel(port: Subject & { title?: string }, rules: RuleSet, trans: TranslationBundle): string {
  return rules.of(port).label || port.title || port.process || trans.__('Port %1', port.port);
}

/** The tooltip of a port. */
export function portTitle(port: IPort, rules: RuleSet, trans: TranslationBundle): string {
  const lines = [
    truncate(portLabel(port, rules, trans)),
    trans.__('Port %1 on %2', port.port, port.addresses.join(', ')),
    port.pid === null ? '' : trans.__('Process %1: %2', port.pid, truncate(port.command.join(' ') || port.process)),
    port.owner ? trans.__('Owner: %1', port.owner) : '',
    port.reason
  ];
  return lines.filter(Boolean).join('\n');
}

/** Characters that are not seen, or that change the order of what is seen. */
export const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;

/** The name of a character in Unicode's notation. */
export function codePoint(character: string): string {
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
}

/** A text of a file in which every character is seen. */
export function visibleText(text: string): string {
  return text.replace(UNSEEN, character => `⟨${codePoint(character)}⟩`);
}

/** A duration in its largest unit. */
export function formatDuration(since: number | null, now: number, trans: TranslationBundle): string {
  if (since === null) {
    return '';
  }
  const seconds = Math.max(0, now / 1000 - since);
  if (seconds < 60) {
    return trans.__('%1 s', Math.floor(seconds));
  }
  if (seconds < 3600) {
    return trans.__('%1 min', Math.floor(seconds / 60));
  }
  return seconds < 86_400 ? trans.__('%1 h', Math.floor(seconds / 3600)) : trans.__('%1 d', Math.floor(seconds / 86_400));
}

/** True if every word of the filter occurs somewhere. */
export function matchesFilter(filter: string, ...texts: (string | number | null)[]): boolean {
  const text = texts.join(' ').toLowerCase();
  return filter
    .toLowerCase()
    .split(/\s+/)
    .every(word => text.includes(word));
}

function truncate(text: string): string {
  return text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text;
}
