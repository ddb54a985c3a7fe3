// Patterns for processes: what they match, what is refused, and the time that it takes. The server's test reads the same cases.

import { readFileSync } from 'fs';
import { resolve } from 'path';
import { describe, expect, it } from 'vitest';

import { compilePattern, MAX_TEXT } from '../src/process-pattern';

const cases: {
  matches: [string, string, boolean][];
  syntax: string[];
  possessive: string[];
  unsupported: [string, string][];
  largest: string[];
  size: string[];
  backtracking: [string, string][];
} = JSON.parse(readFileSync(resolve(__dirname, '../../tests/services/process_patterns.json'), 'utf-8'));

describe('a pattern', () => {
  it.each(cases.matches)('%s in %j: %s', (source, text, expected) => {
    expect(compilePattern(source).pattern?.matches(text)).toBe(expected);
  });

  it.each(cases.matches.filter(([source]) => !/^\(\?i\)|\{,|\[\^?\]|\\[_-]|\{[x}]|\{$|\}\]/.test(source)))('%s in %j as the browser', (source, text) => {
    expect(compilePattern(source).pattern?.matches(text)).toBe(new RegExp(source, 'u').test(text));
  });

  it('can be used again', () => {
    const { pattern } = compilePattern('^a+b');
    expect(['aab', 'x', 'ab', 'xab', 'b'].map(text => pattern?.matches(text))).toEqual([true, false, true, false, false]);
  });

  it.each([...cases.syntax, ...cases.possessive])('%s is not a regular expression', source => {
    expect(compilePattern(source).problem?.kind).toBe('syntax');
  });

  it.each(cases.unsupported)('%s has an unsupported part', (source, part) => {
    expect(compilePattern(source).problem).toEqual({ kind: 'unsupported', part });
  });

  it.each(cases.largest)('%s is just small enough', source => {
    expect(compilePattern(source).problem).toBeUndefined();
  });

  it.each(cases.size)('%s is too large, and costs nothing', source => {
    const started = performance.now();
    expect(compilePattern(source).problem?.kind).toBe('size');
    expect(performance.now() - started).toBeLessThan(50);
  });

  it.each(cases.backtracking)('%s takes a moment where a backtracking engine takes years', (source, repeated) => {
    const { pattern } = compilePattern(source);
    const started = performance.now();
    expect(pattern?.matches(`${repeated.repeat(MAX_TEXT - 1)}!`)).toBe(false);
    expect(performance.now() - started).toBeLessThan(2000);
  });

  it('is searched in the first characters of a text', () => {
    expect(compilePattern('b').pattern?.matches(`${'a'.repeat(MAX_TEXT - 1)}b`)).toBe(true);
    expect(compilePattern('b').pattern?.matches(`${'a'.repeat(MAX_TEXT)}b`)).toBe(false);
  });
});
