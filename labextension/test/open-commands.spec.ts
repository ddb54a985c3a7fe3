// The name of a port in tabs and sentences.

import { expect, it } from 'vitest';

import { labelOf } from '../src/open-commands';
import { RuleSet } from '../src/rules';
import type { IPort, IPortsManager } from '../src/tokens';
import { port, trans } from './samples';

it.each<[string, IPort | undefined]>([
  ['python:15001', port(15001)],
  ['Shop', port(15001, { title: 'Shop' })],
  ['Port 15001', port(15001, { process: '' })],
  ['Port 15001', undefined]
])('%s tells the port from others of the same program', (label, listed) => {
  const manager = { port: () => listed } as unknown as IPortsManager;
  const state = { rules: new RuleSet() } as never;
  expect(labelOf({ manager, state, trans }, { port: 15001 })).toBe(label);
});
