import type { Attributes, Authorizer, Decision } from '#apiserver/authz/authorizer.ts';
import { createNodeAuthorizer } from '#apiserver/authz/node-authorizer.ts';
import { createRbac, type Rbac } from '#apiserver/authz/rbac.ts';
import type { ObjectReader } from '#apiserver/reader.ts';

/** Members of this group may do everything, whatever roles say. */
const SUPERUSERS = 'system:masters';

const superusers: Authorizer = {
  name: 'system:masters',
  authorize: ({ user }) =>
    user.groups.includes(SUPERUSERS)
      ? { decision: 'allow', reason: '' }
      : { decision: 'no-opinion', reason: '' },
};

/** The server's authorizers in order: superusers, nodes, roles. */
export function createAuthorizer(options: {
  reader: ObjectReader;
  /** Shared with the handlers that list a user's rules. */
  rbac?: Rbac;
}): Authorizer {
  const rbac = options.rbac ?? createRbac(options.reader);
  return chain([superusers, createNodeAuthorizer(options.reader), rbac.authorizer]);
}

/** The first that is not 'no-opinion' decides; else the reasons of all, a line each. */
export function chain(authorizers: readonly Authorizer[]): Authorizer {
  return {
    name: 'union',
    authorize(attributes: Attributes): Decision {
      const reasons: string[] = [];
      for (const authorizer of authorizers) {
        const decision = authorizer.authorize(attributes);
        if (decision.decision !== 'no-opinion') return decision;
        if (decision.reason) reasons.push(decision.reason);
      }
      return { decision: 'no-opinion', reason: reasons.join('\n') };
    },
  };
}
