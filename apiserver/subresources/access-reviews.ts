import { type FieldError, invalid, required } from '#api/field-error.ts';
import { badRequestError, invalidError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type { Attributes, Decision } from '#apiserver/authz/authorizer.ts';
import type {
  HandlerContext,
  HandlerRequest,
  SubresourceHandler,
} from '#apiserver/subresources/handler.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** "May somebody do this?" Source: authorization.k8s.io/v1. */
type ResourceAttributes = {
  namespace?: string;
  verb?: string;
  group?: string;
  version?: string;
  resource?: string;
  subresource?: string;
  name?: string;
  fieldSelector?: Selector;
  labelSelector?: Selector;
};
type Selector = { rawSelector?: string; requirements?: readonly unknown[] };
type ReviewSpec = {
  resourceAttributes?: ResourceAttributes;
  nonResourceAttributes?: { path?: string; verb?: string };
  user?: string;
  uid?: string;
  groups?: string[];
  extra?: Record<string, string[]>;
};
type Review = KubeObject & { spec?: ReviewSpec };

const GROUP = 'authorization.k8s.io';

export const selfSubjectAccessReviews = reviewHandler(
  'selfsubjectaccessreviews',
  (review, { user }) => ({
    user,
    errors: validateAttributes(review.spec ?? {}),
  }),
);

export const subjectAccessReviews = reviewHandler('subjectaccessreviews', (review) => ({
  user: subjectOf(review.spec ?? {}),
  errors: [...validateAttributes(review.spec ?? {}), ...validateSubject(review.spec ?? {})],
}));

export const localSubjectAccessReviews = reviewHandler(
  'localsubjectaccessreviews',
  (review, { info }) => ({
    user: subjectOf(review.spec ?? {}),
    errors: [
      ...validateAttributes(review.spec ?? {}),
      ...validateSubject(review.spec ?? {}),
      ...validateLocal(review.spec ?? {}, info.namespace),
    ],
    namespace: info.namespace,
  }),
);

type Prepared = { user: UserInfo; errors: FieldError[]; namespace?: string };

function reviewHandler(
  resource: string,
  prepare: (review: Review, request: HandlerRequest) => Prepared,
): SubresourceHandler {
  return {
    group: GROUP,
    resource,
    subresource: '',
    async handle(context: HandlerContext, request: HandlerRequest) {
      const review = await request.body<Review>();
      const prepared = prepare(review, request);
      const errors = [...prepared.errors, ...validateMetadata(review, prepared.namespace)];
      if (errors.length > 0) throw invalidError({ group: GROUP, kind: '' }, '', errors);
      const decision = context.authorize(attributesOf(prepared.user, review.spec ?? {}));
      return request.answer({ ...review, status: statusOf(decision) }, 201);
    },
  };
}

function statusOf({ decision, reason }: Decision): Record<string, unknown> {
  return {
    allowed: decision === 'allow',
    ...(decision === 'deny' ? { denied: true } : {}),
    ...(reason ? { reason } : {}),
  };
}

function attributesOf(user: UserInfo, spec: ReviewSpec): Attributes {
  const about = spec.resourceAttributes;
  return {
    user,
    verb: about?.verb ?? spec.nonResourceAttributes?.verb ?? '',
    group: about?.group ?? '',
    version: about?.version ?? '',
    resource: about?.resource ?? '',
    subresource: about?.subresource ?? '',
    namespace: about?.namespace ?? '',
    name: about?.name ?? '',
    isResource: about !== undefined,
    path: spec.nonResourceAttributes?.path ?? '',
    ...(about?.fieldSelector?.rawSelector
      ? { fieldSelector: about.fieldSelector.rawSelector }
      : {}),
  };
}

const subjectOf = (spec: ReviewSpec): UserInfo => ({
  name: spec.user ?? '',
  ...(spec.uid ? { uid: spec.uid } : {}),
  groups: spec.groups ?? [],
  ...(spec.extra ? { extra: spec.extra } : {}),
});

function validateAttributes(spec: ReviewSpec): FieldError[] {
  const { resourceAttributes, nonResourceAttributes } = spec;
  if (resourceAttributes && nonResourceAttributes) {
    const why = 'cannot be specified in combination with resourceAttributes';
    return [invalid('spec.nonResourceAttributes', printed(nonResourceAttributes), why)];
  }
  if (!resourceAttributes && !nonResourceAttributes) {
    const why = 'exactly one of nonResourceAttributes or resourceAttributes must be specified';
    return [invalid('spec.resourceAttributes', null, why)];
  }
  return (['fieldSelector', 'labelSelector'] as const).flatMap((field) =>
    validateSelector(`spec.resourceAttributes.${field}`, resourceAttributes?.[field]),
  );
}

function validateSelector(path: string, selector: Selector | undefined): FieldError[] {
  if (!selector) return [];
  const raw = selector.rawSelector ?? '';
  const count = selector.requirements?.length ?? 0;
  if (raw !== '' && count > 0) {
    const why = 'may not specified at the same time as requirements';
    return [invalid(`${path}.rawSelector`, raw, why)];
  }
  if (raw !== '' || count > 0) return [];
  const why = `when ${path} is specified, requirements or rawSelector is required`;
  return [required(`${path}.requirements`, why)];
}

function validateSubject(spec: ReviewSpec): FieldError[] {
  if (spec.user || spec.groups?.length) return [];
  return [invalid('spec.user', '', 'at least one of user or group must be specified')];
}

function validateLocal(spec: ReviewSpec, namespace: string): FieldError[] {
  const errors: FieldError[] = [];
  const about = spec.resourceAttributes;
  if (about && about.namespace !== namespace) {
    const path = 'spec.resourceAttributes.namespace';
    errors.push(invalid(path, about.namespace ?? '', 'must match metadata.namespace'));
  }
  if (spec.nonResourceAttributes) {
    const why = 'disallowed on this kind of request';
    errors.push(invalid('spec.nonResourceAttributes', printed(spec.nonResourceAttributes), why));
  }
  return errors;
}

/** Field names as the message has always shown them. */
const printed = ({ path = '', verb = '' }: { path?: string; verb?: string }) => ({
  Path: path,
  Verb: verb,
});

/** A review has no identity: names and labels would be ignored, so they are refused. */
function validateMetadata(review: Review, namespace: string | undefined): FieldError[] {
  const { managedFields: _, creationTimestamp: __, ...metadata } = review.metadata ?? {};
  if (metadata.namespace === namespace || namespace === undefined) delete metadata.namespace;
  if (Object.keys(metadata).length === 0) return [];
  const rest = namespace === undefined ? 'must be empty' : 'must be empty except for namespace';
  return [invalid('metadata', metadata, rest)];
}

type RulesReview = KubeObject & { spec?: { namespace?: string } };

/** "What may I do here?" Source: authorization.k8s.io/v1 SelfSubjectRulesReview. */
export const selfSubjectRulesReviews: SubresourceHandler = {
  group: GROUP,
  resource: 'selfsubjectrulesreviews',
  subresource: '',
  async handle(context, request) {
    const review = await request.body<RulesReview>();
    const namespace = review.spec?.namespace;
    if (!namespace) throw badRequestError('no namespace on request');
    const { rules, errors } = context.rbac.rulesFor(request.user, namespace);
    const resourceRules = [];
    const nonResourceRules = [];
    for (const { verbs, apiGroups, resources, resourceNames, nonResourceURLs } of rules) {
      if (resources?.length) {
        const names = resourceNames?.length ? { resourceNames } : {};
        resourceRules.push({ verbs, apiGroups: apiGroups ?? [], resources, ...names });
      }
      if (nonResourceURLs?.length) nonResourceRules.push({ verbs, nonResourceURLs });
    }
    const status = {
      resourceRules,
      nonResourceRules,
      incomplete: errors.length > 0,
      ...(errors.length > 0 ? { evaluationError: errors.join(', ') } : {}),
    };
    return request.answer({ ...review, status }, 201);
  },
};
