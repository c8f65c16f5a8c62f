import { readFileSync } from 'node:fs';
import { builtinKinds } from '#api/kinds.ts';
import { buildScheme } from '#api/scheme.ts';
import type { Clock } from '#base/clock.ts';
import { urlHost } from '#base/default-address.ts';
import { systemClock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { createLog, errorText } from '#base/log.ts';
import type { Random } from '#base/random.ts';
import { systemRandom } from '#base/random.ts';
import type { Running } from '#base/running.ts';
import { runTogether } from '#base/running.ts';
import { admissionRules } from '#apiserver/admission.ts';
import { createAudit } from '#apiserver/audit.ts';
import { type AuditLogConfig, type AuditSink, openAuditLog } from '#apiserver/audit-log.ts';
import { parseAuditPolicy } from '#apiserver/audit-policy.ts';
import { createAggregation } from '#apiserver/aggregation/aggregation.ts';
import { createAuthenticator } from '#apiserver/authn/authenticate.ts';
import { identifyPeer } from '#apiserver/authn/client-certificate.ts';
import {
  createServiceAccountTokens,
  DEFAULT_ISSUER,
} from '#apiserver/authn/service-account-tokens.ts';
import { createAuthorizer } from '#apiserver/authz/authorize.ts';
import { createRbac } from '#apiserver/authz/rbac.ts';
import { keepCertificates } from '#apiserver/certificates/keeper.ts';
import { bootstrap } from '#apiserver/bootstrap.ts';
import { kindOf, writeAsServer } from '#apiserver/bootstrap-context.ts';
import { DEFAULT_CIDR, type ServerPlace } from '#apiserver/bootstrap-service.ts';
import { keepHistoryShort } from '#apiserver/compaction.ts';
import {
  createServerFairness,
  DEFAULT_MAX_IN_FLIGHT,
  DEFAULT_MAX_MUTATING_IN_FLIGHT,
} from '#apiserver/fairness-start.ts';
import { keepFlowControl } from '#apiserver/fairness-keeper.ts';
import type { Service, ServiceCIDR } from '#api/types.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import {
  asService,
  createServiceAllocator,
  parseServiceRanges,
  readyRanges,
  type ServiceRanges,
} from '#apiserver/resource/service-allocator.ts';
import { createServiceRecords } from '#apiserver/resource/service-records.ts';
import { keepServiceRecords } from '#apiserver/resource/service-repair.ts';
import { runDefinitions } from '#apiserver/extensions/definition-controller.ts';
import { conversionWebhook, createConversion } from '#apiserver/extensions/conversion.ts';
import { createLiveScheme } from '#apiserver/extensions/live-scheme.ts';
import { versionInfo } from '#apiserver/version.ts';
import { openEncryption } from '#apiserver/encryption-start.ts';
import { healthRoute } from '#apiserver/health.ts';
import { ensureKubeconfigs } from '#apiserver/kubeconfig.ts';
import { createMetrics } from '#apiserver/metrics.ts';
import { openidRoute } from '#apiserver/openid.ts';
import { createPipeline } from '#apiserver/pipeline.ts';
import type { Pki } from '#apiserver/pki.ts';
import { ensurePki, renewPki, servingHosts } from '#apiserver/pki.ts';
import type { Handler } from '#apiserver/request.ts';
import { createHandlerContext } from '#apiserver/resource/handler-context.ts';
import { createResources } from '#apiserver/resource/resources.ts';
import type { ServerContext } from '#apiserver/resource/server-context.ts';
import type { RouteHandler } from '#apiserver/router.ts';
import { anyRoute, createRouter } from '#apiserver/router.ts';
import { createDocuments, documentRoutes } from '#apiserver/documents.ts';
import type { HttpsServer } from '#apiserver/server.ts';
import { listen } from '#apiserver/server.ts';
import type { Store } from '#apiserver/store/store.ts';
import { encryptedStore } from '#apiserver/store/encrypted.ts';
import { openStore } from '#apiserver/store/open-store.ts';
import { subresourceHandlers } from '#apiserver/subresources/handlers.ts';
import { createUpgrade } from '#apiserver/upgrade.ts';
import { WatchCache } from '#apiserver/watch-cache.ts';
import { addressAt, defaultAddress, firstAddress } from '#apiserver/addresses.ts';

