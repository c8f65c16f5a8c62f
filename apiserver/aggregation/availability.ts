import { isStatusError } from '#api/status.ts';
import type { APIService } from '#api/types.ts';
import { openApiOf } from '#apiserver/aggregation/merge-openapi.ts';
import type { Clock } from '#base/clock.ts';
import { errorText } from '#base/log.ts';
import type { Random } from '#base/random.ts';
import type { Catalog, ResourceEntry } from '#apiserver/aggregation/catalog.ts';
import { AUTOMANAGED, localServices } from '#apiserver/aggregation/local-services.ts';
import type { RemoteProxy } from '#apiserver/aggregation/proxy.ts';
import { addressOf, type Missing } from '#apiserver/aggregation/remote-address.ts';
import {
  API_SERVICES,
  remoteOf,
  type RemoteService,
  type RemoteServices,
} from '#apiserver/aggregation/remote-services.ts';
import {
  type BootstrapContext,
  createIfAbsent,
  kindOf,
  runBounded,
  writeAsServer,
} from '#apiserver/bootstrap-context.ts';
import type { ServerResponse } from '#apiserver/request.ts';
import { timestamp } from '#apiserver/resource/server-context.ts';
import type { WatchCache } from '#apiserver/watch-cache.ts';

/** Registered servers are asked again this often: the network may fail without a sign. */
const RECHECK_MS = 30_000;
/** One that fails is asked again sooner. */
const RETRY_MS = 5_000;
/** Changes that come together are looked at together. */
const SETTLE_MS = 100;
const CHECK_TIMEOUT_MS = 5_000;
/** An endpoint may just have gone: another one may answer. */
const ATTEMPTS = 3;
/** Discovery documents beyond this are nobody's honest need. */
const MAX_DOCUMENT_BYTES = 8 * 1024 * 1024;

const AGGREGATOR = { name: 'system:kube-aggregator', groups: ['system:masters'] } as const;

type Availability = { status: 'True' | 'False'; reason: string; message: string };

export type KeeperContext = BootstrapContext & {
  clock: Clock;
  cache: WatchCache;
  random: Random;
  remotes: RemoteServices;
  proxy: RemoteProxy;
  catalog: Catalog;
};

/** Registers what this server answers for itself, and takes back what it no longer does. */
export async function registerLocal(context: BootstrapContext): Promise<void> {
  const kind = kindOf(context, API_SERVICES.group, 'v1', API_SERVICES.plural);
  const wanted = localServices(context.scheme);
  await runBounded(wanted.map((object) => () => createIfAbsent(context, kind, object)));
  const names = new Set(wanted.map(({ metadata }) => metadata.name));
  for (const { metadata, spec } of context.reader.list<APIService>(kind.group, kind.plural)) {
    const { name = '', labels } = metadata;
    if (spec?.service || labels?.[AUTOMANAGED] !== 'true' || names.has(name)) continue;
    try {
      await context.resources.delete(kind, { name }, {}, writeAsServer(context));
    } catch (error) {
      if (!isStatusError(error, 'NotFound')) throw error;
    }
  }
}

/**
 * Keeps the Available condition of every APIService, and what registered servers serve, for as long
 * as the server runs. Sleeps while nothing is registered and nothing changes.
 */
export async function keepApiServices(context: KeeperContext): Promise<void> {
  const { cache, clock, signal, log } = context;
  let changed = Promise.withResolvers<void>();
  const note = (): void => changed.resolve();
  // A busy cluster's endpoints change all the time: only those of registered servers matter.
  const noteService = (namespace: string, name: string | undefined): void => {
    const is = ({ service }: RemoteService): boolean =>
      service.namespace === namespace && service.name === name;
    if (context.remotes.all().some(is)) note();
  };
  const stops = [
    cache.at(API_SERVICES.group, API_SERVICES.plural).listen(note),
    cache.at('apiextensions.k8s.io', 'customresourcedefinitions').listen(note),
    cache.at('', 'services').listen(({ entry }) => noteService(entry.namespace, entry.name)),
    cache.at('discovery.k8s.io', 'endpointslices').listen(({ entry }) => {
      if (context.remotes.all().length === 0) return;
      noteService(entry.namespace, entry.labels['kubernetes.io/service-name']);
    }),
  ];
  try {
    for (;;) {
      changed = Promise.withResolvers<void>();
      let waitMs: number | undefined;
      try {
        await registerLocal(context);
        waitMs = await checkAll(context);
      } catch (error) {
        signal.throwIfAborted();
        log.warn('API services cannot be kept', { error: errorText(error) });
        waitMs = RETRY_MS;
      }
      await wait(clock, signal, changed.promise, waitMs);
      await clock.sleep(SETTLE_MS, { signal });
    }
  } finally {
    for (const stop of stops) stop();
  }
}

