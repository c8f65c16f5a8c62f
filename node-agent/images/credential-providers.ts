import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { parseDuration } from '#api/time.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { matchesImage, registryOf } from '#node-agent/images/registry-auth.ts';
import type { AuthConfig } from '#node-agent/runtime/service.ts';

/**
 * Programs that give credentials for images, as clouds ship them for the kubelet.
 * Source: Kubernetes "Configure a kubelet image credential provider"; credentialprovider.kubelet.k8s.io/v1.
 */
export type CredentialProvider = {
  name: string;
  apiVersion: string;
  /** Hosts with `*` for parts, perhaps a port and a path. */
  matchImages: readonly string[];
  defaultCacheDurationMs: number;
  args: readonly string[];
  env: Readonly<Record<string, string>>;
  /** Absolute path of the program. */
  program: string;
};

const CONFIG_VERSIONS = /^kubelet\.config\.k8s\.io\/v1(alpha1|beta1)?$/;
const PLUGIN_VERSIONS = /^credentialprovider\.kubelet\.k8s\.io\/v1(alpha1|beta1)?$/;
/** A program that hangs must not hold up a pull for ever. Upstream's time. */
const TIMEOUT_MS = 60_000;
/** More output than this is no answer. */
const MAX_OUTPUT_BYTES = 1024 * 1024;
/** Remembered answers; a node has few registries. */
const MAX_CACHED = 256;

type ProviderFields = {
  name?: unknown;
  apiVersion?: unknown;
  matchImages?: unknown;
  defaultCacheDuration?: unknown;
  args?: string[];
  env?: { name: string; value: string }[];
  tokenAttributes?: unknown;
};

/** Reads a CredentialProviderConfig. Throws a ConfigError that names the file and the entry. */
export function readProviders(configFile: string, binDir: string): CredentialProvider[] {
  const bad = (what: string): ConfigError => new ConfigError(`${configFile}: ${what}`);
  let config: { kind?: unknown; apiVersion?: unknown; providers?: ProviderFields[] } | null;
  try {
    config = parse(readFileSync(configFile, 'utf8')) as typeof config;
  } catch (error) {
    throw bad(errorText(error));
  }
  if (config?.kind !== 'CredentialProviderConfig')
    throw bad('kind must be CredentialProviderConfig');
  if (!CONFIG_VERSIONS.test(String(config.apiVersion)))
    throw bad(`apiVersion must be kubelet.config.k8s.io/v1, not ${String(config.apiVersion)}`);
  const providers = (config.providers ?? []).map((of, index) =>
    readProvider(of, binDir, (what) => bad(`providers[${index}]${what}`)),
  );
  if (providers.length === 0) throw bad('providers: at least one is required');
  const names = providers.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw bad(`providers: ${twice} is named twice`);
  return providers;
}

function readProvider(
  of: ProviderFields,
  binDir: string,
  bad: (what: string) => ConfigError,
): CredentialProvider {
  const { name, apiVersion, matchImages, args = [], env = [] } = of;
  if (typeof name !== 'string' || name === '' || name.includes('/'))
    throw bad('.name: a file name in --image-credential-provider-bin-dir is required');
  if (!PLUGIN_VERSIONS.test(String(apiVersion)))
    throw bad(
      `.apiVersion must be credentialprovider.kubelet.k8s.io/v1, not ${String(apiVersion)}`,
    );
  if (!Array.isArray(matchImages) || matchImages.length === 0)
    throw bad('.matchImages: at least one is required');
  const defaultCacheDurationMs = parseDuration(String(of.defaultCacheDuration ?? ''));
  if (defaultCacheDurationMs === undefined || defaultCacheDurationMs < 0)
    throw bad('.defaultCacheDuration: a duration like 12h is required');
  if (of.tokenAttributes !== undefined)
    throw bad('.tokenAttributes: service account tokens for providers are not supported');
  const program = join(binDir, name);
  try {
    accessSync(program, constants.X_OK);
  } catch {
    throw bad(`.name: there is no program ${program}`);
  }
  return {
    name,
    apiVersion: String(apiVersion),
    matchImages: matchImages.map(String),
    defaultCacheDurationMs,
    args,
    env: Object.fromEntries(env.map((entry) => [entry.name, entry.value])),
    program,
  };
}

type Answer = {
  kind?: unknown;
  apiVersion?: unknown;
  cacheKeyType?: unknown;
  cacheDuration?: unknown;
  auth?: Record<string, { username?: string; password?: string }> | null;
};

