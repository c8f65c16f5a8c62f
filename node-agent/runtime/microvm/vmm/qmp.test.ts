import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openQmp, type Qmp } from './qmp.ts';

const dir = mkdtempSync(join(tmpdir(), 'gantry-qmp-'));
after(() => rmSync(dir, { recursive: true, force: true }));
let count = 0;

/** A QEMU that answers each command by `answer`. */
async function connected(
  answer: (command: string, id: number, socket: Socket) => void,
): Promise<{ qmp: Qmp; server: Server }> {
  const path = join(dir, `${count++}.sock`);
  const server = createServer((socket) => {
    socket.write('{"QMP": {"version": {}}}\r\n');
    socket.on('data', (bytes) => {
      for (const line of String(bytes).split('\n').filter(Boolean)) {
        const { execute, id } = JSON.parse(line) as { execute: string; id: number };
        if (execute === 'qmp_capabilities') socket.write(`{"return": {}, "id": ${id}}\r\n`);
        else answer(execute, id, socket);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return { qmp: await openQmp(connect(path)), server };
}

const never = (): { signal: AbortSignal } => ({ signal: new AbortController().signal });

test('answers find their commands, errors keep their words, events are seen', async () => {
  const { qmp, server } = await connected((command, id, socket) => {
    socket.write('{"event": "OTHER", "timestamp": {}}\r\n{"event": "RESUME", "da');
    socket.write(`ta": {"a": 1}}\r\n`);
    const error = '{"class": "GenericError", "desc": "not so"}';
    socket.write(
      command === 'bad' ? `{"error": ${error}, "id": ${id}}\n` : `{"return": 7, "id": ${id}}\n`,
    );
  });
  const event = qmp.event(({ event: name }) => name === 'RESUME', never());
  assert.equal(await qmp.execute('good', { x: 1 }), 7);
  assert.deepEqual(await event, { event: 'RESUME', data: { a: 1 } });
  await assert.rejects(qmp.execute('bad'), /QEMU, bad: not so/);
  qmp.close();
  await qmp.closed;
  server.close();
});

test('whoever waits hears that QEMU is gone', async () => {
  const { qmp, server } = await connected((_command, _id, socket) => socket.destroy());
  const event = qmp.event(() => false, never());
  await Promise.all([
    assert.rejects(qmp.execute('anything'), /QEMU is gone/),
    assert.rejects(event, /QEMU is gone/),
  ]);
  await qmp.closed;
  server.close();
});

test('what is no JSON ends the connection', async () => {
  const { qmp, server } = await connected((_command, _id, socket) => socket.write('{"return": \n'));
  await assert.rejects(qmp.execute('anything'), /QEMU is gone/);
  server.close();
});
