// The dialogs "Edit port" and "Add port": what the server keeps about a port, a range of ports or a program.

import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';

import { IFormProps, showForm } from './dialog';
import { activityText, appearText, patternProblemText } from './labels';
import { compilePattern } from './process-pattern';
import { Refusal } from './refusal';
import { processText, programPattern, RuleSet, Subject } from './rules';
import type { Activity, IPortRule, IPortsManager, OnAppear, Scheme } from './tokens';

/** A rule as the server takes it. */
export type RuleInput = Partial<Omit<IPortRule, 'id'>>;

const APPEARANCES: OnAppear[] = ['notify', 'open', 'open_once', 'preview', 'silent', 'ignore'];

const ACTIVITIES: Activity[] = ['all', 'people', 'none'];

type Kind = 'port' | 'range' | 'process';

/** A rule to store, and the one in whose place it comes. */
export interface IRuleChange {
  rule: RuleInput;
  replaces: IPortRule | undefined;
}

/** The attributes as the fields show them; '' is the default. */
interface IAttributes {
  label: string;
  on_appear: OnAppear | '';
  scheme: Scheme | '';
  keep_host: '' | 'yes' | 'no';
  activity: Activity | '';
  pinned: boolean;
}

interface IRuleProps extends IFormProps<IRuleChange> {
  port: Subject;
  /** The server's rules for the port, the most specific first. */
  rules: readonly IPortRule[];
  trans: TranslationBundle;
}

/** The fields of a rule. They show the rule of the chosen kind that applies to the port; without one, those of a new rule. */
export function RuleForm({ port, rules, trans, problem, onChange }: IRuleProps): React.JSX.Element {
  const known = (kind: Kind) => rules.find(rule => kindOf(rule, port) === kind);
  const [kind, setKind] = React.useState<Kind>(rules[0] ? kindOf(rules[0], port) : 'port');
  const [matches, setMatches] = React.useState({
    port: String(port.port),
    range: known('range')?.ports ?? '',
    process: known('process')?.process ?? programPattern(port)
  });
  // New rules share their attributes, so that a choice of another kind keeps what was typed.
  const draft = known(kind) ? kind : 'new';
  const [drafts, setDrafts] = React.useState<Partial<Record<Kind | 'new', IAttributes>>>({});
  const attributes = drafts[draft] ?? attributesOf(known(kind));
  const set = (more: Partial<IAttributes>) => setDrafts({ ...drafts, [draft]: { ...attributes, ...more } });
  const match = matches[kind].trim();
  const isInvalid = kind === 'process' && match !== '' && !compilePattern(match).pattern;
  const change = { rule: ruleOf(kind, match, attributes), replaces: known(kind) };
  // A layout effect runs before the next event: a click on Save may follow immediately.
  React.useLayoutEffect(() => onChange(change, match !== '' && !isInvalid, !!change.replaces), [JSON.stringify(change), isInvalid]);
  const setMatch = (text: string) => setMatches({ ...matches, [kind]: text });
  return (
    <form className="jp-PortProxy-form" onSubmit={event => event.preventDefault()}>
      <Choice label={trans.__('For')} value={kind} onChange={value => setKind(value as Kind)}>
        <option value="port">{trans.__('Port %1', port.port)}</option>
        <option value="range">{trans.__('A range of ports')}</option>
        <option value="process">{trans.__('Programs that match a pattern')}</option>
      </Choice>
      {kind === 'range' ? <Text label={trans.__('Ports')} placeholder="8000-8999" value={matches.range} onChange={setMatch} isRequired /> : null}
      {kind === 'process' ? (
        <Text label={trans.__('Pattern (regular expression)')} value={matches.process} onChange={setMatch} isRequired />
      ) : null}
      {kind === 'process' ? <PatternNote {...{ pattern: match, port, trans }} /> : null}
      <Text label={trans.__('Label')} value={attributes.label} onChange={label => set({ label })} />
      <AppearChoice value={attributes.on_appear} trans={trans} onChange={on_appear => set({ on_appear })} />
      {kind === 'process' ? null : (
        <>
          <SchemeChoice value={attributes.scheme} trans={trans} onChange={scheme => set({ scheme })} />
          <HostChoice value={attributes.keep_host} trans={trans} onChange={keep_host => set({ keep_host })} />
          <ActivityChoice value={attributes.activity} trans={trans} onChange={activity => set({ activity })} />
        </>
      )}
      {kind === 'port' ? (
        <label className="jp-PortProxy-check">
          <input type="checkbox" checked={attributes.pinned} onChange={event => set({ pinned: event.target.checked })} />
          {trans.__('List it also while no program listens')}
        </label>
      ) : null}
      <Refusal text={problem} />
    </form>
  );
}

