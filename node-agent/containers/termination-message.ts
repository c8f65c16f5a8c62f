import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';

/** Bounds of what a status may carry. Source: API documentation of terminationMessagePath. */
const MAX_MESSAGE_BYTES = 4096;
const MAX_LOG_BYTES = 2048;
const MAX_LOG_LINES = 80;

export type TerminationPolicy = 'File' | 'FallbackToLogsOnError';

/** The last words of a container: its termination file, else, after a failure, the end of its log. */
export function terminationMessage(of: {
  file: string;
  policy: TerminationPolicy;
  exitCode: number;
  logPath: string;
}): string {
  const text = readBytes(of.file, MAX_MESSAGE_BYTES, 'start');
  if (text !== '' || of.policy !== 'FallbackToLogsOnError' || of.exitCode === 0) return text;
  return logTail(of.logPath);
}

/** Text of the last lines of a CRI log. */
function logTail(path: string): string {
  // Each line carries about 40 bytes of time and stream.
  const raw = readBytes(path, MAX_LOG_BYTES + MAX_LOG_LINES * 48, 'end');
  const lines = raw.split('\n').filter((line) => line !== '');
  let text = '';
  for (const line of lines.slice(-MAX_LOG_LINES)) {
    const match = /^\S+ (?:stdout|stderr) ([FP])\S* (.*)$/s.exec(line);
    if (match) text += match[1] === 'F' ? `${match[2]}\n` : match[2];
  }
  const bytes = Buffer.from(text);
  return bytes.length > MAX_LOG_BYTES ? bytes.subarray(-MAX_LOG_BYTES).toString() : text;
}

function readBytes(path: string, max: number, end: 'start' | 'end'): string {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return ''; // no file, no message
  }
  try {
    const { size } = fstatSync(fd);
    if (size <= max) return readFileSync(fd, 'utf8');
    const buffer = Buffer.alloc(max);
    const read = readSync(fd, buffer, 0, max, end === 'start' ? 0 : size - max);
    return buffer.subarray(0, read).toString();
  } finally {
    closeSync(fd);
  }
}
