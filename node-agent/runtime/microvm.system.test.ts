import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before } from 'node:test';
import {
  missingForTestMicrovms,
  startTestMicrovmRuntime,
  type TestMicrovmRuntime,
} from '#node-agent/runtime/microvm/testing.ts';
import { runtimeSuite } from '#node-agent/runtime/suite.ts';
import { TEST_IMAGE } from '#node-agent/testing.ts';

const skip = missingForTestMicrovms() ?? false;
let started: TestMicrovmRuntime | undefined;

before(async () => {
  if (!skip) started = await startTestMicrovmRuntime();
});
after(() => started?.close());

runtimeSuite(
  'microVM',
  () => {
    assert.ok(started);
    return { runtime: started.client, image: TEST_IMAGE, logDir: join(started.dir, 'logs') };
  },
  skip,
);
