import { isIP } from 'node:net';
import { type Overload, overload } from '#api/cel/function.ts';
import { CelError, CelList, CelMap, Opaque, type Value } from '#api/cel/values.ts';

/** Addresses and URLs. Source: Kubernetes CEL "ip", "cidr" and "url" libraries. */

type Address = { text: string; family: 4 | 6; number: bigint; bytes: Uint8Array };
type Range = { address: Address; bits: number; bytes: Uint8Array };

const bitsOf = (family: 4 | 6): number => (family === 4 ? 32 : 128);

function numberOf(text: string, family: 4 | 6): bigint {
  if (family === 4) return text.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const dotted = text.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_all, ...parts: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = parts.slice(0, 4).map(Number);
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  });
  const [head = '', tail] = dotted.split('::');
  const left = head ? head.split(':') : [];
  const right = tail ? tail.split(':') : [];
  const middle =
    tail === undefined ? [] : Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...middle, ...right].reduce(
    (sum, part) => sum * 65_536n + BigInt(`0x${part}`),
    0n,
  );
}

/** As Go prints it: IPv6 with its longest run of zeros left out. */
function textOf(number: bigint, family: 4 | 6): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((by) => (number >> by) & 255n).join('.');
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((number >> BigInt(112 - 16 * i)) & 0xffffn).toString(16),
  );
  let best: readonly [number, number] = [0, 0];
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === '0') end++;
    if (end - i > best[1] && end - i > 1) best = [i, end - i];
  }
  if (best[1] === 0) return groups.join(':');
  const head = groups.slice(0, best[0]).join(':');
  return `${head}::${groups.slice(best[0] + best[1]).join(':')}`;
}

function addressOf(number: bigint, family: 4 | 6): Address {
  const text = textOf(number, family);
  return { text, family, number, bytes: new Uint8Array(bitsOf(family) / 8) };
}

const quoted = (text: string): string => JSON.stringify(text);

function parseAddress(text: string): Address | CelError {
  if (text.includes('%') && isIP(text) === 6) {
    return new CelError(`IP address ${quoted(text)} with zone value is not allowed`);
  }
  const family = isIP(text);
  if (family !== 4 && family !== 6) {
    const reason = `ParseAddr(${quoted(text)}): unable to parse IP`;
    return new CelError(
      `IP Address ${quoted(text)} parse error during conversion from string: ${reason}`,
    );
  }
  const number = numberOf(text, family);
  if (family === 6 && number >> 32n === 0xffffn) {
    return new CelError(`IPv4-mapped IPv6 address ${quoted(text)} is not allowed`);
  }
  return addressOf(number, family);
}

function parseRange(text: string): Range | CelError {
  const wrap = (reason: string): CelError =>
    new CelError(`network address parse error during conversion from string: ${reason}`);
  const slash = text.lastIndexOf('/');
  const bits = text.slice(slash + 1);
  if (slash < 0) return wrap(`netip.ParsePrefix(${quoted(text)}): no '/'`);
  const address = parseAddress(text.slice(0, slash));
  if (address instanceof CelError) return wrap(address.message);
  if (!/^(?:0|[1-9]\d{0,2})$/.test(bits) || Number(bits) > bitsOf(address.family)) {
    return wrap(`netip.ParsePrefix(${quoted(text)}): prefix length out of range`);
  }
  return { address, bits: Number(bits), bytes: address.bytes };
}

const ipValue = (address: Address): Opaque<Address> =>
  new Opaque('net.IP', address, (other) => other.text === address.text);
const cidrValue = (range: Range): Opaque<Range> =>
  new Opaque('net.CIDR', range, (other) => rangeText(other) === rangeText(range));
const rangeText = (range: Range): string => `${range.address.text}/${range.bits}`;

function mask(address: Address, bits: number): bigint {
  const shift = BigInt(bitsOf(address.family) - bits);
  return (address.number >> shift) << shift;
}

