import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { sha256 } from '#base/sha256.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import type { AuthConfig, Image } from '#node-agent/runtime/service.ts';

/**
 * Who may use an image that is on the node: those who could have pulled it. What has been pulled with
 * which credentials stands on the disk under the kubelet's names, so that either goes on from the
 * other's. Source: KEP-2535, kubelet.config.k8s.io/v1beta1.
 */

export const VERIFICATION_POLICIES = [
  'NeverVerify',
  'NeverVerifyPreloadedImages',
  'NeverVerifyAllowlistedImages',
  'AlwaysVerify',
] as const;
export type VerificationPolicy = (typeof VERIFICATION_POLICIES)[number];

export type PullVerification = {
  policy: VerificationPolicy;
  /** Image names without tag, or beginnings that end in `/*`; for NeverVerifyAllowlistedImages. */
  allowlist: readonly string[];
};

/** Source: the kubelet's default of imagePullCredentialsVerificationPolicy. */
export const DEFAULT_VERIFICATION: PullVerification = {
  policy: 'NeverVerifyPreloadedImages',
  allowlist: [],
};

/** The flags as a policy; undefined when there are none. Throws ConfigError. */
export function readVerification(
  policy: string | undefined,
  allowlist: string | undefined,
): PullVerification | undefined {
  if (policy === undefined) {
    if (allowlist === undefined) return undefined;
    throw new ConfigError('an allowlist of images needs the policy NeverVerifyAllowlistedImages');
  }
  const known = VERIFICATION_POLICIES.find((one) => one === policy);
  if (!known)
    throw new ConfigError(
      `--image-pull-credentials-verification-policy is one of ${VERIFICATION_POLICIES.join(', ')}, not "${policy}"`,
    );
  const list = (allowlist ?? '').split(',').filter(Boolean);
  if (list.length > 0 && known !== 'NeverVerifyAllowlistedImages')
    throw new ConfigError('an allowlist of images needs the policy NeverVerifyAllowlistedImages');
  const bad = list.find((one) => one.replace(/\/\*$/, '').includes('*'));
  if (bad) throw new ConfigError(`allowlist: "${bad}" may have a * only as its last part`);
  return { policy: known, allowlist: list };
}

/** Where credentials come from. The hash tells whether a Secret still says the same. */
export type PullSecret = { uid: string; namespace: string; name: string; credentialHash: string };
export type PullServiceAccount = { uid: string; namespace: string; name: string };
export type PullCredentials = {
  kubernetesSecrets?: PullSecret[];
  kubernetesServiceAccounts?: PullServiceAccount[];
  /** Pulled with no credentials or with the node's own: every pod of the node may use it. */
  nodePodsAccessible?: boolean;
};

const API_VERSION = 'kubelet.config.k8s.io/v1beta1';
type PulledRecord = {
  kind: 'ImagePulledRecord';
  apiVersion: string;
  lastUpdatedTime: string;
  imageRef: string;
  /** By the image's name without tag and digest. */
  credentialMapping: Record<string, PullCredentials>;
};
type PullIntent = { kind: 'ImagePullIntent'; apiVersion: string; image: string };

/** More of one kind are not remembered for one image; whoever comes then pulls again. */
const MAX_CREDENTIALS = 100;

export const credentialHash = (auth: AuthConfig): string => {
  const { username = '', password = '', identityToken = '', registryToken = '' } = auth;
  return sha256(JSON.stringify([username, password, identityToken, registryToken]));
};

/** Without tag and digest, as a pod's spec has it. */
function nameOf(image: string): string {
  const name = image.split('@')[0] ?? '';
  const colon = name.lastIndexOf(':');
  return colon > name.lastIndexOf('/') ? name.slice(0, colon) : name;
}