type Found = { auth: Answer['auth']; untilMs: number };

/** Gives the credentials of an image, best match first; [] when no provider has any. */
export type CredentialSource = (image: string) => Promise<AuthConfig[]>;

/** The source that the node's flags name; undefined when they name none. */
export function credentialSource(
  from: { configFile: string; binDir: string } | undefined,
  around: { clock: Clock; log: Log },
): CredentialSource | undefined {
  return from && createCredentialSource(readProviders(from.configFile, from.binDir), around);
}

/** Asks the programs that match, and remembers their answers for as long as they say. */
export function createCredentialSource(
  providers: readonly CredentialProvider[],
  { clock, log }: { clock: Clock; log: Log },
): CredentialSource {
  const cache = new Map<string, Found>();
  const asked = new Map<string, Promise<Found['auth']>>();

  const keysOf = (name: string, image: string): string[] => [
    `${name} Image ${image}`,
    `${name} Registry ${registryOf(image)}`,
    `${name} Global`,
  ];

  async function authOf(provider: CredentialProvider, image: string): Promise<Found['auth']> {
    for (const key of keysOf(provider.name, image)) {
      const known = cache.get(key);
      if (known && known.untilMs > clock.now()) return known.auth;
      cache.delete(key);
    }
    const key = `${provider.name} ${image}`;
    const running = asked.get(key) ?? askAnew(provider, image).finally(() => asked.delete(key));
    asked.set(key, running);
    return running;
  }

  async function askAnew(provider: CredentialProvider, image: string): Promise<Found['auth']> {
    const answer = await ask(provider, image);
    const [ofImage = '', ofRegistry = '', global = ''] = keysOf(provider.name, image);
    const keys: Record<string, string> = { Image: ofImage, Registry: ofRegistry, Global: global };
    const cacheKey = keys[String(answer.cacheKeyType)];
    if (cacheKey === undefined)
      throw new Error(
        `cacheKeyType must be Image, Registry or Global, not ${String(answer.cacheKeyType)}`,
      );
    const said = answer.cacheDuration ? parseDuration(String(answer.cacheDuration)) : undefined;
    const holdsMs = said ?? provider.defaultCacheDurationMs;
    if (holdsMs > 0) {
      if (cache.size >= MAX_CACHED) cache.clear();
      cache.set(cacheKey, { auth: answer.auth, untilMs: clock.now() + holdsMs });
    }
    return answer.auth;
  }

  return async (image) => {
    const found: { place: string; auth: AuthConfig }[] = [];
    for (const provider of providers) {
      if (!provider.matchImages.some((place) => matchesImage(place, image))) continue;
      try {
        const auth = (await authOf(provider, image)) ?? {};
        for (const [place, { username = '', password = '' }] of Object.entries(auth)) {
          if (!matchesImage(place, image)) continue;
          found.push({ place, auth: { serverAddress: registryOf(image), username, password } });
        }
      } catch (error) {
        // The pull goes on without: the registry then says what it thinks of that.
        log.warn('a credential provider failed', {
          provider: provider.name,
          image,
          error: errorText(error),
        });
      }
    }
    return found.toSorted((a, b) => b.place.length - a.place.length).map(({ auth }) => auth);
  };
}

/** Runs the program once: the request on its standard input, the answer on its output. */
async function ask(provider: CredentialProvider, image: string): Promise<Answer> {
  const { apiVersion, program, args, env } = provider;
  const request = { apiVersion, kind: 'CredentialProviderRequest', image };
  const text = await runProgram(program, args, { env, input: JSON.stringify(request) });
  const answer = JSON.parse(text) as Answer | null;
  if (answer?.kind !== 'CredentialProviderResponse' || answer.apiVersion !== apiVersion)
    throw new Error(`answered no CredentialProviderResponse of ${apiVersion}`);
  return answer;
}

function runProgram(
  program: string,
  args: readonly string[],
  { env, input }: { env: Readonly<Record<string, string>>; input: string },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: { ...process.env, ...env },
      stdio: 'pipe',
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    let output = '';
    let complaint = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString('utf8');
      if (output.length > MAX_OUTPUT_BYTES) child.kill('SIGKILL');
    });
    child.stderr.on('data', (chunk: Buffer) => {
      if (complaint.length < MAX_OUTPUT_BYTES) complaint += chunk.toString('utf8');
    });
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output);
      else reject(new Error(`it ended with ${signal ?? `code ${code}`}: ${complaint.trim()}`));
    });
    // A program that reads nothing still may answer.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}
