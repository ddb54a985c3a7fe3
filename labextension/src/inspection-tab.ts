// A tab of JupyterLab for a view of a service or port; in Notebook, which shows one document only, a dialog.

import { Dialog, MainAreaWidget } from '@jupyterlab/apputils';
import type { LabIcon } from '@jupyterlab/ui-components';
import type { Widget } from '@lumino/widgets';

import type { IInspectionParts } from './inspection';

/** Leaves the keys to the view: by itself, JupyterLab's dialog takes Enter on the view's buttons and in its fields. */
class ViewDialog extends Dialog<void> {
  constructor(
    title: string,
    private readonly _view: Widget,
    close: string
  ) {
    super({ title, body: _view as Dialog.IBodyWidget<void>, buttons: [Dialog.okButton({ label: close })], focusNodeSelector: 'input' });
  }

  override handleEvent(event: Event): void {
    const isOfView = event instanceof KeyboardEvent && event.key !== 'Escape' && this._view.node.contains(event.target as Node);
    if (!isOfView) {
      super.handleEvent(event);
    }
  }
}

/** Shows the tab with this identity, or makes it with the view. Returns the view that is shown. */
export function showTab<T extends Widget>(parts: IInspectionParts, id: string, label: string, icon: LabIcon, makeView: () => T): T {
  const { shell, labShell, trans } = parts;
  if (!labShell) {
    const view = makeView();
    void new ViewDialog(label, view, trans.__('Close')).launch();
    return view;
  }
  let tab = [...shell.widgets('main')].find(widget => widget.id === id) as MainAreaWidget<T> | undefined;
  if (!tab) {
    tab = new MainAreaWidget({ content: makeView() });
    tab.id = id;
    tab.content.node.setAttribute('aria-label', label);
    tab.title.label = label;
    tab.title.icon = icon;
    tab.title.closable = true;
    shell.add(tab, 'main', { type: 'Inspection' });
  }
  shell.activateById(id);
  return tab.content;
}
