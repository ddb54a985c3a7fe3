// The templates in menus: *File > New > Service*, and the *New* menu of Notebook's file browser.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IToolbarWidgetRegistry } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import { IMainMenu } from '@jupyterlab/mainmenu';
import { Menu, MenuBar, Widget } from '@lumino/widgets';

import { CommandIDs } from './commands';
import { hasTile } from './launcher';
import { IPortsManager, ITemplate } from './tokens';

/** In schema/plugin.json, where users can disable it. */
const SUBMENU_ID = 'jp-mainmenu-file-new-service';

/** Replaces the templates at the end of a menu. */
export function listTemplates(menu: Menu, templates: readonly ITemplate[]): void {
  menu.items.filter(item => item.command === CommandIDs.launch).forEach(item => menu.removeItem(item));
  templates.filter(hasTile).forEach(({ name }) => menu.addItem({ command: CommandIDs.launch, args: { template: name } }));
}

/** The same in Notebook's menu, which Notebook clears when kernels change. */
function listInNotebook(menu: Menu, templates: readonly ITemplate[]): void {
  if (!menu.items.some(item => item.command === CommandIDs.startForm)) {
    menu.addItem({ type: 'separator' });
    menu.addItem({ command: CommandIDs.startForm });
  }
  listTemplates(menu, templates);
}

/** The New menu of Notebook's file browser. Notebook has one menu for all toolbars with this item. */
function notebookMenu(toolbars: IToolbarWidgetRegistry): Menu | undefined {
  const bar = toolbars.createWidget('FileBrowser', new Widget(), { name: 'new-dropdown' });
  const menu = bar instanceof MenuBar ? bar.menus[0] : undefined;
  bar.dispose();
  return menu;
}

export const menusPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-portproxy:menus',
  description: 'Lists the services that can be started in File > New, and in the New menu of Notebook.',
  autoStart: true,
  requires: [IPortsManager],
  optional: [IMainMenu, IToolbarWidgetRegistry],
  activate: (app: JupyterFrontEnd, manager: IPortsManager, mainMenu: IMainMenu | null, toolbars: IToolbarWidgetRegistry | null): void => {
    void app.started.then(() => {
      const notebook = toolbars && PageConfig.getOption('notebookPage') === 'tree' ? notebookMenu(toolbars) : undefined;
      let listed: readonly ITemplate[] | undefined;
      const list = () => {
        const submenu = mainMenu?.fileMenu.newMenu.items.find(item => item.submenu?.id === SUBMENU_ID)?.submenu;
        listed = manager.templates;
        if (submenu) {
          listTemplates(submenu, listed);
        }
        if (notebook) {
          listInNotebook(notebook, listed);
        }
      };
      manager.changed.connect(() => listed === manager.templates || list());
      app.serviceManager.kernelspecs.specsChanged.connect(list); // Notebook's own slot, which clears the menu, is older
      list();
    });
  }
};
