import type { RequestInfo } from '#apiserver/request.ts';

/** Upper bounds of the duration buckets, seconds; upstream's. */
const DURATION_BUCKETS = [
  0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45,
  60,
];

/** Different label sets that are kept; requests beyond are counted as `other`. */
const MAX_SERIES = 5_000;

type Series = { labels: string; count: number; sumSeconds: number; buckets: Float64Array };

export type RequestMetrics = {
  /** One finished request; `info` is undefined when its URL could not be read. */
  observe(info: RequestInfo | undefined, code: number, durationMs: number): void;
  /** Prometheus text exposition of everything, the process included. */
  text(): Promise<string>;
  /** Adds a gauge (or a counter that somebody else keeps) that is read when asked for. */
  gauge(
    name: string,
    help: string,
    read: () => Iterable<[labels: string, value: number]>,
    type?: 'gauge' | 'counter',
  ): void;
};

type Gauge = {
  name: string;
  help: string;
  read: () => Iterable<[labels: string, value: number]>;
  type: 'gauge' | 'counter';
};

/**
 * Counts on the hot path are a map lookup and three additions; prom-client joins only when
 * somebody reads the metrics. Names as upstream's.
 */
export function createMetrics(): RequestMetrics {
  const totals = new Map<string, { labels: string; count: number }>();
  const durations = new Map<string, Series>();
  const gauges: Gauge[] = [];

  const observe: RequestMetrics['observe'] = (info, code, durationMs) => {
    const what = info
      ? labelsOf(info)
      : 'verb="",group="",version="",resource="",subresource="",scope=""';
    const total = entryOf(totals, `${what},code="${code}"`, (labels) => ({ labels, count: 0 }));
    total.count++;
    if (info?.verb === 'watch') return;
    const series = entryOf(durations, what, (labels) => ({
      labels,
      count: 0,
      sumSeconds: 0,
      buckets: new Float64Array(DURATION_BUCKETS.length),
    }));
    const seconds = durationMs / 1000;
    series.count++;
    series.sumSeconds += seconds;
    const bucket = DURATION_BUCKETS.findIndex((bound) => seconds <= bound);
    if (bucket >= 0) series.buckets[bucket] = (series.buckets[bucket] ?? 0) + 1;
  };

  return {
    observe,
    gauge: (name, help, read, type = 'gauge') => void gauges.push({ name, help, read, type }),
    async text() {
      const lines: string[] = [];
      writeTotals(lines, totals.values());
      writeDurations(lines, durations.values());
      for (const { name, help, read, type } of gauges) {
        lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
        for (const [labels, value] of read()) lines.push(`${name}${braced(labels)} ${value}`);
      }
      return `${lines.join('\n')}\n${await processMetrics()}`;
    },
  };
}

function entryOf<T>(map: Map<string, T>, key: string, make: (key: string) => T): T {
  let found = map.get(key);
  if (found) return found;
  const name = map.size >= MAX_SERIES ? 'resource="other"' : key;
  found = map.get(name) ?? make(name);
  map.set(name, found);
  return found;
}

const VERBS: Readonly<Record<string, string>> = {
  get: 'GET',
  list: 'LIST',
  watch: 'WATCH',
  create: 'POST',
  update: 'PUT',
  patch: 'PATCH',
  delete: 'DELETE',
  deletecollection: 'DELETECOLLECTION',
};

function labelsOf(info: RequestInfo): string {
  const scope = !info.isResource
    ? ''
    : info.name !== ''
      ? 'resource'
      : info.namespace !== ''
        ? 'namespace'
        : 'cluster';
  const verb = VERBS[info.verb] ?? info.method;
  const { group, version, resource, subresource } = info;
  const labels = `verb="${verb}",group="${group}",version="${version}",resource="${resource}",subresource="${subresource}",scope="${scope}"`;
  // Names come from the URL: nothing in them may end a label or a line.
  return /[\\\n]/.test(labels) || labels.split('"').length !== 13 ? 'resource="other"' : labels;
}

const braced = (labels: string): string => (labels === '' ? '' : `{${labels}}`);

function writeTotals(lines: string[], totals: Iterable<{ labels: string; count: number }>): void {
  const name = 'apiserver_request_total';
  lines.push(`# HELP ${name} Requests answered, by verb, resource and HTTP status code.`);
  lines.push(`# TYPE ${name} counter`);
  for (const { labels, count } of totals) lines.push(`${name}{${labels}} ${count}`);
}

function writeDurations(lines: string[], durations: Iterable<Series>): void {
  const name = 'apiserver_request_duration_seconds';
  lines.push(`# HELP ${name} Time from a request's arrival to its answer, in seconds.`);
  lines.push(`# TYPE ${name} histogram`);
  for (const { labels, count, sumSeconds, buckets } of durations) {
    let below = 0;
    for (const [i, bound] of DURATION_BUCKETS.entries()) {
      below += buckets[i] ?? 0;
      lines.push(`${name}_bucket{${labels},le="${bound}"} ${below}`);
    }
    lines.push(`${name}_bucket{${labels},le="+Inf"} ${count}`);
    lines.push(`${name}_sum{${labels}} ${sumSeconds}`, `${name}_count{${labels}} ${count}`);
  }
}

let registry: Promise<{ metrics(): Promise<string> }> | undefined;

/** Memory, CPU, event loop and garbage collection of this process. */
async function processMetrics(): Promise<string> {
  registry ??= import('prom-client').then(({ Registry, collectDefaultMetrics }) => {
    const own = new Registry();
    collectDefaultMetrics({ register: own });
    return own;
  });
  return (await registry).metrics();
}
