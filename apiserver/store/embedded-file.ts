import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { StoreUnavailableError } from '#apiserver/store/store.ts';

/**
 * The embedded store's file: one table of all commits since the last compaction. The newest row
 * of a key is its current state, so history and present are the same thing read twice.
 */
const SCHEMA = `
  CREATE TABLE history (
    revision INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    -- 0 marks a deletion.
    create_revision INTEGER NOT NULL,
    -- The row that this one replaced; 0 when the key was absent.
    previous INTEGER NOT NULL,
    value BLOB,
    -- Milliseconds since the epoch.
    expires_at INTEGER
  ) STRICT;
  CREATE INDEX history_by_key ON history (key, revision, create_revision);
  CREATE INDEX history_by_expiry ON history (expires_at) WHERE expires_at IS NOT NULL;
  CREATE TABLE progress (name TEXT PRIMARY KEY, revision INTEGER NOT NULL) STRICT;
  INSERT INTO progress VALUES ('compacted', 0), ('swept', 0);
`;

/** Written into the file's header, so that a foreign SQLite file is not taken for ours. */
const APPLICATION_ID = 0x47_4e_54_59;
const SCHEMA_VERSION = 1;

/** Objects are mostly 1-6 KB: larger pages than the default save overflow chains. */
const PAGE_BYTES = 8192;
/** The log is folded back into the file at this size, 32 MB: seldom, yet quickly done. */
const CHECKPOINT_PAGES = 4096;
/** Files above this are not read through at every start. */
const FULL_CHECK_MAX_BYTES = 1 << 30;

const SQLITE_BUSY = 5;
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_CANTOPEN = 14;
const SQLITE_NOTADB = 26;

export type StoreFiles = { directory: string; database: string; lock: string; owner: string };

export function storeFiles(dataDir: string): StoreFiles {
  const directory = join(dataDir, 'store');
  return {
    directory,
    database: join(directory, 'state.db'),
    lock: join(directory, 'lock'),
    owner: join(directory, 'owner'),
  };
}

/**
 * Takes the store for this process. The lock is the operating system's, held by an open
 * transaction on an empty database: it goes with the process, however that ends.
 * Throws StoreUnavailableError when somebody else has it.
 */
export function lockStore(files: StoreFiles): DatabaseSync {
  try {
    mkdirSync(files.directory, { recursive: true, mode: 0o700 });
    const lock = new DatabaseSync(files.lock, { timeout: 0 });
    lock.exec('BEGIN EXCLUSIVE');
    writeFileSync(files.owner, `${process.pid}\n`);
    return lock;
  } catch (error) {
    if (resultCode(error) === SQLITE_BUSY) {
      throw new StoreUnavailableError(
        `${files.directory} is in use by another API server${ownerText(files)}: ` +
          'stop that one, or give this one a --data-dir of its own',
      );
    }
    throw describeFailure(error, files);
  }
}

function ownerText(files: StoreFiles): string {
  try {
    return ` (process ${readFileSync(files.owner, 'utf8').trim()})`;
  } catch {
    // The owner has not come to writing its name down yet.
    return '';
  }
}

/**
 * Opens or creates the database for writing and checks that it is whole and ours.
 * `maxBytes` bounds the file's size. Throws StoreUnavailableError.
 */
export function openForWriting(files: StoreFiles, maxBytes: number): DatabaseSync {
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(files.database, { timeout: 5000 });
    db.exec(`PRAGMA page_size = ${PAGE_BYTES}`);
    db.exec('PRAGMA journal_mode = WAL');
    // In WAL mode FULL means: the log is synced to the disk before a COMMIT returns.
    db.exec('PRAGMA synchronous = FULL');
    db.exec(`PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
    db.exec(`PRAGMA max_page_count = ${Math.floor(maxBytes / PAGE_BYTES)}`);
    if (pragma(db, 'application_id') === 0 && isEmpty(db)) create(db);
    checkIsOurs(db, files);
    checkIsWhole(db);
    return db;
  } catch (error) {
    db?.close();
    throw describeFailure(error, files);
  }
}

/** A second connection for reads: in WAL mode these never wait for the writer or its fsync. */
export function openForReading(files: StoreFiles): DatabaseSync {
  try {
    return new DatabaseSync(files.database, { readOnly: true, timeout: 5000 });
  } catch (error) {
    throw describeFailure(error, files);
  }
}

function create(db: DatabaseSync): void {
  db.exec('BEGIN');
  db.exec(SCHEMA);
  db.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
  db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`);
  db.exec('COMMIT');
}

function checkIsOurs(db: DatabaseSync, files: StoreFiles): void {
  if (pragma(db, 'application_id') !== APPLICATION_ID) {
    throw new StoreUnavailableError(
      `${files.database} is an SQLite file, but not a Gantry store: move it away`,
    );
  }
  const version = pragma(db, 'user_version');
  if (version !== SCHEMA_VERSION) {
    throw new StoreUnavailableError(
      `${files.database} has format ${version}, this Gantry knows ${SCHEMA_VERSION}: ` +
        'start the version of Gantry that wrote it',
    );
  }
}

function checkIsWhole(db: DatabaseSync): void {
  if (pragma(db, 'page_count') * PAGE_BYTES > FULL_CHECK_MAX_BYTES) return;
  const verdict = db.prepare('PRAGMA quick_check(1)').get()?.['quick_check'];
  if (verdict !== 'ok')
    throw Object.assign(new Error(String(verdict)), { errcode: SQLITE_CORRUPT });
}

function pragma(db: DatabaseSync, name: string): number {
  return Number(db.prepare(`PRAGMA ${name}`).get()?.[name]);
}

function isEmpty(db: DatabaseSync): boolean {
  return db.prepare('SELECT 1 FROM sqlite_schema').get() === undefined;
}

/** An SQLite failure in words that name the file and the way out. */
export function describeFailure(error: unknown, files: StoreFiles): StoreUnavailableError {
  if (error instanceof StoreUnavailableError) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new StoreUnavailableError(wordsFor(error, text, files), { cause: error });
}

function wordsFor(error: unknown, text: string, files: StoreFiles): string {
  const file = files.database;
  switch (resultCode(error)) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return (
        `store file ${file} is damaged (${text}): put a backup in its place, or save what is ` +
        `readable with "sqlite3 ${file} .recover | sqlite3 recovered.db", ` +
        'or move it away to start with an empty cluster'
      );
    case SQLITE_FULL:
      return `no room left for store file ${file}: free disk space, writes go on by themselves then`;
    case SQLITE_CANTOPEN:
      return `store file ${file} cannot be opened: check that it may be read and written`;
    default:
      return `store file ${file}: ${text}`;
  }
}

/** SQLite's primary result code; the bits above it are detail. */
function resultCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error)) return undefined;
  return typeof error.errcode === 'number' ? error.errcode & 0xff : undefined;
}