/** Whether an image that is there may not be used before its credentials are checked. Pure. */
export function isVerified(
  { policy, allowlist }: PullVerification,
  image: string,
  pulledByUs: boolean,
): boolean {
  switch (policy) {
    case 'NeverVerify':
      return false;
    case 'AlwaysVerify':
      return true;
    case 'NeverVerifyPreloadedImages':
      return pulledByUs;
    case 'NeverVerifyAllowlistedImages': {
      const name = nameOf(image);
      return !allowlist.some((one) =>
        one.endsWith('/*') ? name.startsWith(one.slice(0, -1)) : name === one,
      );
    }
  }
}

/** Whether one of the pod's credentials is among those that have pulled the image. Pure. */
export function mayUse(known: PullCredentials, own: PullCredentials): boolean {
  if (known.nodePodsAccessible) return true;
  const same = (a: PullServiceAccount, b: PullServiceAccount): boolean =>
    a.uid === b.uid && a.namespace === b.namespace && a.name === b.name;
  const bySecret = (own.kubernetesSecrets ?? []).some((secret) =>
    (known.kubernetesSecrets ?? []).some(
      (one) => same(one, secret) || one.credentialHash === secret.credentialHash,
    ),
  );
  if (bySecret) return true;
  return (own.kubernetesServiceAccounts ?? []).some((account) =>
    (known.kubernetesServiceAccounts ?? []).some((one) => same(one, account)),
  );
}

/** Both together; the newer word on a Secret counts. Pure. */
export function mergeCredentials(before: PullCredentials, more: PullCredentials): PullCredentials {
  if (before.nodePodsAccessible || more.nodePodsAccessible) return { nodePodsAccessible: true };
  const join = <T extends PullServiceAccount>(old: readonly T[] = [], added: readonly T[] = []) => {
    const kept = old.filter((one) => !added.some((other) => other.uid === one.uid));
    return [...kept, ...added].slice(-MAX_CREDENTIALS);
  };
  const kubernetesSecrets = join(before.kubernetesSecrets, more.kubernetesSecrets);
  const kubernetesServiceAccounts = join(
    before.kubernetesServiceAccounts,
    more.kubernetesServiceAccounts,
  );
  return {
    ...(kubernetesSecrets.length > 0 ? { kubernetesSecrets } : {}),
    ...(kubernetesServiceAccounts.length > 0 ? { kubernetesServiceAccounts } : {}),
  };
}

const fileOf = (text: string): string => `sha256-${sha256(text)}`;

export type PullRecordsOptions = {
  /** `<root dir>/image_manager`. */
  dir: string;
  verification: PullVerification;
  clock: Clock;
  log: Log;
};

/** The records of one node. Reads and writes never reject: without a record, an image is pulled again. */
export class PullRecords {
  readonly #options: PullRecordsOptions;
  /** Pulls under way, by image. */
  readonly #intents = new Map<string, number>();
  #row: Promise<unknown> = Promise.resolve();

  constructor(options: PullRecordsOptions) {
    this.#options = options;
  }