const contains = (range: Range, address: Address): boolean =>
  range.address.family === address.family &&
  mask(address, range.bits) === mask(range.address, range.bits);

const containsRange = (range: Range, other: Range): boolean =>
  range.bits <= other.bits && contains(range, other.address);

type IpTest = (number: bigint, family: 4 | 6) => boolean;
const top = (number: bigint, bits: number): bigint => number >> BigInt(128 - bits);
const IP_TESTS: Readonly<Record<string, IpTest>> = {
  isUnspecified: (number) => number === 0n,
  isLoopback: (number, family) => (family === 4 ? number >> 24n === 127n : number === 1n),
  isLinkLocalMulticast: (number, family) =>
    family === 4 ? number >> 8n === 0xe00000n : ((number >> 112n) & 0xff0fn) === 0xff02n,
  isLinkLocalUnicast: (number, family) =>
    family === 4 ? number >> 16n === 0xa9fen : top(number, 10) === 0x3fan,
};

function isGlobalUnicast({ number, family }: Address): boolean {
  if (family === 4 && number === 0xffffffffn) return false;
  const multicast = family === 4 ? number >> 28n === 0xen : top(number, 8) === 0xffn;
  const others = ['isUnspecified', 'isLoopback', 'isLinkLocalUnicast'];
  return !multicast && !others.some((name) => IP_TESTS[name]?.(number, family));
}

type Ip = Opaque<Address>;
type Cidr = Opaque<Range>;

const ipFunctions: Overload[] = [
  overload('ip', '(string) net.IP', (text: string) => {
    const address = parseAddress(text);
    return address instanceof CelError ? address : ipValue(address);
  }),
  overload('isIP', '(string) bool', (text: string) => !(parseAddress(text) instanceof CelError)),
  overload('ip.isCanonical', '(string) bool', (text: string) => {
    const address = parseAddress(text);
    return address instanceof CelError ? address : address.text === text;
  }),
  overload('family', 'net.IP.() int', (ip: Ip) => BigInt(ip.value.family)),
  ...Object.entries(IP_TESTS).map(([name, test]) =>
    overload(name, 'net.IP.() bool', (ip: Ip) => test(ip.value.number, ip.value.family)),
  ),
  overload('isGlobalUnicast', 'net.IP.() bool', (ip: Ip) => isGlobalUnicast(ip.value)),
  overload('string', '(net.IP) string', (ip: Ip) => ip.value.text),
];

const cidrFunctions: Overload[] = [
  overload('cidr', '(string) net.CIDR', (text: string) => {
    const range = parseRange(text);
    return range instanceof CelError ? range : cidrValue(range);
  }),
  overload('isCIDR', '(string) bool', (text: string) => !(parseRange(text) instanceof CelError)),
  overload('containsIP', 'net.CIDR.(string) bool', (range: Cidr, text: string) => {
    const address = parseAddress(text);
    return address instanceof CelError ? address : contains(range.value, address);
  }),
  overload('containsIP', 'net.CIDR.(net.IP) bool', (range: Cidr, ip: Ip) =>
    contains(range.value, ip.value),
  ),
  overload('containsCIDR', 'net.CIDR.(string) bool', (range: Cidr, text: string) => {
    const other = parseRange(text);
    return other instanceof CelError ? other : containsRange(range.value, other);
  }),
  overload('containsCIDR', 'net.CIDR.(net.CIDR) bool', (range: Cidr, other: Cidr) =>
    containsRange(range.value, other.value),
  ),
  overload('ip', 'net.CIDR.() net.IP', (range: Cidr) => ipValue(range.value.address)),
  overload('masked', 'net.CIDR.() net.CIDR', ({ value: { address, bits, bytes } }: Cidr) =>
    cidrValue({ address: addressOf(mask(address, bits), address.family), bits, bytes }),
  ),
  overload('prefixLength', 'net.CIDR.() int', (range: Cidr) => BigInt(range.value.bits)),
  overload('string', '(net.CIDR) string', (range: Cidr) => rangeText(range.value)),
];

