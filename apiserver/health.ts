import { answerText, notFoundPage } from '#apiserver/resource/answer.ts';
import type { RouteHandler } from '#apiserver/router.ts';

/** One check of a health endpoint: a text says what is wrong, undefined that all is well. */
export type HealthCheck = {
  name: string;
  check: () => string | undefined | Promise<string | undefined>;
};

export type HealthChecks = Readonly<Record<'healthz' | 'livez' | 'readyz', readonly HealthCheck[]>>;

const ENDPOINT = /^\/(healthz|livez|readyz)(?:\/([^/]+))?\/?$/;

/**
 * /healthz, /livez and /readyz, their single checks, `?verbose` and `?exclude=NAME`.
 * Source: Kubernetes "API health endpoints".
 */
export function healthRoute(checks: HealthChecks): RouteHandler {
  return (info) => {
    if (info.isResource) return null;
    const match = ENDPOINT.exec(info.path);
    if (!match) return null;
    const endpoint = match[1] as keyof HealthChecks;
    const list = checks[endpoint];
    if (match[2] === undefined) return report(endpoint, list, info.query);
    const single = list.find(({ name }) => name === match[2]);
    return single ? reportOne(single) : notFoundPage();
  };
}

async function reportOne({ check }: HealthCheck) {
  const wrong = await check();
  return wrong === undefined
    ? answerText('ok')
    : answerText(`internal server error: ${wrong}\n`, 500);
}

async function report(endpoint: string, list: readonly HealthCheck[], query: URLSearchParams) {
  const excluded = new Set(query.getAll('exclude'));
  const lines: string[] = [];
  let failed = false;
  for (const { name, check } of list) {
    if (excluded.delete(name)) {
      lines.push(`[+]${name} excluded: ok`);
      continue;
    }
    const wrong = await check();
    if (wrong !== undefined) failed = true;
    // Why stays inside: the endpoints are open to everybody.
    lines.push(wrong === undefined ? `[+]${name} ok` : `[-]${name} failed: reason withheld`);
  }
  for (const name of excluded) {
    lines.push(`warn: some health checks cannot be excluded: no matches for "${name}"`);
  }
  if (failed) return answerText(`${lines.join('\n')}\n${endpoint} check failed\n`, 500);
  if (!query.has('verbose')) return answerText('ok');
  return answerText(`${lines.join('\n')}\n${endpoint} check passed\n`);
}
