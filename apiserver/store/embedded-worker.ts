import type { DatabaseSync } from 'node:sqlite';
import {
  type MessagePort,
  parentPort,
  receiveMessageOnPort,
  workerData,
} from 'node:worker_threads';
import { createCommitter } from '#apiserver/store/embedded-commit.ts';
import { createCompactor } from '#apiserver/store/embedded-compact.ts';
import {
  describeFailure,
  lockStore,
  openForWriting,
  type StoreFiles,
  storeFiles,
} from '#apiserver/store/embedded-file.ts';
import type {
  CommitGroup,
  WorkerReply,
  WorkerRequest,
} from '#apiserver/store/embedded-messages.ts';

/**
 * The embedded store's worker: the only one that writes the file. All groups of commits that
 * waited while it was busy become one transaction, so one fsync, and are acknowledged after it.
 */
export type WorkerSettings = { dataDir: string; maxBytes: number };

/** Bounds a transaction, so that its acknowledgement is a matter of milliseconds. */
const MAX_COMMITS_PER_TRANSACTION = 2_000;

function run(port: MessagePort, { dataDir, maxBytes }: WorkerSettings): void {
  const files = storeFiles(dataDir);
  const say = (reply: WorkerReply) => port.postMessage(reply);
  let lock: DatabaseSync;
  let db: DatabaseSync;
  try {
    lock = lockStore(files);
    db = openForWriting(files, maxBytes);
    serve(port, db, files, say);
  } catch (error) {
    say({ type: 'broken', message: errorMessage(error, files) });
    port.close();
    return;
  }
  port.once('close', () => {
    db.close();
    lock.close();
  });
}

function serve(
  port: MessagePort,
  db: DatabaseSync,
  files: StoreFiles,
  say: (reply: WorkerReply) => void,
): void {
  const committer = createCommitter(db);
  const compactor = createCompactor(db);

  const commit = (groups: readonly CommitGroup[]): void => {
    try {
      const outcome = committer.commit(groups);
      port.postMessage({ type: 'committed', ...outcome } satisfies WorkerReply, [
        outcome.outcomes.buffer,
      ]);
    } catch (error) {
      const count = groups.reduce((sum, group) => sum + group.keys.length, 0);
      say({ type: 'failed', count, message: errorMessage(error, files) });
    }
  };
  const compact = (before: number): void => {
    try {
      compactor.compact(before);
      say({ type: 'compacted', before });
    } catch (error) {
      say({ type: 'compact-failed', message: errorMessage(error, files) });
    }
  };

  const handle = (first: WorkerRequest): void => {
    let next: WorkerRequest | undefined = first;
    while (next !== undefined) {
      const { groups, rest } = takeGroups(port, next);
      if (groups.length > 0) commit(groups);
      if (rest?.type === 'compact') compact(rest.before);
      if (rest?.type === 'close') {
        clearImmediate(sweeping);
        say({ type: 'closed' });
        port.close();
        return;
      }
      next = receive(port);
    }
    scheduleSweep();
  };

  let sweeping: NodeJS.Immediate | undefined;
  const scheduleSweep = (): void => {
    sweeping ??= compactor.hasWork() ? setImmediate(sweep) : undefined;
  };
  /** One short step, then the commits that came meanwhile have their turn. */
  const sweep = (): void => {
    sweeping = undefined;
    try {
      compactor.sweep();
      scheduleSweep();
    } catch {
      // Nothing is lost but room; the next request tries again.
    }
  };

  port.on('message', handle);
  scheduleSweep();
  say({ type: 'opened', revision: committer.revision(), compacted: compactor.compacted() });
}

/** Commit groups that are waiting, up to the bound; `rest` is the request that ended the run. */
function takeGroups(
  port: MessagePort,
  first: WorkerRequest,
): { groups: CommitGroup[]; rest: WorkerRequest | undefined } {
  const groups: CommitGroup[] = [];
  let commits = 0;
  let next: WorkerRequest | undefined = first;
  while (next?.type === 'commits') {
    groups.push(next);
    commits += next.keys.length;
    next = commits < MAX_COMMITS_PER_TRANSACTION ? receive(port) : undefined;
  }
  return { groups, rest: next };
}

function receive(port: MessagePort): WorkerRequest | undefined {
  return receiveMessageOnPort(port)?.message;
}

function errorMessage(error: unknown, files: StoreFiles): string {
  return describeFailure(error, files).message;
}

if (parentPort !== null) run(parentPort, workerData);