/** Refuses what is no pattern; otherwise shows whether the pattern matches the program of the row. */
function PatternNote({ pattern, port, trans }: { pattern: string; port: Subject; trans: TranslationBundle }): React.JSX.Element {
  const { pattern: found, problem } = compilePattern(pattern);
  const text = processText(port);
  if (problem) {
    return <Refusal text={patternProblemText(pattern, problem, trans)} />;
  }
  return (
    <p className="jp-PortProxy-note" role="status">
      {text.trim() && pattern && (found?.matches(text) ? trans.__('It matches %1', text) : trans.__('It does not match %1', text))}
    </p>
  );
}

interface IFieldProps<T> {
  value: T;
  trans: TranslationBundle;
  onChange: (value: T) => void;
}

function AppearChoice({ value, trans, onChange }: IFieldProps<IAttributes['on_appear']>): React.JSX.Element {
  return (
    <Choice label={trans.__('When it appears')} value={value} onChange={chosen => onChange(chosen as OnAppear)}>
      <option value="">{trans.__('As other ports')}</option>
      {APPEARANCES.map(onAppear => (
        <option key={onAppear} value={onAppear}>
          {appearText(onAppear, trans)}
        </option>
      ))}
    </Choice>
  );
}

function SchemeChoice({ value, trans, onChange }: IFieldProps<IAttributes['scheme']>): React.JSX.Element {
  return (
    <Choice label={trans.__('Protocol')} value={value} onChange={chosen => onChange(chosen as Scheme)}>
      <option value="">{trans.__('As the server is configured')}</option>
      <option value="http">HTTP</option>
      <option value="https">HTTPS</option>
      <option value="tcp">{trans.__('Another one (TCP), without a page')}</option>
    </Choice>
  );
}

function HostChoice({ value, trans, onChange }: IFieldProps<IAttributes['keep_host']>): React.JSX.Element {
  return (
    <Choice label={trans.__("Keep the browser's Host")} value={value} onChange={chosen => onChange(chosen as 'yes')}>
      <option value="">{trans.__('As the server is configured')}</option>
      <option value="yes">{trans.__('Yes')}</option>
      <option value="no">{trans.__('No')}</option>
    </Choice>
  );
}

function ActivityChoice({ value, trans, onChange }: IFieldProps<IAttributes['activity']>): React.JSX.Element {
  return (
    <Choice label={trans.__('Activity of the server')} value={value} onChange={chosen => onChange(chosen as Activity)}>
      <option value="">{trans.__('As other ports')}</option>
      {ACTIVITIES.map(activity => (
        <option key={activity} value={activity}>
          {activityText(activity, trans)}
        </option>
      ))}
    </Choice>
  );
}

interface IChoiceProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  children: React.ReactNode;
}

function Choice({ label, value, onChange, children }: IChoiceProps): React.JSX.Element {
  return (
    <label>
      {label}
      <HTMLSelect value={value} onChange={event => onChange(event.target.value)}>
        {children}
      </HTMLSelect>
    </label>
  );
}

interface ITextProps {
  label: string;
  value: string;
  placeholder?: string;
  isRequired?: boolean;
  onChange: (value: string) => void;
}

function Text({ label, value, placeholder, isRequired, onChange }: ITextProps): React.JSX.Element {
  return (
    <label>
      {label}
      <input
        className="jp-mod-styled"
        spellCheck={false}
        value={value}
        placeholder={placeholder}
        required={isRequired}
        onChange={event => onChange(event.target.value)}
      />
    </label>
  );
}

