// A tab of JupyterLab for a view of a service or port; in Notebook, which shows one document only, a dialog.

import { Dialog, MainAreaWidget, showDialog } from '@jupyterlab/apputils';
import type { LabIcon } from '@jupyterlab/ui-components';
import type { Widget } from '@lumino/widgets';

import type { IInspectionParts } from './inspection';

/** Shows the tab with this identity, or makes it with the view. Returns the view that is shown. */
export function showTab<T extends Widget>(parts: IInspectionParts, id: string, label: string, icon: LabIcon, makeView: () => T): T {
  const { shell, labShell, trans } = parts;
  if (!labShell) {
    const view = makeView();
    void showDialog({ title: label, body: view, buttons: [Dialog.okButton({ label: trans.__('Close') })], defaultButton: -1 });
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
