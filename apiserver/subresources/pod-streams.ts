import { badRequestError } from '#api/status.ts';
import type { Pod } from '#api/types.ts';
import type {
  HandlerContext,
  HandlerRequest,
  SubresourceHandler,
} from '#apiserver/subresources/handler.ts';
import { nodeOfPod, passToNode } from '#apiserver/subresources/node-connection.ts';
import { containerOf, podOf, queryFlag } from '#apiserver/subresources/pod-containers.ts';

/**
 * exec, attach and port-forward: the client's upgraded connection is handed to the node's agent,
 * byte by byte, so that every protocol works that the container runtime speaks.
 * Source: core/v1 PodExecOptions, PodAttachOptions, PodPortForwardOptions; the agent's paths are
 * the kubelet's.
 */
function streamHandler(
  subresource: string,
  pathFor: (pod: Pod, query: URLSearchParams) => string,
): SubresourceHandler {
  const locate = (context: HandlerContext, request: HandlerRequest) => {
    const pod = podOf(context, request);
    const path = pathFor(pod, request.info.query);
    return { address: nodeOfPod(context, pod), path };
  };
  return {
    group: '',
    resource: 'pods',
    subresource,
    async handle(context, request) {
      locate(context, request);
      throw badRequestError('Upgrade request required');
    },
    async connect(context, request, connection) {
      const { kind, info, as } = request;
      const { address, path } = locate(context, request);
      await context.admit({
        operation: 'CONNECT',
        kind,
        subresource,
        namespace: info.namespace,
        name: info.name,
        object: null,
        as,
      });
      await passToNode(context, address, path, connection);
    },
  };
}

export const podExec = streamHandler('exec', (pod, query) => {
  const container = containerOf(pod, query.get('container'));
  const agentQuery = streamQuery(query);
  for (const command of query.getAll('command')) agentQuery.append('command', command);
  return agentPath('exec', pod, container, agentQuery);
});

export const podAttach = streamHandler('attach', (pod, query) => {
  const container = containerOf(pod, query.get('container'));
  return agentPath('attach', pod, container, streamQuery(query));
});

export const podPortForward = streamHandler('portforward', (pod, query) => {
  const agentQuery = new URLSearchParams();
  const ports = query.getAll('ports');
  if (ports.length > 0) agentQuery.set('port', ports.join(','));
  return agentPath('portForward', pod, '', agentQuery);
});

/** The agent knows the streams by other names; output is wanted unless the client says no. */
function streamQuery(query: URLSearchParams): URLSearchParams {
  const wanted = {
    input: queryFlag(query, 'stdin') ?? false,
    output: queryFlag(query, 'stdout') ?? true,
    error: queryFlag(query, 'stderr') ?? true,
    tty: queryFlag(query, 'tty') ?? false,
  };
  const agentQuery = new URLSearchParams();
  for (const [name, value] of Object.entries(wanted)) if (value) agentQuery.set(name, '1');
  return agentQuery;
}

/** `/VERB/NAMESPACE/POD[/CONTAINER]?query` of the agent. */
export function agentPath(
  verb: string,
  pod: Pod,
  container: string,
  query: URLSearchParams,
): string {
  const { namespace = '', name = '' } = pod.metadata;
  const parts = [verb, namespace, name, ...(container ? [container] : [])];
  const text = query.toString();
  return `/${parts.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}
