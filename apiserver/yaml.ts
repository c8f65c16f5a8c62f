import type { ParsedJson } from '#api/json.ts';

type YamlReader = (text: string, options: { kind?: string }) => ParsedJson;
type YamlLibrary = { read: YamlReader; write: (value: unknown) => string };

let library: YamlLibrary | undefined;

/** Brings the YAML library in; few requests need it, so it is not loaded before one does. */
export async function loadYaml(): Promise<void> {
  if (library) return;
  const { parseDocument, stringify } = await import('yaml');
  const { parseJson } = await import('#api/json.ts');
  library = {
    read: (text, options) => {
      const document = parseDocument(text, { version: '1.1', maxAliasCount: 100 } as object);
      const [error] = document.errors;
      if (error) return parseJson(text, options);
      return { value: document.toJS({ maxAliasCount: 100 }), duplicates: [] };
    },
    write: (value) => stringify(value, { sortMapEntries: true, lineWidth: 0, version: '1.1' }),
  };
}

function loaded(): YamlLibrary {
  if (!library) throw new Error('YAML was not loaded for this request');
  return library;
}

/** Reads a body. Throws StatusError 400. */
export const yamlToJson: YamlReader = (text, options) => loaded().read(text, options);

/** Writes an answer, members in alphabetical order as upstream does. */
export const formatYaml = (value: unknown): string => loaded().write(value);

/** Whether a media type or Accept header speaks of YAML. */
export const mentionsYaml = (header: string | undefined): boolean =>
  header !== undefined && header.includes('yaml');
