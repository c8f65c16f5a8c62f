/** What a starting cluster says: a step begun, a step done, ready, or failed. */
export type ProgressMessage =
  | { type: 'step'; text: string; elapsedMs: number }
  | { type: 'ready'; text: string; elapsedMs: number }
  | { type: 'failed'; text: string };

/** One line per message, with the seconds since the start. */
export function showProgress(message: ProgressMessage): void {
  if (message.type === 'failed') {
    console.error(`  ${message.text}`);
    return;
  }
  const seconds = (message.elapsedMs / 1000).toFixed(1).padStart(5);
  if (message.type === 'step') console.log(`${seconds}s  ${message.text}`);
  else console.log(`${seconds}s  ${message.text}`);
}
