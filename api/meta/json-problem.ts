/**
 * What is wrong with a text that should be a JSON object, in the words of the usual decoder;
 * '' when nothing is. The text itself is never shown, because it may be secret.
 */
export function jsonProblem(text: string): string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return syntaxProblem(text);
  }
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) return '';
  const kind = Array.isArray(value) ? 'array' : value === null ? '' : jsonTypeName(value);
  if (kind === '') return '';
  return `json: cannot unmarshal ${kind} into Go value of type map[string]interface {}`;
}

const jsonTypeName = (value: unknown): string =>
  typeof value === 'boolean' ? 'bool' : typeof value === 'number' ? 'number' : 'string';

const LITERALS = ['null', 'true', 'false'];

/** The first character that cannot continue the text. */
function syntaxProblem(text: string): string {
  const start = text.search(/\S/);
  if (start < 0) return 'unexpected end of JSON input';
  const rest = text.slice(start);
  const literal = LITERALS.find((word) => word[0] === rest[0]);
  if (literal) {
    for (let i = 1; i < literal.length; i++) {
      if (rest[i] === undefined) return 'unexpected end of JSON input';
      if (rest[i] !== literal[i]) {
        return `invalid character '${rest[i]}' in literal ${literal} (expecting '${literal[i]}')`;
      }
    }
    return 'invalid character after top-level value';
  }
  if (rest[0] === '{' || rest[0] === '[' || rest[0] === '"') {
    return 'unexpected end of JSON input';
  }
  return `invalid character '${rest[0]}' looking for beginning of value`;
}
