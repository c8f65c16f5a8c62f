import { spawn } from 'node:child_process';
import { errorText, type Log, silentLog } from '#base/log.ts';
import {
  emptyRuleset,
  type Ruleset,
  rulesetChanges,
  type TableName,
  wholeTable,
} from './ruleset.ts';

/** A transaction that takes longer hangs: a full load of a thousand Services takes half a second. */
const NFT_TIMEOUT_MS = 20_000;
/** nft's complaint may quote the whole script. */
const MAX_ERROR_TEXT = 2_000;

export type NftWriterOptions = {
  table: TableName;
  /** The fixed part of the table. */
  skeleton: string;
  /** Program and first arguments, for example ['nft'], or nsenter and its arguments before it. */
  command: readonly string[];
  log?: Log;
};

/** `before` is what the table held; empty when that is not known. */
export type Written = { commands: number; whole: boolean; before: Ruleset };

/** The one that writes our table; all writes pass through it, one after the other. */
export type NftWriter = {
  /**
   * Makes the table hold `rules`: the first time, and after a failure, as a whole, otherwise by what
   * differs. Rejects when even the whole table is refused; the kernel then keeps what it had.
   */
  apply(rules: Ruleset): Promise<Written>;
  /** Writes the whole table again when somebody else removed it; true when that was so. */
  verify(): Promise<boolean>;
  /** Removes the table. Nothing to remove is no error. */
  remove(): Promise<void>;
};

export function createNftWriter(options: NftWriterOptions): NftWriter {
  const { table, skeleton, command, log = silentLog } = options;
  let applied: Ruleset | undefined;
  let last: Promise<unknown> = Promise.resolve();

  /** Runs after everything asked for before, whatever became of it. */
  function inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = last.then(work, work);
    last = result.catch(() => {});
    return result;
  }

  async function write(rules: Ruleset): Promise<Written> {
    const before = applied ?? emptyRuleset();
    if (applied) {
      const changes = rulesetChanges(table, applied, rules);
      try {
        if (changes.length > 0) await runNft(command, changes.join('\n'));
        applied = rules;
        return { commands: changes.length, whole: false, before };
      } catch (error) {
        log.warn('nftables refused a change; writing the whole table', {
          error: errorText(error),
        });
        applied = undefined;
      }
    }
    const commands = wholeTable(table, skeleton, rules);
    await runNft(command, commands.join('\n'));
    applied = rules;
    return { commands: commands.length, whole: true, before };
  }

  return {
    apply: (rules) => inOrder(() => write(rules)),
    verify: () =>
      inOrder(async () => {
        const rules = applied;
        if (!rules || (await tableExists(command, table))) return false;
        log.warn('the nftables table is gone; writing it again', table);
        applied = undefined;
        await write(rules);
        return true;
      }),
    remove: () =>
      inOrder(async () => {
        applied = undefined;
        await removeTable(command, table);
      }),
  };
}

/** Removes a table whoever wrote it; also for cleaning up after a process that was killed. */
export async function removeTable(command: readonly string[], table: TableName): Promise<void> {
  const where = `${table.family} ${table.name}`;
  await runNft(command, `add table ${where}\ndelete table ${where}\n`);
}

/** Lists only what hangs on one hook, which is cheap however large the table is. */
async function tableExists(command: readonly string[], table: TableName): Promise<boolean> {
  try {
    await runNft(command, `list chain ${table.family} ${table.name} nat-prerouting\n`);
    return true;
  } catch {
    return false;
  }
}

/** Runs one script as one transaction. */
export function runNft(command: readonly string[], script: string): Promise<void> {
  const [program = 'nft', ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args, '-f', '-'], {
      stdio: ['pipe', 'ignore', 'pipe'],
      timeout: NFT_TIMEOUT_MS,
    });
    let complaint = '';
    child.stderr.on('data', (chunk: Buffer) => {
      if (complaint.length < MAX_ERROR_TEXT) complaint += chunk.toString('utf8');
    });
    child.on('error', (cause) => {
      const hint = "is nftables installed? 'apt-get install nftables'";
      reject(new Error(`cannot run ${program}: ${hint}`, { cause }));
    });
    child.on('close', (code, signal) => {
      if (code === 0) return resolve();
      const why = signal ? `killed by ${signal} after ${NFT_TIMEOUT_MS} ms` : complaint.trim();
      reject(new Error(`nft refused the rules: ${why.slice(0, MAX_ERROR_TEXT)}`));
    });
    // A child that ends early closes its input; its exit code tells why.
    child.stdin.on('error', () => {});
    child.stdin.end(script);
  });
}
