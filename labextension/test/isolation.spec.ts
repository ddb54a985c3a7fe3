// Whether services are opened at isolated origins.

import { describe, expect, it } from 'vitest';

import { Isolation } from '../src/isolation';
import { ScriptedApi } from './samples';

const PROBE = 'http://p1.localhost:8888/.well-known/portproxy/hello';
const ORIGIN = 'http://p{target}.localhost:8888';

function isolation(probe: string | null | Error, status: number | Error, usable = true): Isolation {
  const api = new ScriptedApi();
  api.answers = probe instanceof Error ? {} : { 'GET origins': { isolate: 'auto', probe, origin: probe && ORIGIN, features: ['camera', 'clipboard-write', 'midi'] } };
  const find = async () => {
    if (status instanceof Error) {
      throw status;
    }
    return { status } as Response;
  };
  return new Isolation(api, find as typeof fetch, async address => usable && address.endsWith('/portproxy/frame'));
}

describe('an isolated origin', () => {
  it('is used where the browser reaches it and the setting is on', async () => {
    const found = isolation(PROBE, 204);
    expect(found.entryPath({ port: 15000 })).toBeUndefined();
    await found.ready;
    expect(found.entryPath({ port: 15000 })).toMatch(/\/proxy\/enter\/15000$/);
    expect(found.entryPath({ service: 'app' })).toMatch(/\/proxy\/enter\/app$/);
    found.isEnabled = false;
    expect(found.entryPath({ port: 15000 })).toBeUndefined();
  });

  it('is not used by frames where the browser keeps no cookies or storage in them', async () => {
    for (const usable of [true, false]) {
      const found = isolation(PROBE, 204, usable);
      await found.ready;
      expect(found.framePath({ service: 'app' }) !== undefined).toBe(usable);
      expect(found.allow({ service: 'app' }, null) !== '').toBe(usable);
      expect(found.entryPath({ service: 'app' })).toMatch(/\/proxy\/enter\/app$/);
    }
  });

  it('is the only origin to which a frame delegates features', async () => {
    const found = isolation(PROBE, 204);
    expect(found.allow({ port: 15000 }, null)).toBe('');
    await found.ready;
    expect(found.allow({ port: 15000 }, null)).toContain('; clipboard-write http://p15000.localhost:8888; ');
    const named = found.allow({ service: 'My.App' }, 15000).split('; ');
    expect(named).toContain('camera http://pMy.App.localhost:8888 http://p15000.localhost:8888');
    expect(named.every(part => !part.includes('*'))).toBe(true);
    found.isEnabled = false;
    expect(found.allow({ port: 15000 }, null)).toBe('');
  });

  it.each([
    [null, 204],
    [PROBE, 404],
    [PROBE, new TypeError('not resolved')],
    [new Error('an older server'), 204]
  ])('is not used with %s and %s', async (probe, status) => {
    const lost = isolation(probe, status);
    await lost.ready;
    expect(lost.entryPath({ port: 15000 })).toBeUndefined();
  });
});
