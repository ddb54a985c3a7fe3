// The dialog "Start a service": template, name and arguments.

import { Dialog } from '@jupyterlab/apputils';
import type { Contents } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect, ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { ApiError } from './api';
import type { IArgument, ITemplate } from './tokens';

const START_BUTTON = 1; // its index in the dialog

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

interface IFormProps {
  templates: readonly ITemplate[];
  /** Initial values of the fields. */
  first: IChoice;
  /** The server's reason for refusing the input. */
  problem?: string;
  complete: Complete;
  trans: TranslationBundle;
  onChange: (choice: IChoice, complete: boolean) => void;
}

/** The fields. Calls `onChange` with the input, and whether it is complete. */
export function StartForm({ templates, first, problem, complete, trans, onChange }: IFormProps): React.JSX.Element {
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
      {problem ? (
        <p className="jp-PortProxy-problem" role="alert">
          {problem}
        </p>
      ) : null}
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

class Body extends ReactWidget implements Dialog.IBodyWidget<IChoice> {
  constructor(private readonly _props: Omit<IFormProps, 'onChange' | 'problem'>) {
    super();
    this._choice = _props.first;
  }

  getValue(): IChoice {
    return this._choice;
  }

  /** Whether the input is complete; if not, the browser marks the missing field. */
  check(): boolean {
    this.node.querySelector('form')?.reportValidity();
    return this._complete;
  }

  set problem(problem: string) {
    this._problem = problem;
    this.update();
  }

  protected override render(): React.JSX.Element {
    return <StartForm {...this._props} problem={this._problem} onChange={this._onChange} />;
  }

  private _onChange = (choice: IChoice, complete: boolean): void => {
    this._choice = choice;
    this._complete = complete;
    const accept = this.node.closest('.jp-Dialog-content')?.querySelector<HTMLButtonElement>('.jp-Dialog-button.jp-mod-accept');
    if (accept) {
      accept.disabled = !complete;
    }
  };

  private _choice: IChoice;
  private _complete = false;
  private _problem = '';
}

/**
 * Stays open until the server accepts the input. JupyterLab's own dialog accepts Enter also while Start is disabled.
 */
class StartDialog extends Dialog<IChoice> {
  constructor(private readonly _form: Body, private readonly _submit: Submit, trans: TranslationBundle, focused: string) {
    const buttons = [Dialog.cancelButton(), Dialog.okButton({ label: trans.__('Start') })];
    super({ title: trans.__('Start a service'), body: _form, buttons, defaultButton: START_BUTTON, focusNodeSelector: focused });
  }

  override resolve(index: number = START_BUTTON): void {
    if (index !== START_BUTTON) {
      super.resolve(index);
    } else if (!this._isBusy && this._form.check()) {
      void this._try();
    }
  }

  private async _try(): Promise<void> {
    this._isBusy = true;
    try {
      await this._submit(this._form.getValue());
      super.resolve(START_BUTTON);
    } catch (error) {
      this._form.problem = error instanceof ApiError ? error.text : String(error);
    } finally {
      this._isBusy = false;
    }
  }

  private _isBusy = false;
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
  const form = new Body({ templates, first: begin, complete, trans });
  await new StartDialog(form, submit, trans, first.template === undefined ? 'select' : 'input').launch();
}
