import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { randomInt, seededRandom } from '#base/random.ts';
import type { GuestStreams } from '#node-agent/runtime/microvm/machine.ts';
import { ContainerOutput } from './container-output.ts';
import { openLogFile } from './log-file.ts';
import { cutTo, openPosition, readPosition } from './log-position.ts';

type Part = { stream: 'stdout' | 'stderr'; bytes: Uint8Array };

/** Numbered lines of both streams, cut into records anywhere. */
function records(random: () => number, lines: number): Part[] {
  const parts: Part[] = [];
  for (const stream of ['stdout', 'stderr'] as const) {
    let text = '';
    for (let line = 0; line < lines; line++)
      text += `${stream}-${line}${'.'.repeat(randomInt(random, 30))}\n`;
    for (let at = 0; at < text.length; ) {
      const length = 1 + randomInt(random, 60);
      const place = randomInt(random, parts.length + 1);
      const own = parts.findLastIndex((part) => part.stream === stream);
      const bytes = Buffer.from(text.slice(at, at + length));
      parts.splice(Math.max(place, own + 1), 0, { stream, bytes });
      at += length;
    }
  }
  return parts;
}

test('however often the runtime is killed, each line is in the log once', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-output-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (let seed = 1; seed <= 30; seed++) {
    const random = seededRandom(seed);
    const all = records(random, 40);
    const path = join(dir, `${seed}.log`);
    const rotated: string[] = [];
    const positionPath = join(dir, `${seed}.position`);
    let acknowledged = 0;
    let over = false;
    for (let lives = 0; !over; lives++) {
      assert.ok(lives < 200);
      const life = new AbortController();
      /** From here on nothing is saved or acknowledged, while what was begun may still be written. */
      const killAt = acknowledged + randomInt(random, all.length + 20);
      const late = randomInt(random, 3);
      let taken = acknowledged;
      const alive = () => taken <= killAt;
      const streams = {
        async *output() {
          for (const part of all.slice(acknowledged)) {
            if (taken >= killAt + late) life.abort();
            taken++;
            yield part;
          }
          over = alive();
          if (!over) life.abort();
        },
        taken: () => BigInt(taken),
        acknowledge: () => {
          // It may be lost on its way.
          if (alive() && randomInt(random, 4) > 0) acknowledged = taken;
        },
      } as unknown as GuestStreams;
      const earlier = readPosition(positionPath);
      if (earlier) cutTo(earlier, path);
      const position = openPosition(positionPath);
      const file = openLogFile(path, {
        clock: systemClock,
        onError: (error) => assert.fail(String(error)),
      });
      const output = new ContainerOutput(
        streams,
        {
          file,
          position: { ...position, save: (now) => void (alive() && position.save(now)) },
          earlier,
        },
        { log: silentLog, signal: life.signal },
      );
      if (randomInt(random, 3) === 0) {
        rotated.push(`${path}.${rotated.length}`);
        renameSync(path, rotated.at(-1) ?? '');
        output.reopenLog();
      }
      await output.done;
    }
    const seen = [...rotated, path]
      .flatMap((log) => readFileSync(log, 'utf8').split('\n'))
      .filter(Boolean)
      .map((line) => line.split(' ').slice(1));
    for (const stream of ['stdout', 'stderr']) {
      const own = seen.filter(([from]) => from === stream);
      assert.deepEqual(
        own.map(([, tag, text]) => `${tag} ${text?.replace(/\.+$/, '')}`),
        Array.from({ length: 40 }, (_, line) => `F ${stream}-${line}`),
        `seed ${seed}`,
      );
    }
  }
});
