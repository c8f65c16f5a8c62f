import { createHash } from 'node:crypto';
import { globSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../../..');
/** What runs in the runtime's process, and the sources of the guest it makes. */
const SOURCES = [
  'package.json',
  'base/**/*.ts',
  'proto/**/*.{ts,proto}',
  'node-agent/grpc-calls.ts',
  'node-agent/{runtime,storage}/**/*.{ts,c,h}',
];

/**
 * Names this build of the product: differs when anything does that the microVM runtime is made of,
 * also where the version in package.json does not. 20 ms.
 */
export function productBuild(): string {
  const hash = createHash('sha256').update(process.version);
  for (const file of globSync(SOURCES, { cwd: ROOT }).sort()) {
    if (file.includes('.test.')) continue;
    hash.update(file).update(readFileSync(join(ROOT, file)));
  }
  return hash.digest('hex').slice(0, 12);
}
