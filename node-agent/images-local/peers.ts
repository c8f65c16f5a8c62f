import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { errorText, type Log } from '#base/log.ts';
import type { Node } from '#api/types.ts';
import type { Informer } from '#client/informer.ts';

/** This node's client certificate, with which it shows to the others that it is one of them. */
export type PeerIdentity = () => { cert: string; key: string };

export type PeersOptions = {
  /** All nodes of the cluster. */
  nodes: Informer<Node>;
  nodeName: string;
  identity: PeerIdentity;
  /** Authority of the nodes' serving certificates, path. */
  caFile: string;
  log: Log;
};

/** Asks the other nodes for what is under a path of the registry API; undefined when none has it. */
export type Peers = (
  path: string,
  request: { method: string; range?: string | undefined; signal: AbortSignal },
) => Promise<IncomingMessage | undefined>;

/** Nodes asked for one thing: they are asked at once, and a large cluster has many. */
const MAX_ASKED = 8;
/** A node that takes longer to say yes or no is no help. */
const ANSWER_MS = 1_000;
/** A node that stops in the middle: the runtime then goes on with the registry. */
const IDLE_MS = 10_000;

/** Where on a node's own API its images are. */
export const PEER_PATH = '/images';

/**
 * Images and layers of the other nodes, over their agents' API, authenticated both ways: only nodes
 * get an answer, and only nodes are believed. What comes is checked by the runtime by its digest.
 */
export function createPeers({ nodes, nodeName, identity, caFile, log }: PeersOptions): Peers {
  return async (path, { method, range, signal }) => {
    const addresses = peersToAsk(nodes.list(), nodeName, path);
    if (addresses.length === 0) return undefined;
    const pair = { ...identity(), ca: readFileSync(caFile) };
    const over = new AbortController();
    const until = AbortSignal.any([signal, over.signal]);
    const ask = async (address: Address): Promise<Address> => {
      const answer = await send({ ...address, ...pair }, { path, method: 'HEAD', signal: until });
      answer.resume();
      if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
      return address;
    };
    const first = await Promise.any(addresses.map(ask)).catch(() => undefined);
    over.abort(new Error('another node has answered'));
    if (!first) return undefined;
    try {
      const answer = await send({ ...first, ...pair }, { path, method, range, signal });
      if (answer.statusCode === 200 || answer.statusCode === 206) return answer;
      answer.resume();
    } catch (error) {
      signal.throwIfAborted();
      log.debug('a node did not give an image part', { ...first, error: errorText(error) });
    }
    return undefined;
  };
}

export type Address = { host: string; port: number };

/** Ready nodes besides this one, others for each path, so that load and knowledge spread. Pure. */
export function peersToAsk(all: readonly Node[], own: string, path: string): Address[] {
  const others = all
    .filter((node) => node.metadata.name !== own && isReady(node))
    .toSorted((a, b) => ((a.metadata.name ?? '') < (b.metadata.name ?? '') ? -1 : 1));
  const start = others.length === 0 ? 0 : hashOf(path) % others.length;
  return [...others.slice(start), ...others.slice(0, start)]
    .slice(0, MAX_ASKED)
    .flatMap(({ status }) => {
      const host = status?.addresses?.find(({ type }) => type === 'InternalIP')?.address;
      const port = status?.daemonEndpoints?.kubeletEndpoint?.Port;
      return host && port ? [{ host, port }] : [];
    });
}

const isReady = ({ status }: Node): boolean =>
  status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false;

function hashOf(text: string): number {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) >>> 0;
  return hash;
}

type Target = Address & { cert: string; key: string; ca: Buffer };
type Sent = { path: string; method: string; range?: string | undefined; signal: AbortSignal };

function send(target: Target, { path, method, range, signal }: Sent): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = range === undefined ? {} : { range };
    const request = https.request(
      { ...target, method, path: `${PEER_PATH}${path}`, headers, signal, agent: false },
      (response) => {
        clearTimeout(timer);
        request.setTimeout(IDLE_MS, () => request.destroy(new Error('the node has stopped')));
        resolve(response);
      },
    );
    const timer = setTimeout(() => request.destroy(new Error('no answer in time')), ANSWER_MS);
    request.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    request.end();
  });
}
