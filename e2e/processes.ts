import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

export type Output = { code: number; stdout: string; stderr: string };

export type RunOptions = {
  input?: string;
  env?: Record<string, string>;
  cwd?: string;
  timeoutMs?: number;
};

/** Begins the names of clusters' data directories in /tmp: the test process that made them is in it. */
export const dataDirPrefix = (pid: number): string => `gantry-e2e-${pid}-`;

/** Runs a program to its end; never throws for an exit code. */
export async function run(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Output> {
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 120_000);
  child.stdin.on('error', () => {
    // The program ended before it read its input; its exit code tells the story.
  });
  child.stdin.end(options.input ?? '');
  const [stdout, stderr, [code]] = await Promise.all([
    collect(child.stdout),
    collect(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  clearTimeout(timer);
  return { code: code ?? -1, stdout, stderr };
}

async function collect(stream: NodeJS.ReadableStream): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString();
}

/** Ends a child that we started: SIGKILL for crashes, SIGTERM to stop; resolves when it is gone. */
export async function end(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
  await gone;
  clearTimeout(timer);
}
