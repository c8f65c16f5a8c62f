/**
 * One object as the bytes that are stored and sent: JSON whose first members are apiVersion, kind
 * and metadata, so that a reader sees early what it has. The rest keeps its order.
 */
export function encodeObject(object: { [member: string]: unknown }): Uint8Array {
  return Buffer.from(encodeObjectText(object), 'utf8');
}

export function encodeObjectText(object: { [member: string]: unknown }): string {
  return JSON.stringify(startsWell(object) ? object : reordered(object));
}

const FIRST = ['apiVersion', 'kind', 'metadata'];

function startsWell(object: { [member: string]: unknown }): boolean {
  let place = 0;
  for (const key in object) {
    if (key !== FIRST[place]) return false;
    if (++place === FIRST.length) return true;
  }
  return false;
}

function reordered(object: { [member: string]: unknown }): { [member: string]: unknown } {
  const { apiVersion, kind, metadata, ...rest } = object;
  return {
    ...(apiVersion === undefined ? {} : { apiVersion }),
    ...(kind === undefined ? {} : { kind }),
    ...(metadata === undefined ? {} : { metadata }),
    ...rest,
  };
}
