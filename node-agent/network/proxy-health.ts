import type { Server } from 'node:http';
import type { Clock } from '#base/clock.ts';
import { http } from '#base/http.ts';
import { errorText, type Log } from '#base/log.ts';
import type { Node } from '#api/types.ts';

/** kube-proxy's own port, which clouds' load balancers ask. */
export const PROXY_HEALTH_PORT = 10_256;
/** A change that is not in the rules for so long means that no more traffic should come here. */
const LATE_MS = 60_000;
/** Put on a node that is about to go, before its pods are told. */
const TO_BE_DELETED_TAINT = 'ToBeDeletedByClusterAutoscaler';

/** How far the rules of Services are behind what the API says. */
export type RulesState = {
  /** Milliseconds since the epoch; undefined before the first rules. */
  updatedMs: number | undefined;
  /** When the oldest change came that is not in the rules yet. */
  pendingSinceMs: number | undefined;
};

export type ProxyHealthAnswer = { code: 200 | 503; body: string };

/**
 * What kube-proxy answers on its health port. `/healthz` is for load balancers: rules are not late and
 * the node is not about to go. `/livez` is for whoever restarts the agent, and asks for the rules only.
 * Undefined for other paths. Source: kube-proxy's ProxyHealthServer, KEP-3836.
 */
export function proxyHealth(
  path: string,
  { updatedMs, pendingSinceMs }: RulesState,
  node: Node | undefined,
  nowMs: number,
): ProxyHealthAnswer | undefined {
  if (path !== '/healthz' && path !== '/livez') return undefined;
  const healthy = pendingSinceMs === undefined || nowMs - pendingSinceMs < LATE_MS;
  const nodeEligible = isEligible(node);
  const ok = healthy && (path === '/livez' || nodeEligible);
  const current = new Date(nowMs).toISOString();
  const body = {
    lastUpdated: ok || updatedMs === undefined ? current : new Date(updatedMs).toISOString(),
    currentTime: current,
    ...(path === '/healthz' ? { nodeEligible } : {}),
    healthy,
  };
  return { code: ok ? 200 : 503, body: JSON.stringify(body) };
}

const isEligible = (node: Node | undefined): boolean =>
  node !== undefined &&
  !node.metadata.deletionTimestamp &&
  !node.spec?.taints?.some(({ key }) => key === TO_BE_DELETED_TAINT);

export type RulesClock = {
  /** A change has come. */
  pending(): void;
  /** What has come so far is read now; what comes from here on is for the next time. */
  begin(): void;
  /** What was read at the last `begin` is in the rules. */
  written(): void;
  state(): RulesState;
};

export function createRulesClock(clock: Clock): RulesClock {
  let updatedMs: number | undefined;
  let waitingMs: number | undefined;
  let inWorkMs: number | undefined;
  return {
    pending() {
      waitingMs ??= clock.now();
    },
    begin() {
      inWorkMs ??= waitingMs;
      waitingMs = undefined;
    },
    written() {
      inWorkMs = undefined;
      updatedMs = clock.now();
    },
    state: () => ({ updatedMs, pendingSinceMs: inWorkMs ?? waitingMs }),
  };
}

/** Serves the answers on all addresses; a port that is taken (a kube-proxy's, another cluster's) is left to it. */
export function serveProxyHealth(
  port: number,
  answer: (path: string) => ProxyHealthAnswer | undefined,
  log: Log,
): Server {
  const server = http.createServer((request, response) => {
    const said = answer((request.url ?? '').split('?', 1)[0] ?? '');
    response.writeHead(said?.code ?? 404, {
      'content-type': said ? 'application/json' : 'text/plain; charset=utf-8',
      'x-content-type-options': 'nosniff',
    });
    response.end(said?.body ?? '404 page not found\n');
  });
  server.on('error', (error) =>
    log.warn('cannot serve the health of the rules of Services', { port, error: errorText(error) }),
  );
  server.listen(port);
  // Nobody waits for it when the agent ends.
  server.unref();
  return server;
}
