import { createReadStream, readdirSync, realpathSync, statSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join, relative, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { RequestError } from '#node-agent/server/server-streams.ts';

/** Where a machine keeps its logs. */
const LOG_DIR = '/var/log';
/** Files listed of one folder. */
const MAX_LISTED = 10_000;

/**
 * `/logs/…`: the machine's own log files and folders of them, as the kubelet serves them
 * (enableSystemLogHandler). What a link names outside of the folder is not there.
 */
export async function serveSystemLogs(
  path: string,
  response: ServerResponse,
  logDir: string = LOG_DIR,
): Promise<void> {
  if (path === '/logs') return redirect(response, '/logs/');
  const found = within(logDir, path.slice('/logs/'.length));
  if (!found) throw new RequestError(404, '404 page not found');
  const { file, stats } = found;
  const lastModified = stats.mtime.toUTCString();
  if (stats.isDirectory()) {
    if (!path.endsWith('/')) return redirect(response, `${path}/`);
    const type = 'text/html; charset=utf-8';
    response.writeHead(200, { 'content-type': type, 'last-modified': lastModified });
    response.end(listing(file));
    return;
  }
  // A pipe or socket would be waited for without end.
  if (!stats.isFile()) throw new RequestError(404, '404 page not found');
  response.writeHead(200, {
    'content-type': 'text/plain; charset=utf-8',
    'last-modified': lastModified,
    'content-length': stats.size,
  });
  if (stats.size === 0) {
    response.end();
    return;
  }
  // A log that grows meanwhile must not be longer than was said.
  const content = createReadStream(file, { end: stats.size - 1 });
  // A client that leaves is no failure; whatever else breaks off is seen by the missing rest.
  await pipeline(content, response).catch(() => response.destroy());
}

function redirect(response: ServerResponse, location: string): void {
  response.writeHead(307, { location });
  response.end();
}

/** The file or folder that `path` names, if it is in `dir` once every link is followed. */
function within(dir: string, path: string) {
  try {
    const root = realpathSync(dir);
    const file = realpathSync(join(root, decodeURIComponent(path)));
    const inside = relative(root, file);
    if (inside === '..' || inside.startsWith(`..${sep}`)) return undefined;
    return { file, stats: statSync(file) };
  } catch {
    return undefined; // no such file, or no name that a file can have
  }
}

function listing(dir: string): string {
  const names = readdirSync(dir, { withFileTypes: true })
    .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
    .sort()
    .slice(0, MAX_LISTED);
  const lines = names.map((name) => `<a href="${address(name)}">${escaped(name)}</a>`);
  return `<!doctype html>\n<pre>\n${lines.map((line) => `${line}\n`).join('')}</pre>\n`;
}

/** Relative: a name with a colon must not be read as another scheme. */
const address = (name: string): string => {
  const encoded = name.split('/').map(encodeURIComponent).join('/');
  return name.includes(':') ? `./${encoded}` : encoded;
};

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&#34;',
  "'": '&#39;',
};

const escaped = (text: string): string => text.replace(/[&<>"']/g, (c) => ENTITIES[c] ?? c);
