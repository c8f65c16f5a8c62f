import { errorText } from '#base/log.ts';
import { compileLabelSelector, formatLabelSelector } from '#api/labels.ts';
import { parseQuantity, quantityMilli } from '#api/quantity.ts';
import { parseTime } from '#api/time.ts';
import type { HorizontalPodAutoscaler, LabelSelector } from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import type { Reading } from '#controllers/autoscaler-values.ts';

/**
 * Reads what metrics adapters serve: custom.metrics.k8s.io for pods and objects,
 * external.metrics.k8s.io for everything outside the cluster. They are there when somebody has
 * registered an APIService for them. Source: KEP "Custom metrics API", "External metrics API".
 */

type MetricSpec = NonNullable<NonNullable<HorizontalPodAutoscaler['spec']>['metrics']>[number];

type Scope = {
  namespace: string;
  /** Of the target's pods. */
  selector: string;
  signal: AbortSignal;
  /** The resource that serves a kind. Throws when none does. */
  kindNamed: (group: string, kind: string) => Promise<Resource>;
};

const CUSTOM_GROUP = 'custom.metrics.k8s.io';
/** The best first. */
const CUSTOM_VERSIONS = ['v1beta2', 'v1beta1'] as const;
const EXTERNAL = '/apis/external.metrics.k8s.io/v1beta1';
/** What a value's rate was measured over, where the adapter does not say. */
const DEFAULT_WINDOW_MS = 60_000;

type MetricValue = {
  describedObject?: { name?: string };
  timestamp?: string;
  windowSeconds?: number;
  value: string;
};

/** One reading per metric, undefined for those that metrics.k8s.io answers. */
export function readMetrics(
  api: Api,
  specs: readonly MetricSpec[],
  scope: Scope,
): Promise<(Reading | undefined)[]> {
  return Promise.all(
    specs.map(async (spec) => {
      try {
        return await readOne(api, spec, scope);
      } catch (error) {
        scope.signal.throwIfAborted();
        return { error: errorText(error) };
      }
    }),
  );
}

async function readOne(api: Api, spec: MetricSpec, scope: Scope): Promise<Reading | undefined> {
  switch (spec.type) {
    case 'Pods': {
      if (!spec.pods) throw new Error('spec.metrics[].pods is not set');
      const { name, selector } = spec.pods.metric;
      const query = queryOf({
        labelSelector: scope.selector,
        metricLabelSelector: textOf(selector),
      });
      const items = await values(
        api,
        await customPath(api, scope, ['pods', '*', name]),
        query,
        scope,
      );
      return {
        uses: new Map(items.map((item) => [item.describedObject?.name ?? '', useOf(item)])),
      };
    }
    case 'Object': {
      if (!spec.object) throw new Error('spec.metrics[].object is not set');
      const { name, selector } = spec.object.metric;
      const path = await customPath(
        api,
        scope,
        await objectParts(spec.object.describedObject, name, scope),
      );
      const query = queryOf({ metricLabelSelector: textOf(selector) });
      const [item] = await values(api, path, query, scope);
      return { milli: useOf(item as MetricValue).milli };
    }
    case 'External': {
      if (!spec.external) throw new Error('spec.metrics[].external is not set');
      const { name, selector } = spec.external.metric;
      const path = `${EXTERNAL}/namespaces/${scope.namespace}/${encodeURIComponent(name)}`;
      const items = await values(api, path, queryOf({ labelSelector: textOf(selector) }), scope);
      return { milli: items.reduce((sum, item) => sum + useOf(item).milli, 0) };
    }
    default:
      return undefined;
  }
}

/** A namespace's own metrics stand under `metrics`, those of all else under their resource. */
async function objectParts(
  { kind, name, apiVersion = '' }: { kind: string; name: string; apiVersion?: string },
  metric: string,
  { kindNamed }: Scope,
): Promise<string[]> {
  const group = apiVersion.includes('/') ? (apiVersion.split('/')[0] ?? '') : '';
  if (group === '' && kind === 'Namespace') return ['metrics', metric];
  const { resource } = await kindNamed(group, kind);
  return [group === '' ? resource : `${resource}.${group}`, name, metric];
}

async function customPath(api: Api, scope: Scope, parts: readonly string[]): Promise<string> {
  const { namespace, signal } = scope;
  const path = `/apis/${CUSTOM_GROUP}`;
  const group = JSON.parse(Buffer.from(await api.raw(path, { signal })).toString('utf8')) as {
    versions?: { version: string }[];
  };
  const served = new Set((group.versions ?? []).map(({ version }) => version));
  const version = CUSTOM_VERSIONS.find((one) => served.has(one));
  if (!version) throw new Error(`${CUSTOM_GROUP} serves none of ${CUSTOM_VERSIONS.join(', ')}`);
  const encoded = parts.map((part) => (part === '*' ? part : encodeURIComponent(part)));
  return `${path}/${version}/namespaces/${namespace}/${encoded.join('/')}`;
}

/** Throws when there are none. */
async function values(
  api: Api,
  path: string,
  query: string,
  { signal }: Scope,
): Promise<MetricValue[]> {
  const body = await api.raw(path + query, { signal });
  const { items = [] } = JSON.parse(Buffer.from(body).toString('utf8')) as {
    items?: MetricValue[];
  };
  if (items.length === 0) throw new Error('no metrics returned from the metrics API');
  return items;
}

function useOf({ value, timestamp = '', windowSeconds }: MetricValue): {
  milli: number;
  timestampMs: number;
  windowMs: number;
} {
  return {
    milli: quantityMilli(parseQuantity(value)),
    timestampMs: parseTime(timestamp) || 0,
    windowMs: windowSeconds === undefined ? DEFAULT_WINDOW_MS : windowSeconds * 1000,
  };
}

const textOf = (selector: LabelSelector | undefined): string =>
  selector === undefined ? '' : formatLabelSelector(compileLabelSelector(selector));

function queryOf(parameters: Record<string, string>): string {
  const given = Object.entries(parameters).filter(([, value]) => value !== '');
  return given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`;
}
