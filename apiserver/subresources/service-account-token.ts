import { trackManagedFields } from '#api/apply.ts';
import { type FieldError, invalid } from '#api/field-error.ts';
import { badRequestError, conflictError, invalidError, notFoundError } from '#api/status.ts';
import type { KubeObject, Node, Pod, ServiceAccount } from '#api/types.ts';
import type { TokenGrant } from '#apiserver/authn/service-account-tokens.ts';
import type {
  HandlerContext,
  HandlerRequest,
  SubresourceHandler,
} from '#apiserver/subresources/handler.ts';

type BoundObjectRef = { kind?: string; apiVersion?: string; name?: string; uid?: string };
type TokenRequest = KubeObject & {
  spec?: {
    audiences?: string[];
    expirationSeconds?: number;
    boundObjectRef?: BoundObjectRef | null;
  };
};

const DEFAULT_SECONDS = 3600;
const MIN_SECONDS = 600;
const MAX_SECONDS = 2 ** 32;
/** What the token volume of the ServiceAccount admission rule asks for. */
const VOLUME_SECONDS = 3607;
/** Old client libraries read their token once; a token of the volume really lives this long. */
const EXTENDED_SECONDS = 365 * 24 * 3600;

/**
 * `serviceaccounts/NAME/token`: issues a token, bound to a pod, secret or node if asked to.
 * Source: authentication.k8s.io/v1 TokenRequest, KEP-1205.
 */
export const serviceAccountToken: SubresourceHandler = {
  group: '',
  resource: 'serviceaccounts',
  subresource: 'token',
  async handle(context, request) {
    const body = await request.body<TokenRequest>();
    const { namespace, name } = request.info;
    const key = { namespace, name };
    const account = context.reader.get<ServiceAccount>('', 'serviceaccounts', key);
    if (!account) throw notFoundError({ group: '', resource: 'serviceaccounts' }, name);
    checkPlace(body, request);
    body.metadata = { ...body.metadata, name, namespace };
    const spec = (body.spec ??= {});
    spec.expirationSeconds ??= DEFAULT_SECONDS;
    const managedFields = ownersOf(body, context, request);
    if (!spec.audiences?.length) spec.audiences = [...context.tokens.audiences];
    spec.boundObjectRef ??= null;
    checkSpec(body);
    await context.admit({
      operation: 'CREATE',
      kind: request.kind,
      subresource: 'token',
      namespace,
      name,
      object: body,
      as: request.as,
    });
    const { token, expiresMs } = await context.tokens.issue(grantFor(body, account, context));
    body.metadata = {
      name,
      namespace,
      ...(account.metadata.uid ? { uid: account.metadata.uid } : {}),
      creationTimestamp: timeText(context.clock.now()),
      ...(managedFields ? { managedFields } : {}),
    };
    // An extended token tells its holder to come back when the time it asked for is over.
    const askedMs = context.clock.now() + (spec.expirationSeconds ?? DEFAULT_SECONDS) * 1000;
    const expirationTimestamp = timeText(Math.min(expiresMs, askedMs));
    const status = { token, expirationTimestamp };
    return request.answer({ ...body, status }, 201);
  },
};

/** Who set which fields, as every answer to a write says it, though nothing is stored. */
function ownersOf(
  body: TokenRequest,
  { scheme, clock }: HandlerContext,
  { as }: HandlerRequest,
): TokenRequest['metadata']['managedFields'] {
  const object = { ...body, metadata: {} } as KubeObject;
  trackManagedFields({
    old: null,
    object,
    schema: { ref: 'io.k8s.api.authentication.v1.TokenRequest' },
    definitions: scheme.definitions,
    apiVersion: 'authentication.k8s.io/v1',
    manager: as.fieldManager ?? 'unknown',
    subresource: 'token',
    now: timeText(clock.now()),
    ignored: undefined,
  });
  return object.metadata.managedFields;
}

