import { type Status, StatusError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type { WatchEvent } from '#client/api.ts';
import { TransportError } from '#client/transport.ts';

/** One event carries one object, and the server takes none above 3 MiB; the rest is headroom. */
const MAX_EVENT_BYTES = 16 * 1024 * 1024;
const NEWLINE = 0x0a;
const INITIAL_EVENTS_END = 'k8s.io/initial-events-end';

/**
 * Decodes a watch's body (one JSON event per line) into one batch per chunk that completes a line.
 * Bytes are joined at most once per line, so a large object in small chunks costs linear time.
 * Throws the server's ERROR event as StatusError. Source: Kubernetes API concepts, "Watch".
 */
export async function* decodeWatch<T extends KubeObject>(
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<WatchEvent<T>[]> {
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;
  for await (const chunk of body) {
    const end = chunk.lastIndexOf(NEWLINE);
    if (end < 0) {
      pending.push(chunk);
      pendingBytes += chunk.length;
      if (pendingBytes > MAX_EVENT_BYTES) {
        throw new TransportError(`watch event is larger than ${MAX_EVENT_BYTES} bytes`);
      }
      continue;
    }
    pending.push(chunk.subarray(0, end));
    const text = Buffer.concat(pending).toString('utf8');
    pending = end + 1 < chunk.length ? [chunk.subarray(end + 1)] : [];
    pendingBytes = chunk.length - end - 1;
    const { events, error } = decodeLines<T>(text);
    if (events.length) yield events;
    if (error) throw error;
  }
}

type Wire = { type: string; object: KubeObject };

function decodeLines<T extends KubeObject>(
  text: string,
): { events: WatchEvent<T>[]; error?: StatusError } {
  const events: WatchEvent<T>[] = [];
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const { type, object } = parseLine(line);
    switch (type) {
      case 'ADDED':
      case 'MODIFIED':
      case 'DELETED':
        events.push({ type, object: object as T });
        break;
      case 'BOOKMARK':
        events.push({
          type,
          resourceVersion: object.metadata.resourceVersion ?? '',
          initialEventsEnd: object.metadata.annotations?.[INITIAL_EVENTS_END] === 'true',
        });
        break;
      case 'ERROR':
        return { events, error: new StatusError(object as unknown as Status) };
      default:
        throw new TransportError(`watch event of unknown type ${JSON.stringify(type)}`);
    }
  }
  return { events };
}

function parseLine(line: string): Wire {
  try {
    return JSON.parse(line) as Wire;
  } catch (cause) {
    throw new TransportError(`watch event is not JSON: ${line.slice(0, 100)}`, { cause });
  }
}
