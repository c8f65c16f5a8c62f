import { RESULTS } from '#api/admissionregistration/policy-scope.ts';
import type { Webhook } from '#api/admissionregistration/webhook-validate.ts';
import type { Kind } from '#api/kind.ts';
import { badRequestError, failure, forbiddenError, StatusError } from '#api/status.ts';
import type { Status } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type { AdmissionContext, AdmissionRequest } from '#apiserver/admission-rule.ts';
import { reviewFields, reviewObjects } from '#apiserver/admission-review.ts';
import { matchRequest } from '#apiserver/match-rules.ts';
import {
  conditionsHold,
  type Expression,
  expressionOf,
  requestBindings,
} from '#apiserver/policy-expressions.ts';
import { derived, sortedObjects } from '#apiserver/policy-set.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import { callWebhook, WebhookError } from '#apiserver/webhook-client.ts';

/** Webhooks of both families. Source: Kubernetes "Dynamic Admission Control". */

export type Hook = {
  configuration: string;
  hook: Webhook;
  conditions: readonly Expression[];
  index: number;
};

const SCOPE = { params: false, authorizer: true, variables: null };
const NO_SIDE_EFFECTS = ['None', 'NoneOnDryRun'];
const DEFAULT_TIMEOUT_SECONDS = 10;

/** All webhooks of a family, in the order of their configurations' names. */
export function webhooksOf(
  family: 'validating' | 'mutating',
): (reader: ObjectReader) => readonly Hook[] {
  const resource = `${family}webhookconfigurations`;
  return derived([resource], (reader) =>
    sortedObjects(reader, resource)
      .flatMap((object) =>
        ((object['webhooks'] ?? []) as Webhook[]).map((hook) => ({
          configuration: object.metadata.name ?? '',
          hook,
          conditions: (hook.matchConditions ?? []).map(({ expression = '' }) =>
            expressionOf(expression.trim(), SCOPE, RESULTS.condition),
          ),
        })),
      )
      .map((hook, index) => ({ ...hook, index })),
  );
}

/**
 * The kind as which a webhook wants to see a request; null when it does not. Throws Forbidden when
 * its conditions cannot be evaluated.
 */
export function wantedKind(
  { hook, conditions }: Hook,
  request: AdmissionRequest,
  context: AdmissionContext,
): Kind | null {
  const { matchPolicy, namespaceSelector, objectSelector, rules = [] } = hook;
  const matching = {
    resourceRules: rules,
    ...(matchPolicy ? { matchPolicy } : {}),
    ...(namespaceSelector ? { namespaceSelector } : {}),
    ...(objectSelector ? { objectSelector } : {}),
  };
  const matched = matchRequest(matching, request, context);
  if (!matched || conditions.length === 0) return matched;
  const result = conditionsHold(conditions, requestBindings(request, matched, context));
  if ('holds' in result) return result.holds ? matched : null;
  if (hook.failurePolicy === 'Ignore') return null;
  const { kind, name } = request;
  throw forbiddenError({ group: kind.group, resource: kind.plural }, name, result.error);
}

export type ReviewResponse = {
  uid?: unknown;
  allowed?: boolean;
  status?: Partial<Status>;
  patch?: string;
  patchType?: string;
  auditAnnotations?: Record<string, string>;
  warnings?: string[];
};

/** A webhook that could not be asked, or whose answer is no answer: its failure policy decides. */
export class CallFailed extends Error {}

/** Asks one webhook; warnings and annotations are taken over. Throws StatusError when it refuses. */
export async function askWebhook(
  { hook }: Hook,
  matched: Kind,
  request: AdmissionRequest,
  context: AdmissionContext,
  mutating: boolean,
): Promise<ReviewResponse> {
  if (request.dryRun && !NO_SIDE_EFFECTS.includes(hook.sideEffects ?? '')) {
    throw badRequestError(`admission webhook "${hook.name}" does not support dry run`);
  }
  const version = (hook.admissionReviewVersions ?? []).find(
    (one) => one === 'v1' || one === 'v1beta1',
  );
  const apiVersion = `admission.k8s.io/${version ?? 'v1'}`;
  const uid = crypto.randomUUID();
  const fields = { uid, ...reviewFields(request, matched), ...reviewObjects(request, matched) };
  const answer = await callWebhook(
    {
      address: hook.clientConfig,
      timeoutSeconds: hook.timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS,
      body: { kind: 'AdmissionReview', apiVersion, request: fields },
      signal: context.signal,
    },
    context,
  ).catch((error: unknown) => {
    if (!(error instanceof WebhookError)) throw error;
    throw failed(hook.name, `failed to call webhook: ${error.message}`);
  });
  const response = verified(answer, { uid, apiVersion, mutating });
  if (typeof response === 'string') {
    throw failed(hook.name, `received invalid webhook response: ${response}`);
  }
  for (const [key, value] of Object.entries(response.auditAnnotations ?? {})) {
    request.annotate?.(`${hook.name}/${key}`, value);
  }
  for (const text of response.warnings ?? []) request.warnings.push(text);
  if (response.allowed !== true) throw refusal(hook.name, response.status);
  return response;
}

export const failed = (name: string, why: string): CallFailed =>
  new CallFailed(`failed calling webhook "${name}": ${why}`);

/** What a failed call is to the client of the request, where it fails the request. */
export const callError = (message: string): StatusError =>
  failure(500, 'InternalError', `Internal error occurred: ${message}`, { causes: [{ message }] });

type Expected = { uid: string; apiVersion: string; mutating: boolean };

function verified(
  answer: unknown,
  { uid, apiVersion, mutating }: Expected,
): ReviewResponse | string {
  const review = (answer ?? {}) as KubeObject & { response?: ReviewResponse };
  const { response } = review;
  if (typeof response !== 'object' || response === null) return 'webhook response was absent';
  const { patch = '', patchType } = response;
  if (apiVersion === 'admission.k8s.io/v1beta1') {
    return patch && mutating ? { ...response, patchType: 'JSONPatch' } : response;
  }
  if (response.uid !== uid) {
    return `expected response.uid=${JSON.stringify(uid)}, got ${JSON.stringify(response.uid ?? '')}`;
  }
  const found = `${review.apiVersion ?? ''}, Kind=${review.kind ?? ''}`;
  if (found !== `${apiVersion}, Kind=AdmissionReview`) {
    return `expected webhook response of ${apiVersion}, Kind=AdmissionReview, got ${found}`;
  }
  if (!mutating && patch) return 'validating webhook may not return response.patch';
  if (!mutating && patchType) return 'validating webhook may not return response.patchType';
  if (patch && patchType === undefined) {
    return 'webhook returned response.patch but not response.patchType';
  }
  if (!patch && patchType !== undefined) {
    return 'webhook returned response.patchType but not response.patch';
  }
  if (patchType === '') return 'webhook returned invalid response.patchType of ""';
  return response;
}

/** The webhook's own Status, made a failure that says who refused. */
function refusal(name: string, given: Partial<Status> | undefined): StatusError {
  const by = `admission webhook "${name}" denied the request`;
  const { message = '', reason = '', details, code = 0 } = given ?? {};
  const why = message || reason;
  return new StatusError({
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: why ? `${by}: ${why}` : `${by} without explanation`,
    ...(reason ? { reason } : {}),
    ...(details ? { details } : {}),
    code: code < 400 ? 400 : code,
  });
}
