// The tiles of the launcher: one for each available template, in the template's category.

import type { ILauncher } from '@jupyterlab/launcher';
import { DisposableSet } from '@lumino/disposable';

import { CommandIDs } from './commands';
import type { ITemplate } from './tokens';

export class Tiles {
  constructor(private readonly _launcher: Pick<ILauncher, 'add'>) {}

  /** Replaces the tiles if the templates have changed. */
  update(templates: readonly ITemplate[]): void {
    if (templates === this._templates) {
      return;
    }
    this._templates = templates;
    this._tiles.dispose();
    this._tiles = new DisposableSet();
    templates
      .filter(hasTile)
      .forEach((template, rank) => this._tiles.add(this._launcher.add(tileOf(template, rank))));
  }

  private _templates: readonly ITemplate[] = [];
  private _tiles = new DisposableSet();
}

/** Whether the launcher and the menus offer a template. */
export function hasTile(template: ITemplate): boolean {
  return template.available && template.launcher !== '';
}

function tileOf(template: ITemplate, rank: number): ILauncher.IItemOptions {
  return {
    command: CommandIDs.launch,
    args: { template: template.name },
    category: template.launcher,
    rank,
    ...(template.icon ? { kernelIconUrl: template.icon } : {}) // used in the categories of kernels; others show the command's icon
  };
}
