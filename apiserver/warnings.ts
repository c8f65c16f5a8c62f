import type { ServerRequest } from '#apiserver/request.ts';

/** What is to be said about a request in Warning headers, also when it fails. */
const noted = new WeakMap<ServerRequest, string[]>();

/** The list that a request's warnings are collected in. */
export function warningsOf(request: ServerRequest): string[] {
  let warnings = noted.get(request);
  if (!warnings) noted.set(request, (warnings = []));
  return warnings;
}

/** The same for reading only. */
export const notedWarnings = (request: ServerRequest): readonly string[] =>
  noted.get(request) ?? [];

/** Longer warnings are cut, so that the headers stay within what clients accept. */
const MAX_WARNING = 256;
const MAX_WARNINGS_BYTES = 4_096;

/** The value of a Warning header; several are joined. Source: RFC 7234 5.5; kubectl prints these. */
export function warningHeader(warnings: readonly string[]): string {
  const total = warnings.reduce((sum, text) => sum + text.length, 0);
  return [...new Set(warnings)]
    .map((text) => {
      const cut = total > MAX_WARNINGS_BYTES ? text.slice(0, MAX_WARNING) : text;
      const quoted = cut.replace(/\p{Cc}+/gu, ' ').replace(/["\\]/g, '\\$&');
      return `299 - "${Buffer.from(quoted, 'utf8').toString('latin1')}"`;
    })
    .join(', ');
}
