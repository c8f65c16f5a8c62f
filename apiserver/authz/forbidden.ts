import { failure, forbiddenError, type StatusError } from '#api/status.ts';
import type { Attributes, Decision } from '#apiserver/authz/authorizer.ts';
import type { RequestInfo } from '#apiserver/request.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** What a request needs to be allowed. */
export function attributesOf(user: UserInfo, info: RequestInfo): Attributes {
  const fieldSelector = info.isResource ? info.query.get('fieldSelector') : null;
  return {
    ...(fieldSelector ? { fieldSelector } : {}),
    user,
    verb: info.verb,
    group: info.group,
    version: info.version,
    resource: info.resource,
    subresource: info.subresource,
    namespace: info.namespace,
    name: info.name || (info.selectedName ?? ''),
    isResource: info.isResource,
    path: info.path,
  };
}

/** The 403 of a request that no authorizer allows; its text is what users and tools match on. */
export function forbiddenBy(attributes: Attributes, decision: Decision): StatusError {
  const why = decision.reason ? `: ${decision.reason}` : '';
  const user = `User ${JSON.stringify(attributes.user.name)} cannot ${attributes.verb}`;
  if (!attributes.isResource) {
    const message = `forbidden: ${user} path ${JSON.stringify(attributes.path)}${why}`;
    return failure(403, 'Forbidden', message, {});
  }
  const { group, resource, subresource, namespace, name } = attributes;
  const what = subresource ? `${resource}/${subresource}` : resource;
  const where = namespace
    ? `in the namespace ${JSON.stringify(namespace)}`
    : 'at the cluster scope';
  const text = `${user} resource ${JSON.stringify(what)} in API group ${JSON.stringify(group)} ${where}`;
  return forbiddenError({ group, resource }, name, `${text}${why}`);
}
