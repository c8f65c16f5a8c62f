import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Makes kubernetes-fields.txt, the numbers and wire types of the Kubernetes API's fields, from the
 * published packages, each a folder with its `generated.proto` and the Go files beside it:
 *
 *     node proto/extract-kubernetes.ts FOLDER-OF-PACKAGES
 *
 * One line a message: its name, then `field=number:type`. `.pb` names are shortened: `core.v1.Pod`
 * is k8s.io.api.core.v1.Pod, `meta.v1.ObjectMeta` is k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta.
 * A type `[]T` is repeated, `{}T` a map from strings, `~T` a message whose fields are the outer one's.
 * `field?` is always on the wire, and left out of JSON when it has its zero value.
 */
function shorten(name: string): string {
  return name
    .replace(/^\./, '')
    .replace(/^k8s\.io\.(apiextensions_apiserver|kube_aggregator)\.pkg\.apis\./, '')
    .replace(/^k8s\.io\.apimachinery\.pkg\.apis\./, '')
    .replace(/^k8s\.io\.apimachinery\.pkg\./, '')
    .replace(/^k8s\.io\.api\./, '');
}

/** Go embeds these: in JSON their fields stand in the message that contains them. */
const EMBEDDED = new Set([
  'ConfigMapEnvSource.localObjectReference',
  'ConfigMapKeySelector.localObjectReference',
  'ConfigMapProjection.localObjectReference',
  'ConfigMapVolumeSource.localObjectReference',
  'DeviceAllocationConfiguration.deviceConfiguration',
  'DeviceClaimConfiguration.deviceConfiguration',
  'DeviceClassConfiguration.deviceConfiguration',
  'EphemeralContainer.ephemeralContainerCommon',
  'IngressRule.ingressRuleValue',
  'NamedRuleWithOperations.ruleWithOperations',
  'PersistentVolumeSpec.persistentVolumeSource',
  'Probe.handler',
  'RuleWithOperations.rule',
  'SecretEnvSource.localObjectReference',
  'SecretKeySelector.localObjectReference',
  'SecretProjection.localObjectReference',
  'Volume.volumeSource',
]);

/** Fields whose name in the .proto file is not their name in JSON. */
const JSON_NAMES: Readonly<Record<string, string>> = { uID: 'uid', aPIGroup: 'apiGroup' };

/** The members of a schema that JSON Schema writes otherwise. */
const SCHEMA_NAMES: Readonly<Record<string, string>> = { schema: '$schema', ref: '$ref' };

function jsonName(message: string, name: string): string {
  if (message === 'DaemonEndpoint') return name;
  if (message === 'JSONSchemaProps') {
    if (SCHEMA_NAMES[name]) return SCHEMA_NAMES[name];
    if (name.startsWith('xKubernetes')) {
      return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    }
  }
  return JSON_NAMES[name] ?? name.charAt(0).toLowerCase() + name.slice(1);
}

const SCALARS = new Set(['string', 'bytes', 'bool', 'int32', 'int64', 'uint32', 'double']);

/** `Message.number` of the fields that Go keeps as values and JSON omits when they are zero. */
function omittedZeros(source: string): Set<string> {
  const found = new Set<string>();
  for (const [, message = '', body = ''] of source.matchAll(
    /^type (\w+) struct \{\n([\s\S]*?)^\}/gm,
  )) {
    const pattern = /^\t\w+\s+([^\s`]+)\s+`json:"([^"]*)" protobuf:"\w+,(\d+)/gm;
    for (const [, type = '', json = '', number = ''] of body.matchAll(pattern)) {
      if (/^(\*|\[\]|map\[)/.test(type) || !/,omit(empty|zero)/.test(json)) continue;
      found.add(`${message}.${number}`);
    }
  }
  return found;
}

function extract(text: string, omitted: ReadonlySet<string>): string[] {
  const home = shorten(/^package ([\w.]+);/m.exec(text)?.[1] ?? '');
  const typeName = (type: string): string => {
    if (SCALARS.has(type)) return type;
    return type.startsWith('.') ? shorten(type) : `${home}.${type}`;
  };
  const lines: string[] = [];
  for (const [, message = '', body = ''] of text.matchAll(/^message (\w+) \{\n([\s\S]*?)^\}/gm)) {
    const fields: string[] = [];
    const pattern = /^ {2}(optional|repeated|map<string, ([\w.]+)>) ?([\w.]*) (\w+) = (\d+)/gm;
    for (const [, label = '', value, type = '', name = '', number = ''] of body
      .replace(/^ *\/\/.*$/gm, '')
      .replace(/(map<string, [\w.]+>) (\w+ =)/g, '$1  $2')
      .matchAll(pattern)) {
      const shown = value
        ? `{}${typeName(value)}`
        : label === 'repeated'
          ? `[]${typeName(type)}`
          : `${EMBEDDED.has(`${message}.${name}`) ? '~' : ''}${typeName(type)}`;
      const mark = omitted.has(`${message}.${number}`) ? '?' : '';
      fields.push(`${jsonName(message, name)}${mark}=${number}:${shown}`);
    }
    lines.push([`${home}.${message}`, ...fields].join(' '));
  }
  return lines;
}

const folder = process.argv[2] ?? '';
const lines = readdirSync(folder)
  .flatMap((name) => {
    const files = readdirSync(join(folder, name));
    const read = (file: string): string => readFileSync(join(folder, name, file), 'utf8');
    const source = files.filter((file) => file.endsWith('.go')).map(read);
    return extract(read('generated.proto'), omittedZeros(source.join('\n')));
  })
  .sort();
writeFileSync(join(import.meta.dirname, 'kubernetes-fields.txt'), `${lines.join('\n')}\n`);
