import { admission } from '#apiserver/resource/admit.ts';
import { optionsOf } from '#apiserver/resource/resources.ts';
import type { ServerContext } from '#apiserver/resource/server-context.ts';
import type { HandlerContext, Resources } from '#apiserver/subresources/handler.ts';

/** What the subresource handlers get of their server. */
export function createHandlerContext(
  server: ServerContext,
  resources: Resources,
  parts: Pick<HandlerContext, 'tokens' | 'reviewToken' | 'rbac' | 'nodeClient'>,
): HandlerContext {
  const { reader, authorizer, clock, random, log } = server;
  return {
    ...parts,
    get scheme() {
      return server.scheme;
    },
    reader,
    resources,
    clock,
    random,
    log,
    authorize: (attributes) => authorizer.authorize(attributes),
    async admit({ as, oldObject = null, ...fields }) {
      const rules = admission(server, { ...fields, oldObject }, optionsOf(as));
      await rules.mutate();
      await rules.validate();
    },
  };
}
