import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { builtinKinds } from '#api/kinds.ts';
import { buildScheme } from '#api/scheme.ts';
import { createDiscovery } from '#apiserver/discovery.ts';
import { createOpenApi } from '#apiserver/openapi.ts';

/**
 * What a Kubernetes 1.36 server says of its API, beside what ours says. The recorded documents are
 * no part of the project; without them these tests are skipped.
 */
const REFERENCE = fileURLToPath(new URL('../../shared/reference/', import.meta.url));
const skip = existsSync(REFERENCE) ? false : 'no reference documents beside the project';

const scheme = buildScheme(builtinKinds);
const discovery = createDiscovery(scheme, { serverAddress: '127.0.0.1:6443' });
const openApi = createOpenApi(scheme, { version: '1.36' });
const AGGREGATED = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';

type Json = { [member: string]: Json | undefined };

const parse = (bytes: Uint8Array): Json => JSON.parse(Buffer.from(bytes).toString()) as Json;
const theirs = (file: string): Json => parse(readFileSync(`${REFERENCE}${file}`));
const items = (value: Json | undefined): Json[] => (value ?? []) as unknown as Json[];
const text = (value: unknown): string => (value === undefined ? 'nothing' : JSON.stringify(value));

/** Differences that are meant: what the line looks like, and why. Each has to occur. */
type Meant = readonly [line: RegExp, why: string];

function judge(lines: readonly string[], meant: readonly Meant[]): void {
  const unexpected = lines.filter((line) => !meant.some(([pattern]) => pattern.test(line)));
  assert.deepEqual(unexpected, [], 'differences that nobody meant');
  const unused = meant.filter(([pattern]) => !lines.some((line) => pattern.test(line)));
  assert.deepEqual(unused, [], 'differences that are gone: take them off the list');
}

/** One line for each member that differs. */
function compare(path: string, their: unknown, our: unknown, lines: string[]): void {
  if (text(their) === text(our)) return;
  const isObject = (value: unknown): value is Json =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isObject(their) || !isObject(our)) {
    lines.push(`${path}: theirs ${text(their)}, ours ${text(our)}`);
    return;
  }
  for (const member of new Set([...Object.keys(their), ...Object.keys(our)])) {
    compare(`${path}.${member}`, their[member], our[member], lines);
  }
}

/** Everything below a list of groups, by `group/version/resource`. */
function resourcesOf(list: Json): Record<string, Json> {
  const found: Record<string, Json> = {};
  for (const group of items(list['items'])) {
    for (const version of items(group['versions'])) {
      for (const resource of items(version['resources'])) {
        const name = group['metadata']?.['name'] ?? '';
        found[`${text(name)}/${text(version['version'])}/${text(resource['resource'])}`] = {
          ...resource,
          subresources: Object.fromEntries(
            items(resource['subresources']).map((one) => [text(one['subresource']), one]),
          ),
        };
      }
    }
  }
  return found;
}

const MEANT_OF_DISCOVERY: readonly Meant[] = [
  [/^"metrics\.k8s\.io"/, 'an add-on there, part of the server here'],
];

test('discovery: groups, versions, resources, verbs, scopes and names', { skip }, () => {
  const lines: string[] = [];
  for (const [file, path] of [
    ['discovery-api.json', '/api'],
    ['discovery-apis.json', '/apis'],
  ] as const) {
    const document = discovery.document(path, AGGREGATED);
    assert.ok(document, path);
    const their = resourcesOf(theirs(file));
    const our = resourcesOf(parse(document.body));
    for (const name of new Set([...Object.keys(their), ...Object.keys(our)])) {
      compare(name, their[name], our[name], lines);
    }
  }
  judge(lines, MEANT_OF_DISCOVERY);
});

const MEANT_OF_SCHEMAS: readonly Meant[] = [
  [/\.x-kubernetes-unions: /, 'no client reads it; validation says which members go together'],
  [/\.(\$ref|allOf): /, 'a reference stands bare there where it has no words of its own'],
  [
    /\.allocatedResourceStatuses\.additionalProperties\.enum: /,
    'values of maps have no enums here',
  ],
  [/DeleteOptions\.x-kubernetes-group-version-kind: /, 'the same in every document here'],
  [/\.(WatchEvent|RawExtension): missing/, 'the old watch paths are served, not described'],
];

const DOCUMENT = /^(api_v1|apis_(?!ac[a-z0-9]+\.example\.com).+_v\d)\.json$/;

/** Without prose, and in an order of their own. */
function bare(schema: Json): Json {
  const plain = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(plain);
    if (typeof value !== 'object' || value === null) return value;
    const entries = Object.entries(value).filter(([key]) => key !== 'description');
    return Object.fromEntries(
      entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, plain(v)]),
    );
  };
  const { properties = {}, required, ...rest } = schema;
  const members = Object.entries(properties).map(([name, value]) => [name, plain(value)]);
  return {
    ...(plain(rest) as Json),
    properties: Object.fromEntries(members) as Json,
    required: [...((required ?? []) as unknown as string[])].sort() as unknown as Json,
  };
}

test('OpenAPI: types and their fields', { skip }, () => {
  const lines: string[] = [];
  const seen = new Set<string>();
  for (const file of readdirSync(`${REFERENCE}openapi-v3`).filter((name) => DOCUMENT.test(name))) {
    const path = file.replace('.json', '').replaceAll('_', '/');
    const answer = openApi.document(`/openapi/v3/${path}`);
    assert.ok(answer && 'body' in answer, path);
    const their = theirs(`openapi-v3/${file}`)['components']?.['schemas'] ?? {};
    const our = parse(answer.body)['components']?.['schemas'] ?? {};
    for (const name of new Set([...Object.keys(their), ...Object.keys(our)])) {
      if (seen.has(name)) continue;
      seen.add(name);
      const [a, b] = [their[name], our[name]];
      if (a && b) compare(name, bare(a), bare(b), lines);
      else lines.push(`${name}: ${a ? 'missing' : 'ours alone'}`);
    }
  }
  judge(lines, MEANT_OF_SCHEMAS);
});
