import { failure } from '#api/status.ts';

export const PROTOBUF = 'application/vnd.kubernetes.protobuf';

/** What a client wants back. Source: API concepts "Alternate representations of resources". */
export type Format = {
  media: 'application/json' | 'application/yaml' | typeof PROTOBUF;
  /** Another form of the same objects; `v1` is the version of the form's own type. */
  as?: { kind: 'Table' | 'PartialObjectMetadata' | 'PartialObjectMetadataList'; version: string };
  pretty: boolean;
};

const JSON_FORMAT: Format = { media: 'application/json', pretty: false };
const FORMS = new Set(['Table', 'PartialObjectMetadata', 'PartialObjectMetadataList']);
const FORM_VERSIONS = new Set(['v1', 'v1beta1']);
const READABLE = `application/json, application/yaml, ${PROTOBUF}`;

/** Accept headers repeat endlessly; this many different ones are remembered. */
const MEMORY = 256;
const remembered = new Map<string, Format | null>();

/** Forms that a type does not have. */
type Lacks = {
  /** No protobuf message; its metadata alone has one. */
  textual?: boolean;
  /** No table: reviews, which are answered and never kept. */
  tableless?: boolean;
};

/**
 * Chooses the answer's form from the Accept header. `streaming` = a watch, which has no YAML.
 * Throws StatusError 406 when nothing offered is acceptable.
 */
export function negotiate(
  accept: string | undefined,
  options: Lacks & { pretty?: boolean; streaming?: boolean } = {},
): Format {
  const chosen = accept === undefined || accept === '' ? JSON_FORMAT : recall(accept, options);
  if (!chosen || (options.streaming && chosen.media === 'application/yaml')) throw notAcceptable();
  return options.pretty ? { ...chosen, pretty: true } : chosen;
}

export const notAcceptable = (): Error =>
  failure(406, 'NotAcceptable', `only the following media types are accepted: ${READABLE}`);

function recall(accept: string, lacks: Lacks): Format | null {
  const key = lacks.textual || lacks.tableless ? `${lacks.textual} ${lacks.tableless} ` : '';
  const known = remembered.get(key + accept);
  if (known !== undefined) return known;
  const chosen = choose(accept, lacks);
  if (remembered.size >= MEMORY) remembered.clear();
  remembered.set(key + accept, chosen);
  return chosen;
}

type Clause = { media: string; parameters: Map<string, string>; quality: number };

function choose(accept: string, { textual, tableless }: Lacks): Format | null {
  const clauses = accept.split(',').map(readClause);
  // Equal qualities keep the client's order.
  clauses.sort((a, b) => b.quality - a.quality);
  for (const clause of clauses) {
    if (clause.quality === 0) continue;
    const format = formatOf(clause);
    if (!format || (textual && format.media === PROTOBUF && !format.as)) continue;
    if (!(tableless && format.as?.kind === 'Table')) return format;
  }
  return null;
}

function readClause(text: string): Clause {
  const [media = '', ...rest] = text.split(';').map((part) => part.trim());
  const parameters = new Map<string, string>();
  for (const part of rest) {
    const at = part.indexOf('=');
    if (at > 0) parameters.set(part.slice(0, at).trim(), part.slice(at + 1).trim());
  }
  const quality = Number(parameters.get('q') ?? 1);
  return {
    media: media.toLowerCase(),
    parameters,
    quality: Number.isFinite(quality) ? quality : 1,
  };
}

function formatOf({ media, parameters }: Clause): Format | null {
  const accepted =
    media === '*/*' || media === 'application/*' || media === 'application/json'
      ? 'application/json'
      : media === 'application/yaml'
        ? 'application/yaml'
        : media === PROTOBUF
          ? PROTOBUF
          : null;
  if (!accepted) return null;
  const as = parameters.get('as');
  if (as === undefined) return { media: accepted, pretty: parameters.get('pretty') === '1' };
  const version = parameters.get('v') ?? '';
  if (!FORMS.has(as) || !FORM_VERSIONS.has(version)) return null;
  if (parameters.get('g') !== 'meta.k8s.io') return null;
  // Tables have no message.
  if (accepted === PROTOBUF && as === 'Table') return null;
  return { media: accepted, as: { kind: as as 'Table', version }, pretty: false };
}

export type BodyType = 'json' | 'yaml' | 'protobuf';

/** What a request's body is written in. Throws StatusError 415. */
export function bodyType(contentType: string | undefined): BodyType {
  switch (mediaType(contentType)) {
    case '':
    case 'application/json':
      return 'json';
    case 'application/yaml':
      return 'yaml';
    case PROTOBUF:
      return 'protobuf';
    default:
      throw unsupportedMedia(READABLE);
  }
}

export const unsupportedMedia = (accepted: string): Error =>
  failure(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${accepted}`,
  );

/** `application/json; charset=utf-8` → `application/json`. */
export function mediaType(contentType: string | undefined): string {
  if (!contentType) return '';
  const end = contentType.indexOf(';');
  return (end < 0 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
}
