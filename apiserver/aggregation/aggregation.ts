import type { Scheme } from '#api/scheme.ts';
import type { Clock } from '#base/clock.ts';
import type { Random } from '#base/random.ts';
import { failure } from '#api/status.ts';
import { keepApiServices } from '#apiserver/aggregation/availability.ts';
import { createCatalog } from '#apiserver/aggregation/catalog.ts';
import type { FrontProxy } from '#apiserver/aggregation/proxy.ts';
import { createRemoteProxy } from '#apiserver/aggregation/proxy.ts';
import { createRemoteServices } from '#apiserver/aggregation/remote-services.ts';
import { aggregationRoutes, remotePath } from '#apiserver/aggregation/routes.ts';
import type { BootstrapContext } from '#apiserver/bootstrap-context.ts';
import type { PassHandler, RouteHandler } from '#apiserver/router.ts';
import type { WatchCache } from '#apiserver/watch-cache.ts';

/** Groups that other servers answer for: APIServices, from registration to the proxy. */
export type Aggregation = {
  /** To be asked before `own`, the route of this server's discovery and OpenAPI. */
  route(own: RouteHandler): RouteHandler;
  pass: PassHandler;
  /** Runs until the signal aborts. */
  keep(context: BootstrapContext & { clock: Clock }, scheme: () => Scheme): Promise<void>;
};

export function createAggregation(options: {
  cache: WatchCache;
  random: Random;
  frontProxy: FrontProxy;
}): Aggregation {
  const { cache, random, frontProxy } = options;
  const remotes = createRemoteServices(cache);
  const catalog = createCatalog();
  const proxy = createRemoteProxy({ reader: cache.reader(), random, frontProxy });
  return {
    route: (own) => aggregationRoutes({ remotes, catalog, proxy, own }),
    pass: (info, user, connection) => {
      const place = remotePath(info.path);
      const remote = place && remotes.find(place.group, place.version);
      if (!remote) return null;
      if (remote.available) return proxy.pass(remote, user, connection);
      throw failure(503, 'ServiceUnavailable', 'service unavailable');
    },
    keep: (context, scheme) =>
      keepApiServices({
        ...context,
        get scheme() {
          return scheme();
        },
        cache,
        random,
        remotes,
        proxy,
        catalog,
      }),
  };
}
