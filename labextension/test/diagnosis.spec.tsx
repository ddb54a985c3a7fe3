// The diagnosis of a page: its texts, and the view of it.

import { cleanup, fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { afterEach, expect, it, vi } from 'vitest';

import { ApiError } from '../src/api';
import { addressOf, IDiagnosis, IFinding, pagePath, parseLink, reportText, summaryOf } from '../src/diagnosis';
import { Diagnosis, DiagnosisView } from '../src/diagnosis-view';
import { ScriptedApi, trans } from './samples';

afterEach(cleanup);

const finding = (more: Partial<IFinding> = {}): IFinding => ({
  rule: 'root-relative-url',
  severity: 'error',
  title: 'A URL at the root',
  sentence: 'The page loads 3 URLs at the root.',
  evidence: { file: '/index.html', line: 12, field: '', excerpt: '<b>\tsrc="/app.js"\u202e' },
  remedies: ['Set --base-path.', 'Open it at its isolated origin.'],
  link: '/proxy/enter/dash/',
  documentation: 'https://docs.example/a',
  ...more
});
const report = (more: Partial<IDiagnosis> = {}): IDiagnosis => ({
  ...{ target: '8050', url: '/proxy/port/8050/', status: 200, requests: 7, problem: null, findings: [finding()], notes: ['A note.'] },
  ...more
});

it('is copied with its evidence, remedies and links', () => {
  expect(reportText(report(), trans).split('\n')).toEqual([
    'http://localhost:3000/proxy/port/8050/',
    '1 finding.',
    '',
    '1. Error: The page loads 3 URLs at the root.',
    '  at /index.html:12',
    '     <b>  src="/app.js"⟨U+202E⟩',
    '  -> Set --base-path.',
    '  -> Open it at its isolated origin.',
    '     http://localhost:3000/proxy/enter/dash/',
    '     https://docs.example/a',
    '',
    'Note: A note.',
    ''
  ]);
  const field = finding({ evidence: { file: '/', line: null, field: 'X-Frame-Options', excerpt: '' }, link: null, documentation: '' });
  expect(reportText(report({ findings: [field] }), trans)).toContain('  at /, field X-Frame-Options\n  -> Set');
});

it('says what was looked at when nothing was found', () => {
  const text = summaryOf(report({ findings: [] }), trans);
  expect(text).toContain('Nothing wrong was found. 7 requests were made, direct and through Jupyter: for /proxy/port/8050/');
  expect(text).toMatch(/It answered with status 200\.$/);
  expect(summaryOf(report({ findings: [], problem: 'It does not answer.' }), trans)).toBe('It does not answer.');
});

it.each([
  ['/', '/'],
  ['app?x=1#top', '/app?x=1'],
  ['/ä b', '/%C3%A4%20b'],
  ['/a/../b', '/b']
])('takes the page %s', (text, path) => expect(pagePath(text)).toBe(path));

it.each([
  ['javascript:alert(1)', undefined],
  ['data:text/html,x', undefined],
  ['', undefined],
  [null, undefined],
  ['/proxy/enter/x/', 'http://localhost:3000/proxy/enter/x/']
])('opens %s as %s', (link, address) => expect(addressOf(link)).toBe(address));

it.each([
  ['8050', { target: { port: 8050 }, path: '/' }],
  ['8050/a/b%2F?x', { target: { port: 8050 }, path: '/a/b%2F?x' }],
  ['my.app_2/', { target: { service: 'my.app_2' }, path: '/' }]
])('takes %j of a link', (text, parsed) => expect(parseLink(text)).toEqual(parsed));

it.each(['', '/', '0', '080', '65536', '1e3 ', 'a b', '-x', '٨٠', '<img>', '8050?x', 'x\n', 'a'.repeat(129)])('takes no link to %j', text => {
  expect(parseLink(text)).toBeUndefined();
});

it('shows what services have sent as text, and links that work', () => {
  const markup = '<img src=x onerror=alert(1)>';
  const findings = [finding({ sentence: markup, remedies: [markup], evidence: { file: markup, line: 1, field: '', excerpt: markup } }), finding({ link: 'javascript:1' })];
  const { container } = render(<Diagnosis label="8050" path="/" isLooking={false} report={report({ findings })} onLook={vi.fn()} trans={trans} />);
  expect(container.querySelector('img')).toBeNull();
  expect(screen.getAllByText(markup)).toHaveLength(3);
  expect(screen.getAllByRole('link').map(link => link.getAttribute('href'))).toEqual([
    'http://localhost:3000/proxy/enter/dash/',
    'https://docs.example/a',
    'https://docs.example/a'
  ]);
  expect(screen.getByRole('status').textContent).toBe('2 findings, the worst first.');
});

it('shows what stands between backticks as code', () => {
  const findings = [finding({ sentence: 'One `alone.', remedies: ['Set `--base` or `<i>`.'] })];
  const { container } = render(<Diagnosis label="8050" path="/" isLooking={false} report={report({ findings })} onLook={vi.fn()} trans={trans} />);
  expect([...container.querySelectorAll('code')].map(code => code.textContent)).toEqual(['--base', '<i>']);
  expect(screen.getByText('One `alone.')).toBeTruthy();
});

it('looks again at the page that was typed', () => {
  const onLook = vi.fn();
  render(<Diagnosis label="8050" path="/" isLooking={false} report={report()} onLook={onLook} trans={trans} />);
  fireEvent.change(screen.getByLabelText('Page'), { target: { value: '/login' } });
  fireEvent.click(screen.getByRole('button', { name: 'Look again' }));
  expect(onLook).toHaveBeenCalledWith('/login');
});

it('looks once at a time, shows why it could not, and ends with its tab', async () => {
  const api = new ScriptedApi();
  const signals: (AbortSignal | undefined)[] = [];
  const request = <T,>(method: string, path: string, body?: object, signal?: AbortSignal) => {
    signals.push(signal);
    return api.request<T>(method, path, body);
  };
  const view = new DiagnosisView({ port: 8050 }, 'dash', { request }, trans);
  const shown = () => render((view as unknown as { render(): React.JSX.Element }).render()).container.textContent;
  api.answers = { 'POST diagnose': report() };
  const looks = [view.look('/a#b'), view.look('/b')];
  expect(shown()).toContain('Looking at the page of dash');
  await Promise.all(looks);
  expect(api.requests).toEqual([['POST', 'diagnose', { port: 8050, path: '/a' }]]);
  expect(shown()).toContain('1 finding.');
  api.answers = { 'POST diagnose': new ApiError(429, 'A page is looked at already.', 'Wait.') };
  await view.look();
  expect(api.requests[1]).toEqual(['POST', 'diagnose', { port: 8050, path: '/a' }]);
  expect(shown()).toContain('A page is looked at already. Wait.');
  void view.look();
  expect(signals.map(signal => signal?.aborted)).toEqual([false, false, false]);
  view.dispose();
  expect(signals[2]?.aborted).toBe(true);
});

it('waits for its button where a link has led to it', async () => {
  const api = new ScriptedApi();
  api.answers = { 'POST diagnose': report() };
  const view = new DiagnosisView({ port: 8050 }, 'dash', api, trans);
  const shown = () => render((view as unknown as { render(): React.JSX.Element }).render());
  view.propose('/a');
  expect(shown().getByRole('status').textContent).toBe('A link has led here. The page of dash is requested when you press Diagnose.');
  expect(api.requests).toEqual([]);
  fireEvent.click(screen.getByRole('button', { name: 'Diagnose' }));
  await vi.waitFor(() => expect(api.requests).toEqual([['POST', 'diagnose', { port: 8050, path: '/a' }]]));
  cleanup();
  await vi.waitFor(() => expect(shown().getByRole('button', { name: 'Look again' })).toBeTruthy());
  expect(screen.queryByText(/A link has led here/)).toBeNull();
});
