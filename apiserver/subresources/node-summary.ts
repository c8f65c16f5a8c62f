import https from 'node:https';
import type { Clock } from '#base/clock.ts';
import type { Node } from '#api/types.ts';

/** The parts of a node agent's /stats/summary that are read here. Source: kubelet stats/v1alpha1. */
export type NodeSummary = {
  node: Sample;
  pods: {
    podRef: { name: string; namespace: string; uid: string };
    containers?: (Sample & { name: string })[];
  }[];
};

export type Sample = {
  cpu?: { time: string; usageNanoCores?: number };
  memory?: { time: string; workingSetBytes?: number };
};

export type NodeCredentials = { caPem: string; certPem: string; keyPem: string };

/** Answers of one node are shared for this long: what is measured changes no faster. */
const FRESH_MS = 5_000;
const TIMEOUT_MS = 4_000;
/** A node with 110 pods answers in about 100 KB. */
const MAX_BYTES = 16 * 1024 * 1024;

/** Asks node agents for what is used; one question per node at a time. */
export class NodeSummaries {
  readonly #known = new Map<string, { at: number; answer: Promise<NodeSummary | null> }>();
  readonly #clock: Clock;
  readonly #credentials: () => NodeCredentials;
  #agent: { https: https.Agent; certPem: string } | undefined;

  constructor(clock: Clock, credentials: () => NodeCredentials) {
    this.#clock = clock;
    this.#credentials = credentials;
  }

  /** Null when the node does not answer: then nothing is known of its pods. */
  of(node: Node): Promise<NodeSummary | null> {
    const name = node.metadata.name ?? '';
    const known = this.#known.get(name);
    const now = this.#clock.now();
    if (known && now - known.at < FRESH_MS) return known.answer;
    const answer = this.#ask(node).catch(() => null);
    this.#known.set(name, { at: now, answer });
    return answer;
  }

  #connections(): https.Agent {
    const { caPem, certPem, keyPem } = this.#credentials();
    if (this.#agent?.certPem !== certPem) {
      this.#agent?.https.destroy();
      this.#agent = {
        certPem,
        https: new https.Agent({ keepAlive: true, ca: caPem, cert: certPem, key: keyPem }),
      };
    }
    return this.#agent.https;
  }

  #ask(node: Node): Promise<NodeSummary> {
    const host = node.status?.addresses?.find((a) => a.type === 'InternalIP')?.address;
    const port = node.status?.daemonEndpoints?.kubeletEndpoint?.Port;
    return new Promise((resolve, reject) => {
      if (!host || !port) return reject(new Error('the node has said no address yet'));
      const request = https.get(
        { host, port, path: '/stats/summary', agent: this.#connections(), timeout: TIMEOUT_MS },
        (response) => {
          const chunks: Buffer[] = [];
          let size = 0;
          response.on('data', (chunk: Buffer) => {
            size += chunk.length;
            if (size > MAX_BYTES) response.destroy(new Error('the answer is too large'));
            else chunks.push(chunk);
          });
          response.once('error', reject);
          response.once('end', () => {
            if (response.statusCode !== 200) {
              return reject(new Error(`status ${response.statusCode}`));
            }
            try {
              resolve(JSON.parse(Buffer.concat(chunks).toString()) as NodeSummary);
            } catch (error) {
              reject(error instanceof Error ? error : new Error(String(error)));
            }
          });
        },
      );
      request.once('timeout', () => request.destroy(new Error('no answer in time')));
      request.once('error', reject);
    });
  }
}
