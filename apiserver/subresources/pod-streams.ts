import { badRequestError } from '#api/status.ts';
import type { KubeObject, Pod } from '#api/types.ts';
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
  optionsOf: (query: URLSearchParams) => StreamOptions,
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
        // The kind's options are all that there is to admit; they have no metadata.
        object: { apiVersion: 'v1', ...optionsOf(info.query) } as unknown as KubeObject,
        as,
      });
      await passToNode(context, address, path, connection);
    },
  };
}

/** What admission sees of a connection. Source: core/v1 PodExecOptions and its siblings. */
type StreamOptions = { kind: string; [member: string]: unknown };

export const podExec = streamHandler(
  'exec',
  (pod, query) => {
    const container = containerOf(pod, query.get('container'));
    const agentQuery = streamQuery(query);
    for (const command of query.getAll('command')) agentQuery.append('command', command);
    return agentPath('exec', pod, container, agentQuery);
  },
  (query) => ({
    kind: 'PodExecOptions',
    ...streamOptions(query),
    command: query.getAll('command'),
  }),
);

export const podAttach = streamHandler(
  'attach',
  (pod, query) => {
    const container = containerOf(pod, query.get('container'));
    return agentPath('attach', pod, container, streamQuery(query));
  },
  (query) => ({ kind: 'PodAttachOptions', ...streamOptions(query) }),
);

export const podPortForward = streamHandler(
  'portforward',
  (pod, query) => {
    const agentQuery = new URLSearchParams();
    const ports = query.getAll('ports');
    if (ports.length > 0) agentQuery.set('port', ports.join(','));
    return agentPath('portForward', pod, '', agentQuery);
  },
  (query) => {
    const ports = query.getAll('ports').flatMap((list) => list.split(',').map(Number));
    return { kind: 'PodPortForwardOptions', ...(ports.length > 0 ? { ports } : {}) };
  },
);

/** Output is wanted unless the client says no. */
const streamsOf = (query: URLSearchParams) => ({
  stdin: queryFlag(query, 'stdin') ?? false,
  stdout: queryFlag(query, 'stdout') ?? true,
  stderr: queryFlag(query, 'stderr') ?? true,
  tty: queryFlag(query, 'tty') ?? false,
});

/** Members that are false or empty are left out. */
function streamOptions(query: URLSearchParams): Record<string, unknown> {
  const wanted = Object.entries(streamsOf(query)).filter(([, value]) => value);
  const container = query.get('container');
  return { ...Object.fromEntries(wanted), ...(container ? { container } : {}) };
}

/** The agent knows the streams by other names. */
function streamQuery(query: URLSearchParams): URLSearchParams {
  const { stdin, stdout, stderr, tty } = streamsOf(query);
  const wanted = { input: stdin, output: stdout, error: stderr, tty };
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
