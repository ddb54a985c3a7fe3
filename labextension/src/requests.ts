// The recorded requests of a service or port, and their texts. Pure functions.

import type { TranslationBundle } from '@jupyterlab/translation';

/** How many the server keeps. */
const MAX_EXCHANGES = 200;

/** The schema `Exchange` of docs/openapi.yaml. Times are in seconds. */
export interface IExchange {
  id: number;
  since: number;
  kind: 'http' | 'websocket' | 'tcp';
  method: string;
  url: string;
  status: number | null;
  is_open: boolean;
  is_whole: boolean;
  first_byte: number | null;
  seconds: number | null;
  bytes_up: number;
  bytes_down: number;
  close_code: number | null;
  closed_by: 'client' | 'service' | 'gateway' | null;
  error: string;
  gateway: {
    by_referer: boolean;
    redirect: { from: string; to: string } | null;
    removed: string[];
    removed_response: string[];
    refused_cookies: { name: string; reason: 'unnamed' | 'jupyter' | 'host_prefix' | 'too_many' }[];
    left_out: number;
  };
  request_fields: [string, string][];
  response_fields: [string, string][];
  curl: string;
}

/** The list with an exchange that is new, or that replaces the one with its id; the oldest first. */
export function withExchange(list: readonly IExchange[], exchange: IExchange): IExchange[] {
  const isKnown = list.some(({ id }) => id === exchange.id);
  const all = isKnown ? list.map(other => (other.id === exchange.id ? exchange : other)) : [...list, exchange];
  return all.slice(-MAX_EXCHANGES);
}

/** Path and query of a URL, for the table. */
export function pathOf(url: string): string {
  return url.replace(/^\w+:\/\/[^/?#]*/, '') || '/';
}

export function durationText(seconds: number | null): string {
  if (seconds === null) {
    return '';
  }
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

export function sizeText(bytes: number): string {
  const [amount, unit] = bytes < 1000 ? [bytes, 'B'] : bytes < 1e6 ? [bytes / 1000, 'kB'] : [bytes / 1e6, 'MB'];
  return `${unit === 'B' || amount >= 100 ? Math.round(amount) : amount.toFixed(1)} ${unit}`;
}

/** Status, or what has become of a WebSocket. */
export function statusText({ status, kind, is_open, close_code, is_whole }: IExchange, trans: TranslationBundle): string {
  if (kind !== 'http' && is_open) {
    return trans.__('%1, open', status ?? '');
  }
  if (kind === 'websocket' && status === 101) {
    return close_code === null ? trans.__('101, cut') : trans.__('101, closed: %1', close_code);
  }
  return status === null ? trans.__('client gone') : is_whole ? String(status) : trans.__('%1, cut', status);
}

/** What the gateway did, in a few words each. */
export function deeds({ error, gateway }: IExchange, trans: TranslationBundle): string[] {
  const { by_referer, redirect, removed, removed_response, refused_cookies, left_out } = gateway;
  return [
    error ? trans.__('error %1', error) : '',
    by_referer ? trans.__('redirected by its Referer') : '',
    redirect ? trans.__('redirect changed') : '',
    refused_cookies.length ? trans._n('%1 cookie refused', '%1 cookies refused', refused_cookies.length) : '',
    removed.length + removed_response.length ? trans._n('%1 field removed', '%1 fields removed', removed.length + removed_response.length) : '',
    left_out ? trans.__('%1 before it not recorded', left_out) : ''
  ].filter(Boolean);
}

/** Why a cookie was refused. */
export function cookieText(reason: IExchange['gateway']['refused_cookies'][number]['reason'], trans: TranslationBundle): string {
  switch (reason) {
    case 'unnamed':
      return trans.__('it has no name');
    case 'jupyter':
      return trans.__('Jupyter has a cookie of that name');
    case 'host_prefix':
      return trans.__('__Host- needs an isolated origin');
    case 'too_many':
      return trans.__('there are too many');
  }
}

/** Whether a request is worth a mark: it has failed, or was cut off. */
export function hasFailed({ status, error, is_whole, is_open, kind }: IExchange): boolean {
  return error !== '' || (status ?? 0) >= 400 || (kind === 'http' && !is_open && !is_whole);
}
