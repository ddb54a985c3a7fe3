// The dialog "Start a service": environment, template, name and arguments.

import type { Contents } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';

import { messageOf } from './api';
import { IFormProps, showForm } from './dialog';
import { Refusal } from './refusal';
import type { IArgument, IKernel, IPortsManager, ITemplate } from './tokens';

export interface IChoice {
  template: string;
  name: string;
  arguments: Record<string, string>;
  /** The kernel in whose environment it runs; empty for the server's own Python; null: the template decides. */
  kernel: string | null;
}

/** Lists completions of a path; an empty list if its folder does not exist. */
export type Complete = (path: string) => Promise<string[]>;

/** Completes paths from the server's files. */
export function pathCompleter(contents: Pick<Contents.IManager, 'get'>): Complete {
  return async path => {
    const folder = path.slice(0, path.lastIndexOf('/') + 1);
    try {
      const model = await contents.get(folder, { content: true });
      const entries = model.type === 'directory' ? (model.content as Contents.IModel[]) : [];
      return entries.map(entry => folder + entry.name + (entry.type === 'directory' ? '/' : '')).filter(p => p.startsWith(path));
    } catch {
      return [];
    }
  };
}

interface IStartProps extends IFormProps<IChoice> {
  /** Those of the environment of `first`. */
  templates: readonly ITemplate[];
  /** Other environments than the server's; without any, there is no choice. */
  kernels: readonly IKernel[];
  /** The templates of another environment. */
  templatesOf: (kernel: string | null) => Promise<readonly ITemplate[]>;
  /** Initial values of the fields. */
  first: IChoice;
  complete: Complete;
  trans: TranslationBundle;
}

/** The fields. Calls `onChange` with the input, and whether it is complete. */
export function StartForm(props: IStartProps): React.JSX.Element {
  const { kernels, first, problem, complete, trans, onChange } = props;
  const { kernel, templates, reason, setKernel } = useEnvironment(props);
  const [name, setName] = React.useState(first.name);
  const [wanted, setChosen] = React.useState(first.template);
  const chosen = wanted || (templates.find(item => item.available)?.name ?? '');
  const [values, setValues] = React.useState<Record<string, string>>(
    Object.fromEntries(Object.entries(first.arguments).map(([key, value]) => [`${first.template}.${key}`, value]))
  );
  const template = templates.find(item => item.name === chosen);
  const args = template?.arguments ?? [];
  const filled = Object.fromEntries(args.map(arg => [arg.name, values[`${chosen}.${arg.name}`] ?? arg.default]));
  const missing = !template?.available || !!reason || args.some(arg => filled[arg.name] === '' && arg.default === '');
  // A layout effect runs before the next event: a click on Start may follow immediately.
  React.useLayoutEffect(() => onChange({ template: chosen, name, arguments: filled, kernel }, !missing), [chosen, name, JSON.stringify(filled), kernel, missing]);
  return (
    <form className="jp-PortProxy-form" onSubmit={event => event.preventDefault()}>
      {kernels.length ? <EnvironmentChoice {...{ kernels, kernel: kernel ?? template?.kernel ?? '', trans }} onChange={setKernel} /> : null}
      <label>
        {trans.__('Service')}
        <HTMLSelect value={chosen} onChange={event => setChosen(event.target.value)}>
          {templates
            .filter(item => item.available || item.name === chosen)
            .map(item => (
              <option key={item.name} value={item.name}>
                {item.title}
              </option>
            ))}
        </HTMLSelect>
      </label>
      <Refusal text={reason || (template?.available === false ? template.hint : '')} />
      {args.map(arg => (
        <Field
          key={`${chosen}.${arg.name}`}
          arg={arg}
          value={filled[arg.name] ?? ''}
          complete={complete}
          onChange={value => setValues({ ...values, [`${chosen}.${arg.name}`]: value })}
        />
      ))}
      <label>
        {trans.__('Name (optional)')}
        <input
          className="jp-mod-styled"
          value={name}
          placeholder={chosen}
          maxLength={64}
          onChange={event => setName(event.target.value)}
        />
      </label>
      <Refusal text={problem} />
    </form>
  );
}

interface IEnvironment {
  kernel: string | null;
  templates: readonly ITemplate[];
  /** Why the templates of the environment are not known. */
  reason: string;
  setKernel: (kernel: string) => void;
}