/** Until something changes, at most so long. */
async function wait(
  clock: Clock,
  signal: AbortSignal,
  change: Promise<void>,
  ms: number | undefined,
): Promise<void> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  const aborted = new Promise<void>((resolve) => {
    either.addEventListener('abort', () => resolve(), { once: true });
  });
  const sleep = ms === undefined ? aborted : clock.sleep(ms, { signal: either }).catch(() => {});
  await Promise.race([change, sleep, aborted]);
  over.abort();
  signal.throwIfAborted();
}

/** Checks all; returns after how long to look again without a change, if at all. */
async function checkAll(context: KeeperContext): Promise<number | undefined> {
  const { reader } = context;
  const objects = reader.list<APIService>(API_SERVICES.group, API_SERVICES.plural);
  let waitMs: number | undefined;
  await runBounded(
    objects.map((object) => async () => {
      const remote = remoteOf(object);
      if (!remote) return;
      const found = await check(context, remote);
      waitMs = Math.min(waitMs ?? RECHECK_MS, found.status === 'True' ? RECHECK_MS : RETRY_MS);
      await writeCondition(context, object, found);
    }),
  );
  return waitMs;
}

const PASSED: Availability = { status: 'True', reason: 'Passed', message: 'all checks passed' };
const failed = ({ reason, message }: Missing): Availability => ({
  status: 'False',
  reason,
  message,
});

async function check(context: KeeperContext, remote: RemoteService): Promise<Availability> {
  const address = addressOf(context.reader, context.random, remote);
  if ('reason' in address) return failed(address);
  const { group, version, service } = remote;
  const path = `/apis/${group}/${version}`;
  const url = `https://${service.name}.${service.namespace}.svc:${service.port}${path}`;
  let message = '';
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    try {
      const { status, body } = await ask(context, remote, path);
      if (status < 200 || status >= 300) throw new Error(`bad status from ${url}: ${status}`);
      const openApi = await ask(context, remote, `/openapi/v3${path}`).catch(() => undefined);
      const older = await ask(context, remote, '/openapi/v2').catch(() => undefined);
      context.catalog.set(remote, {
        resources: readResources(body),
        hasOpenApi: openApi?.status === 200,
        openApi2: older?.status === 200 ? openApiOf(older.body, path) : undefined,
      });
      return PASSED;
    } catch (error) {
      context.signal.throwIfAborted();
      message = `failing or missing response from ${url}: ${errorText(error)}`;
    }
  }
  return failed({ reason: 'FailedDiscoveryCheck', message });
}

/** Asked without looking at the server's certificate: this says no more than that it answers. */
async function ask(
  { proxy, signal }: KeeperContext,
  remote: RemoteService,
  url: string,
): Promise<{ status: number; body: string }> {
  const response = await proxy.forward(
    remote,
    {
      method: 'GET',
      url,
      headers: { accept: 'application/json' },
      body: null,
      signal: AbortSignal.any([signal, AbortSignal.timeout(CHECK_TIMEOUT_MS)]),
    },
    AGGREGATOR,
    { unverified: true },
  );
  return { status: response.status, body: await textOf(response) };
}

async function textOf({ body }: ServerResponse): Promise<string> {
  if (typeof body === 'string') return body;
  if (body instanceof Uint8Array) return Buffer.from(body).toString('utf8');
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > MAX_DOCUMENT_BYTES) throw new Error('the answer is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function readResources(text: string): ResourceEntry[] {
  const { resources } = JSON.parse(text) as { resources?: unknown };
  if (!Array.isArray(resources)) return [];
  return (resources as Partial<ResourceEntry>[]).filter(
    (one): one is ResourceEntry => typeof one?.name === 'string' && typeof one.kind === 'string',
  );
}

async function writeCondition(
  context: KeeperContext,
  { metadata, status }: APIService,
  found: Availability,
): Promise<void> {
  const old = status?.conditions?.find(({ type }) => type === 'Available');
  const { status: word, reason, message } = found;
  if (old?.status === word && old.reason === reason && old.message === message) return;
  const since =
    old?.status === word && old.lastTransitionTime
      ? old.lastTransitionTime
      : timestamp(context.clock.now());
  const condition = { type: 'Available', ...found, lastTransitionTime: since };
  const change = (current: APIService): void => {
    const others = (current.status?.conditions ?? []).filter(({ type }) => type !== 'Available');
    current.status = { ...current.status, conditions: [...others, condition] };
  };
  const kind = kindOf(context, API_SERVICES.group, 'v1', API_SERVICES.plural);
  const as = { ...writeAsServer(context), subresource: 'status' };
  try {
    await context.resources.modify<APIService>(kind, { name: metadata.name ?? '' }, change, as);
  } catch (error) {
    if (!isStatusError(error, 'NotFound')) throw error;
  }
}
