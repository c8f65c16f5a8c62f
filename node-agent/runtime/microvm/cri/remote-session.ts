import type { OutputStream } from './log-file.ts';

export type TerminalSize = { width: number; height: number };

/** One exec or attach as its client sees it, whatever the protocol. */
export type RemoteSession = {
  /** Ends when the client closes its input. */
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly resize: AsyncIterable<TerminalSize>;
  /** Waits while the client is behind. */
  write(stream: OutputStream, bytes: Uint8Array): Promise<void>;
  /** Tells how it ended and closes the connection. */
  finish(status: SessionStatus): Promise<void>;
  /** Aborts when the client is gone. */
  readonly gone: AbortSignal;
};

/** metav1.Status, as much of it as a client reads. */
export type SessionStatus = {
  metadata: object;
  status: 'Success' | 'Failure';
  message?: string;
  reason?: string;
  details?: { causes: { reason: string; message: string }[] };
  code?: number;
};

/** Source: Kubernetes remotecommand, protocol v4: the exit code is a cause of the status. */
export function exitStatus(code: number): SessionStatus {
  if (code === 0) return { metadata: {}, status: 'Success' };
  return {
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code: exit code ${code}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
  };
}

export const failureStatus = (message: string): SessionStatus => ({
  metadata: {},
  status: 'Failure',
  message,
  reason: 'InternalError',
  code: 500,
});

/** `{"Width":80,"Height":24}`; undefined for what is no size. */
export function parseSize(text: string): TerminalSize | undefined {
  try {
    const { Width: width, Height: height } = JSON.parse(text) as { Width: number; Height: number };
    const sane = (value: number): boolean => Number.isInteger(value) && value > 0 && value < 65536;
    return sane(width) && sane(height) ? { width, height } : undefined;
  } catch {
    return undefined;
  }
}

/** Which streams a client asked for. */
export type WantedStreams = { stdin: boolean; stdout: boolean; stderr: boolean; tty: boolean };
