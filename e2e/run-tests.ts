import { type ChildProcess, spawnSync } from 'node:child_process';
import { subscribe } from 'node:diagnostics_channel';
import { readdirSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { dataDirPrefix } from '#e2e/processes.ts';

/**
 * Runs test files, and those that fail once more, alone: on a busy machine a real daemon may miss a
 * time limit. What passes only then is named as flaky, so that nobody can overlook it; what fails
 * twice fails. `node e2e/run-tests.ts [--concurrency N] FILE...`
 */

/** A file that takes longer hangs; the longest takes about two minutes. */
const FILE_MS = 300_000;
/** All files together, both times: whoever waits for the run has an answer within an hour. */
const TOTAL_MS = 3_600_000;

type Tally = { passed: number; skipped: string[]; failed: Map<string, string[]> };

/** Stops clusters that a file left behind, so that those of the next find their network free. */
function stopLeftClusters(pid: number): void {
  for (const name of readdirSync('/tmp')) {
    if (!name.startsWith(dataDirPrefix(pid))) continue;
    console.log(`stopping the cluster that a test left in /tmp/${name}`);
    const gantry = join(import.meta.dirname, '..', 'gantry');
    spawnSync(gantry, ['down', '--remove-data', '--data-dir', join('/tmp', name)]);
  }
}

/**
 * Kills files that hang. The test runner's own limits are requests: a file whose event loop never
 * rests goes on after them, and so would the run.
 */
function killHangingFiles(): void {
  const endMs = Date.now() + TOTAL_MS;
  subscribe('child_process', (message) => {
    const { process: child } = message as { process: ChildProcess };
    const limitMs = Math.min(FILE_MS, Math.max(0, endMs - Date.now()));
    const timer = setTimeout(() => {
      console.log(`killed after ${limitMs / 1000} s: ${child.spawnargs.at(-1) ?? ''}`);
      child.kill('SIGKILL');
    }, limitMs);
    child.once('exit', () => {
      clearTimeout(timer);
      if (child.pid !== undefined) stopLeftClusters(child.pid);
    });
  });
}

async function runFiles(files: readonly string[], concurrency: number): Promise<Tally> {
  const tally: Tally = { passed: 0, skipped: [], failed: new Map() };
  const events = run({ files: [...files], concurrency });
  events.on('test:pass', ({ name, skip, details }) => {
    if (details.type === 'suite') {
      // A skipped suite reports itself only: its tests never begin.
      if (skip !== undefined) tally.skipped.push(`${name}: ${String(skip)}`);
    } else if (skip === undefined) tally.passed += 1;
    else tally.skipped.push(`${name}: ${String(skip)}`);
  });
  events.on('test:fail', ({ name, file = '', details }) => {
    const names = tally.failed.get(file) ?? [];
    // A file that dies fails under its path, which is written in one way the second time, too.
    const what = resolve(name) === file ? relative('.', file) : name;
    tally.failed.set(file, details.type === 'suite' ? names : [...names, what]);
  });
  for await (const text of events.compose(spec)) process.stdout.write(String(text));
  return tally;
}

const args = process.argv.slice(2);
const concurrency = args[0] === '--concurrency' ? Number(args.splice(0, 2)[1]) : 1;
killHangingFiles();
const first = await runFiles(args, concurrency);
const again = [...first.failed.keys()].filter((file) => file !== '');
let failed = [...first.failed.values()].flat();
if (again.length > 0) {
  console.log(`\nOnce more, alone: ${again.map((file) => relative('.', file)).join(', ')}\n`);
  const second = await runFiles(again, 1);
  const flaky = failed.filter((name) => ![...second.failed.values()].flat().includes(name));
  failed = [...second.failed.values()].flat();
  if (second.failed.size > 0 && failed.length === 0) failed = [...second.failed.keys()];
  for (const name of flaky) console.log(`FLAKY: "${name}" failed, and passed when run again`);
}
for (const reason of new Set(first.skipped)) console.log(`SKIPPED: ${reason}`);
for (const name of failed) console.log(`FAILED: ${name}`);
console.log(`${first.passed} passed, ${failed.length} failed, ${first.skipped.length} skipped`);
process.exitCode = failed.length > 0 ? 1 : 0;
