import type { UserInfo } from '#apiserver/user.ts';

/** What somebody wants to do. Source: authorization.k8s.io/v1 SubjectAccessReviewSpec. */
export type Attributes = {
  user: UserInfo;
  verb: string;
  group: string;
  version: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
  isResource: boolean;
  /** For requests that are not about resources. */
  path: string;
  /** Text of the request's field selector, where there is one. */
  fieldSelector?: string;
};

export type Decision = { decision: 'allow' | 'deny' | 'no-opinion'; reason: string };

/** Asked in order; the first that is not 'no-opinion' decides; none means denied. */
export type Authorizer = { name: string; authorize(attributes: Attributes): Decision };
