// What an address leads to: a service, a port, another page of the server, another origin, or nothing.

import { PageConfig } from '@jupyterlab/coreutils';
import { beforeEach, describe, expect, it } from 'vitest';

import { PortsManager } from '../src/manager';
import { parseAddress } from '../src/open-url';
import { ScriptedApi, ScriptedVisibility, service, template } from './samples';

const ORIGIN = window.location.origin;
let manager: PortsManager;

beforeEach(async () => {
  PageConfig.setOption('baseUrl', '/a%40b/');
  const api = new ScriptedApi();
  manager = new PortsManager(api, new ScriptedVisibility());
  api.answers = {
    'GET templates': [template('rstudio', { url: '/a%40b/rstudio/' }), template('notes', { url: '/a%40b/notes/tree?a=b' }), template('x', { url: null })],
    'POST services': service('mine', { url: '/a%40b/proxy/service/mine/' })
  };
  await manager.refreshTemplates();
  await manager.start('mine');
});

describe('an address', () => {
  it.each([
    ['/a%40b/proxy/port/8501/x?q#f', { port: 8501 }, '/a%40b/proxy/port/8501/', '/x?q#f'],
    ['/a%40b/proxy/port/8501', { port: 8501 }, '/a%40b/proxy/port/8501/', '/'],
    ['/a%40b/proxy/8501/x', { port: 8501 }, '/a%40b/proxy/port/8501/', '/x'],
    ['proxy/8501/', { port: 8501 }, '/a%40b/proxy/port/8501/', '/'],
    [`${ORIGIN}/a%40b/proxy/service/mine/tree/`, { service: 'mine' }, '/a%40b/proxy/service/mine/', '/tree/'],
    ['/a%40b/proxy/service/gone/', { service: 'gone' }, '/a%40b/proxy/service/gone/', '/'],
    ['/a%40b/rstudio/', { service: 'rstudio' }, '/a%40b/rstudio/', '/'],
    ['/a%40b/notes/lab?c', { service: 'notes' }, '/a%40b/notes/', '/lab?c'],
    ['/a%40b/x/../rstudio/y', { service: 'rstudio' }, '/a%40b/rstudio/', '/y']
  ])('%s is a page of a service or port', (text, target, url, path) => {
    expect(parseAddress(text, manager)).toMatchObject({ isBelow: true, page: { target, url, path } });
  });

  it.each([
    '/a%40b/lab',
    '/a%40b/rstudio2/',
    '/a%40b/proxy/',
    '/a%40b/proxy/absolute/8501/',
    '/a%40b/proxy/08501/',
    '/a%40b/proxy/85010x/',
    '/a%40b/proxy/port/8501x'
  ])('%s is another page of the server', text => {
    expect(parseAddress(text, manager)).toEqual({ href: ORIGIN + text, isBelow: true });
  });

  it.each(['/', '/other/proxy/8501/', '/a%40b/../proxy/8501/', 'https://example.org/a%40b/proxy/8501/', '//example.org/a%40b/rstudio/'])(
    '%s is not of this server',
    text => {
      expect(parseAddress(text, manager)).toEqual({ href: new URL(text, ORIGIN).href, isBelow: false });
    }
  );

  it.each(['javascript:alert(1)', 'data:text/html,x', 'file:///etc/passwd', 'http://[', '', undefined, 7])('%s cannot be opened', text => {
    expect(parseAddress(text, manager)).toBeUndefined();
  });
});