const timeText = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** The body may say again where it belongs, but nothing else. */
function checkPlace(body: TokenRequest, { info }: HandlerRequest): void {
  const given = body.metadata ?? {};
  if (given.namespace && given.namespace !== info.namespace) {
    throw badRequestError(
      'the namespace of the provided object does not match the namespace sent on the request',
    );
  }
  if (given.name && given.name !== info.name) {
    const why = 'must match the service account name if specified';
    throw invalidError({ group: 'authentication.k8s.io', kind: 'TokenRequest' }, info.name, [
      invalid('metadata.name', given.name, why),
    ]);
  }
}

function checkSpec({ spec }: TokenRequest): void {
  const errors: FieldError[] = [];
  const path = 'spec.expirationSeconds';
  const seconds = spec?.expirationSeconds ?? 0;
  if (seconds < MIN_SECONDS) {
    errors.push(invalid(path, seconds, 'may not specify a duration less than 10 minutes'));
  }
  if (seconds > MAX_SECONDS) {
    errors.push(invalid(path, seconds, 'may not specify a duration larger than 2^32 seconds'));
  }
  if (errors.length > 0) {
    throw invalidError({ group: 'authentication.k8s.io', kind: 'TokenRequest' }, '', errors);
  }
}

function grantFor(
  body: TokenRequest,
  account: ServiceAccount,
  context: HandlerContext,
): TokenGrant {
  const { namespace = '', name = '', uid = '' } = account.metadata;
  const asked = body.spec?.expirationSeconds ?? DEFAULT_SECONDS;
  const ref = body.spec?.boundObjectRef;
  const fromVolume = asked === VOLUME_SECONDS && ref?.kind === 'Pod';
  return {
    serviceAccount: { namespace, name, uid },
    audiences: body.spec?.audiences ?? [],
    expirationSeconds: fromVolume ? EXTENDED_SECONDS : asked,
    ...(ref ? boundTo(ref, account, context) : {}),
  };
}

function boundTo(
  ref: BoundObjectRef,
  account: ServiceAccount,
  { reader }: HandlerContext,
): Pick<TokenGrant, 'bound' | 'node'> {
  const name = ref.name ?? '';
  const namespace = account.metadata.namespace;
  switch (`${ref.apiVersion}/${ref.kind}`) {
    case 'v1/Pod': {
      const pod = found(reader.get<Pod>('', 'pods', { namespace, name }), 'pods', ref);
      if (pod.spec.serviceAccountName !== account.metadata.name) {
        throw badRequestError(
          `cannot bind token for serviceaccount ${JSON.stringify(account.metadata.name)} to pod running with different serviceaccount name.`,
        );
      }
      const nodeName = pod.spec.nodeName;
      const node = nodeName ? reader.get<Node>('', 'nodes', { name: nodeName }) : undefined;
      return {
        bound: { kind: 'Pod', name, uid: pod.metadata.uid ?? '' },
        ...(nodeName ? { node: { name: nodeName, uid: node?.metadata.uid } } : {}),
      };
    }
    case 'v1/Secret': {
      const secret = found(reader.get('', 'secrets', { namespace, name }), 'secrets', ref);
      return { bound: { kind: 'Secret', name, uid: secret.metadata.uid ?? '' } };
    }
    case 'v1/Node': {
      const node = found(reader.get<Node>('', 'nodes', { name }), 'nodes', ref);
      return { bound: { kind: 'Node', name, uid: node.metadata.uid ?? '' } };
    }
    default: {
      const version = ref.apiVersion?.includes('/') ? ref.apiVersion : `/${ref.apiVersion ?? ''}`;
      const what = `${version}, Kind=${ref.kind}`;
      throw badRequestError(`cannot bind token to object of type ${what}`);
    }
  }
}

function found<T extends KubeObject>(
  object: T | undefined,
  resource: string,
  ref: BoundObjectRef,
): T {
  const name = ref.name ?? '';
  if (!object) throw notFoundError({ group: '', resource }, name);
  const { uid } = object.metadata;
  if (ref.uid && ref.uid !== uid) {
    const why = `the UID in the bound object reference (${ref.uid}) does not match the UID in record. The object might have been deleted and then recreated`;
    throw conflictError({ group: '', resource }, name, why);
  }
  return object;
}
