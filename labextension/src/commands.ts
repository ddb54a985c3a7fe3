// The names and arguments of the commands. Every action of the user interface is a command.

export const CommandIDs = {
  launch: 'portproxy:launch',
  startForm: 'portproxy:start-form',
  showPanel: 'portproxy:show-panel',
  refresh: 'portproxy:refresh',
  openInLab: 'portproxy:open-in-lab',
  openInBrowser: 'portproxy:open-in-browser',
  copyUrl: 'portproxy:copy-url',
  showLog: 'portproxy:show-log',
  restart: 'portproxy:restart',
  edit: 'portproxy:edit',
  stop: 'portproxy:stop',
  forget: 'portproxy:forget',
  allowPort: 'portproxy:allow-port',
  disallowPort: 'portproxy:disallow-port'
} as const;

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
    path: { type: 'string', description: "Path, query and fragment below the target's URL" }
  }
} as const;

const SERVICE = { type: 'object', properties: { service: TARGET.properties.service } } as const;

const PORT = { type: 'object', properties: { port: TARGET.properties.port } } as const;

const TEMPLATE = { type: 'object', properties: { template: { type: 'string', description: 'Name of a template' } } } as const;

/** JSON schemas of the commands' arguments. */
export const ARGUMENTS: Record<string, object> = {
  [CommandIDs.launch]: { ...TEMPLATE, required: ['template'] },
  [CommandIDs.startForm]: TEMPLATE,
  [CommandIDs.showPanel]: { type: 'object', properties: {} },
  [CommandIDs.refresh]: { type: 'object', properties: {} },
  [CommandIDs.openInLab]: PAGE,
  [CommandIDs.openInBrowser]: PAGE,
  [CommandIDs.copyUrl]: TARGET,
  [CommandIDs.showLog]: SERVICE,
  [CommandIDs.restart]: SERVICE,
  [CommandIDs.edit]: SERVICE,
  [CommandIDs.stop]: SERVICE,
  [CommandIDs.forget]: SERVICE,
  [CommandIDs.allowPort]: PORT,
  [CommandIDs.disallowPort]: PORT
};
