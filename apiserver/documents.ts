import type { Scheme } from '#api/scheme.ts';
import type { RequestMetrics } from '#apiserver/metrics.ts';
import { negotiate, notAcceptable } from '#apiserver/negotiate.ts';
import { answerObject, answerText } from '#apiserver/resource/answer.ts';
import { methodNotAllowed } from '#apiserver/resource/verbs.ts';
import type { RouteHandler } from '#apiserver/router.ts';
import { versionInfo } from '#apiserver/version.ts';

/** What the server says about itself: version, metrics, discovery, OpenAPI. */
export function documentRoutes(options: {
  scheme: Scheme;
  metrics: RequestMetrics;
}): readonly RouteHandler[] {
  const { metrics } = options;
  return [versionRoute, metricsRoute(metrics)];
}

const versionRoute: RouteHandler = (info, request) => {
  if (info.path !== '/version' && info.path !== '/version/') return null;
  if (info.method !== 'GET' && info.method !== 'HEAD') throw methodNotAllowed();
  const format = negotiate(request.headers['accept'], { pretty: true });
  if (format.media !== 'application/json') throw notAcceptable();
  return answerObject(versionInfo, format);
};

const metricsRoute =
  (metrics: RequestMetrics): RouteHandler =>
  (info) => {
    if (info.path !== '/metrics') return null;
    return metrics.text().then((text) => {
      const answer = answerText(text);
      answer.headers['content-type'] = 'text/plain; version=0.0.4; charset=utf-8';
      return answer;
    });
  };