export type ApiServerConfig = {
  /** Holds the store, the PKI and the kubeconfig files. */
  dataDir: string;
  /** 0 = any free port. */
  securePort: number;
  bindAddress?: string;
  /** Where others reach this server; default: the address of the default route. */
  advertiseAddress?: string;
  /** Instead of the embedded store. */
  etcdServers?: readonly string[];
  etcdCaFile?: string;
  etcdCertFile?: string;
  etcdKeyFile?: string;
  tokenAuthFile?: string;
  anonymousAuth?: boolean;
  serviceClusterIpRange?: string;
  /** Ports of NodePort services, `30000-32767`. */
  serviceNodePortRange?: string;
  serviceAccountIssuer?: string;
  /** Longest life of certificates that are asked for through the API; a year when absent. */
  clusterSigningDurationMs?: number | undefined;
  apiAudiences?: readonly string[];
  clusterDomain?: string;
  /** Further names and addresses for the serving certificate. */
  extraHosts?: readonly string[];
  /** What is recorded; nothing without it. */
  auditPolicyFile?: string;
  auditLog?: AuditLogConfig;
  /** How values of some resources are sealed in the store. */
  encryptionProviderConfig?: string;
  /** The file is looked at again now and then. */
  encryptionProviderConfigAutomaticReload?: boolean;
  /** False: requests are not limited. */
  priorityAndFairness?: boolean;
  /** Requests worked on at once: the sum is what priority levels share. */
  maxRequestsInFlight?: number;
  maxMutatingRequestsInFlight?: number;
  /** Asked before the generic resources: groups that another part serves. */
  routes?: readonly RouteHandler[];
};

export const DEFAULT_SERVICE_RANGE = '10.96.0.0/16';
/** Place of the cluster DNS in the service network: 10.96.0.10. */
const DNS_ADDRESS = 10;
export const DEFAULT_CLUSTER_DOMAIN = 'cluster.local';

export type Surroundings = { signal: AbortSignal; clock?: Clock; random?: Random; log?: Log };

export type ApiServer = Running & {
  /** The server's own door, without HTTP. */
  handle: Handler;
  url: string;
  port: number;
  pki: Pki;
  /** Resolves when the bootstrap objects are there and requests are served as they should be. */
  ready: Promise<void>;
};

/**
 * Starts an API server: certificates, store, cache, pipeline, listener, bootstrap, in this order.
 * Rejects when the port is taken or the store cannot be opened; stops when the signal aborts.
 */
