import { type WebSocket, WebSocketServer } from 'ws';
import { type FieldError, forbidden, invalid } from '#api/field-error.ts';
import { badRequestError, failure, internalError, invalidError } from '#api/status.ts';
import type { ServerResponse } from '#apiserver/request.ts';
import type {
  HandlerContext,
  HandlerRequest,
  SubresourceHandler,
} from '#apiserver/subresources/handler.ts';
import { nodeOfPod, requestNode } from '#apiserver/subresources/node-connection.ts';
import { containerOf, podOf } from '#apiserver/subresources/pod-containers.ts';
import { agentPath } from '#apiserver/subresources/pod-streams.ts';

/** What the agent understands; all other parameters are the API server's own. */
const AGENT_PARAMETERS = [
  'follow',
  'limitBytes',
  'previous',
  'sinceSeconds',
  'sinceTime',
  'stream',
  'tailLines',
  'timestamps',
] as const;

/** An agent's error text is one line; more of it helps nobody. */
const MAX_ERROR_BYTES = 4096;

/**
 * `pods/NAME/log`: a container's log, streamed from the node's agent as it comes.
 * Source: core/v1 PodLogOptions.
 */
export const podLog: SubresourceHandler = {
  group: '',
  resource: 'pods',
  subresource: 'log',
  handle: (context, request) => openLog(context, request, request.request.signal),
  async connect(context, request, { request: message, socket, head }) {
    const gone = new AbortController();
    socket.once('close', () => gone.abort(new Error('the client has gone')));
    const { body } = await openLog(context, request, gone.signal);
    logSockets.handleUpgrade(message, socket, head, (websocket) => {
      sendLog(websocket, body).catch(() => websocket.terminate());
    });
  },
};

async function openLog(
  context: HandlerContext,
  request: HandlerRequest,
  signal: AbortSignal,
): Promise<ServerResponse> {
  const { query, name } = request.info;
  const errors = validateOptions(query);
  if (errors.length > 0) throw invalidError({ group: '', kind: 'PodLogOptions' }, name, errors);
  const pod = podOf(context, request);
  const container = containerOf(pod, query.get('container'));
  // A pod without a node has written nothing yet.
  if (!pod.spec.nodeName) return { status: 204, headers: {}, body: '' };
  const agentQuery = new URLSearchParams();
  for (const parameter of AGENT_PARAMETERS) {
    const value = query.get(parameter);
    if (value !== null) agentQuery.set(parameter, value);
  }
  const path = agentPath('containerLogs', pod, container, agentQuery);
  const answer = await requestNode(context, nodeOfPod(context, pod), { path, signal });
  if (answer.status >= 400) throw await agentError(answer, name);
  return { ...answer, headers: { 'content-type': 'text/plain', ...answer.headers } };
}

/** A log over a WebSocket: one message for each piece. Source: Kubernetes wsstream. */
const LOG_PROTOCOLS = ['binary.k8s.io', 'base64.binary.k8s.io'] as const;
/** Clients send nothing that is read. */
const MAX_MESSAGE_BYTES = 1024;
const logSockets = new WebSocketServer({
  noServer: true,
  maxPayload: MAX_MESSAGE_BYTES,
  handleProtocols: (offered) => LOG_PROTOCOLS.find((one) => offered.has(one)) ?? false,
});

async function sendLog(websocket: WebSocket, body: ServerResponse['body']): Promise<void> {
  websocket.on('error', () => websocket.terminate());
  const base64 = websocket.protocol.startsWith('base64');
  const send = (piece: Uint8Array): Promise<void> =>
    new Promise((resolve, reject) => {
      const message = base64 ? Buffer.from(piece).toString('base64') : piece;
      websocket.send(message, { binary: !base64 }, (error) => (error ? reject(error) : resolve()));
    });
  const pieces = typeof body === 'string' ? [Buffer.from(body)] : body;
  if (pieces instanceof Uint8Array) await send(pieces);
  else for await (const piece of pieces) if (piece.length > 0) await send(piece);
  websocket.close(1000);
}

function validateOptions(query: URLSearchParams): FieldError[] {
  const errors: FieldError[] = [];
  const number = (name: string): number | undefined => {
    const text = query.get(name);
    if (text === null || text === '') return undefined;
    if (!/^-?\d+$/.test(text)) {
      throw badRequestError(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
    }
    return Number(text);
  };
  const [tail, limit, since] = [number('tailLines'), number('limitBytes'), number('sinceSeconds')];
  if (tail !== undefined && tail < 0) {
    errors.push(invalid('tailLines', tail, 'must be greater than or equal to 0'));
  }
  if (limit !== undefined && limit < 1) {
    errors.push(invalid('limitBytes', limit, 'must be greater than 0'));
  }
  if (since !== undefined && query.get('sinceTime')) {
    errors.push(forbidden('', 'at most one of `sinceTime` or `sinceSeconds` may be specified'));
  } else if (since !== undefined && since < 1) {
    errors.push(invalid('sinceSeconds', since, 'must be greater than 0'));
  }
  return errors;
}

/** The agent speaks plain text; clients want a Status. */
async function agentError(answer: ServerResponse, name: string): Promise<Error> {
  const text = await readText(answer.body);
  switch (answer.status) {
    case 400:
      return badRequestError(text);
    case 404:
      return failure(404, 'NotFound', text || `the log of ${name} was not found`, {
        name,
        kind: 'pods',
      });
    default:
      return internalError(text);
  }
}

async function readText(body: ServerResponse['body']): Promise<string> {
  if (typeof body === 'string') return body;
  if (body instanceof Uint8Array) return Buffer.from(body).toString('utf8');
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > MAX_ERROR_BYTES) break;
  }
  return Buffer.concat(chunks).subarray(0, MAX_ERROR_BYTES).toString('utf8').trim();
}
