import { execFile } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { sha256 } from '#base/sha256.ts';
import { DEFAULT_DATA_DIR } from '#cli/data-dir.ts';
import { UserError } from '#cli/verb.ts';

/** The agent of a machine that has joined a cluster, as a service of systemd. */

const run = promisify(execFile);

const UNIT_DIR = '/etc/systemd/system';
/** Where systemd has been process 1 since the boot. Source: sd_booted(3). */
const BOOTED = '/run/systemd/system';
/** Stopping waits for the agent, which may drain for 10 s. */
const TIMEOUT_MS = 60_000;

export const hasSystemd = (): boolean => existsSync(BOOTED);

/** A machine may have several data directories; the usual one has the plain name. */
export function serviceName(dataDir: string): string {
  const path = resolve(dataDir);
  if (path === DEFAULT_DATA_DIR) return 'gantry-node.service';
  const hash = sha256(path).slice(0, 8);
  return `gantry-node-${hash}.service`;
}

const unitFile = (dataDir: string): string => join(UNIT_DIR, serviceName(dataDir));

export const hasService = (dataDir: string): boolean => existsSync(unitFile(dataDir));

export type ServiceCommand = {
  nodeName: string;
  /** Absolute path, and arguments. */
  command: readonly string[];
  logFile: string;
};

/**
 * The unit file. Only the agent itself is stopped with the unit: containerd and pods run on, as they
 * do beside an agent that dies. Source: systemd.service(5), systemd.kill(5).
 */
export function serviceUnit({ nodeName, command, logFile }: ServiceCommand): string {
  return [
    '# Written by "gantry join"; "gantry reset" removes it.',
    '[Unit]',
    `Description=Gantry node ${nodeName}`,
    'Wants=network-online.target',
    'After=network-online.target dbus.service',
    'StartLimitIntervalSec=0',
    '',
    '[Service]',
    'Type=exec',
    `ExecStart=${command.map(quote).join(' ')}`,
    'Restart=always',
    'RestartSec=2',
    'KillMode=process',
    'Delegate=yes',
    'OOMScoreAdjust=-999',
    'LimitNOFILE=1048576',
    'TasksMax=infinity',
    `StandardOutput=append:${logFile.replaceAll('%', '%%')}`,
    'StandardError=inherit',
    '',
    '[Install]',
    'WantedBy=multi-user.target',
    '',
  ].join('\n');
}

/** systemd expands `%` and `$` and takes C's escapes within quotes. */
function quote(text: string): string {
  const plain = text.replaceAll('%', '%%').replaceAll('$', '$$$$');
  if (/^[\w@%+=:,./-]+$/.test(plain)) return plain;
  return `"${plain.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`;
}

/** Installs the unit, now and for every boot, and returns the process it runs. */
export async function startService(dataDir: string, unit: string): Promise<number> {
  const name = serviceName(dataDir);
  writeFileSync(unitFile(dataDir), unit);
  await systemctl('daemon-reload');
  await systemctl('enable', name);
  await systemctl('restart', name);
  return Number(await systemctl('show', '--property=MainPID', '--value', name));
}

export async function isServiceActive(dataDir: string): Promise<boolean> {
  if (!hasService(dataDir) || !hasSystemd()) return false;
  return systemctl('is-active', serviceName(dataDir)).then(
    () => true,
    () => false,
  );
}

/** Stops it, also for later boots; with `remove` nothing of it is left. */
export async function stopService(dataDir: string, { remove = false } = {}): Promise<boolean> {
  if (!hasService(dataDir)) return false;
  if (hasSystemd()) await systemctl('disable', '--now', serviceName(dataDir));
  if (!remove) return true;
  rmSync(unitFile(dataDir), { force: true });
  if (!hasSystemd()) return true;
  await systemctl('daemon-reload');
  await systemctl('reset-failed', serviceName(dataDir)).catch(() => undefined); // it never failed
  return true;
}

async function systemctl(...args: string[]): Promise<string> {
  try {
    const { stdout } = await run('systemctl', args, { timeout: TIMEOUT_MS });
    return stdout.trim();
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim();
    throw new UserError(`systemctl ${args.join(' ')} failed: ${said || String(error)}`);
  }
}
