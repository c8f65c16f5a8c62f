import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate } from 'node:zlib';
import type { ServerResponse } from '#apiserver/request.ts';

/**
 * Pages behind a proxy link to paths of their own server. A browser would ask them of the API
 * server, so links in HTML and in redirects get the proxy's path in front.
 * Source: Kubernetes "Access Services Running on Clusters", manually constructing proxy URLs.
 */

/** A page beyond this size goes through as it is, because it must be held to be rewritten. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024;

/** Where links lead without and with the proxy. */
export type Detour = {
  /** Of the server behind the proxy, `10.0.0.1:80`, as it may name itself. */
  host: string;
  /** Path of the proxy, without a slash at its end. */
  prefix: string;
  /** `https://host` by which the client reached the API server. */
  origin: string;
};

/** Attributes that hold one URL. Source: HTML Living Standard, "Attributes" index. */
const LINKS: ReadonlySet<string> = new Set(
  (
    'action background cite classid codebase data formaction href icon longdesc manifest poster ' +
    'profile src usemap'
  ).split(' '),
);

/** What has links: elsewhere such an attribute means something else. */
const ELEMENTS: ReadonlySet<string> = new Set(
  (
    'a applet area audio base blockquote body button command del embed form frame head html ' +
    'iframe img input ins link object q script source video'
  ).split(' '),
);

/** One link, as the client must ask for it. Relative ones and those elsewhere stay. */
export function detouredLink(link: string, { host, prefix, origin }: Detour): string {
  const absolute = /^https?:\/\/([^/?#]*)(\/[^]*)?$/i.exec(link);
  if (absolute) {
    if (absolute[1] !== host) return link;
    return `${origin}${detouredPath(absolute[2] ?? '/', prefix)}`;
  }
  return link.startsWith('/') && !link.startsWith('//') ? detouredPath(link, prefix) : link;
}

const detouredPath = (path: string, prefix: string): string =>
  path.startsWith(prefix) ? path : `${prefix}${path}`;

/** The page with its links rewritten; what is no tag, scripts and comments stay as they are. */
export function detouredPage(page: string, detour: Detour): string {
  let out = '';
  let at = 0;
  while (at < page.length) {
    const open = page.indexOf('<', at);
    if (open < 0) break;
    out += page.slice(at, open);
    at = open;
    const end = page.startsWith('<!--', at) ? endOfComment(page, at) : endOfTag(page, at);
    if (end === 0) break;
    const tag = page.slice(at, end);
    const name = /^<([a-zA-Z][a-zA-Z0-9]*)/.exec(tag)?.[1]?.toLowerCase() ?? '';
    out += ELEMENTS.has(name) ? detouredTag(tag, detour) : tag;
    at = end;
    if (name !== 'script' && name !== 'style') continue;
    const close = page.indexOf(`</${name}`, at);
    if (close < 0) break;
    out += page.slice(at, close);
    at = close;
  }
  return out + page.slice(at);
}

/** 0 when it never comes. */
function endOfComment(page: string, start: number): number {
  const end = page.indexOf('-->', start);
  return end < 0 ? 0 : end + 3;
}

/** Behind the tag's `>`, which may not be inside quotes; 0 when it never comes. */
function endOfTag(page: string, start: number): number {
  let at = start + 1;
  for (;;) {
    const char = page[at];
    if (char === undefined) return 0;
    if (char === '>') return at + 1;
    if (char === '"' || char === "'") {
      at = page.indexOf(char, at + 1);
      if (at < 0) return 0;
    }
    at++;
  }
}

const ATTRIBUTE = /([\w-]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)/g;

const detouredTag = (tag: string, detour: Detour): string =>
  tag.replace(ATTRIBUTE, (whole, name: string, equals: string, value: string) => {
    if (!LINKS.has(name.toLowerCase())) return whole;
    const quote = value.startsWith('"') || value.startsWith("'") ? value.charAt(0) : '';
    const link = quote ? value.slice(1, -1) : value;
    return `${name}${equals}${quote}${detouredLink(link, detour)}${quote}`;
  });

const READERS: Readonly<Record<string, (bytes: Uint8Array, options: object) => Promise<Buffer>>> = {
  '': (bytes) => Promise.resolve(Buffer.from(bytes)),
  identity: (bytes) => Promise.resolve(Buffer.from(bytes)),
  gzip: promisify(gunzip),
  deflate: promisify(inflate),
  br: promisify(brotliDecompress),
};

/** An answer on its way to the client, its redirect and, where it is a page, its links rewritten. */
export async function detouredAnswer(
  answer: ServerResponse,
  detour: Detour,
): Promise<ServerResponse> {
  const headers = { ...answer.headers };
  if (headers['location']) headers['location'] = detouredLink(headers['location'], detour);
  const { body } = answer;
  const isPage = /^text\/html\b/i.test(headers['content-type'] ?? '');
  const read = READERS[headers['content-encoding'] ?? ''];
  if (!isPage || !read || typeof body === 'string' || body instanceof Uint8Array) {
    return { ...answer, headers };
  }
  const held = await hold(body);
  if ('rest' in held) return { ...answer, headers, body: held.rest };
  const page = await read(held.whole, { maxOutputLength: MAX_PAGE_BYTES }).catch(() => null);
  if (!page) return { ...answer, headers, body: held.whole };
  // Latin-1 keeps every byte of whatever encoding the page has; links are ASCII in all of them.
  const text = detouredPage(page.toString('latin1'), detour);
  delete headers['content-encoding'];
  delete headers['content-length'];
  return { ...answer, headers, body: Buffer.from(text, 'latin1') };
}

type Held = { whole: Buffer } | { rest: AsyncIterable<Uint8Array> };

/** The whole body, or, when it is too long, all of it as a stream again. */
async function hold(body: AsyncIterable<Uint8Array>): Promise<Held> {
  const pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  const reader = body[Symbol.asyncIterator]();
  for (;;) {
    const { value, done } = await reader.next();
    if (done) return { whole: Buffer.concat(pieces) };
    pieces.push(value);
    sizeBytes += value.length;
    if (sizeBytes > MAX_PAGE_BYTES) break;
  }
  async function* all(): AsyncGenerator<Uint8Array, void, void> {
    yield* pieces;
    yield* { [Symbol.asyncIterator]: () => reader };
  }
  return { rest: all() };
}