type Link = {
  scheme: string;
  host: string;
  hostname: string;
  port: string;
  path: string;
  query: string;
  text: string;
};

/** An absolute URL, or an absolute path, as Go's ParseRequestURI has it. */
function parseLink(text: string): Link | CelError {
  const wrap = (reason: string): CelError =>
    new CelError(`URL parse error during conversion from string: parse ${quoted(text)}: ${reason}`);
  if (text === '') return wrap('empty url');
  if (/[\x00-\x1f\x7f]/.test(text)) return wrap('net/url: invalid control character in URL');
  const match =
    /^(?:([a-zA-Z][a-zA-Z0-9+.-]*):)?(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#.*)?$/.exec(text);
  const [, scheme = '', authority, path = '', query = ''] = match ?? [];
  if (!match || (scheme === '' && !text.startsWith('/'))) return wrap('invalid URI for request');
  const escape = /%(?![0-9a-fA-F]{2}).{0,2}/.exec(path);
  if (escape) return wrap(`invalid URL escape ${quoted(escape[0])}`);
  if (scheme === '' && authority !== undefined && text.startsWith('///'))
    return wrap('invalid URI for request');
  const host = (authority ?? '').replace(/^.*@/, '');
  if (/[ "<>\\^`{|}]/.test(host))
    return wrap(`invalid character ${quoted(/[ "<>\\^`{|}]/.exec(host)?.[0] ?? '')} in host name`);
  const [, hostname = host, port = ''] = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/.exec(host) ?? [];
  if (port && !/^\d*$/.test(port)) return wrap(`invalid port ${quoted(`:${port}`)} after host`);
  return {
    scheme: scheme.toLowerCase(),
    host,
    hostname: hostname.replace(/^\[|\]$/g, ''),
    port,
    path: escapedPath(path),
    query,
    text,
  };
}

const escapedPath = (path: string): string =>
  path.replaceAll(/[^a-zA-Z0-9\-_.~$&+,/:;=@!'()*%[\]]/gu, (letter) =>
    [...Buffer.from(letter)]
      .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
      .join(''),
  );

function queryOf(query: string): Value {
  const values = new Map<string, string[]>();
  for (const [name, value] of new URLSearchParams(query)) {
    values.set(name, [...(values.get(name) ?? []), value]);
  }
  return CelMap.of([...values].map(([name, all]) => [name, new CelList(all)] as const));
}

type Url = Opaque<Link>;

const urlFunctions: Overload[] = [
  overload('url', '(string) kubernetes.URL', (text: string) => {
    const link = parseLink(text);
    if (link instanceof CelError) return link;
    return new Opaque('kubernetes.URL', link, (other: Link) => other.text === link.text);
  }),
  overload('isURL', '(string) bool', (text: string) => !(parseLink(text) instanceof CelError)),
  overload('getScheme', 'kubernetes.URL.() string', (url: Url) => url.value.scheme),
  overload('getHost', 'kubernetes.URL.() string', (url: Url) => url.value.host),
  overload('getHostname', 'kubernetes.URL.() string', (url: Url) => url.value.hostname),
  overload('getPort', 'kubernetes.URL.() string', (url: Url) => url.value.port),
  overload('getEscapedPath', 'kubernetes.URL.() string', (url: Url) => url.value.path),
  overload('getQuery', 'kubernetes.URL.() map<string, list<string>>', (url: Url) =>
    queryOf(url.value.query),
  ),
];

export const networkFunctions: readonly Overload[] = [
  ...ipFunctions,
  ...cidrFunctions,
  ...urlFunctions,
];

/** Why a text is no URI; null when it is one. */
export function uriProblem(text: string): string | null {
  const link = parseLink(text);
  if (!(link instanceof CelError)) return null;
  return link.message.replace('URL parse error during conversion from string: ', '');
}
