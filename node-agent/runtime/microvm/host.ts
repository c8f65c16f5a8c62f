import { findProgram } from '#node-agent/runtime/containerd-config.ts';
import { missingForQemu } from './vmm/qemu.ts';

/** Programs that the runtime itself starts, beside those of the VMM. */
const PROGRAMS = [
  { program: 'mkfs.erofs', package: 'erofs-utils' },
  { program: 'mke2fs', package: 'e2fsprogs' },
  { program: 'ip', package: 'iproute2' },
];

/** What this host lacks for microVMs, each with the way out; none: it can run them. */
export function missingForMicrovms(): string[] {
  const missing = PROGRAMS.filter(({ program }) => !findProgram(program, process.env['PATH']));
  return [
    ...missingForQemu(),
    ...missing.map(
      ({ program, package: name }) => `no ${program} (./setup.sh, or apt-get install ${name})`,
    ),
  ];
}
