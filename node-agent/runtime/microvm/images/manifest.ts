import { type Descriptor, type ImageSettings, imageArchitecture } from '#base/oci/image-store.ts';
import { RuntimeError } from '#node-agent/runtime/service.ts';

/** What a runtime reads of an image's config. Source: OCI image specification, "Image Configuration". */
export type ImageConfig = {
  architecture: string;
  os: string;
  config: ImageSettings;
  diffIds: string[];
};

export type Manifest = { config: Descriptor; layers: Descriptor[] };

type Platform = { architecture?: string; os?: string; variant?: string };

/** Many more than any image has; the kernel's overlay takes fewer, too. */
const MAX_LAYERS = 512;

/** `bytes` as an index, or as the manifest of one platform. */
export function readManifest(
  name: string,
  bytes: Uint8Array,
): { manifest: Manifest } | { index: (Descriptor & { platform?: Platform })[] } {
  const value = parse(name, 'manifest', bytes) as {
    manifests?: (Descriptor & { platform?: Platform })[];
    config?: Descriptor;
    layers?: Descriptor[];
  };
  if (Array.isArray(value.manifests)) return { index: value.manifests };
  const { config, layers } = value;
  const sane = (one: Descriptor | undefined): boolean =>
    /^sha256:[0-9a-f]{64}$/.test(one?.digest ?? '') && Number.isSafeInteger(one?.size);
  if (!config || !sane(config) || !Array.isArray(layers) || !layers.every(sane))
    throw bad(name, 'its manifest names no config and layers');
  if (layers.length > MAX_LAYERS) throw bad(name, `it has more than ${MAX_LAYERS} layers`);
  return { manifest: { config, layers } };
}

/** The manifest for this machine. Throws RuntimeError that lists what the image is made for. */
export function choosePlatform(
  name: string,
  index: readonly (Descriptor & { platform?: Platform })[],
  architecture = imageArchitecture(),
): Descriptor {
  const found = index.find(
    ({ platform }) => platform?.os === 'linux' && platform.architecture === architecture,
  );
  if (found) return found;
  const there = index
    .filter(({ platform }) => platform?.os !== 'unknown')
    .map(({ platform = {} }) =>
      [platform.os, platform.architecture, platform.variant].filter(Boolean).join('/'),
    );
  throw noMatch(name, architecture, there);
}

export function readImageConfig(
  name: string,
  bytes: Uint8Array,
  layers: number,
  wanted = imageArchitecture(),
): ImageConfig {
  const value = parse(name, 'config', bytes) as {
    architecture?: string;
    os?: string;
    config?: ImageSettings | null;
    rootfs?: { diff_ids?: string[] };
  };
  const { architecture = wanted, os = 'linux', config, rootfs } = value;
  if (os !== 'linux' || architecture !== wanted)
    throw noMatch(name, wanted, [`${os}/${architecture}`]);
  const diffIds = rootfs?.diff_ids ?? [];
  if (diffIds.length !== layers)
    throw bad(name, `its config lists ${diffIds.length} layers, its manifest ${layers}`);
  return { architecture, os, config: config ?? {}, diffIds };
}

const noMatch = (name: string, wanted: string, there: readonly string[]): RuntimeError =>
  new RuntimeError(
    'NotFound',
    `image "${name}": no match for platform linux/${wanted} in manifest: it is made for ` +
      `${there.join(', ') || 'nothing'}; use an image that has linux/${wanted}`,
  );

const bad = (name: string, why: string): RuntimeError =>
  new RuntimeError('Unknown', `image "${name}": ${why}`);

function parse(name: string, what: string, bytes: Uint8Array): object {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
    if (value !== null && typeof value === 'object') return value;
  } catch {
    // falls through to the one error for both
  }
  throw bad(name, `its ${what} is no JSON object`);
}
