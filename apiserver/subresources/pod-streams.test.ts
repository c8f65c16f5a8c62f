import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, test } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import { systemClock } from '#base/clock.ts';
import { issueNodeCredentials } from '#apiserver/kubeconfig.ts';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';

/** An agent's HTTPS server: remembers what it was asked, and echoes upgraded connections. */
async function startAgent(server: TestServer) {
  const files = await issueNodeCredentials(server.dataDir, {
    nodeName: 'n1',
    ips: ['127.0.0.1'],
    server: server.url,
    clock: systemClock,
  });
  const seen: { url: string; client: string; authorization: string | undefined }[] = [];
  const note = (request: IncomingMessage): void => {
    const socket = request.socket as TLSSocket;
    const subject = socket.getPeerCertificate().subject as { CN: string };
    const { authorization } = request.headers;
    seen.push({ url: request.url ?? '', client: subject.CN, authorization });
  };
  const agent = https.createServer({
    key: readFileSync(files.keyFile),
    cert: readFileSync(files.certFile),
    ca: readFileSync(files.clientCaFile),
    requestCert: true,
    rejectUnauthorized: true,
  });
  const served = new WeakSet<object>();
  agent.on('request', (request, response) => {
    note(request);
    // Closes a kept connection just when it is used again.
    if (request.url?.includes('sinceSeconds=7') && served.has(request.socket)) {
      request.socket.destroy();
      return;
    }
    served.add(request.socket);
    if (request.url?.includes('previous')) {
      response.writeHead(400, { 'content-type': 'text/plain' });
      response.end('previous terminated container "c" in pod "p" not found');
      return;
    }
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.write('one\n');
    response.end('two\n');
  });
  agent.on('upgrade', (request: IncomingMessage, socket: Duplex) => {
    note(request);
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n',
    );
    socket.on('error', () => socket.destroy());
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => agent.listen(0, '127.0.0.1', resolve));
  return { agent, seen, port: (agent.address() as AddressInfo).port };
}

let server: TestServer;
let agent: Awaited<ReturnType<typeof startAgent>>;

before(async () => {
  server = await startTestServer();
  agent = await startAgent(server);
  const create = async (path: string, object: unknown): Promise<void> => {
    const { code, text } = await server.call('POST', path, object);
    assert.equal(code, 201, text);
  };
  await create('/api/v1/nodes', { metadata: { name: 'n1' } });
  const status = {
    addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
    daemonEndpoints: { kubeletEndpoint: { Port: agent.port } },
  };
  const patched = await server.call(
    'PATCH',
    '/api/v1/nodes/n1/status',
    { status },
    {
      'content-type': 'application/merge-patch+json',
    },
  );
  assert.equal(patched.code, 200, patched.text);
  await create('/api/v1/namespaces/default/serviceaccounts', { metadata: { name: 'default' } });
  for (const [name, nodeName] of [
    ['p', 'n1'],
    ['idle', ''],
  ]) {
    const spec = { containers: [{ name: 'c', image: 'i' }], ...(nodeName ? { nodeName } : {}) };
    await create('/api/v1/namespaces/default/pods', { metadata: { name }, spec });
  }
});

after(async () => {
  agent.agent.closeAllConnections();
  await new Promise((resolve) => agent.agent.close(resolve));
  await server.close();
});

const pods = '/api/v1/namespaces/default/pods';

