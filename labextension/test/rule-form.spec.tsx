// The forms of a port: the rule that applies, what they send, and what they refuse at once.

import { readFileSync } from 'node:fs';
import { cleanup, fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { AddForm, RuleForm } from '../src/rule-form';
import type { IPortRule } from '../src/tokens';
import { port, rule, trans } from './samples';

const SCHEMA = JSON.parse(readFileSync('schema/plugin.json', 'utf8'));
const onChange = vi.fn();
const subject = port(8501);
const last = () => onChange.mock.lastCall ?? [];
const value = (label: string) => (screen.getByLabelText(label) as HTMLInputElement).value;
const set = (label: string, to: string) => fireEvent.change(screen.getByLabelText(label), { target: { value: to } });

beforeEach(() => onChange.mockReset());
afterEach(cleanup);

describe('the form of a port', () => {
  const show = (...rules: IPortRule[]) => render(<RuleForm {...{ port: subject, rules, trans, onChange }} />);
  const attributes = { label: '', on_appear: null, scheme: null, keep_host: null };

  it('begins with the port, without a rule', () => {
    show();
    expect(last()).toEqual([{ rule: { ports: '8501', ...attributes, pinned: false }, replaces: undefined }, true, false]);
  });

  it('sends all that was chosen', () => {
    show();
    set('Label', ' <b>😀 ');
    set('When it appears', 'open_once');
    set('Protocol', 'https');
    set("Keep the browser's Host", 'no');
    set('Activity of the server', 'people');
    fireEvent.click(screen.getByLabelText('List it also while no program listens'));
    const rule = { ports: '8501', label: '<b>😀', on_appear: 'open_once', scheme: 'https', keep_host: false, activity: 'people', pinned: true };
    expect(last()[0].rule).toEqual(rule);
  });

  it('has the choices of the settings and the default', () => {
    show();
    const options = [...(screen.getByLabelText('When it appears') as HTMLSelectElement).options].map(option => option.value);
    expect(options).toEqual(['', ...SCHEMA.properties.onNewPort.enum]);
  });

  it('keeps what was typed when it is for something else', () => {
    show();
    set('Label', 'Mine');
    set('When it appears', 'ignore');
    set('Protocol', 'tcp');
    set('For', 'range');
    expect(last()[1]).toBe(false); // the range is missing
    set('Ports', ' 8000-8999');
    expect(last().slice(0, 2)).toEqual([
      { rule: { ports: '8000-8999', label: 'Mine', on_appear: 'ignore', scheme: 'tcp', keep_host: null }, replaces: undefined },
      true
    ]);
    set('For', 'process');
    expect(value('Pattern (regular expression)')).toBe('^python python app\\.py( |$)');
    expect(last()[0].rule).toEqual({ process: '^python python app\\.py( |$)', label: 'Mine', on_appear: 'ignore' });
    expect(screen.queryByLabelText('Protocol')).toBeNull();
    set('For', 'range');
    expect([value('Ports'), value('Protocol')]).toEqual([' 8000-8999', 'tcp']);
  });

  it('refuses what is no regular expression at once, and shows what a pattern matches', () => {
    show();
    set('For', 'process');
    expect(screen.getByRole('status').textContent).toBe('It matches python python app.py');
    set('Pattern (regular expression)', '^stream');
    expect(screen.getByRole('status').textContent).toBe('It does not match python python app.py');
    set('Pattern (regular expression)', '(ab');
    expect(screen.getByRole('alert').textContent).toBe('“(ab” is not a regular expression.');
    expect(last()[1]).toBe(false);
    set('Pattern (regular expression)', '(ab)');
    expect(screen.queryByRole('alert')).toBeNull();
    expect(last()[1]).toBe(true);
  });

  it('begins with the most specific rule, and shows the others by what they are for', () => {
    const range = rule({ ports: '8000-8999' }, { label: 'r', scheme: 'https', keep_host: true, activity: 'people' });
    const process = rule({ process: 'app' }, { label: 'p', on_appear: 'silent' });
    show(range, process);
    expect([value('For'), value('Ports'), value('Label'), value("Keep the browser's Host")]).toEqual(['range', '8000-8999', 'r', 'yes']);
    expect(last()[0].replaces).toBe(range);
    expect(last()[0].rule.activity).toBe('people');
    expect(last()[2]).toBe(true);
    set('Label', 'changed');
    set('For', 'process');
    expect([value('Pattern (regular expression)'), value('Label')]).toEqual(['app', 'p']);
    expect(last()[0].replaces).toBe(process);
    set('For', 'port');
    expect([value('Label'), last()[0].replaces, last()[2]]).toEqual(['', undefined, false]);
    set('For', 'range');
    expect(value('Label')).toBe('changed');
  });

  it('shows the message of the server as text', () => {
    render(<RuleForm {...{ port: subject, rules: [], trans, onChange }} problem="The label <b> has 300 characters." />);
    expect(screen.getByRole('alert').textContent).toBe('The label <b> has 300 characters.');
  });
});

describe('the form of a port to add', () => {
  it('requires the port, and sends only what was filled in', () => {
    render(<AddForm {...{ trans, onChange }} />);
    expect(last()[1]).toBe(false);
    set('Port', ' 8501 ');
    expect(last()).toEqual([{ ports: '8501', pinned: true }, true]);
    set('Label (optional)', 'Mine');
    set('Protocol', 'https');
    const added = { ports: '8501', label: 'Mine', scheme: 'https', pinned: true };
    expect(last()).toEqual([added, true]);
  });
});
