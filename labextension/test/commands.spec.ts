// The documentation of the commands has the commands and arguments of the source.

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

import plugins from '../src/index';
import { ARGUMENTS, CommandIDs } from '../src/commands';

interface ISchema {
  properties?: Record<string, { type: string; description: string }>;
  required?: string[];
}

const PAGE = readFileSync('../docs/extending.md', 'utf8');

/** The cells of the table whose heading starts with a word. */
function table(heading: string): string[][] {
  const [, rows] = new RegExp(`^\\| ${heading} .*\\n\\|[-|]+\\n((?:\\|.*\\n)+)`, 'm').exec(PAGE) ?? [];
  return (rows ?? '').trimEnd().split('\n').map(row => row.split('|').slice(1, -1).map(cell => cell.trim()));
}

const schemas = Object.values(CommandIDs).map(id => [id, ARGUMENTS[id] as ISchema] as const);

it('names each command with its arguments', () => {
  const expected = schemas.map(([id, { properties = {}, required = [] }]) => {
    const names = Object.keys(properties).map(name => `\`${name}\`${required.includes(name) ? ' (required)' : ''}`);
    return [`\`${id}\``, names.join(', ')];
  });
  expect(table('Command').map(cells => cells.slice(0, 2)).sort()).toEqual(expected.sort());
});

it('describes each argument', () => {
  const described = schemas.flatMap(([, { properties = {} }]) =>
    Object.entries(properties).map(([name, { type, description }]) => `\`${name}\`, ${type}, ${description}`)
  );
  expect(new Set(table('Argument').map(cells => cells.join(', ')))).toEqual(new Set(described));
});

it('lists the plugins', () => {
  expect(table('Plugin').map(cells => cells[0])).toEqual(plugins.map(plugin => `\`${plugin.id}\``));
});
