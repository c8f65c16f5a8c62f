import { checkNodeSelector } from '#api/core/pod-validate-affinity.ts';
import { duplicate, invalid, notSupported, required, tooLong } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import { checkAtMost, checkQualifiedDeviceName } from '#api/resource/device-names.ts';
import type { CounterSet, Device, DeviceAttribute } from '#api/resource/resource-types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkLabel, checkQualifiedName, checkSubdomain } from '#api/validate.ts';
import { isLabelValue } from '#api/validate-names.ts';

/** Bounds. Source: resource.k8s.io/v1 ResourceSliceSpec, Device. */
const MAX_DEVICES = 128;
const MAX_DEVICES_WITH_EXTRAS = 64;
const MAX_ATTRIBUTES_AND_CAPACITIES = 32;
const MAX_TEXT = 64;
const MAX_TAINTS = 16;
const MAX_COUNTER_SETS = 8;
const MAX_COUNTERS = 32;
const MAX_CONSUMED = 2;
const EFFECTS = ['NoExecute', 'NoSchedule', 'None'];

/** https://semver.org, version 2.0.0. */
const SEMVER =
  /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$/;

/** `perDevice`: each device says itself where it is. */
export function checkDevices(
  errors: Errors,
  path: string,
  devices: readonly Device[],
  perDevice: boolean,
): void {
  const extras = devices.some(({ taints, consumesCounters }) => taints ?? consumesCounters);
  const max = extras ? MAX_DEVICES_WITH_EXTRAS : MAX_DEVICES;
  if (!checkAtMost(errors, path, devices, max)) return;
  const seen = new Set<string>();
  for (const [i, device] of devices.entries()) {
    const at = `${path}[${i}]`;
    if (seen.has(device.name)) errors.push(duplicate(`${at}.name`, device.name));
    seen.add(device.name);
    checkDevice(errors, at, device);
    checkPlace(errors, at, device, perDevice);
  }
}

function checkDevice(errors: Errors, path: string, device: Device): void {
  if (!device.name) errors.push(required(`${path}.name`));
  else checkLabel(errors, `${path}.name`, device.name);
  const { attributes = {}, capacity = {} } = device;
  const count = Object.keys(attributes).length + Object.keys(capacity).length;
  if (count > MAX_ATTRIBUTES_AND_CAPACITIES) {
    const rule = `the total number of attributes and capacities must not exceed ${MAX_ATTRIBUTES_AND_CAPACITIES}`;
    errors.push(invalid(path, count, rule));
  }
  for (const [name, attribute] of Object.entries(attributes)) {
    const at = `${path}.attributes[${name}]`;
    checkQualifiedDeviceName(errors, at, name);
    checkAttribute(errors, at, attribute);
  }
  for (const name of Object.keys(capacity)) {
    checkQualifiedDeviceName(errors, `${path}.capacity[${name}]`, name);
  }
  checkTaints(errors, `${path}.taints`, device.taints ?? []);
  const consumed = device.consumesCounters ?? [];
  if (!checkAtMost(errors, `${path}.consumesCounters`, consumed, MAX_CONSUMED)) return;
  for (const [i, { counterSet, counters = {} }] of consumed.entries()) {
    const at = `${path}.consumesCounters[${i}]`;
    if (!counterSet) errors.push(required(`${at}.counterSet`));
    else checkLabel(errors, `${at}.counterSet`, counterSet);
    checkCounters(errors, `${at}.counters`, counters);
  }
}

/** One value of one type. */
function checkAttribute(errors: Errors, path: string, attribute: DeviceAttribute): void {
  const given = Object.values(attribute).filter((value) => value !== undefined).length;
  if (given === 0) {
    errors.push(required(path, 'exactly one value must be specified'));
    return;
  }
  if (given > 1) {
    errors.push(
      invalid(
        path,
        internalForm('DeviceAttribute', attribute),
        'exactly one value must be specified',
      ),
    );
    return;
  }
  const { string: text, version } = attribute;
  if (text !== undefined && text.length > MAX_TEXT) {
    errors.push(tooLong(`${path}.string`, MAX_TEXT));
  }
  if (version === undefined) return;
  if (!SEMVER.test(version)) {
    const rule = 'must be a string compatible with semver.org spec 2.0.0';
    errors.push(invalid(`${path}.version`, version, rule));
  }
  if (version.length > MAX_TEXT) errors.push(tooLong(`${path}.version`, MAX_TEXT));
}

function checkTaints(errors: Errors, path: string, taints: NonNullable<Device['taints']>): void {
  if (!checkAtMost(errors, path, taints, MAX_TAINTS)) return;
  for (const [i, { key, value = '', effect }] of taints.entries()) {
    const at = `${path}[${i}]`;
    checkQualifiedName(errors, `${at}.key`, key ?? '');
    addInvalid(errors, `${at}.value`, value, isLabelValue(value));
    if (!effect) errors.push(required(`${at}.effect`));
    else if (!EFFECTS.includes(effect)) {
      errors.push(notSupported(`${at}.effect`, effect, EFFECTS));
    }
  }
}

function checkPlace(errors: Errors, path: string, device: Device, perDevice: boolean): void {
  const { nodeName, nodeSelector, allNodes } = device;
  const given = [nodeName, nodeSelector, allNodes].filter((way) => way !== undefined).length;
  if (nodeName) checkSubdomain(errors, `${path}.nodeName`, nodeName);
  if (nodeSelector) checkNodeSelector(errors, `${path}.nodeSelector`, nodeSelector);
  if (perDevice) {
    const rule = 'exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required';
    if (given === 0) {
      errors.push(
        required(path, `${rule} when \`perDeviceNodeSelection\` is set to true in the spec`),
      );
    } else if (given > 1) {
      errors.push(
        invalid(path, null, `${rule} when \`perDeviceNodeSelection\` is set to true in the spec`),
      );
    }
    return;
  }
  for (const field of ['nodeName', 'nodeSelector', 'allNodes'] as const) {
    if (device[field] === undefined) continue;
    const rule = '`perDeviceNodeSelection` must be set to true in the ResourceSlice spec';
    errors.push(invalid(`${path}.${field}`, device[field], rule));
  }
}

export function checkCounterSets(errors: Errors, path: string, sets: readonly CounterSet[]): void {
  if (!checkAtMost(errors, path, sets, MAX_COUNTER_SETS)) return;
  const seen = new Set<string>();
  for (const [i, { name, counters = {} }] of sets.entries()) {
    const at = `${path}[${i}]`;
    if (!name) errors.push(required(`${at}.name`));
    else checkLabel(errors, `${at}.name`, name);
    if (seen.has(name)) errors.push(duplicate(`${at}.name`, name));
    seen.add(name);
    checkCounters(errors, `${at}.counters`, counters);
  }
}

function checkCounters(errors: Errors, path: string, counters: object): void {
  const names = Object.keys(counters);
  if (names.length === 0) errors.push(required(path));
  if (!checkAtMost(errors, path, names, MAX_COUNTERS)) return;
  for (const name of names) checkLabel(errors, `${path}[${name}]`, name);
}
