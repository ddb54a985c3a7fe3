// A dialog with a form. It stays open, with all that was typed, until the server accepts the input.

import { Dialog } from '@jupyterlab/apputils';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { messageOf } from './api';

/** The properties of a form's component. */
export interface IFormProps<T> {
  /** The server's reason for refusing the input. */
  problem?: string;
  /** Takes the input, whether it is complete, and whether it can be removed. */
  onChange: (value: T, isComplete: boolean, isRemovable?: boolean) => void;
}

export interface IFormOptions<T> {
  title: string;
  /** Label of the button that submits. */
  accept: string;
  /** Label of the button that cancels. */
  cancel?: string;
  /** Another button that submits. */
  alternative?: { label: string; submit: (value: T) => Promise<void> };
  /** Enter submits on a button only: elsewhere it cancels. */
  isCautious?: boolean;
  /** Selector of the first element with the focus. */
  focused: string;
  form: React.ComponentType<IFormProps<T>>;
  /** Rejects if the server refuses the input. */
  submit: (value: T) => Promise<void>;
  /** A button that removes what the form shows. */
  removal?: { label: string; remove: (value: T) => Promise<void> };
}

/** Calls `call` once, as soon as the elements before it are in the page. */
function AtFirst({ call }: { call: () => void }): null {
  React.useLayoutEffect(call, []);
  return null;
}

class Fields<T> extends ReactWidget implements Dialog.IBodyWidget<void> {
  constructor(
    private readonly _form: React.ComponentType<IFormProps<T>>,
    private readonly _focused: string
  ) {
    super();
  }

  value: T | undefined;

  /** Whether the input is complete; if not, the browser marks the missing field. */
  check(): boolean {
    this.node.querySelector('form')?.reportValidity();
    return this._isComplete;
  }

  set problem(problem: string) {
    this._problem = problem;
    this.update();
  }

  protected override render(): React.JSX.Element {
    return (
      <>
        <this._form problem={this._problem} onChange={this._onChange} />
        <AtFirst call={this._focus} />
      </>
    );
  }

  private _focus = (): void => this.node.querySelector<HTMLElement>(this._focused)?.focus();

  private _onChange = (value: T, isComplete: boolean, isRemovable = false): void => {
    this.value = value;
    this._isComplete = isComplete;
    const enable = (button: string, isEnabled: boolean) => {
      const found = this.node.closest('.jp-Dialog-content')?.querySelectorAll<HTMLButtonElement>(`.jp-Dialog-button.${button}`);
      found?.forEach(element => (element.disabled = !isEnabled));
    };
    enable('jp-mod-accept:not(.jp-mod-warn)', isComplete);
    enable('jp-mod-warn', isRemovable);
  };

  private _isComplete = false;
  private _problem = '';
}

/**
 * JupyterLab's own dialog accepts Enter also while its button is disabled, and closes before the server has answered. It gives the focus
 * to the first field only when the browser is idle, and what a person types at that moment would go there: here the field that has the
 * focus keeps it.
 */
class FormDialog<T> extends Dialog<void> {
  constructor(private readonly _options: IFormOptions<T>) {
    const { title, accept, cancel, alternative, isCautious, focused, form, removal } = _options;
    const body = new Fields<T>(form, focused);
    const buttons = [
      ...(removal ? [Dialog.warnButton({ label: removal.label })] : []),
      Dialog.cancelButton(cancel ? { label: cancel } : {}),
      ...(alternative ? [Dialog.okButton({ label: alternative.label })] : []),
      Dialog.okButton({ label: accept })
    ];
    const last = buttons.length - 1;
    super({ title, body, buttons, defaultButton: isCautious ? (removal ? 1 : 0) : last, focusNodeSelector: ':focus' });
    this._fields = body;
    this._accept = last;
  }

  override resolve(index: number = this._accept): void {
    const { submit, alternative, removal } = this._options;
    const { value } = this._fields;
    if (index === this._accept || (alternative && index === this._accept - 1)) {
      const send = index === this._accept ? submit : (alternative?.submit ?? submit);
      if (this._fields.check() && value !== undefined) {
        void this._try(index, () => send(value));
      }
    } else if (removal && index === 0 && value !== undefined) {
      void this._try(index, () => removal.remove(value));
    } else {
      super.resolve(index);
    }
  }

  private async _try(index: number, action: () => Promise<void>): Promise<void> {
    if (this._isBusy) {
      return;
    }
    this._isBusy = true;
    try {
      await action();
      super.resolve(index);
    } catch (error) {
      this._fields.problem = messageOf(error);
    } finally {
      this._isBusy = false;
    }
  }

  private readonly _fields: Fields<T>;
  private readonly _accept: number;
  private _isBusy = false;
}

/** Shows the dialog; resolves when the server has accepted the input, or the dialog is cancelled. */
export async function showForm<T>(options: IFormOptions<T>): Promise<void> {
  await new FormDialog(options).launch();
}
