import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { errorText } from '#base/log.ts';

/** What --audit-log-path and its companions say. */
export type AuditLogConfig = {
  /** `-` is standard output. */
  path: string;
  /** Old files are removed after this many days; 0 = never. */
  maxAgeDays?: number;
  /** Old files kept; 0 = all. */
  maxBackups?: number;
  /** A file that would grow beyond this begins anew. */
  maxSizeMb?: number;
  compress?: boolean;
};

export type AuditSink = {
  /** One line of JSON, without its end. */
  write(line: string): void;
  close(): Promise<void>;
};

/** Upstream's default. */
const DEFAULT_MAX_SIZE_MB = 100;
const DAY_MS = 86_400_000;
const MB = 1024 * 1024;

/**
 * Appends lines to a file that is rotated by size: `audit.log` becomes
 * `audit-2026-01-02T03-04-05.678.log`. The lines of one turn of the event loop are written
 * together, before the next turn: nothing piles up, and an answer goes out in the turn of its line.
 * Throws when the file cannot be opened.
 */
export function openAuditLog(config: AuditLogConfig, clock: Clock, log: Log): AuditSink {
  const file = config.path === '-' ? null : new RotatedFile(config, clock, log);
  let lines: string[] = [];
  const flush = (): void => {
    const text = lines.join('');
    lines = [];
    if (text === '') return;
    try {
      if (file) file.append(Buffer.from(text));
      else writeSync(1, text);
    } catch (error) {
      log.error('audit log cannot be written', { path: config.path, error: errorText(error) });
    }
  };
  return {
    write(line) {
      if (lines.push(`${line}\n`) === 1) setImmediate(flush);
    },
    async close() {
      flush();
      await file?.close();
    },
  };
}

class RotatedFile {
  readonly #config: AuditLogConfig;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #maxBytes: number;
  #file: number;
  #sizeBytes: number;
  #tidying: Promise<void> = Promise.resolve();

  constructor(config: AuditLogConfig, clock: Clock, log: Log) {
    this.#config = config;
    this.#clock = clock;
    this.#log = log;
    this.#maxBytes = (config.maxSizeMb || DEFAULT_MAX_SIZE_MB) * MB;
    mkdirSync(dirname(config.path), { recursive: true });
    this.#file = this.#open();
    this.#sizeBytes = fstatSync(this.#file).size;
    this.#tidy();
  }

  append(bytes: Buffer): void {
    if (this.#sizeBytes > 0 && this.#sizeBytes + bytes.length > this.#maxBytes) this.#rotate();
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at);
    this.#sizeBytes += bytes.length;
  }

  async close(): Promise<void> {
    closeSync(this.#file);
    await this.#tidying;
  }

  #open(): number {
    return openSync(this.#config.path, 'a', 0o600);
  }

  #rotate(): void {
    const { path } = this.#config;
    closeSync(this.#file);
    const { prefix, extension } = partsOf(path);
    const time = new Date(this.#clock.now()).toISOString().slice(0, 23).replaceAll(':', '-');
    const old = join(dirname(path), `${prefix}${time}${extension}`);
    // Two within a millisecond: the older name wins, the lines stay together.
    if (!existsSync(old)) renameSync(path, old);
    this.#file = this.#open();
    this.#sizeBytes = fstatSync(this.#file).size;
    this.#tidy();
  }

  #tidy(): void {
    this.#tidying = this.#tidying
      .then(() => tidy(this.#config, this.#clock.now()))
      .catch((error: unknown) => {
        this.#log.warn('old audit logs cannot be tidied', { error: errorText(error) });
      });
  }
}

function partsOf(path: string): { prefix: string; extension: string } {
  const extension = extname(path);
  return { prefix: `${basename(path, extension)}-`, extension };
}

/** Removes and compresses what the limits say of the rotated files. */
async function tidy(config: AuditLogConfig, nowMs: number): Promise<void> {
  const { path, maxAgeDays = 0, maxBackups = 0, compress = false } = config;
  const directory = dirname(path);
  const { prefix, extension } = partsOf(path);
  const old = readdirSync(directory)
    .flatMap((name) => {
      const bare = name.endsWith('.gz') ? name.slice(0, -3) : name;
      if (!bare.startsWith(prefix) || !bare.endsWith(extension)) return [];
      const time = bare.slice(prefix.length, bare.length - extension.length);
      const match = /^(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d\.\d{3})$/.exec(time);
      if (!match) return [];
      return [{ name, atMs: Date.parse(`${match[1]}T${match[2]}:${match[3]}:${match[4]}Z`) }];
    })
    .sort((a, b) => b.atMs - a.atMs);
  for (const [i, { name, atMs }] of old.entries()) {
    const file = join(directory, name);
    const tooMany = maxBackups > 0 && i >= maxBackups;
    const tooOld = maxAgeDays > 0 && nowMs - atMs > maxAgeDays * DAY_MS;
    if (tooMany || tooOld) rmSync(file, { force: true });
    else if (compress && !name.endsWith('.gz')) {
      await writeFile(`${file}.gz`, await promisify(gzip)(await readFile(file)), { mode: 0o600 });
      rmSync(file, { force: true });
    }
  }
}
