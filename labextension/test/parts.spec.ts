// Parts that are loaded when they are needed.

import { expect, it } from 'vitest';

import { ApiError } from '../src/api';
import { loadPart } from '../src/parts';

it('is what its module exports', async () => {
  expect((await loadPart(() => import('../src/commands'))).CommandIDs.launch).toBe('portproxy:launch');
});

it('that the server does not send is a sentence', async () => {
  const error = await loadPart(() => Promise.reject(new Error('Loading chunk 7 failed.'))).catch(reason => reason as ApiError);
  expect(error).toBeInstanceOf(ApiError);
  expect((error as ApiError).text).toBe('A part of the panel could not be loaded. Reload the page.');
});
