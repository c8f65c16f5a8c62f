import type { Kind } from '#api/kind.ts';
import { badRequestError, failure } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type { Format } from '#apiserver/negotiate.ts';
import { PROTOBUF } from '#apiserver/negotiate.ts';
import type { RequestInfo, ServerResponse } from '#apiserver/request.ts';
import type { ListMeta } from '#apiserver/resource/answer.ts';
import {
  answerObject,
  answerProtobuf,
  answerWire,
  joinList,
  listChunks,
} from '#apiserver/resource/answer.ts';
import { bodyAs, listBody } from '#apiserver/resource/protobuf.ts';
import type { ServerContext } from '#apiserver/resource/server-context.ts';
import { objectAs, wireAs } from '#apiserver/resource/views.ts';
import type { IncludeObject } from '#apiserver/table.ts';
import { partialMetadata, tableOf } from '#apiserver/table.ts';
import type { CacheEntry } from '#apiserver/watch-cache-entry.ts';

/** Throws StatusError 400. */
export function includeObjectOf(info: RequestInfo): IncludeObject {
  const asked = info.query.get('includeObject') ?? '';
  if (asked === '' || asked === 'Metadata') return 'Metadata';
  if (asked === 'None' || asked === 'Object') return asked;
  throw badRequestError(
    `Unable to convert to Table as requested: includeObject: Invalid value: ${JSON.stringify(asked)}: must be 'Metadata', 'Object', 'None', or empty`,
  );
}

/** One object in the form that the client asked for. */
export function presentObject(
  server: ServerContext,
  kind: Kind,
  shown: { wire: Uint8Array; object: () => KubeObject; entry?: CacheEntry },
  format: Format,
  info: RequestInfo,
  { status = 200, warnings = [] as readonly string[] } = {},
): ServerResponse {
  switch (format.as?.kind) {
    case undefined:
      if (format.media !== PROTOBUF) return answerWire(shown.wire, format, status, warnings);
      return shown.entry
        ? answerProtobuf(bodyAs(kind, shown.entry), status, warnings)
        : answerObject(shown.object(), format, status, warnings);
    case 'PartialObjectMetadata':
      return answerObject(partialMetadata(shown.object()), format, status, warnings);
    case 'Table': {
      const object = shown.object();
      const table = tableOf(kind, server.scheme, [object], {
        includeObject: includeObjectOf(info),
        metadata: { resourceVersion: object.metadata.resourceVersion },
        nowMs: server.clock.now(),
      });
      return answerObject(table, format, status, warnings);
    }
    case 'PartialObjectMetadataList':
      throw wrongForm('PartialObjectMetadataList', `not a list (*${goType(kind)})`);
  }
}

/** Many objects in the form that the client asked for. */
export function presentList(
  server: ServerContext,
  kind: Kind,
  { metadata, entries }: { metadata: ListMeta; entries: readonly CacheEntry[] },
  format: Format,
  info: RequestInfo,
): ServerResponse {
  switch (format.as?.kind) {
    case undefined: {
      if (format.media === PROTOBUF) return answerProtobuf(listBody(kind, metadata, entries));
      if (!kind.storedAs) return answerWire(listChunks(kind, metadata, entries), format);
      const wires = entries.map((entry) => wireAs(kind, entry));
      return answerWire(joinList(kind, metadata, wires), format);
    }
    case 'PartialObjectMetadataList':
      return answerObject(
        {
          kind: 'PartialObjectMetadataList',
          apiVersion: 'meta.k8s.io/v1',
          metadata,
          items: entries.map((entry) => partialMetadata(objectAs(kind, entry))),
        },
        format,
      );
    case 'Table': {
      const table = tableOf(
        kind,
        server.scheme,
        entries.map((entry) => objectAs(kind, entry)),
        { includeObject: includeObjectOf(info), metadata, nowMs: server.clock.now() },
      );
      return answerObject(table, format);
    }
    case 'PartialObjectMetadata':
      throw wrongForm('PartialObjectMetadata', `a list (*${goType(kind)}List)`);
  }
}

const wrongForm = (asked: string, is: string): Error =>
  failure(406, 'NotAcceptable', `you requested ${asked}, but the requested object is ${is}`);

/** How upstream names a kind's type in messages: `core.ConfigMap`. */
const goType = (kind: Kind): string =>
  `${kind.group === '' ? 'core' : kind.group.split('.')[0]}.${kind.kind}`;
