import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { RequestError } from '#node-agent/server/server-streams.ts';
import { serveSystemLogs } from '#node-agent/server/system-logs.ts';

const dir = mkdtempSync('/tmp/G-logs-');
const logs = join(dir, 'log');
const server = createServer((request, response) => {
  const path = new URL(request.url ?? '', 'http://x').pathname;
  serveSystemLogs(path, response, logs).catch((error: unknown) => {
    response.writeHead(error instanceof RequestError ? error.status : 500);
    response.end();
  });
});

before(async () => {
  mkdirSync(join(logs, 'a&b'), { recursive: true });
  writeFileSync(join(logs, 'a&b', 'one:two.log'), 'line\n');
  writeFileSync(join(logs, 'empty'), '');
  writeFileSync(join(dir, 'secret'), 'not for you');
  symlinkSync('a&b/one:two.log', join(logs, 'link'));
  symlinkSync('../secret', join(logs, 'out'));
  execFileSync('mkfifo', [join(logs, 'pipe')]);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});

after(() => {
  server.closeAllConnections();
  server.close();
  rmSync(dir, { recursive: true });
});

async function get(path: string): Promise<string> {
  const { port } = server.address() as AddressInfo;
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { redirect: 'manual' });
  const text = await answer.text();
  return `${answer.status} ${answer.headers.get('location') ?? text}`;
}

test('folders are lists of links, files come as they are', async () => {
  assert.equal(await get('/logs'), '307 /logs/');
  assert.equal(await get('/logs/a&b'), '307 /logs/a&b/');
  const root = await get('/logs/');
  assert.match(root, /^200 <!doctype html>\n<pre>\n<a href="a%26b\/">a&amp;b\/<\/a>\n/);
  const folder = await get('/logs/a%26b/');
  assert.match(folder, /<a href="\.\/one%3Atwo\.log">one:two\.log<\/a>\n<\/pre>/);
  assert.equal(await get('/logs/a%26b/one%3Atwo.log'), '200 line\n');
  assert.equal(await get('/logs/link'), '200 line\n');
  assert.equal(await get('/logs/empty'), '200 ');
});

test('what is no log of this folder is not there', async () => {
  for (const path of ['none', 'out', 'pipe', '..%2fsecret', '%2e%2e/secret', 'a%00b', '%zz'])
    assert.equal((await get(`/logs/${path}`)).slice(0, 3), '404', path);
});
