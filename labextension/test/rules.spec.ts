// What applies to a port: each attribute by itself, from the most specific rule that has it.

import { describe, expect, it } from 'vitest';

import { compilePattern } from '../src/process-pattern';
import { folderRules, programName, programPattern, RuleSet } from '../src/rules';
import type { IPortRule } from '../src/tokens';
import { folder, port, rule } from './samples';

const streamlit = port(8501, { process: 'streamlit', command: ['python', '/bin/streamlit', 'run', 'app.py'] });
const settings = { onNewPort: 'open', ports: [{ process: '(' }, { process: 'streamlit', label: 'app' }, { port: 8501, action: 'silent' }] } as const;

describe('the rules', () => {
  it.each<[string, IPortRule[], object]>([
    ['no rule', [], { label: 'app', on_appear: 'open' }],
    ['a process', [rule({ process: 'run app' }, { label: 'p', on_appear: 'notify' })], { label: 'p', on_appear: 'notify' }],
    ['another process', [rule({ process: '^vite' }, { label: 'p' })], { label: 'app' }],
    ['the first of two processes', [rule({ process: 'run' }, { label: 'p' }), rule({ process: 'app' }, { label: 'q' })], { label: 'p' }],
    ['a range before a process', [rule({ process: 'run' }, { label: 'p' }), rule({ ports: '8000-8999' }, { label: 'r' })], { label: 'r' }],
    ['the narrowest range', [rule({ ports: '1-65535' }, { label: 'w' }), rule({ ports: '8501-8502' }, { label: 'n' })], { label: 'n' }],
    ['a port before its range', [rule({ ports: '8501-8501' }, { label: 'r' }), rule({ ports: '8501' }, { label: 'x' })], { label: 'x' }],
    ['a range beside it', [rule({ ports: '8502-9000' }, { label: 'r' }), rule({ ports: '1-8500' }, { label: 's' })], { label: 'app' }],
    ['an empty label', [rule({ ports: '8501' }, { on_appear: 'ignore' })], { label: 'app', on_appear: 'ignore' }],
    ['what is no regular expression', [rule({ process: '(?<' }, { label: 'p' })], { label: 'app' }],
    [
      'each attribute by itself',
      [
        rule({ ports: '8501' }, { pinned: true }),
        rule({ ports: '8000-8999' }, { label: 'r' }),
        rule({ process: 'run' }, { label: 'p', on_appear: 'preview' })
      ],
      { label: 'r', on_appear: 'preview' }
    ]
  ])('with %s', (_, rules, applied) => {
    expect(new RuleSet(rules, settings).of(streamlit)).toMatchObject(applied);
  });

  it('are those of the settings where the server has none: the first that matches, as a whole', () => {
    const of = (number: number) => new RuleSet([], settings).of(port(number));
    expect(of(8501)).toEqual({ label: '', on_appear: 'silent' });
    expect(of(1)).toEqual({ label: '', on_appear: 'open' });
  });

  it('of a folder count after those of the user and before the settings', () => {
    const ofFolder = [rule({ ports: '8501' }, { label: 'f', on_appear: 'silent' })];
    expect(new RuleSet([rule({ process: 'run' }, { label: 'p' })], settings, ofFolder).of(streamlit)).toEqual({ label: 'p', on_appear: 'silent' });
    expect(new RuleSet([], settings, ofFolder).of(streamlit)).toEqual({ label: 'f', on_appear: 'silent' });
    expect(new RuleSet([], settings, ofFolder).matching(streamlit)).toEqual([]);
  });

  it('of a folder apply only while its content is allowed', () => {
    const ports = [rule({ ports: '8501' })];
    const folders = (['none', 'given', 'changed'] as const).map(consent => folder(consent, { ports, consent }));
    expect(folderRules(folders.slice(0, 1))).toEqual([]);
    expect(folderRules(folders.slice(2))).toEqual([]);
    expect(folderRules(folders)).toEqual(ports);
    expect(folderRules(null)).toEqual([]);
  });

  it('for a port are listed by precedence', () => {
    const rules = [rule({ process: 'run' }), rule({ process: 'x' }), rule({ ports: '8000-9000' }), rule({ ports: '8501' })];
    expect(new RuleSet(rules).matching(streamlit).map(({ id }) => id)).toEqual(['8501', '8000-9000', 'run']);
  });

  it('with patterns that cannot be used match nothing, and are named', () => {
    const set = new RuleSet([rule({ process: '(a' }), rule({ process: 'run' }), rule({ process: '(?=run)' }), rule({ ports: '1' })], settings);
    expect(set.matching(streamlit).map(({ id }) => id)).toEqual(['run']);
    expect(set.unused.map(({ pattern, problem }) => [pattern, problem.kind])).toEqual([
      ['(a', 'syntax'],
      ['(?=run)', 'unsupported'],
      ['(', 'syntax']
    ]);
  });

  it('of 500 are matched with 500 ports in a moment', () => {
    const rules = Array.from({ length: 500 }, (_, index) => rule({ process: `^program${index}( |$)` }, { label: `p${index}` }));
    const ports = Array.from({ length: 500 }, (_, index) => port(index, { process: `program${index}` }));
    const set = new RuleSet(rules);
    const started = performance.now();
    expect(ports.map(item => set.of(item).label)).toEqual(rules.map(({ label }) => label));
    expect(performance.now() - started).toBeLessThan(2000);
  });
});

describe('the pattern of a program', () => {
  it.each([
    ['streamlit', streamlit.command, '^streamlit( |$)', 'streamlit'],
    ['python3.11', ['python', 'app.py', '--port', '1'], '^python3\\.11 python app\\.py( |$)', 'app.py'],
    ['python', ['python', '-u', '-m', 'a.b', 'x'], '^python python -u -m a\\.b( |$)', 'a.b'],
    ['node', ['node', '/x/(vite)'], '^node node /x/\\(vite\\)( |$)', '/x/(vite)'],
    ['python', [], '^python( |$)', 'python'],
    ['a+\n', [], '^a\\+\\W( |$)', 'a+\n'],
    ['', ['python', 'app.py'], '', '']
  ])('%s of %j', (process, command, pattern, name) => {
    const found = port(1, { process, command });
    expect(programPattern(found)).toBe(pattern);
    expect(programName(found)).toBe(name);
    expect(!pattern || new RuleSet([rule({ process: pattern })]).matching(found).length === 1).toBe(true);
    expect(new RuleSet([rule({ process: pattern })]).matching(port(1, { process: `x${process}`, command })).length).toBe(0);
  });

  it('has at most 200 characters, and matches', () => {
    const found = port(1, { process: 'python', command: ['python', `/${'a.'.repeat(300)}`] });
    expect(programPattern(found).length).toBeLessThanOrEqual(200);
    expect(compilePattern(programPattern(found)).pattern?.matches(`python python /${'a.'.repeat(300)}`)).toBe(true);
  });
});
