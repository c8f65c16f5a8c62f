import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { errorText } from '#base/log.ts';
import type { UnitProperty } from '#node-agent/node/cgroup-limits.ts';
import { findProgram } from '#node-agent/runtime/containerd-config.ts';

const run = promisify(execFile);

const MANAGER = [
  'org.freedesktop.systemd1',
  '/org/freedesktop/systemd1',
  'org.freedesktop.systemd1.Manager',
] as const;
/** systemd answers in milliseconds; one that does not must not hold up a pod for ever. */
const TIMEOUT_MS = 30_000;
/** Where systemd has been process 1 since the boot. Source: sd_booted(3). */
const BOOTED = '/run/systemd/system';

/** What is missing for asking systemd; undefined when nothing is. */
export function missingForSystemd(): string | undefined {
  if (!existsSync(BOOTED))
    return `systemd does not run this machine (${BOOTED} does not exist): use --cgroup-driver cgroupfs`;
  return findProgram('busctl', process.env['PATH']) === undefined
    ? 'busctl is not installed: it comes with the package systemd'
    : undefined;
}

/** Asks systemd over D-Bus. Failures are Errors that say what was asked. */
export type SystemdUnits = {
  /** Starts a slice with these properties, or changes the one there is. */
  ensureSlice(
    name: string,
    description: string,
    properties: readonly UnitProperty[],
  ): Promise<void>;
  /** Ends a unit with all that is in it. One that is gone is no failure. */
  stop(name: string): Promise<void>;
};

type Call = (args: readonly string[]) => Promise<void>;

/** `call` runs busctl with its arguments. */
export function systemdUnits(call: Call = busctl): SystemdUnits {
  return {
    async ensureSlice(name, description, properties) {
      try {
        // A transient unit leaves no file behind when it ends.
        await call(startSliceArgs(name, description, properties));
      } catch (error) {
        if (!isKnownUnit(error)) throw error;
        await call(setPropertiesArgs(name, properties));
        // A unit that others only refer to does not run.
        await call(managerArgs('StartUnit', 'ss', name, 'replace'));
      }
    },
    async stop(name) {
      try {
        await call(managerArgs('StopUnit', 'ss', name, 'replace'));
      } catch (error) {
        if (!isUnknownUnit(error)) throw error;
      }
    },
  };
}

/** busctl prints systemd's sentence, not the name of the error. */
const isKnownUnit = (error: unknown): boolean =>
  /already (loaded|exists)|UnitExists/i.test(errorText(error));
const isUnknownUnit = (error: unknown): boolean =>
  /not loaded|NoSuchUnit|not found/i.test(errorText(error));

const managerArgs = (method: string, signature: string, ...args: string[]): string[] => [
  ...['--system', 'call', ...MANAGER, method, signature, ...args],
];

const propertyArgs = (properties: readonly UnitProperty[]): string[] => [
  String(properties.length),
  ...properties.flat(),
];

/** The arguments of busctl that start a slice; what it is in follows from its name. */
export function startSliceArgs(
  name: string,
  description: string,
  properties: readonly UnitProperty[],
): string[] {
  const all: UnitProperty[] = [['Description', 's', description], ...properties];
  const args = [name, 'replace', ...propertyArgs(all), '0'];
  return managerArgs('StartTransientUnit', 'ssa(sv)a(sa(sv))', ...args);
}

/** Changes until the next boot: what is made for a pod has no file. */
export const setPropertiesArgs = (name: string, properties: readonly UnitProperty[]): string[] =>
  managerArgs('SetUnitProperties', 'sba(sv)', name, 'true', ...propertyArgs(properties));

async function busctl(args: readonly string[]): Promise<void> {
  try {
    await run('busctl', [...args], { timeout: TIMEOUT_MS });
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim();
    throw new Error(`systemd refused ${args[5] ?? 'a call'}: ${said || errorText(error)}`, {
      cause: error,
    });
  }
}
