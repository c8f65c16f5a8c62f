import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { detouredAnswer, detouredLink, detouredPage } from '#apiserver/subresources/proxy-pages.ts';

const prefix = '/api/v1/namespaces/d/pods/web/proxy';
const detour = { host: '10.0.0.1:80', prefix, origin: 'https://api:6443' };

test('links: paths of the server go by the proxy, all else stays', () => {
  const table: [string, string][] = [
    ['/a?b=c#d', `${prefix}/a?b=c#d`],
    [`${prefix}/a`, `${prefix}/a`],
    ['a/b', 'a/b'],
    ['//cdn.example.com/x', '//cdn.example.com/x'],
    ['https://example.com/x', 'https://example.com/x'],
    ['http://10.0.0.1:80/x', `https://api:6443${prefix}/x`],
    ['http://10.0.0.1:80', `https://api:6443${prefix}/`],
    ['#top', '#top'],
    ['mailto:me', 'mailto:me'],
  ];
  for (const [link, want] of table) assert.equal(detouredLink(link, detour), want);
});

test('pages: links of every quoting are rewritten, text, scripts and comments are not', () => {
  const page =
    `<a href="/x">/x</a><IMG alt='a > b' SRC='/i.png'><form action=/go><p href="/no">` +
    `<!-- <a href="/c"> --><script src="/s.js">var a = '<a href="/j">';</script><a href="/y">`;
  assert.equal(
    detouredPage(page, detour),
    `<a href="${prefix}/x">/x</a><IMG alt='a > b' SRC='${prefix}/i.png'><form action=${prefix}/go>` +
      `<p href="/no"><!-- <a href="/c"> --><script src="${prefix}/s.js">var a = '<a href="/j">';` +
      `</script><a href="${prefix}/y">`,
  );
  for (const broken of ['<a href="/x', '<!-- <a href="/x">', '<', 'a < b', '<script>"/x"']) {
    assert.equal(detouredPage(broken, detour), broken);
  }
});

test('pages: broken markup costs no more than its length', () => {
  const started = performance.now();
  detouredPage('<a "'.repeat(250_000), detour);
  detouredPage(`<a ${'x= '.repeat(250_000)}>`, detour);
  assert.ok(performance.now() - started < 5_000);
});

async function* pieces(...all: Uint8Array[]): AsyncGenerator<Uint8Array, void, void> {
  yield* all;
}

async function textOf(body: Awaited<ReturnType<typeof detouredAnswer>>['body']): Promise<string> {
  if (typeof body === 'string' || body instanceof Uint8Array) return Buffer.from(body).toString();
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

test('answers: pages and redirects are rewritten, compressed ones too; others stream', async () => {
  const html = { 'content-type': 'text/html; charset=utf-8' };
  const zipped = gzipSync('<a href="/é">');
  const page = await detouredAnswer(
    {
      status: 200,
      headers: { ...html, 'content-encoding': 'gzip', 'content-length': '9' },
      body: pieces(zipped.subarray(0, 5), zipped.subarray(5)),
    },
    detour,
  );
  assert.equal(await textOf(page.body), `<a href="${prefix}/é">`);
  assert.deepEqual(page.headers, html);

  const moved = { status: 302, headers: { location: '/next' }, body: pieces() };
  assert.equal((await detouredAnswer(moved, detour)).headers['location'], `${prefix}/next`);

  const plain = { status: 200, headers: { 'content-type': 'text/plain' }, body: pieces() };
  assert.equal((await detouredAnswer(plain, detour)).body, plain.body);

  const mebibytes = Array.from({ length: 6 }, () => Buffer.alloc(1024 * 1024, 'x'));
  const long = { status: 200, headers: html, body: pieces(...mebibytes) };
  assert.equal((await textOf((await detouredAnswer(long, detour)).body)).length, 6 * 1024 * 1024);
});
