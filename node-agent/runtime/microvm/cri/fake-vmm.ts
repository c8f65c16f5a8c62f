import type {
  Guest,
  GuestContainer,
  GuestExit,
  GuestProcess,
  GuestStreams,
  Vm,
  Vmm,
  VmSpec,
} from '#node-agent/runtime/microvm/machine.ts';
import { RuntimeError } from '#node-agent/runtime/service.ts';
import { createInbox } from '#base/inbox.ts';

/** For tests: what one process of a fake guest does. */
export type FakeProgram = (process: {
  argv: readonly string[];
  say(text: string, stream?: 'stdout' | 'stderr'): void;
  exit(code: number, oomKilled?: boolean): void;
  /** What came in so far, and whether more can come. */
  onInput(take: (text: string | null) => void): void;
  onSignal(take: (signal: number) => void): void;
}) => void;

export type FakeVm = Vm & {
  readonly created: Map<string, GuestContainer>;
  readonly disks: Map<number, string>;
  /** The VM ends by itself. */
  die(reason: string, kernelLog: string): void;
};

export type FakeVmm = Vmm & { readonly vms: Map<string, FakeVm>; failNext?: Error | undefined };

type FakeProcess = { streams: GuestStreams; signal(number: number): void };

/** A Vmm whose guests run nothing but `program`; it outlives the runtime, as real VMs do. */
export function fakeVmm(program: FakeProgram): FakeVmm {
  const vms = new Map<string, FakeVm>();
  const vmm: FakeVmm = {
    name: 'fake',
    accelerator: { kind: 'TCG', reason: 'nothing runs here' },
    vms,
    start(spec) {
      const { failNext } = vmm;
      vmm.failNext = undefined;
      if (failNext) return Promise.reject(failNext);
      const vm = makeVm(spec, program, () => vms.delete(spec.id));
      vms.set(spec.id, vm);
      return Promise.resolve(vm);
    },
    findAll: () => Promise.resolve([...vms.values()]),
    close: () => Promise.resolve(),
  };
  return vmm;
}

function makeVm(spec: VmSpec, program: FakeProgram, onEnd: () => void): FakeVm {
  const ended = Promise.withResolvers<{ reason: string; kernelLog: string }>();
  const disks = new Map<number, string>();
  const created = new Map<string, GuestContainer>();
  const running = new Map<string, FakeProcess>();
  let nextLun = 1;
  const die = (reason: string, kernelLog: string): void => {
    for (const process of running.values()) process.streams.exit.catch(() => {});
    onEnd();
    ended.resolve({ reason, kernelLog });
  };
  return {
    spec,
    pid: 1,
    startedBy: 'cold boot',
    created,
    disks,
    guest: makeGuest(created, running, program),
    addDisk({ path }) {
      const lun = nextLun++;
      disks.set(lun, path);
      return Promise.resolve(lun);
    },
    removeDisk(lun) {
      disks.delete(lun);
      return Promise.resolve();
    },
    ended: ended.promise,
    stop() {
      die('stopped', '');
      return Promise.resolve();
    },
    die,
  };
}

function makeGuest(
  created: Map<string, GuestContainer>,
  running: Map<string, FakeProcess>,
  program: FakeProgram,
): Guest {
  const find = (id: string): FakeProcess => {
    const found = running.get(id);
    if (!found) throw new RuntimeError('NotFound', `no such process: ${id}`);
    return found;
  };
  return {
    configure: () => Promise.resolve(),
    async createContainer(container) {
      created.set(container.id, container);
    },
    async startContainer(id) {
      const { process } = created.get(id) ?? {};
      if (!process) throw new RuntimeError('NotFound', `no container ${id}`);
      if (process.argv[0]?.startsWith('/no/'))
        throw new RuntimeError('Unknown', `${process.argv[0]}: no such file or directory`);
      const made = runProgram(process, program);
      running.set(id, made);
      return made.streams;
    },
    reattach: async (id) => find(id).streams,
    exec: async (_container, process) => runProgram(process, program).streams,
    async signal(id, number) {
      find(id).signal(number);
    },
    update: () => Promise.resolve(),
    async removeContainer(id) {
      created.delete(id);
      running.delete(id);
    },
    stats: () =>
      Promise.resolve({
        cpuNanoseconds: 1_000_000,
        memoryUsageBytes: 2,
        memoryWorkingSetBytes: 3,
        memoryRssBytes: 4,
        pids: 1,
        filesystemBytes: 5,
        filesystemInodes: 6,
      }),
    readFile: () => Promise.resolve(null),
    dial: async (port) => runProgram(dialProcess(port), program).streams,
  };
}

const dialProcess = (port: number): GuestProcess => ({
  argv: ['dial', String(port)],
  env: [],
  cwd: '/',
  user: { uid: 0, gid: 0, groups: [] },
  capabilities: [],
  noNewPrivileges: false,
  tty: false,
  stdin: true,
});

type Output = { stream: 'stdout' | 'stderr'; bytes: Uint8Array };

/** Output is kept until it is acknowledged: who joins later gets it again. */
function runProgram(process: GuestProcess, program: FakeProgram): FakeProcess {
  const exit = Promise.withResolvers<GuestExit>();
  const kept: Output[] = [];
  let readers: ReturnType<typeof createInbox<Output>>[] = [];
  let over = false;
  let read = 0;
  let forgotten = 0;
  let takeInput: (text: string | null) => void = () => {};
  let takeSignal: (signal: number) => void = () => {};
  const end = (code: number, oomKilled = false): void => {
    if (over) return;
    over = true;
    for (const reader of readers) reader.end();
    exit.resolve({ code, oomKilled, finishedAtMs: Date.now() });
  };
  program({
    argv: process.argv,
    say(text, stream = 'stdout') {
      const output = { stream, bytes: Buffer.from(text) };
      kept.push(output);
      for (const reader of readers) reader.offer(output, 0);
    },
    exit: end,
    onInput: (take) => (takeInput = take),
    onSignal: (take) => (takeSignal = take),
  });
  return {
    signal(number) {
      if (number === 9) end(137);
      else takeSignal(number);
    },
    streams: {
      async *output() {
        const reader = createInbox<Output>(1);
        for (const output of kept) reader.offer(output, 0);
        if (over) reader.end();
        // One at a time: an earlier life of the runtime is dead and reads no more.
        readers = [reader];
        read = 0;
        for await (const output of reader) {
          read++;
          yield output;
        }
      },
      taken: () => BigInt(forgotten + read),
      acknowledge() {
        kept.splice(0, read);
        forgotten += read;
        read = 0;
      },
      async write(bytes) {
        takeInput(Buffer.from(bytes).toString());
      },
      async closeStdin() {
        takeInput(null);
      },
      resize: () => Promise.resolve(),
      async kill() {
        end(137);
      },
      exit: exit.promise,
    },
  };
}
