/**
 * A life of the runtime that a test cuts short by SIGKILL: starts a VM from `spec`, keeps part of a
 * container's output in a file and acknowledges it, then says "ready" and does nothing any more.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { createLog } from '#base/log.ts';
import type { VmSpec } from '../machine.ts';
import { openQemu } from './qemu.ts';
import { guestContainer } from './testing.ts';

export type LifeInput = {
  stateDir: string;
  cacheDir: string;
  spec: VmSpec;
  image: string;
  argv: string[];
  /** Where output goes, and how much of it. */
  logFile: string;
  bytes: number;
};

const [file] = process.argv.slice(2);
const input = JSON.parse(readFileSync(file ?? '', 'utf8')) as LifeInput;
const { signal } = new AbortController();
const vmm = await openQemu({ ...input, log: createLog({ level: 'warn' }), signal });
const vm = await vmm.start(input.spec, { signal });
const lun = await vm.addDisk({ path: input.image, readonly: true });
await vm.guest.createContainer(guestContainer('main', lun, input.argv));
const streams = await vm.guest.startContainer('main');
let kept = 0;
for await (const { bytes } of streams.output()) {
  appendFileSync(input.logFile, bytes);
  streams.acknowledge();
  kept += bytes.length;
  if (kept >= input.bytes) break;
}
// The acknowledgement is on its way when an answer to something later has come.
await vm.guest.stats('main');
process.stdout.write('ready\n');
await vm.ended;