test('a log comes over a WebSocket, piece by piece', async () => {
  const path = `${pods}/p/log?container=c`;
  const key = Buffer.alloc(16).toString('base64');
  const socket = connect({ host: '127.0.0.1', port: server.port, rejectUnauthorized: false });
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.token}\r\n` +
      'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
      `Sec-WebSocket-Key: ${key}\r\nSec-WebSocket-Protocol: binary.k8s.io\r\n\r\n`,
  );
  let text = '';
  for await (const chunk of socket) {
    text += (chunk as Buffer).toString('latin1');
    if (text.includes('\x88')) socket.end();
  }
  assert.match(text, /^HTTP\/1\.1 101 /);
  assert.match(text, /Sec-WebSocket-Protocol: binary\.k8s\.io/i);
  // One or two binary frames, then a close of 1000.
  const frames = Buffer.from(text.slice(text.indexOf('\r\n\r\n') + 4), 'latin1').toString('hex');
  const [one, two] = ['one\n', 'two\n'].map((line) => Buffer.from(line).toString('hex'));
  assert.match(frames, new RegExp(`^82(04${one}8204|08${one})${two}880203e8$`));
});

test('a log comes from the agent, asked as the API server', async () => {
  const { code, text } = await server.call('GET', `${pods}/p/log?tailLines=5&pretty=1&container=c`);
  assert.equal(code, 200);
  assert.equal(text, 'one\ntwo\n');
  assert.deepEqual(agent.seen.at(-1), {
    url: '/containerLogs/default/p/c?tailLines=5',
    client: 'gantry:apiserver-kubelet-client',
    authorization: undefined,
  });
});

test('a kept connection that the agent closes is no failure', async () => {
  for (let n = 0; n < 2; n++) {
    const { code, text } = await server.call('GET', `${pods}/p/log?sinceSeconds=7`);
    assert.equal(code, 200, text);
    assert.equal(text, 'one\ntwo\n');
  }
});

test('the agent’s refusal becomes a Status', async () => {
  const { code, body } = await server.call('GET', `${pods}/p/log?previous=true`);
  assert.equal(code, 400);
  assert.equal(body['message'], 'previous terminated container "c" in pod "p" not found');
});

/** Sends the head of an upgrade request to the API server and reads on until `enough`. */
function upgrade(path: string, enough: (text: string) => boolean, send = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: server.port, host: '127.0.0.1', ca: server.caPem });
    let text = '';
    socket.on('error', reject);
    socket.on('close', () => resolve(text));
    socket.on('data', (chunk: Buffer) => {
      const first = text === '';
      text += chunk.toString();
      if (first && send) socket.write(send);
      if (enough(text)) socket.destroy();
    });
    socket.write(
      `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.token}\r\n` +
        'Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n',
    );
  });
}

test('exec hands the connection over, both ways', async () => {
  const path = `${pods}/p/exec?command=sh&command=-c&command=a%20b&stdin=true&stderr=false`;
  const text = await upgrade(path, (t) => t.includes('hello'), 'hello');
  assert.match(text, /^HTTP\/1.1 101 /);
  assert.match(text, /hello$/);
  const { url, authorization } = agent.seen.at(-1) ?? {};
  assert.equal(url, '/exec/default/p/c?input=1&output=1&command=sh&command=-c&command=a+b');
  assert.equal(authorization, undefined);
});

test('port-forward and attach take their own paths', async () => {
  await upgrade(`${pods}/p/portforward`, (t) => t.includes('101'));
  assert.equal(agent.seen.at(-1)?.url, '/portForward/default/p');
  await upgrade(`${pods}/p/attach?container=c&stdin=true&tty=true`, (t) => t.includes('101'));
  assert.equal(agent.seen.at(-1)?.url, '/attach/default/p/c?input=1&output=1&error=1&tty=1');
});

test('admission sees what a connection is for', async () => {
  const group = '/apis/admissionregistration.k8s.io/v1';
  const policy = {
    metadata: { name: 'no-stdin' },
    spec: {
      matchConstraints: {
        resourceRules: [
          {
            apiGroups: [''],
            apiVersions: ['v1'],
            operations: ['CONNECT'],
            resources: ['pods/attach', 'pods/exec', 'pods/portforward', 'nodes/proxy'],
          },
        ],
      },
      validations: [
        {
          expression:
            "object.kind != 'PodAttachOptions' || !has(object.stdin) || object.container != 'c'",
          message: 'no input for c',
        },
        {
          expression: "object.kind != 'PodExecOptions' || object.command != ['rm', '-r']",
          message: 'nothing is removed',
        },
        {
          expression:
            "object.kind != 'PodPortForwardOptions' || !has(object.ports) || !(81 in object.ports)",
          message: 'not that port',
        },
        {
          expression: "object.kind != 'NodeProxyOptions' || object.path != 'stats/summary'",
          message: 'not that path',
        },
      ],
    },
  };
  const binding = {
    metadata: { name: 'no-stdin' },
    spec: { policyName: 'no-stdin', validationActions: ['Deny'] },
  };
  for (const [plural, object] of [
    ['validatingadmissionpolicies', policy],
    ['validatingadmissionpolicybindings', binding],
  ] as const) {
    const { code, text } = await server.call('POST', `${group}/${plural}`, object);
    assert.equal(code, 201, text);
  }
  const refused: [string, RegExp][] = [
    ['attach?container=c&stdin=true', /no input for c/],
    ['exec?command=rm&command=-r', /nothing is removed/],
    ['portforward?ports=80,81', /not that port/],
  ];
  for (const [path, message] of refused) {
    assert.match(await upgrade(`${pods}/p/${path}`, () => false), message);
  }
  const asked = agent.seen.length;
  const summary = await server.call('GET', '/api/v1/nodes/n1/proxy/stats/summary');
  assert.match(summary.text, /not that path/);
  assert.equal(agent.seen.length, asked);
  assert.equal((await server.call('GET', '/api/v1/nodes/n1/proxy/healthz')).code, 200);
  for (const path of ['attach?container=c', 'exec?command=ls', 'portforward?ports=80']) {
    assert.match(await upgrade(`${pods}/p/${path}`, (t) => t.includes('101')), /^HTTP\/1\.1 101 /);
  }
  for (const plural of ['validatingadmissionpolicybindings', 'validatingadmissionpolicies']) {
    const { code, text } = await server.call('DELETE', `${group}/${plural}/no-stdin`);
    assert.equal(code, 200, text);
  }
});

test('a pod’s own server takes upgraded connections through the proxy', async (t) => {
  const status = { podIP: '127.0.0.1' };
  const { code, text } = await server.call(
    'PATCH',
    `${pods}/p/status`,
    { status },
    { 'content-type': 'application/merge-patch+json' },
  );
  assert.equal(code, 200, text);
  const seen: IncomingMessage[] = [];
  const pod = http.createServer().on('upgrade', (request: IncomingMessage, socket: Duplex) => {
    seen.push(request);
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
    socket.on('error', () => socket.destroy());
    socket.pipe(socket);
  });
  t.after(() => pod.close());
  await new Promise<void>((resolve) => pod.listen(0, '127.0.0.1', resolve));
  const { port } = pod.address() as AddressInfo;
  const path = `${pods}/p:${port}/proxy/chat?room=1`;
  const answer = await upgrade(path, (got) => got.includes('hello'), 'hello');
  assert.match(answer, /^HTTP\/1\.1 101 /);
  assert.equal(seen[0]?.url, '/chat?room=1');
  assert.equal(seen[0]?.headers.authorization, undefined);
  const refused = await upgrade(`${pods}/https:p:1/proxy/chat`, () => false);
  assert.match(refused, /503 .*error trying to reach service: 127\.0\.0\.1:1/s);
});

test('what cannot be done is a Status on the same connection', async () => {
  const cases: [string, RegExp][] = [
    [`${pods}/idle/exec?command=ls`, /pod idle does not have a host assigned/],
    [`${pods}/none/exec?command=ls`, /pods \\"none\\" not found/],
    [`${pods}/p/exec?command=ls&container=x`, /container x is not valid for pod p/],
  ];
  for (const [path, message] of cases) {
    const text = await upgrade(path, () => false);
    assert.match(text, /^HTTP\/1.1 40[04] /);
    assert.match(text, message);
  }
  const plain = await server.call('POST', `${pods}/p/exec?command=ls`);
  assert.equal(plain.body['message'], 'Upgrade request required');
});

test('a node’s agent can be asked anything through its proxy', async () => {
  const { text } = await server.call('GET', '/api/v1/nodes/n1/proxy/stats/summary?only_cpu=1');
  assert.equal(text, 'one\ntwo\n');
  assert.equal(agent.seen.at(-1)?.url, '/stats/summary?only_cpu=1');
});

test('an agent that is not there is named', async () => {
  await server.call(
    'PATCH',
    '/api/v1/nodes/n1/status',
    {
      status: { daemonEndpoints: { kubeletEndpoint: { Port: 1 } } },
    },
    { 'content-type': 'application/merge-patch+json' },
  );
  const { code, body } = await server.call('GET', `${pods}/p/log`);
  assert.equal(code, 500);
  assert.match(body['message'] ?? '', /error dialing backend: node n1 at 127.0.0.1:1/);
});
