// The dialog "Start a service": template, name and arguments.

import type { Contents } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';

import { IFormProps, showForm } from './dialog';
import { Refusal } from './refusal';
import type { IArgument, ITemplate } from './tokens';

export interface IChoice {
  template: string;
  name: string;
  arguments: Record<string, string>;
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
  templates: readonly ITemplate[];
  /** Initial values of the fields. */
  first: IChoice;
  complete: Complete;
  trans: TranslationBundle;
}

/** The fields. Calls `onChange` with the input, and whether it is complete. */
export function StartForm({ templates, first, problem, complete, trans, onChange }: IStartProps): React.JSX.Element {
  const [name, setName] = React.useState(first.name);
  const [chosen, setChosen] = React.useState(first.template);
  const [values, setValues] = React.useState<Record<string, string>>(
    Object.fromEntries(Object.entries(first.arguments).map(([key, value]) => [`${first.template}.${key}`, value]))
  );
  const template = templates.find(item => item.name === chosen);
  const args = template?.arguments ?? [];
  const filled = Object.fromEntries(args.map(arg => [arg.name, values[`${chosen}.${arg.name}`] ?? arg.default]));
  const missing = !template || args.some(arg => filled[arg.name] === '' && arg.default === '');
  // A layout effect runs before the next event: a click on Start may follow immediately.
  React.useLayoutEffect(() => onChange({ template: chosen, name, arguments: filled }, !missing), [chosen, name, JSON.stringify(filled)]);
  return (
    <form className="jp-PortProxy-form" onSubmit={event => event.preventDefault()}>
      <label>
        {trans.__('Service')}
        <HTMLSelect value={chosen} onChange={event => setChosen(event.target.value)}>
          {templates.map(item => (
            <option key={item.name} value={item.name}>
              {item.title}
            </option>
          ))}
        </HTMLSelect>
      </label>
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

/** Shows the dialog; resolves when the server has accepted the input, or the dialog is cancelled. */
export async function showStartDialog(
  templates: readonly ITemplate[],
  first: Partial<IChoice>,
  complete: Complete,
  submit: Submit,
  trans: TranslationBundle
): Promise<void> {
  const begin = { template: templates[0]?.name ?? '', name: '', arguments: {}, ...first };
  await showForm<IChoice>({
    title: trans.__('Start a service'),
    accept: trans.__('Start'),
    focused: first.template === undefined ? 'select' : 'input',
    form: props => <StartForm {...{ templates, first: begin, complete, trans }} {...props} />,
    submit
  });
}
