import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  parseBootstrapToken,
  signDetached,
  usableToken,
  verifyDetached,
} from '#api/bootstrap-token.ts';
import type { Secret } from '#api/types.ts';

const token = { id: 'abcdef', secret: '0123456789abcdef' };

test('a token has six and sixteen characters', () => {
  assert.deepEqual(parseBootstrapToken('abcdef.0123456789abcdef'), token);
  for (const text of ['', 'abcdef', 'abcdef.0123', 'ABCDEF.0123456789abcdef', 'a.b.c'])
    assert.equal(parseBootstrapToken(text), undefined, text);
});

test('a signature holds for its own text and token only', () => {
  const jws = signDetached('some text', token);
  // As `jose` of other languages makes it: {"alg":"HS256","kid":"abcdef"}.
  assert.match(jws, /^eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9\.\.[\w-]{43}$/);
  assert.ok(verifyDetached(jws, 'some text', token));
  assert.ok(!verifyDetached(jws, 'some other text', token));
  assert.ok(!verifyDetached(jws, 'some text', { ...token, secret: 'fedcba9876543210' }));
  assert.ok(!verifyDetached(jws, 'some text', { ...token, id: 'ghijkl' }));
  const none = Buffer.from('{"alg":"none","kid":"abcdef"}').toString('base64url');
  for (const bad of ['', '..', 'x..y', `${none}..`, jws.replace('..', '.YQ.')])
    assert.ok(!verifyDetached(bad, 'some text', token), bad);
});

test('a token is usable by its type, name, usage and time', () => {
  const secret = (fields: Record<string, string>, changes: Partial<Secret> = {}): Secret => ({
    metadata: { name: 'bootstrap-token-abcdef' },
    type: 'bootstrap.kubernetes.io/token',
    data: Object.fromEntries(
      Object.entries({
        'token-id': token.id,
        'token-secret': token.secret,
        'usage-bootstrap-signing': 'true',
        ...fields,
      }).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
    ),
    ...changes,
  });
  const now = Date.parse('2026-01-01T00:00:00Z');
  const usable = (of: Secret, usage: 'signing' | 'authentication' = 'signing') =>
    usableToken(of, usage, now) !== undefined;
  assert.ok(usable(secret({})));
  assert.ok(!usable(secret({}), 'authentication'));
  assert.ok(usable(secret({ expiration: '2026-01-01T00:00:01Z' })));
  assert.ok(!usable(secret({ expiration: '2026-01-01T00:00:00Z' })));
  assert.ok(!usable(secret({ expiration: 'soon' })));
  assert.ok(!usable(secret({ 'token-id': 'ghijkl' })));
  assert.ok(!usable(secret({}, { type: 'Opaque' })));
});
