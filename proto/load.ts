import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import protobuf from 'protobufjs';

/** How messages look in JavaScript: camelCase names, enums as strings, 64-bit numbers as numbers. */
const SHAPE: protobuf.IConversionOptions = {
  enums: String,
  longs: Number,
  defaults: true,
  arrays: true,
  objects: true,
  oneofs: false,
};

export type ProtoFile =
  | 'cri.proto'
  | 'containerd-events.proto'
  | 'containerd-tasks.proto'
  | 'containerd-snapshots.proto'
  | 'csi.proto'
  | 'device-plugin.proto'
  | 'etcd.proto'
  | 'plugin-registration.proto';

const loaded = new Map<ProtoFile, protobuf.Root>();

/** Parses one of this folder's .proto files, once per process. */
export function loadProto(file: ProtoFile): protobuf.Root {
  let root = loaded.get(file);
  if (!root) {
    root = protobuf.parse(readFileSync(join(import.meta.dirname, file), 'utf8')).root;
    root.resolveAll();
    loaded.set(file, root);
  }
  return root;
}

/**
 * A service of a .proto file as grpc-js wants it, for clients and servers alike. Method names are
 * the published ones (`RunPodSandbox`). Nanosecond times lose their last two or three digits as
 * numbers, which no user of them minds.
 */
export function serviceDefinition(file: ProtoFile, name: string): ServiceDefinition {
  const service = loadProto(file).lookupService(name);
  const path = service.fullName.replace(/^\./, '');
  const methods: Record<string, MethodDefinition<object, object>> = {};
  for (const method of service.methodsArray) {
    method.resolve();
    const { resolvedRequestType: request, resolvedResponseType: response } = method;
    if (!request || !response) throw new Error(`${path}.${method.name} has no message types`);
    methods[method.name] = {
      path: `/${path}/${method.name}`,
      requestStream: method.requestStream === true,
      responseStream: method.responseStream === true,
      requestSerialize: (value) => encode(request, value),
      requestDeserialize: (bytes) => decode(request, bytes),
      responseSerialize: (value) => encode(response, value),
      responseDeserialize: (bytes) => decode(response, bytes),
    };
  }
  return methods;
}

/** Decodes a message that travels inside another one (google.protobuf.Any). */
export function decodeMessage(file: ProtoFile, type: string, bytes: Uint8Array): object {
  return decode(loadProto(file).lookupType(type), bytes);
}

function encode(type: protobuf.Type, value: object): Buffer {
  return Buffer.from(type.encode(type.fromObject(value)).finish());
}

function decode(type: protobuf.Type, bytes: Uint8Array): object {
  return type.toObject(type.decode(bytes), SHAPE);
}
