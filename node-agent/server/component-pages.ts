import type { IncomingMessage } from 'node:http';

/**
 * What a component says of itself: `/statusz` and `/flagz`, as text for people or as an object.
 * Source: KEP-4827 and KEP-4828, config.k8s.io/v1beta1; the kubelet of 1.36 answers the same.
 */
export type Component = {
  name: string;
  version: string;
  startedAtMs: number;
  /** As on the command line, without the dashes. */
  flags: Readonly<Record<string, string>>;
  /** First parts of what is served. */
  paths: readonly string[];
};

export type Page = { status: number; contentType: string; body: string };

const VERSION = 'v1beta1';
const GROUP = 'config.k8s.io';
const NOT_FOR_MACHINES =
  'Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.';

const MINUTE_S = 60;
const HOUR_S = 3_600;

export function statuszPage(component: Component, accept: string, nowMs: number): Page {
  const { name, version, startedAtMs, paths } = component;
  const upSeconds = Math.max(0, Math.floor((nowMs - startedAtMs) / 1_000));
  const binaryVersion = version.replace(/^v/, '');
  const emulationVersion = binaryVersion.split('.').slice(0, 2).join('.');
  const hours = Math.floor(upSeconds / HOUR_S);
  const minutes = pad(Math.floor((upSeconds % HOUR_S) / MINUTE_S));
  return page(accept, 'Statusz', name, {
    lines: [
      '',
      `Started: ${new Date(startedAtMs).toUTCString()}`,
      `Up: ${hours} hr ${minutes} min ${pad(upSeconds % MINUTE_S)} sec`,
      `Node.js version: ${process.versions.node}`,
      `Binary version: ${binaryVersion}`,
      `Emulation version: ${emulationVersion}`,
      `Paths: ${paths.join(' ')}`,
    ],
    fields: {
      startTime: new Date(startedAtMs).toISOString().replace(/\.\d+Z$/, 'Z'),
      uptimeSeconds: upSeconds,
      // Required by the type, and there is none.
      goVersion: '',
      binaryVersion,
      emulationVersion,
      paths,
    },
  });
}

export function flagzPage(
  { name, flags }: Pick<Component, 'name' | 'flags'>,
  accept: string,
): Page {
  const entries = Object.entries(flags).sort(([a], [b]) => (a < b ? -1 : 1));
  const lines = entries.map(([flag, value]) => `${flag}: ${value}`);
  return page(accept, 'Flagz', name, { lines, fields: { flags: Object.fromEntries(entries) } });
}

export const acceptOf = ({ headers }: IncomingMessage): string => headers.accept ?? '*/*';

const pad = (value: number): string => String(value).padStart(2, '0');

function page(
  accept: string,
  kind: 'Statusz' | 'Flagz',
  name: string,
  { lines, fields }: { lines: readonly string[]; fields: object },
): Page {
  for (const wanted of accept.split(',').map(parseMediaType)) {
    if (['*/*', 'text/*', 'text/plain'].includes(wanted.type)) {
      const body = `\n${name} ${kind.toLowerCase()}\n${[NOT_FOR_MACHINES, ...lines].join('\n')}\n`;
      return { status: 200, contentType: 'text/plain; charset=utf-8', body };
    }
    const { type, g, v, as } = wanted;
    if (type === 'application/json' && g === GROUP && v === VERSION && as === kind) {
      const object = { kind, apiVersion: `${GROUP}/${VERSION}`, metadata: { name }, ...fields };
      const contentType = `${type};g=${GROUP};v=${VERSION};as=${kind}`;
      return { status: 200, contentType, body: JSON.stringify(object, null, 2) };
    }
  }
  const status = {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: `only the following media types are accepted: text/plain, application/json;g=${GROUP};v=${VERSION};as=${kind}`,
    reason: 'NotAcceptable',
    code: 406,
  };
  return { status: 406, contentType: 'application/json', body: JSON.stringify(status) };
}

function parseMediaType(text: string): Record<string, string> & { type: string } {
  const [type = '', ...parameters] = text.split(';').map((part) => part.trim());
  const pairs = parameters.map((parameter) => parameter.split('=', 2) as [string, string]);
  return { ...Object.fromEntries(pairs), type };
}
