// Whether services are opened at origins of their own.

import { describe, expect, it } from 'vitest';

import { Isolation } from '../src/isolation';
import { PlayedApi } from './samples';

const PROBE = 'http://p1.localhost:8888/.well-known/portproxy/hello';
const ORIGIN = 'http://p{target}.localhost:8888';

function isolation(probe: string | null | Error, status: number | Error, stores = true): Isolation {
  const api = new PlayedApi();
  api.answers = probe instanceof Error ? {} : { 'GET origins': { isolate: 'auto', probe, origin: probe && ORIGIN, features: ['camera', 'clipboard-write', 'midi'] } };
  const find = async () => {
    if (status instanceof Error) {
      throw status;
    }
    return { status } as Response;
  };
  return new Isolation(api, find as typeof fetch, async address => stores && address.endsWith('/portproxy/storage'));
}

describe('the way to an origin', () => {
  it('is taken where the browser finds it and people want it', async () => {
    const found = isolation(PROBE, 204);
    expect(found.entrance({ port: 15000 })).toBeUndefined();
    await found.ready;
    expect(found.entrance({ port: 15000 })).toMatch(/\/proxy\/enter\/15000$/);
    expect(found.entrance({ service: 'app' })).toMatch(/\/proxy\/enter\/app$/);
    found.wanted = false;
    expect(found.entrance({ port: 15000 })).toBeUndefined();
  });

  it('is not taken by a frame that needs storage where browsers deny it', async () => {
    for (const stores of [true, false]) {
      const found = isolation(PROBE, 204, stores);
      await found.ready;
      expect(found.framed({ service: 'app' }, false)).toMatch(/\/proxy\/enter\/app$/);
      expect(found.framed({ service: 'app' }, true) !== undefined).toBe(stores);
      expect(found.entrance({ service: 'app' })).toMatch(/\/proxy\/enter\/app$/);
    }
  });

  it('is the only one to which a frame delegates what browsers gate', async () => {
    const found = isolation(PROBE, 204);
    expect(found.allow({ port: 15000 }, null)).toBe('');
    await found.ready;
    expect(found.allow({ port: 15000 }, null)).toContain('; clipboard-write http://p15000.localhost:8888; ');
    const named = found.allow({ service: 'My.App' }, 15000).split('; ');
    expect(named).toContain('camera http://pMy.App.localhost:8888 http://p15000.localhost:8888');
    expect(named.every(part => !part.includes('*'))).toBe(true);
    found.wanted = false;
    expect(found.allow({ port: 15000 }, null)).toBe('');
  });

  it.each([
    [null, 204],
    [PROBE, 404],
    [PROBE, new TypeError('not resolved')],
    [new Error('an older server'), 204]
  ])('is not taken with %s and %s', async (probe, status) => {
    const lost = isolation(probe, status);
    await lost.ready;
    expect(lost.entrance({ port: 15000 })).toBeUndefined();
  });
});
