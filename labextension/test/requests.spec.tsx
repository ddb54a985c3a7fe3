// The recorded requests: their texts, the live table and its details.

import { cleanup, fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { afterEach, expect, it, vi } from 'vitest';

import { ApiError } from '../src/api';
import { deeds, durationText, hasFailed, IExchange, pathOf, sizeText, statusText, withExchange } from '../src/requests';
import { Requests, RequestsView } from '../src/requests-view';
import { ScriptedApi, trans } from './samples';

afterEach(() => {
  cleanup();
  vi.useRealTimers();
});

const NONE: IExchange['gateway'] = { by_referer: false, redirect: null, removed: [], removed_response: [], refused_cookies: [], left_out: 0 };
const exchange = (id: number, more: Partial<IExchange> = {}): IExchange => ({
  ...{ id, since: 1000 + id, kind: 'http', method: 'GET', url: `http://host/proxy/port/8050/a${id}?x=***`, status: 200, is_open: false, is_whole: true },
  ...{ first_byte: 0.0123, seconds: 1.25, bytes_up: 0, bytes_down: 12_345, close_code: null, closed_by: null, error: '', gateway: NONE },
  ...{ request_fields: [['Accept', '*/*']], response_fields: [['Content-Type', 'text/html']], curl: `curl a${id}` },
  ...more
});

it('keeps the last 200, one for each id', () => {
  let list: IExchange[] = [];
  for (let id = 1; id <= 205; id++) {
    list = withExchange(list, exchange(id));
  }
  list = withExchange(list, exchange(100, { status: 500 }));
  expect([list.length, list[0]?.id, list.at(-1)?.id, list.find(({ id }) => id === 100)?.status]).toEqual([200, 6, 205, 500]);
});

it.each<[Partial<IExchange>, string, boolean]>([
  [{}, '200', false],
  [{ status: 404 }, '404', true],
  [{ is_whole: false }, '200, cut', true],
  [{ status: null }, 'client gone', false],
  [{ kind: 'websocket', status: 101, is_open: true, is_whole: false }, '101, open', false],
  [{ kind: 'websocket', status: 101, close_code: 1006 }, '101, closed: 1006', false],
  [{ kind: 'websocket', status: 101, is_whole: false }, '101, cut', false],
  [{ kind: 'websocket', status: 403 }, '403', true],
  [{ status: 502, error: 'unreachable' }, '502', true]
])('says what became of %j', (more, text, failed) => {
  expect([statusText(exchange(1, more), trans), hasFailed(exchange(1, more))]).toEqual([text, failed]);
});

it('has short texts', () => {
  expect([0.0123, 1.25, null].map(durationText)).toEqual(['12 ms', '1.3 s', '']);
  expect([12, 12_345, 123_456, 5e6].map(sizeText)).toEqual(['12 B', '12.3 kB', '123 kB', '5.0 MB']);
  expect(['ws://host:1/a?b=***', 'http://host', '/x'].map(pathOf)).toEqual(['/a?b=***', '/', '/x']);
  const gateway = { ...NONE, by_referer: true, removed: ['Cookie'], removed_response: ['Server'], redirect: { from: '/a', to: '/b' }, left_out: 3 };
  expect(deeds(exchange(1, { gateway, error: 'timeout' }), trans)).toEqual(['error timeout', 'redirected by its Referer', 'redirect changed', '2 fields removed', '3 before it not recorded']);
});

const table = (exchanges: IExchange[]) =>
  render(<Requests exchanges={exchanges} problem="" label="8050" onClear={vi.fn()} onSave={vi.fn()} trans={trans} />);
const paths = () => [...document.querySelectorAll('[aria-expanded]')].map(button => button.textContent);

it('shows the last one first, filters, and has details', () => {
  const cookie = { ...NONE, refused_cookies: [{ name: '_xsrf', reason: 'jupyter' as const }] };
  table([exchange(1, { status: 404 }), exchange(2, { gateway: cookie, url: 'http://host/<b>\u202e' }), exchange(3)]);
  expect(paths()).toEqual(['/proxy/port/8050/a3?x=***', '/<b>⟨U+202E⟩', '/proxy/port/8050/a1?x=***']);
  fireEvent.change(screen.getByLabelText('Filter'), { target: { value: 'get 404' } });
  expect(paths()).toEqual(['/proxy/port/8050/a1?x=***']);
  expect(screen.getByText(/^1 of 3 requests/)).toBeTruthy();
  fireEvent.change(screen.getByLabelText('Filter'), { target: { value: 'cookie' } });
  fireEvent.click(screen.getByRole('button', { name: '/<b>⟨U+202E⟩' }));
  expect(screen.getByText('Cookie _xsrf refused: Jupyter has a cookie of that name')).toBeTruthy();
  expect(screen.getByText('Accept: */*')).toBeTruthy();
  expect(screen.getByRole('button', { name: 'Copy as curl' })).toBeTruthy();
  fireEvent.click(screen.getByRole('button', { name: '/<b>⟨U+202E⟩' }));
  expect(screen.queryByText('Accept: */*')).toBeNull();
});

it('follows the stream, again when it is cut, and ends with its tab', async () => {
  vi.useFakeTimers();
  const api = new ScriptedApi();
  const open = vi.spyOn(api, 'openStream');
  const view = new RequestsView('my app', 'My app', api, trans);
  const shown = () => {
    cleanup();
    render((view as unknown as { render(): React.JSX.Element }).render());
    return paths().length;
  };
  await vi.advanceTimersByTimeAsync(1);
  expect(open.mock.calls[0]?.[0]).toBe('exchanges/events?target=my%20app');
  expect([shown(), screen.getByText(/are recorded from now on/) !== null]).toEqual([0, true]);
  api.send('snapshot', { exchanges: [exchange(1)] });
  api.send('exchange', exchange(2));
  await vi.advanceTimersByTimeAsync(1);
  expect(shown()).toBe(2);
  api.send('cleared', null);
  await vi.advanceTimersByTimeAsync(1);
  expect(shown()).toBe(0);
  api.cut();
  await vi.advanceTimersByTimeAsync(1);
  expect([shown(), screen.getByRole('alert').textContent]).toEqual([0, 'The connection to the Jupyter server is cut.']);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(api.opened).toBe(2);
  view.dispose();
  expect(open.mock.calls[1]?.[1].aborted).toBe(true);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(api.opened).toBe(2);
});

it('says why nothing is recorded, and does not ask again', async () => {
  vi.useFakeTimers();
  const api = new ScriptedApi();
  api.refusal = new ApiError(404, 'There is no service app.', 'Look at the list.');
  const view = new RequestsView('app', 'App', api, trans);
  await vi.advanceTimersByTimeAsync(60_000);
  render((view as unknown as { render(): React.JSX.Element }).render());
  expect(screen.getByRole('alert').textContent).toBe('There is no service app. Look at the list.');
  expect(api.opened).toBe(1);
});