  /**
   * Whether the image `ref` that is there has to be pulled again before a pod uses it, because nobody
   * has shown that it may. `own` is asked for only when it matters.
   */
  async mustPull(
    image: string,
    ref: string,
    own: () => Promise<PullCredentials>,
  ): Promise<boolean> {
    const { verification } = this.#options;
    if (verification.policy === 'NeverVerify') return false;
    const record = await this.#read(ref);
    const pulledByUs = record !== undefined || (await this.#isIntended(image));
    if (!isVerified(verification, image, pulledByUs)) return false;
    const known = record?.credentialMapping?.[nameOf(image)];
    if (!known) return true;
    if (known.nodePodsAccessible) return false;
    const mine = await own();
    if (!mayUse(known, mine)) return true;
    const secrets = (mine.kubernetesSecrets ?? []).filter((secret) =>
      mayUse(known, { kubernetesSecrets: [secret] }),
    );
    await this.#add(image, ref, { kubernetesSecrets: secrets });
    return false;
  }

  /** Written before a pull, so that an image whose pull was cut off is none that was always there. */
  async begin(image: string): Promise<void> {
    const count = this.#intents.get(image) ?? 0;
    this.#intents.set(image, count + 1);
    if (count > 0) return;
    const intent: PullIntent = { kind: 'ImagePullIntent', apiVersion: API_VERSION, image };
    await this.#do(() => this.#write('pulling', image, intent));
  }

  /** The pull has ended; `pulled` says which image it brought, and by whose credentials. */
  async end(image: string, pulled?: { ref: string; by: PullCredentials }): Promise<void> {
    if (pulled) await this.#add(image, pulled.ref, pulled.by);
    const count = (this.#intents.get(image) ?? 1) - 1;
    if (count > 0) return void this.#intents.set(image, count);
    this.#intents.delete(image);
    await this.#do(() => rm(join(this.#options.dir, 'pulling', fileOf(image)), { force: true }));
  }

  /** Pulls that an earlier agent began: what has come of them is nobody's until it is pulled again. */
  async recover(images: readonly Image[]): Promise<void> {
    for (const { image } of await this.#all<PullIntent>('pulling')) {
      const found = images.find(
        ({ repoTags, repoDigests }) => repoTags.includes(image) || repoDigests.includes(image),
      );
      if (found) await this.#add(image, found.id, {});
      await this.#do(() => rm(join(this.#options.dir, 'pulling', fileOf(image)), { force: true }));
    }
  }

  /** The image is not here any more. */
  async forget(ref: string): Promise<void> {
    await this.#do(() => rm(join(this.#options.dir, 'pulled', fileOf(ref)), { force: true }));
  }

  #add(image: string, ref: string, by: PullCredentials): Promise<void> {
    return this.#do(async () => {
      const before = await this.#read(ref);
      const name = nameOf(image);
      const old = before?.credentialMapping?.[name];
      const isNothing = Object.values(by).every((one) => !one || (Array.isArray(one) && !one[0]));
      if (before && isNothing) return;
      const merged = mergeCredentials(old ?? {}, by);
      if (old && JSON.stringify(old) === JSON.stringify(merged)) return;
      const record: PulledRecord = {
        kind: 'ImagePulledRecord',
        apiVersion: API_VERSION,
        lastUpdatedTime: new Date(this.#options.clock.now()).toISOString(),
        imageRef: ref,
        credentialMapping: {
          ...before?.credentialMapping,
          ...(isNothing ? {} : { [name]: merged }),
        },
      };
      await this.#write('pulled', ref, record);
    });
  }

  /** One write at a time; a failed one is told of and costs a pull. */
  #do(task: () => Promise<void>): Promise<void> {
    const { log } = this.#options;
    const done = this.#row
      .then(task)
      .catch((error: unknown) =>
        log.warn('cannot keep a record of a pulled image', { error: errorText(error) }),
      );
    this.#row = done;
    return done;
  }

  async #write(folder: string, key: string, content: object): Promise<void> {
    const dir = join(this.#options.dir, folder);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const file = join(dir, fileOf(key));
    await writeFile(`${file}.tmp`, JSON.stringify(content), { mode: 0o600 });
    await rename(`${file}.tmp`, file);
  }

  async #read(ref: string): Promise<PulledRecord | undefined> {
    return readJson(join(this.#options.dir, 'pulled', fileOf(ref)));
  }

  async #isIntended(image: string): Promise<boolean> {
    if (this.#intents.has(image)) return true;
    return (await readJson(join(this.#options.dir, 'pulling', fileOf(image)))) !== undefined;
  }

  async #all<T>(folder: string): Promise<T[]> {
    const dir = join(this.#options.dir, folder);
    const names = await readdir(dir).catch(() => []);
    const all = await Promise.all(
      names.filter((name) => !name.endsWith('.tmp')).map((name) => readJson<T>(join(dir, name))),
    );
    return all.filter((one) => one !== undefined) as T[];
  }
}

/** A file that is not there, or cannot be read, is no record. */
async function readJson<T>(file: string): Promise<T | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as T;
  } catch {
    return undefined;
  }
}
