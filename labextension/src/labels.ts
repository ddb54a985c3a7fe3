// Texts of a row: labels, states and durations. Pure functions.

import type { TranslationBundle } from '@jupyterlab/translation';

import type { IPort, IService, State } from './tokens';

const MAX_LENGTH = 300;

/** A rule of the settings: the label and the action for matching ports. */
export interface IPortRule {
  port?: number;
  process?: string;
  label?: string;
  action?: 'notify' | 'open' | 'silent';
}

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

/** The label of a service: its title, and its name if that differs from the template's. */
export function serviceLabel(service: IService): string {
  return service.name === service.template ? service.title : `${service.title} (${service.name})`;
}

/** The first rule of the settings that matches a port. An invalid regular expression matches nothing. */
export function ruleFor(port: IPort, rules: readonly IPortRule[]): IPortRule | undefined {
  return rules.find(rule => {
    if (rule.port !== undefined) {
      return rule.port === port.port;
    }
    return rule.process !== undefined && matches(rule.process, `${port.process} ${port.command.join(' ')}`);
  });
}

export function portLabel(port: IPort, rules: readonly IPortRule[], trans: TranslationBundle): string {
  return ruleFor(port, rules)?.label || port.title || port.process || trans.__('Port %1', port.port);
}

/** The tooltip of a port. */
export function portTitle(port: IPort, rules: readonly IPortRule[], trans: TranslationBundle): string {
  const lines = [
    truncate(portLabel(port, rules, trans)),
    trans.__('Port %1 on %2', port.port, port.addresses.join(', ')),
    port.pid === null ? '' : trans.__('Process %1: %2', port.pid, truncate(port.command.join(' ') || port.process)),
    port.owner ? trans.__('Owner: %1', port.owner) : '',
    port.reason
  ];
  return lines.filter(Boolean).join('\n');
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

function matches(pattern: string, text: string): boolean {
  try {
    return new RegExp(pattern).test(text);
  } catch {
    return false;
  }
}