interface IAddProps extends IFormProps<RuleInput> {
  trans: TranslationBundle;
}

/** The fields of a port that is listed also while no program listens. */
export function AddForm({ trans, problem, onChange }: IAddProps): React.JSX.Element {
  const [ports, setPorts] = React.useState('');
  const [attributes, setAttributes] = React.useState<IAttributes>({ ...attributesOf(undefined), pinned: true });
  const { label, scheme } = attributes;
  // Fields that are left empty are not sent: a rule that the port has keeps them.
  const rule: RuleInput = { ports: ports.trim(), pinned: true, ...(label.trim() ? { label: label.trim() } : {}), ...(scheme ? { scheme } : {}) };
  React.useLayoutEffect(() => onChange(rule, ports.trim() !== ''), [JSON.stringify(rule)]);
  return (
    <form className="jp-PortProxy-form" onSubmit={event => event.preventDefault()}>
      <Text label={trans.__('Port')} placeholder="8501" value={ports} onChange={setPorts} isRequired />
      <Text label={trans.__('Label (optional)')} value={attributes.label} onChange={label => setAttributes({ ...attributes, label })} />
      <SchemeChoice value={attributes.scheme} trans={trans} onChange={scheme => setAttributes({ ...attributes, scheme })} />
      <Refusal text={problem} />
    </form>
  );
}

function kindOf(rule: IPortRule, port: Subject): Kind {
  return rule.ports === null ? 'process' : rule.ports === String(port.port) ? 'port' : 'range';
}

function attributesOf(rule: IPortRule | undefined): IAttributes {
  const { label = '', on_appear, scheme, keep_host: keeps = null, activity, pinned = false } = rule ?? {};
  const keep_host = keeps === null ? '' : keeps ? 'yes' : 'no';
  return { label, on_appear: on_appear ?? '', scheme: scheme ?? '', keep_host, activity: activity ?? '', pinned };
}

function ruleOf(kind: Kind, match: string, { label, on_appear, scheme, keep_host, activity, pinned }: IAttributes): RuleInput {
  const common = { label: label.trim(), on_appear: on_appear || null };
  if (kind === 'process') {
    return { process: match, ...common };
  }
  const host = { keep_host: keep_host === '' ? null : keep_host === 'yes' };
  const forPorts = { ports: match, ...common, scheme: scheme || null, ...host, ...(activity ? { activity } : {}) };
  return kind === 'port' ? { ...forPorts, pinned } : forPorts;
}

/** Stores a change. A rule without attributes is removed. */
async function store(manager: IPortsManager, { rule, replaces }: IRuleChange): Promise<void> {
  const { label, on_appear, scheme, keep_host, pinned, activity } = rule;
  const isEmpty = !label && !on_appear && !scheme && (keep_host ?? null) === null && !pinned && !activity;
  const stored = isEmpty ? undefined : await manager.setRule(rule);
  if (replaces && replaces.id !== stored?.id) {
    await manager.removeRule(replaces.id);
  }
}

/** Shows the rules for a port. */
export async function showRuleForm(port: Subject, manager: IPortsManager, trans: TranslationBundle): Promise<void> {
  const rules = new RuleSet(manager.portRules ?? []).matching(port);
  await showForm<IRuleChange>({
    title: trans.__('Edit port %1', port.port),
    accept: trans.__('Save'),
    focused: 'input',
    form: props => <RuleForm {...{ port, rules, trans }} {...props} />,
    submit: change => store(manager, change),
    ...(rules.length
      ? {
          removal: {
            label: trans.__('Remove rule'),
            remove: async ({ replaces }) => replaces && manager.removeRule(replaces.id)
          }
        }
      : {})
  });
}

/** Adds a port to the list. A rule that the port has keeps its other attributes. */
export async function showAddForm(manager: IPortsManager, trans: TranslationBundle): Promise<void> {
  await showForm<RuleInput>({
    title: trans.__('Add port'),
    accept: trans.__('Add'),
    focused: 'input',
    form: props => <AddForm {...{ trans }} {...props} />,
    submit: async rule => void (await manager.changeRule(rule))
  });
}
