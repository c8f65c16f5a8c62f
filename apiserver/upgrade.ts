import type { Duplex } from 'node:stream';
import type { Log } from '#base/log.ts';
import { recordOf } from '#apiserver/audit.ts';
import type { Pipeline } from '#apiserver/pipeline.ts';
import { failureStatus } from '#apiserver/pipeline.ts';
import type { Router } from '#apiserver/router.ts';
import type { Upgrade } from '#apiserver/server.ts';

/** The same stages as for any request, then the connection belongs to its handler. */
export function createUpgrade(pipeline: Pipeline, router: Router, log: Log): Upgrade {
  return async (request, connection) => {
    const { socket } = connection;
    const written = bytesWritten(socket);
    try {
      const { info, user, record } = await pipeline.admit(request);
      record?.started(101);
      await router.connect(info, request, user, connection);
      record?.complete();
    } catch (error) {
      const { status } = failureStatus(error, log);
      recordOf(request)?.answered({ status: status.code, headers: {}, body: '' }, error);
      if (bytesWritten(socket) === written && socket.writable) refuse(socket, status);
      else socket.destroy();
    }
  };
}

const bytesWritten = (socket: Duplex): number =>
  (socket as Duplex & { bytesWritten?: number }).bytesWritten ?? 0;

function refuse(socket: Duplex, status: { code: number; message?: string }): void {
  const body = JSON.stringify(status);
  socket.end(
    `HTTP/1.1 ${status.code} ${status.code === 403 ? 'Forbidden' : 'Refused'}\r\n` +
      'content-type: application/json\r\nconnection: close\r\n' +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
