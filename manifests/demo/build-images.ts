import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type ImageStore, type Layer, openImageStore } from '#base/oci/image-store.ts';
import { copyOf, programFiles } from '#base/oci/program-files.ts';
import type { TarEntry } from '#base/oci/tar.ts';

const REGISTRY = 'gantry.internal';
const SERVICES = ['web', 'catalog', 'pricing', 'orders'] as const;
/** Two versions of the same sources, so that there is something to roll out. */
const VERSIONS = ['1.0', '1.1'] as const;
const USER = 65_532;
/** Counted up when what `runtimeEntries` puts beside Node changes. */
const RUNTIME_LAYOUT = 1;
const STATIC_BUSYBOX = '/usr/bin/busybox';

/**
 * Builds the demo's images out of what is on this machine (its Node with the libraries it needs,
 * the service sources) and puts them into the image store that the node's registry serves. Layers
 * that are there already are used again. Returns the names of all images.
 */
export async function buildDemoImages(storeDir: string): Promise<string[]> {
  const store = openImageStore(storeDir);
  const runtime = await addRuntime(store);
  const app = await store.addLayer(appEntries());
  const names: string[] = [];
  const add = (name: string, layers: Layer[], settings: Parameters<ImageStore['addImage']>[2]) => {
    store.addImage(name, layers, settings);
    names.push(name);
  };
  add(`${REGISTRY}/node:26`, [runtime], { Entrypoint: ['/usr/bin/node'], Env: ENVIRONMENT });
  for (const service of SERVICES)
    for (const version of VERSIONS)
      add(`${REGISTRY}/demo/${service}:${version}`, [runtime, app], {
        Entrypoint: ['/usr/bin/node', '--no-warnings'],
        Cmd: [`/app/${service}.ts`],
        Env: [...ENVIRONMENT, `APP_VERSION=${version}`],
        User: `${USER}:${USER}`,
        WorkingDir: '/app',
        ExposedPorts: { '8080/tcp': {} },
      });
  if (existsSync(STATIC_BUSYBOX)) {
    const layer = await store.addLayer(busyboxEntries());
    add(`${REGISTRY}/busybox:1`, [layer], { Cmd: ['/bin/sh'], Env: ENVIRONMENT });
  }
  store.collectGarbage();
  return names;
}

const ENVIRONMENT = ['PATH=/usr/bin:/bin', 'NODE_ENV=production'];

/** The one large layer, shared by all: its key is the Node it holds. */
function addRuntime(store: ImageStore): Promise<Layer> {
  const node = realpathSync(process.execPath);
  const { size, mtimeMs } = statSync(node);
  const cacheKey = `node ${process.version} ${size} ${mtimeMs} layout ${RUNTIME_LAYOUT}`;
  return store.addLayer(() => runtimeEntries(node), { cacheKey });
}

function runtimeEntries(node: string): TarEntry[] {
  const names = 'hosts: files dns\npasswd: files\ngroup: files\n';
  return [
    ...programFiles(node, 'usr/bin/node'),
    ...baseEntries(),
    text('etc/nsswitch.conf', names),
  ];
}

/** What any program expects of a system. */
function baseEntries(): TarEntry[] {
  const passwd = `root:x:0:0:root:/root:/bin/sh\napp:x:${USER}:${USER}:app:/tmp:/bin/false\n`;
  return [
    text('etc/passwd', passwd),
    text('etc/group', `root:x:0:\napp:x:${USER}:\n`),
    { type: 'directory', path: 'tmp', mode: 0o1777 },
    { type: 'directory', path: 'root', mode: 0o700 },
  ];
}

function appEntries(): TarEntry[] {
  const dir = join(import.meta.dirname, 'services');
  const sources = readdirSync(dir).filter((name) => !name.includes('.test.'));
  return [
    text('app/package.json', '{ "type": "module" }\n'),
    ...sources.map((name) => text(`app/${name}`, readFileSync(join(dir, name)))),
  ];
}

/** For looking around inside a cluster: a shell and the usual tools. */
function busyboxEntries(): TarEntry[] {
  const tools =
    'sh cat cp date df echo env false find grep head hostname httpd id ifconfig ip kill ls mkdir ' +
    'mv nc netstat nslookup ping printf ps pwd rm route sed seq sleep sort stat tail tar tee test ' +
    'timeout top touch tr true uname vi wc wget whoami xargs';
  const link = (name: string): TarEntry => ({
    type: 'symlink',
    path: `bin/${name}`,
    target: 'busybox',
  });
  const program = copyOf(STATIC_BUSYBOX, 'bin/busybox');
  return [program, ...tools.split(' ').map(link), ...baseEntries()];
}

function text(path: string, content: string | Uint8Array): TarEntry {
  return { type: 'file', path, content: Buffer.from(content) };
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { store: { type: 'string' } } });
  const dataDir = process.env.GANTRY_DATA_DIR ?? '/var/lib/gantry';
  const store = values.store ?? join(dataDir, 'images');
  const names = await buildDemoImages(store);
  console.log(`${names.length} images in ${store}:\n  ${names.join('\n  ')}`);
}