/** The chosen environment, and what is installed in it. */
function useEnvironment({ templates: initial, templatesOf, first }: IStartProps): IEnvironment {
  const [kernel, setKernel] = React.useState(first.kernel);
  const [templates, setTemplates] = React.useState(initial);
  const [reason, setReason] = React.useState('');
  const isFirst = React.useRef(true);
  React.useEffect(() => {
    if (isFirst.current) {
      isFirst.current = false;
      return undefined;
    }
    let isCurrent = true;
    templatesOf(kernel).then(
      found => {
        if (isCurrent) {
          setTemplates(found.filter(item => !item.external));
          setReason('');
        }
      },
      error => isCurrent && setReason(messageOf(error))
    );
    return () => {
      isCurrent = false;
    };
  }, [kernel]);
  return { kernel, templates, reason, setKernel };
}

interface IEnvironmentProps {
  kernels: readonly IKernel[];
  kernel: string;
  trans: TranslationBundle;
  onChange: (kernel: string) => void;
}

function EnvironmentChoice({ kernels, kernel, trans, onChange }: IEnvironmentProps): React.JSX.Element {
  return (
    <label>
      {trans.__('Environment')}
      <HTMLSelect value={kernel} onChange={event => onChange(event.target.value)}>
        <option value="">{trans.__("This server's Python")}</option>
        {kernels.map(({ name, title, available, reason }) => (
          <option key={name} value={name} disabled={!available} title={reason}>
            {title}
          </option>
        ))}
      </HTMLSelect>
    </label>
  );
}

interface IFieldProps {
  arg: IArgument;
  value: string;
  complete: Complete;
  onChange: (value: string) => void;
}

function Field({ arg, value, complete, onChange }: IFieldProps): React.JSX.Element {
  const [paths, setPaths] = React.useState<string[]>([]);
  const list = `jp-PortProxy-paths-${arg.name}`;
  React.useEffect(() => {
    let current = arg.kind === 'path';
    if (current) {
      void complete(value).then(found => current && setPaths(found));
    }
    return () => {
      current = false;
    };
  }, [value]);
  if (arg.kind === 'choice') {
    return (
      <label>
        {arg.label}
        <HTMLSelect value={value} onChange={event => onChange(event.target.value)}>
          {arg.choices.map(choice => (
            <option key={choice}>{choice}</option>
          ))}
        </HTMLSelect>
      </label>
    );
  }
  return (
    <label>
      {arg.label}
      <input
        className="jp-mod-styled"
        inputMode={arg.kind === 'number' ? 'decimal' : 'text'}
        list={arg.kind === 'path' ? list : undefined}
        required={arg.default === ''}
        value={value}
        onChange={event => onChange(event.target.value)}
      />
      {arg.kind === 'path' ? (
        <datalist id={list}>
          {paths.map(path => (
            <option key={path} value={path} />
          ))}
        </datalist>
      ) : null}
    </label>
  );
}

/** Starts the chosen service; rejects if the server refuses it. */
export type Submit = (choice: IChoice) => Promise<void>;

interface IStartOptions {
  manager: Pick<IPortsManager, 'templates' | 'kernels' | 'templatesOf'>;
  first: Partial<IChoice>;
  complete: Complete;
  submit: Submit;
  trans: TranslationBundle;
}

/** Shows the dialog; resolves when the server has accepted the input, or the dialog is cancelled. */
export async function showStartDialog({ manager, first, complete, submit, trans }: IStartOptions): Promise<void> {
  const all = await manager.kernels().catch(() => []); // without a choice, the form works as ever
  const kernels = all.filter(({ name, own }) => !own || name === first.kernel);
  const isGone = first.kernel && !kernels.some(({ name, available }) => available && name === first.kernel);
  const kernel = isGone ? '' : (first.kernel ?? null);
  const templatesOf = (name: string | null) => (name ? manager.templatesOf(name) : Promise.resolve(manager.templates));
  const templates = (await templatesOf(kernel)).filter(item => !item.external);
  const begin = { template: '', name: '', arguments: {}, ...first, kernel };
  await showForm<IChoice>({
    title: trans.__('Start a service'),
    accept: trans.__('Start'),
    focused: first.template === undefined ? 'select' : 'input',
    form: props => <StartForm {...{ templates, kernels, templatesOf, first: begin, complete, trans }} {...props} />,
    submit
  });
}
