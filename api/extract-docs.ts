import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/**
 * Documentation as its authors laid it out, from the installed kubernetes-types package: what
 * members of a named type are for, and the paragraphs, which the models of the API client lost.
 */
export type Docs = {
  /** Of the package; '' where it is not installed. */
  version: string;
  /** By published type, `io.k8s.api.core.v1.Pod`, or field, `io.k8s.api.core.v1.Pod#spec`. */
  texts: ReadonlyMap<string, string>;
};

const NO_DOCS: Docs = { version: '', texts: new Map() };

/** Where groups' types are published, if not under `io.k8s.api`. */
const PACKAGES: Readonly<Record<string, string>> = {
  meta: 'io.k8s.apimachinery.pkg.apis.meta',
  apiextensions: 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions',
};

/** Where the package is and which it is, without reading what it says. */
export function locateDocs(): { folder: string; version: string } | undefined {
  let file: string;
  try {
    file = createRequire(import.meta.url).resolve('kubernetes-types/package.json');
  } catch (error) {
    // Documentation is then what the models say: less, but never wrong.
    if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') return undefined;
    throw error;
  }
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
  return { folder: dirname(file), version };
}

export function readDocs(): Docs {
  const found = locateDocs();
  if (!found) return NO_DOCS;
  const texts = new Map<string, string>();
  for (const group of readdirSync(found.folder, { withFileTypes: true })) {
    if (!group.isDirectory()) continue;
    const home = PACKAGES[group.name] ?? `io.k8s.api.${group.name}`;
    for (const file of readdirSync(join(found.folder, group.name))) {
      const version = /^(v\d+)\.d\.ts$/.exec(file)?.[1];
      if (version === undefined) continue;
      const code = readFileSync(join(found.folder, group.name, file), 'utf8');
      readDeclarations(code, `${home}.${version}`, texts);
    }
  }
  return { version: found.version, texts };
}

const DOC = String.raw`\/\*\*((?:(?!\*\/)[\s\S])*)\*\/`;
const TYPE = new RegExp(String.raw`(?:${DOC}\n)?export interface (\w+) \{\n([\s\S]*?)\n\}`, 'g');
const FIELD = new RegExp(String.raw`^ {4}${DOC}\n {4}"?([\w$-]+)"?\??:`, 'gm');

function readDeclarations(code: string, home: string, texts: Map<string, string>): void {
  for (const [, doc, name = '', body = ''] of code.matchAll(TYPE)) {
    if (doc) texts.set(`${home}.${name}`, plain(doc));
    for (const [, text = '', field = ''] of body.matchAll(FIELD)) {
      texts.set(`${home}.${name}#${field}`, plain(text));
    }
  }
}

const plain = (doc: string): string => doc.replaceAll(/\n[ \t]*\* ?/g, '\n').trim();

/**
 * Of what the models say and what the documentation says, the better: the models are newer, the
 * documentation has its layout, and speaks of members that the models are silent about.
 */
export function betterText(model: string | undefined, doc: string | undefined): string | undefined {
  if (model === undefined) return doc;
  if (doc !== undefined && squeezed(model) === squeezed(doc)) return doc;
  // Two spaces are where paragraphs were.
  return model.replaceAll('.  ', '.\n\n');
}

const squeezed = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();
