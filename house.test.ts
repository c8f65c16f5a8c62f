import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';

/** The rules of the house (docs/architecture.md), checked over every tracked or new file. */
const MAX_LINES = 600;

/** Who may import whom. A component's own folder is always allowed. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  base: [],
  proto: ['base'],
  api: ['base', 'proto'],
  client: ['base', 'proto', 'api'],
  apiserver: ['base', 'proto', 'api'],
  controllers: ['base', 'proto', 'api', 'client'],
  scheduler: ['base', 'proto', 'api', 'client'],
  'node-agent': ['base', 'proto', 'api', 'client'],
  cli: ['base', 'proto', 'api', 'client', 'manifests'],
  manifests: ['base'],
  bench: [
    'base',
    'proto',
    'api',
    'client',
    'apiserver',
    'controllers',
    'scheduler',
    'node-agent',
    'manifests',
    'e2e',
  ],
  e2e: ['base', 'proto', 'api', 'client', 'cli', 'manifests'],
};

/** Only the command line wires components together, and only by their front doors. */
const FRONT_DOORS =
  /^(apiserver|controllers|scheduler|node-agent|node-agent\/runtime\/microvm)\/(start|main|kubeconfig)\.ts$/;

/** Besides tests, only these may touch the store. */
const STORE_USERS = [
  /^apiserver\/store\//,
  /^apiserver\/resource\//,
  /^apiserver\/subresources\//,
  /^apiserver\/watch-cache/,
  /^apiserver\/bootstrap/,
  /^apiserver\/start\.ts$/,
  /^bench\//,
];

const root = import.meta.dirname;
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)));
const sources = files.filter((file) => file.endsWith('.ts'));

type Import = { file: string; target: string; typeOnly: boolean };

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), 'utf8');
  const found: Import[] = [];
  for (const match of text.matchAll(/^(import|export)\s+(type\s+)?[^'"]*?from\s+'([^']+)'/gm)) {
    found.push({ file, target: locate(file, match[3] ?? ''), typeOnly: match[2] !== undefined });
  }
  for (const match of text.matchAll(/\bimport\('([^']+)'\)/g)) {
    found.push({ file, target: locate(file, match[1] ?? ''), typeOnly: false });
  }
  return found.filter((i) => i.target !== '');
}

/** The tree's own path of an import, or '' for a package. */
function locate(from: string, specifier: string): string {
  if (specifier.startsWith('#')) return specifier.slice(1);
  if (specifier.startsWith('.')) return normalize(join(dirname(from), specifier));
  return '';
}

/** Tests, and what serves nothing but tests. */
const isTest = (file: string): boolean =>
  /(\.test|\.e2e|\/(suite|testing)(-[a-z]+)*)\.ts$/.test(file);
const folder = (file: string): string => (file.includes('/') ? (file.split('/')[0] ?? '') : '');

test('no source file is longer than 600 lines', () => {
  const long = sources
    .map((file) => ({ file, lines: readFileSync(join(root, file), 'utf8').split('\n').length - 1 }))
    .filter(({ lines }) => lines > MAX_LINES);
  assert.deepEqual(long, []);
});

test('imports go down the stairs', () => {
  const broken = sources
    .filter((file) => !isTest(file))
    .flatMap(importsOf)
    .filter(({ file, target }) => {
      const from = folder(file);
      const to = folder(target);
      if (from === '' || to === from || to === '') return false;
      if (from === 'cli' && FRONT_DOORS.test(target)) return false;
      return !(MAY_IMPORT[from] ?? []).includes(to);
    })
    .map(({ file, target }) => `${file} -> ${target}`);
  assert.deepEqual(broken, []);
});

test('no file needs itself, over however many others', () => {
  const needs = new Map(
    sources
      .filter((file) => !isTest(file))
      .map((file) => [
        file,
        importsOf(file)
          .filter((i) => !i.typeOnly)
          .map((i) => i.target),
      ]),
  );
  const done = new Set<string>();
  const circles: string[] = [];
  const walk = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start >= 0) circles.push([...path.slice(start), file].join(' -> '));
    if (start >= 0 || done.has(file)) return;
    for (const target of needs.get(file) ?? []) walk(target, [...path, file]);
    done.add(file);
  };
  for (const file of needs.keys()) walk(file, []);
  assert.deepEqual(circles, []);
});

test('the product needs nothing that is for tests', () => {
  const broken = sources
    .filter((file) => !isTest(file) && !['bench', 'e2e'].includes(folder(file)))
    .flatMap(importsOf)
    .filter(({ target }) => isTest(target))
    .map(({ file, target }) => `${file} -> ${target}`);
  assert.deepEqual(broken, []);
});

test('servers reach node:http through base/http.ts', () => {
  const broken = sources
    .filter((file) => !isTest(file) && !/^(bench|e2e|manifests)\//.test(file))
    .filter((file) =>
      /^import (?!type\b)[^'"]*?from 'node:http'/m.test(readFileSync(join(root, file), 'utf8')),
    );
  assert.deepEqual(broken, []);
});

test('nobody imports a main.ts', () => {
  const broken = sources
    .flatMap(importsOf)
    .filter(({ file, target }) => /(^|\/)main\.ts$/.test(target) && folder(file) !== 'cli')
    .map(({ file, target }) => `${file} -> ${target}`);
  assert.deepEqual(broken, []);
});

test('the store is touched only behind the resource verbs', () => {
  const broken = sources
    .filter((file) => !isTest(file) && !STORE_USERS.some((allowed) => allowed.test(file)))
    .flatMap(importsOf)
    .filter(({ target, typeOnly }) => target.startsWith('apiserver/store/') && !typeOnly)
    .map(({ file, target }) => `${file} -> ${target}`);
  assert.deepEqual(broken, []);
});

test('every member of a family stands on its list', () => {
  const lists: { list: string; members: RegExp }[] = [
    { list: 'controllers/controllers.ts', members: /^controllers\/[a-z-]+-controller\.ts$/ },
    { list: 'scheduler/plugins.ts', members: /^scheduler\/plugins\/[a-z-]+\.ts$/ },
    { list: 'node-agent/volumes.ts', members: /^node-agent\/volumes\/[a-z-]+\.ts$/ },
    { list: 'apiserver/admission.ts', members: /^apiserver\/admission\/[a-z-]+\.ts$/ },
    { list: 'cli/verbs.ts', members: /^cli\/verbs\/[a-z-]+\.ts$/ },
  ];
  const missing: string[] = [];
  for (const { list, members } of lists) {
    const listed = new Set(importsOf(list).map((i) => i.target));
    for (const file of sources) {
      if (members.test(file) && !isTest(file) && !listed.has(file))
        missing.push(`${file} is not on ${list}`);
    }
  }
  assert.deepEqual(missing, []);
});

test('no barrels and no default exports', () => {
  const broken = sources.filter(
    (file) =>
      /(^|\/)index\.ts$/.test(file) ||
      /^export default /m.test(readFileSync(join(root, file), 'utf8')),
  );
  assert.deepEqual(broken, []);
});