export async function start(
  config: ApiServerConfig,
  {
    signal,
    clock = systemClock,
    random = systemRandom,
    log = createLog({ component: 'apiserver' }),
  }: Surroundings,
): Promise<ApiServer> {
  const settings = settle(config);
  const stopping = new AbortController();
  const stop = AbortSignal.any([signal, stopping.signal]);

  const hosts = servingHosts(settings);
  const pki = await ensurePki(config.dataDir, { hosts, clock });
  /** What the last renewal left. */
  let current = pki;
  const audit = openAudit(config, { clock, log });
  const encryption = openEncryption(config.encryptionProviderConfig);
  const bare = await openStore(storeConfig(config), { clock, log, signal });
  const store = encryption ? encryptedStore(bare, () => encryption.current()) : bare;
  try {
    return await serve();
  } catch (error) {
    stopping.abort(error);
    await store.close();
    throw error;
  }

  async function serve(): Promise<ApiServer> {
    const exclusive = !config.etcdServers?.length;
    const cache = new WatchCache({ store, exclusive, clock, log });
    await cache.load();
    const base = buildScheme(builtinKinds);
    const live = createLiveScheme(base, cache, log);
    const reader = cache.reader();
    const rbac = createRbac(reader);
    const authorizer = createAuthorizer({ reader, rbac });
    const records = createServiceRecords({
      store,
      commit: (write, object) => cache.commit(write, object),
      isKnown: (group, resource, name) => cache.at(group, resource).get(name) !== undefined,
      clock,
    });
    const server: ServerContext = {
      get scheme() {
        return live.scheme;
      },
      endOf: (kind) => live.endOf(kind),
      conversion: createConversion(
        (kind) => live.definitionOf(kind),
        conversionWebhook({ reader, random }, stop),
      ),
      cache,
      reader,
      admission: admissionRules,
      authorizer,
      modify: async (group, version, resource, key, change) => {
        const kind = kindOf(server, group, version, resource);
        const as = { ...writeAsServer(server), subresource: 'status' };
        await resources.modify(kind, key, change, as);
      },
      services: createServiceAllocator({
        ranges: settings.serviceRanges,
        moreAddresses: () =>
          readyRanges(
            reader
              .list<ServiceCIDR>('networking.k8s.io', 'servicecidrs')
              .filter(({ metadata }) => metadata.name !== DEFAULT_CIDR),
          ),
        records,
        find: async (holder) => {
          await cache.fresh();
          return reader.get<Service>('', 'services', holder);
        },
        random,
      }),
      clock,
      random,
      log,
      signal: stop,
    };
    const resources = createResources(server);
    const tokens = createServiceAccountTokens({
      issuer: settings.issuer,
      audiences: settings.audiences,
      key: pki.serviceAccount,
      reader,
      clock,
    });
    const authenticator = createAuthenticator({
      reader,
      tokens,
      clock,
      log,
      tokenAuthFile: config.tokenAuthFile,
      anonymous: config.anonymousAuth,
    });
    const context = createHandlerContext(server, resources, {
      tokens,
      reviewToken: authenticator.reviewToken,
      rbac,
      nodeClient: () => ({ caPem: current.ca.certPem, ...current.kubeletClient }),
    });

    let serverUrl = '';
    const metrics = createMetrics();
    const documents = createDocuments(live, {
      serverAddress: `${settings.advertiseAddress}:${config.securePort}`,
      version: `${versionInfo.major}.${versionInfo.minor}`,
    });
    let isReady = false;
    const readiness = {
      name: 'poststarthook/bootstrap',
      check: () => (isReady ? undefined : 'not finished'),
    };
    const ping = { name: 'ping', check: () => undefined };
    const stored = {
      name: 'etcd',
      check: () =>
        store.revision().then(
          () => undefined,
          (error: unknown) => errorText(error),
        ),
    };
    const documentsRoute = anyRoute(documentRoutes({ ...documents, metrics }));
    const aggregation = createAggregation({
      cache,
      random,
      frontProxy: () => current.frontProxyClient,
    });
    const router = createRouter({
      server,
      context,
      handlers: subresourceHandlers,
      routes: [
        ...(config.routes ?? []),
        healthRoute({
          healthz: [ping, stored, readiness],
          livez: [ping, stored],
          readyz: [ping, stored, readiness],
        }),
        openidRoute(tokens, () => serverUrl),
        aggregation.route(documentsRoute),
        documentsRoute,
      ],
      pass: aggregation.pass,
    });
    const pipeline = createPipeline({
      authenticator,
      authorizer,
      route: router.route,
      metrics,
      audit: audit?.audit,
      fairness:
        config.priorityAndFairness === false
          ? undefined
          : createServerFairness({
              cache,
              totalSeats:
                (config.maxRequestsInFlight ?? DEFAULT_MAX_IN_FLIGHT) +
                (config.maxMutatingRequestsInFlight ?? DEFAULT_MAX_MUTATING_IN_FLIGHT),
              metrics,
              clock,
              signal: stop,
            }),
      log,
    });
    const trust = {
      clientCaPem: pki.ca.certPem,
      frontProxyCaPem: pki.frontProxyCa.certPem,
      frontProxyNames: FRONT_PROXIES,
    };
    const https = await listen({
      bindAddress: settings.bindAddress,
      port: config.securePort,
      tls: tlsOf(pki),
      handle: pipeline.handle,
      upgrade: createUpgrade(pipeline, router, log),
      peerOf: (socket) => identifyPeer(socket, trust),
      log,
    });
    const url = `https://${urlHost(settings.advertiseAddress)}:${https.port}`;
    serverUrl = url;
    const localServer = localUrl(settings.bindAddress, https.port);
    ensureKubeconfigs(config.dataDir, pki, { server: localServer });
    const { promise: ready, resolve, reject } = Promise.withResolvers<void>();
    ready.catch(() => {});
    // Requests under way at the end still wait for what they wrote: this ends after them.
    const feed = new AbortController();
    const following = cache.run(feed.signal);
    following.catch((error: unknown) => stopping.abort(error));
    const running = runTogether(stop, [
      async (own) => {
        const reload = config.encryptionProviderConfigAutomaticReload;
        if (reload) await encryption?.follow({ clock, log, signal: own });
      },
      (own) => runDefinitions(server, resources, own),
      (own) => keepHistoryShort({ store, cache, clock, log, signal: own }),
      (own) =>
        keepServiceRecords({ records, services: listServices(cache, reader), clock, log }, own),
      (own) =>
        renewPki(config.dataDir, { hosts, clock, signal: own, log }, (renewed) => {
          current = renewed;
          https.setCertificates(tlsOf(renewed));
          ensureKubeconfigs(config.dataDir, renewed, { server: localServer });
        }),
      async (own) => {
        try {
          const place = placeOf(settings, pki, https.port);
          await bootstrap({ scheme: base, reader, resources, log, signal: own, place });
        } catch (error) {
          reject(error);
          throw error;
        }
        isReady = true;
        log.info('ready', { url });
        resolve();
        const objects = { scheme: base, reader, resources, log, signal: own };
        await Promise.all([
          keepFlowControl({ ...objects, clock, cache }),
          aggregation.keep({ ...objects, clock }, () => live.scheme),
          keepCertificates({
            ...objects,
            ...{ clock, cache, authorizer, ca: () => current.ca },
            signingDurationMs: config.clusterSigningDurationMs,
          }),
        ]);
      },
    ]);
    const stopFeed = async () => {
      feed.abort();
      await following;
    };
    const done = finish(running, { https, stopFeed, store, record: audit?.sink }).finally(() =>
      reject(new Error('the server stopped')),
    );
    done.catch(() => {});
    return {
      handle: pipeline.handle,
      url,
      port: https.port,
      get pki() {
        return current;
      },
      ready,
      done,
    };
  }
}

