// The rules for ports: what applies to a port. Pure: no widgets, no requests.
//
// Each attribute is decided by itself, by the first of these that has it: the user's rule for the port, for the narrowest range,
// for processes (in their order); the rules of folders, in the same order; the first rule of the settings that matches,
// `onNewPort`, the default.

import { compilePattern, IPatternProblem, ProcessPattern } from './process-pattern';
import type { IFolder, IPort, IPortRule, OnAppear } from './tokens';

const MAX_PATTERN_LENGTH = 200; // as on the server
/** Programs whose name says nothing about what they run. */
const INTERPRETER = /^(python|pypy|node|deno|bun|ruby|java|perl|php|rscript|r|julia|dotnet|bash|sh)[\d.]*$/i;

/** A rule of the settings: the label and the action for matching ports. */
export interface ISettingsRule {
  port?: number;
  process?: string;
  label?: string;
  action?: OnAppear;
}

/** The settings for ports. */
export interface IRuleSettings {
  onNewPort: OnAppear;
  ports: readonly ISettingsRule[];
}

/** What rules are matched with. */
export type Subject = Pick<IPort, 'port' | 'process' | 'command'>;

/** What applies to a port. Its scheme and its Host are decided by the server. */
export interface IApplied {
  /** Empty: its title or process. */
  label: string;
  on_appear: OnAppear;
}

/** A pattern of a rule that cannot be applied. */
export interface IUnusedPattern {
  pattern: string;
  problem: IPatternProblem;
}

type Matcher = (port: Subject) => boolean;

interface IRuleMatcher {
  rule: IPortRule;
  matches: Matcher;
}

/** The rules of the user, of folders and of the settings at one time. */
export class RuleSet {
  constructor(
    rules: readonly IPortRule[] = [],
    private readonly _settings: IRuleSettings = { onNewPort: 'notify', ports: [] },
    ofFolders: readonly IPortRule[] = []
  ) {
    this._matchers = this._matchersOf(rules);
    this._folderMatchers = this._matchersOf(ofFolders);
    this._settingsMatchers = _settings.ports.map(rule => ({ rule, matches: this._matcherOf(rule.port?.toString() ?? null, rule.process) }));
  }

  /** The patterns of the rules that match nothing, because they cannot be used. */
  get unused(): readonly IUnusedPattern[] {
    return this._unused;
  }

  /** The user's rules for a port, the most specific first. */
  matching(port: Subject): IPortRule[] {
    return matching(this._matchers, port);
  }

  of(port: Subject): IApplied {
    const known = this._applied.get(port);
    if (known) {
      return known;
    }
    const rules = [...this.matching(port), ...matching(this._folderMatchers, port)];
    const setting = this._settingsMatchers.find(({ matches }) => matches(port))?.rule;
    const applied = {
      label: rules.find(rule => rule.label)?.label || setting?.label || '',
      on_appear: rules.find(rule => rule.on_appear)?.on_appear ?? setting?.action ?? this._settings.onNewPort
    };
    this._applied.set(port, applied);
    return applied;
  }

  private _matchersOf(rules: readonly IPortRule[]): IRuleMatcher[] {
    const byWidth = (one: IPortRule, other: IPortRule) => widthOf(one) - widthOf(other);
    return [...rules].sort(byWidth).map(rule => ({ rule, matches: this._matcherOf(rule.ports, rule.process) }));
  }

  private _matcherOf(ports: string | null, process: string | null | undefined): Matcher {
    if (ports !== null) {
      const [first, last] = boundsOf(ports);
      return ({ port }) => first <= port && port <= last;
    }
    const { pattern, problem } = process ? compilePattern(process) : {};
    if (process && problem) {
      this._unused.push({ pattern: process, problem });
    }
    return port => isMatch(pattern, port);
  }

  private readonly _unused: IUnusedPattern[] = [];
  private readonly _matchers: IRuleMatcher[];
  private readonly _folderMatchers: IRuleMatcher[];
  private readonly _settingsMatchers: { rule: ISettingsRule; matches: Matcher }[];
  private readonly _applied = new WeakMap<Subject, IApplied>();
}

function matching(matchers: readonly IRuleMatcher[], port: Subject): IPortRule[] {
  return matchers.filter(({ matches }) => matches(port)).map(({ rule }) => rule);
}

/** The rules of the folders whose content a person has allowed. */
export function folderRules(folders: readonly IFolder[] | null): IPortRule[] {
  return (folders ?? []).filter(({ consent }) => consent === 'given').flatMap(({ ports }) => ports);
}

/** The text that a pattern is searched in. */
export function processText(port: Subject): string {
  return `${port.process} ${port.command.join(' ')}`;
}

/** Index, in the command line of an interpreter such as Python, of the script or module that it runs; 0 for other programs. */
function scriptIndex({ process, command }: Subject): number {
  return INTERPRETER.test(process) ? Math.max(0, command.findIndex((word, index) => index > 0 && !word.startsWith('-'))) : 0;
}

/** The name of the program of a port, for people. */
export function programName(port: Subject): string {
  const script = scriptIndex(port);
  return ((script && port.command[script]) || port.process).slice(0, 60);
}

/** A pattern for all ports of the same program: its name; for an interpreter, also its command line up to what it runs. */
export function programPattern(port: Subject): string {
  const { process, command } = port;
  const script = scriptIndex(port);
  let text = [process, ...(script ? command.slice(0, script + 1) : [])].join(' ');
  let end = '( |$)';
  while (escape(text).length + end.length + 1 > MAX_PATTERN_LENGTH) {
    text = text.slice(0, -1);
    end = '';
  }
  return process && `^${escape(text)}${end}`;
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '\\W');
}

/** Orders rules: a port, ranges from the narrowest, processes. */
function widthOf({ ports }: IPortRule): number {
  const [first, last] = boundsOf(ports);
  return ports === null ? Infinity : ports.includes('-') ? last - first : -1;
}

function boundsOf(ports: string | null): [number, number] {
  const [first, last = first] = (ports ?? '').split('-');
  return [Number(first), Number(last)];
}

function isMatch(pattern: ProcessPattern | undefined, port: Subject): boolean {
  return pattern !== undefined && pattern.matches(processText(port));
}
