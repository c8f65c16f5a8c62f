import { badRequestError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type { SubresourceHandler } from '#apiserver/subresources/handler.ts';
import type { UserInfo } from '#apiserver/user.ts';

const GROUP = 'authentication.k8s.io';

/** "Who am I?" Source: authentication.k8s.io/v1 SelfSubjectReview. */
export const selfSubjectReviews: SubresourceHandler = {
  group: GROUP,
  resource: 'selfsubjectreviews',
  subresource: '',
  async handle(context, request) {
    const review = await request.body();
    const { metadata } = review;
    const creationTimestamp = `${new Date(context.clock.now()).toISOString().slice(0, 19)}Z`;
    const status = { userInfo: userText(request.user) };
    return request.answer({ ...review, metadata: { ...metadata, creationTimestamp }, status }, 201);
  },
};

type TokenReview = KubeObject & { spec?: { token?: string; audiences?: string[] } };

/** "Whose token is this?" Source: authentication.k8s.io/v1 TokenReview. */
export const tokenReviews: SubresourceHandler = {
  group: GROUP,
  resource: 'tokenreviews',
  subresource: '',
  async handle(context, request) {
    const review = await request.body<TokenReview>();
    const token = review.spec?.token;
    if (!token) throw badRequestError('token is required for TokenReview in authentication');
    const verdict = await context.reviewToken(token, review.spec?.audiences ?? []);
    const status = verdict.ok
      ? { authenticated: true, user: userText(verdict.user), audiences: verdict.audiences }
      : { user: {}, error: verdict.error };
    return request.answer({ ...review, status }, 201);
  },
};

/** authentication.k8s.io/v1 UserInfo. */
function userText(user: UserInfo): Record<string, unknown> {
  return {
    username: user.name,
    ...(user.uid ? { uid: user.uid } : {}),
    ...(user.groups.length > 0 ? { groups: user.groups } : {}),
    ...(user.extra && Object.keys(user.extra).length > 0 ? { extra: user.extra } : {}),
  };
}