/** Ends in the order that loses nothing: no new requests, those under way, then the store. */
async function finish(
  running: Running,
  parts: {
    https: HttpsServer;
    stopFeed: () => Promise<void>;
    store: Store;
    record: AuditSink | undefined;
  },
): Promise<void> {
  const { https, stopFeed, store, record } = parts;
  try {
    await running.done;
  } finally {
    await https.close();
    await stopFeed();
    await store.close();
    await record?.close();
  }
}

const FRONT_PROXIES = ['front-proxy-client'] as const;

const placeOf = (settings: Settings, pki: Pki, port: number): ServerPlace => ({
  advertiseAddress: settings.advertiseAddress,
  port,
  serviceIp: settings.serviceIp,
  serviceCidrs: settings.serviceRanges.addresses.map(({ cidr }) => cidr),
  clusterDnsIp: settings.clusterDnsIp,
  clientCaPem: pki.ca.certPem,
  frontProxyCaPem: pki.frontProxyCa.certPem,
  frontProxyNames: FRONT_PROXIES,
});

function tlsOf(pki: Pki) {
  return {
    key: pki.server.keyPem,
    cert: pki.server.certPem,
    ca: [pki.ca.certPem, pki.frontProxyCa.certPem],
  };
}

const isWildcard = (address: string): boolean => address === '0.0.0.0' || address === '::';

/** For clients on this machine. */
const localUrl = (bindAddress: string, port: number): string =>
  `https://${isWildcard(bindAddress) ? '127.0.0.1' : urlHost(bindAddress)}:${port}`;

type Settings = {
  bindAddress: string;
  advertiseAddress: string;
  clusterDomain: string;
  serviceIp: string;
  serviceRanges: ServiceRanges;
  clusterDnsIp: string;
  addresses: string[];
  issuer: string;
  audiences: readonly string[];
};

/** The flags with their defaults. */
function settle(config: ApiServerConfig): Settings {
  const issuer = config.serviceAccountIssuer ?? DEFAULT_ISSUER;
  const serviceRange = config.serviceClusterIpRange ?? DEFAULT_SERVICE_RANGE;
  const serviceRanges = parseServiceRanges(serviceRange, config.serviceNodePortRange);
  const firstRange = serviceRanges.addresses[0]?.cidr ?? serviceRange;
  const family = serviceRanges.addresses[0]?.family ?? 'IPv4';
  // Listening on :: takes IPv4 as well.
  const everywhere = family === 'IPv6' ? '::' : '0.0.0.0';
  const isAny = config.bindAddress === undefined || isWildcard(config.bindAddress);
  const bindAddress = isAny ? everywhere : (config.bindAddress ?? everywhere);
  const own = isAny ? defaultAddress(family) : bindAddress;
  const advertiseAddress = config.advertiseAddress ?? own;
  return {
    bindAddress,
    advertiseAddress,
    clusterDomain: config.clusterDomain ?? DEFAULT_CLUSTER_DOMAIN,
    serviceIp: firstAddress(firstRange),
    clusterDnsIp: addressAt(firstRange, DNS_ADDRESS),
    serviceRanges,
    addresses: [...new Set([advertiseAddress, own, ...(config.extraHosts ?? [])])],
    issuer,
    audiences: config.apiAudiences ?? [issuer],
  };
}

/** Nothing without a policy and a place to write to. Throws when either is unusable. */
function openAudit(config: ApiServerConfig, { clock, log }: { clock: Clock; log: Log }) {
  const { auditPolicyFile: file, auditLog } = config;
  if (!file || !auditLog) return undefined;
  const policy = parseAuditPolicy(readFileSync(file, 'utf8'), file);
  const sink = openAuditLog(auditLog, clock, log);
  return { sink, audit: createAudit(policy, sink, clock) };
}

/** All services, not older than the question. */
function listServices(cache: WatchCache, reader: ObjectReader): () => Promise<readonly Service[]> {
  return async () => {
    await cache.fresh();
    return reader.list('', 'services').map(asService);
  };
}

function storeConfig(config: ApiServerConfig) {
  if (!config.etcdServers?.length) return { dataDir: config.dataDir };
  return {
    etcdServers: config.etcdServers,
    ...(config.etcdCaFile ? { caFile: config.etcdCaFile } : {}),
    ...(config.etcdCertFile ? { certFile: config.etcdCertFile } : {}),
    ...(config.etcdKeyFile ? { keyFile: config.etcdKeyFile } : {}),
  };
}
