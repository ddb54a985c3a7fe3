// The names and arguments of the commands. Every action of the user interface is a command.

import type { LabIcon } from '@jupyterlab/ui-components';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';

export const CommandIDs = {
  launch: 'portproxy:launch',
  startForm: 'portproxy:start-form',
  showPanel: 'portproxy:show-panel',
  refresh: 'portproxy:refresh',
  openInLab: 'portproxy:open-in-lab',
  openInBrowser: 'portproxy:open-in-browser',
  openUrl: 'portproxy:open-url',
  copyUrl: 'portproxy:copy-url',
  copyForwardCommand: 'portproxy:copy-forward-command',
  showLog: 'portproxy:show-log',
  diagnose: 'portproxy:diagnose',
  showRequests: 'portproxy:show-requests',
  restart: 'portproxy:restart',
  edit: 'portproxy:edit',
  stop: 'portproxy:stop',
  forget: 'portproxy:forget',
  allowPort: 'portproxy:allow-port',
  disallowPort: 'portproxy:disallow-port',
  editPort: 'portproxy:edit-port',
  addPort: 'portproxy:add-port',
  removePort: 'portproxy:remove-port',
  reviewFolder: 'portproxy:review-folder',
  startFolder: 'portproxy:start-folder',
  stopFolder: 'portproxy:stop-folder'
} as const;

/** jupyter-server-proxy's name for `openUrl`. */
export const SERVER_PROXY_OPEN = 'server-proxy:open';

export type Args = ReadonlyPartialJSONObject;

/** Registers a command. */
export type AddCommand = (
  id: string,
  label: string | ((args: Args) => string),
  execute: (args: Args) => unknown,
  more?: { icon?: LabIcon | ((args: Args) => LabIcon); isEnabled?: (args: Args) => boolean; caption?: string }
) => unknown;

/** The subject of a row, a tab or a command: a service by its name, or a port. */
export type Target = { service: string } | { port: number };

const TARGET = {
  type: 'object',
  properties: {
    service: { type: 'string', description: 'Name of a service' },
    port: { type: 'integer', description: 'Number of a port' }
  }
} as const;

const PAGE = {
  type: 'object',
  properties: {
    ...TARGET.properties,
    path: { type: 'string', description: "Path, query and fragment below the target's URL" },
    label: { type: 'string', description: 'Label of the tab' }
  }
} as const;

const SERVICE = { type: 'object', properties: { service: TARGET.properties.service } } as const;

const URL_TO_OPEN = {
  type: 'object',
  properties: {
    url: { type: 'string', description: 'An address: absolute, or relative to the base URL of the server' },
    title: { type: 'string', description: 'Label of the tab' },
    id: { type: 'string', description: 'Identity of the tab of a page that belongs to no service' },
    newBrowserTab: { type: 'boolean', description: 'Open it in a browser tab' }
  },
  required: ['url']
} as const;

const PORT = { type: 'object', properties: { port: TARGET.properties.port } } as const;

const FOLDER = {
  type: 'object',
  properties: { folder: { type: 'string', description: 'Path of a folder with a project file, as the server gives it' } }
} as const;

const TEMPLATE = { type: 'object', properties: { template: { type: 'string', description: 'Name of a template' } } } as const;

/** JSON schemas of the commands' arguments. */
export const ARGUMENTS: Record<string, object> = {
  [CommandIDs.launch]: { ...TEMPLATE, required: ['template'] },
  [CommandIDs.startForm]: TEMPLATE,
  [CommandIDs.showPanel]: { type: 'object', properties: {} },
  [CommandIDs.refresh]: { type: 'object', properties: {} },
  [CommandIDs.openInLab]: {
    type: 'object',
    properties: { ...PAGE.properties, preview: { type: 'boolean', description: 'Split to the right, without the focus' } }
  },
  [CommandIDs.openInBrowser]: PAGE,
  [CommandIDs.openUrl]: URL_TO_OPEN,
  [CommandIDs.copyUrl]: TARGET,
  [CommandIDs.copyForwardCommand]: TARGET,
  [CommandIDs.showLog]: SERVICE,
  [CommandIDs.diagnose]: { type: 'object', properties: { ...TARGET.properties, path: PAGE.properties.path } },
  [CommandIDs.showRequests]: TARGET,
  [CommandIDs.restart]: SERVICE,
  [CommandIDs.edit]: SERVICE,
  [CommandIDs.stop]: SERVICE,
  [CommandIDs.forget]: SERVICE,
  [CommandIDs.allowPort]: PORT,
  [CommandIDs.disallowPort]: PORT,
  [CommandIDs.editPort]: PORT,
  [CommandIDs.addPort]: { type: 'object', properties: {} },
  [CommandIDs.removePort]: PORT,
  [CommandIDs.reviewFolder]: FOLDER,
  [CommandIDs.startFolder]: { type: 'object', properties: { ...FOLDER.properties, service: TARGET.properties.service } },
  [CommandIDs.stopFolder]: FOLDER
};
