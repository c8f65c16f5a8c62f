import {
  checkConditions,
  checkRule,
  type Condition,
  FAILURE_POLICIES,
  MATCH_POLICIES,
  type OperationRule,
} from '#api/admissionregistration/rules-validate.ts';
import { duplicate, invalid, required } from '#api/field-error.ts';
import type { LabelSelector } from '#api/types.ts';
import { checkLabelSelector } from '#api/validate-labels.ts';
import { isDns1035Label, isDns1123Subdomain } from '#api/validate-names.ts';
import { addInvalid, checkEnum, type Errors, sameMeaning } from '#api/validate.ts';

/** What webhooks of both kinds have. Source: admissionregistration.k8s.io/v1. */
export type Webhook = {
  name: string;
  clientConfig: {
    url?: string;
    caBundle?: string;
    service?: { name?: string; namespace?: string; path?: string; port?: number };
  };
  rules?: OperationRule[];
  failurePolicy?: string;
  matchPolicy?: string;
  namespaceSelector?: LabelSelector;
  objectSelector?: LabelSelector;
  sideEffects?: string;
  timeoutSeconds?: number;
  admissionReviewVersions?: string[];
  matchConditions?: Condition[];
  /** Mutating webhooks only. */
  reinvocationPolicy?: string;
};

const HTTPS_PORT = 443;
const TIMEOUT_SECONDS = 10;
const MAX_TIMEOUT_SECONDS = 30;
const VERSIONS = ['v1', 'v1beta1'];
const SIDE_EFFECTS = ['None', 'NoneOnDryRun', 'Some', 'Unknown'];
const NO_SIDE_EFFECTS = ['None', 'NoneOnDryRun'];
const REINVOCATIONS = ['IfNeeded', 'Never'];

/** Mutates. */
export function defaultWebhook(hook: Webhook, mutating: boolean): void {
  hook.failurePolicy ??= 'Fail';
  hook.matchPolicy ??= 'Equivalent';
  hook.namespaceSelector ??= {};
  hook.objectSelector ??= {};
  hook.timeoutSeconds ??= TIMEOUT_SECONDS;
  if (mutating) hook.reinvocationPolicy ??= 'Never';
  if (hook.clientConfig?.service) hook.clientConfig.service.port ??= HTTPS_PORT;
  for (const rule of hook.rules ?? []) rule.scope ??= '*';
}

/** What an older object broke already, an update may go on breaking. */
type Strictness = {
  conditions: boolean;
  sideEffects: boolean;
  versions: boolean;
  uniqueNames: boolean;
};

const STRICT: Strictness = {
  conditions: true,
  sideEffects: true,
  versions: true,
  uniqueNames: true,
};

export function checkWebhooks(
  errors: Errors,
  hooks: readonly Webhook[],
  old?: readonly Webhook[],
): void {
  const strict = old ? strictness(hooks, old) : STRICT;
  const names = new Set<string>();
  for (const [i, hook] of hooks.entries()) {
    const path = `webhooks[${i}]`;
    checkWebhook(errors, path, hook, strict);
    checkVersions(errors, `${path}.admissionReviewVersions`, hook, strict.versions);
    if (strict.uniqueNames && hook.name) {
      if (names.has(hook.name)) errors.push(duplicate(`${path}.name`, hook.name));
      names.add(hook.name);
    }
  }
}

function strictness(hooks: readonly Webhook[], old: readonly Webhook[]): Strictness {
  const conditions = (all: readonly Webhook[]): unknown =>
    all.map((hook) => hook.matchConditions ?? []);
  return {
    conditions: !sameMeaning(conditions(hooks), conditions(old)),
    sideEffects: old.every(({ sideEffects = '' }) => NO_SIDE_EFFECTS.includes(sideEffects)),
    versions: old.every(
      ({ admissionReviewVersions: all = [] }) =>
        all.length === 0 || all.some((version) => VERSIONS.includes(version)),
    ),
    uniqueNames: new Set(old.map((hook) => hook.name)).size === old.length,
  };
}

function checkWebhook(errors: Errors, path: string, hook: Webhook, strict: Strictness): void {
  checkName(errors, `${path}.name`, hook.name ?? '');
  for (const [i, rule] of (hook.rules ?? []).entries())
    checkRule(errors, `${path}.rules[${i}]`, rule);
  checkEnum(errors, `${path}.failurePolicy`, hook.failurePolicy, FAILURE_POLICIES);
  checkEnum(errors, `${path}.matchPolicy`, hook.matchPolicy, MATCH_POLICIES);
  const allowed = strict.sideEffects ? NO_SIDE_EFFECTS : SIDE_EFFECTS;
  if (hook.sideEffects === undefined) {
    errors.push(required(`${path}.sideEffects`, `must specify one of ${allowed.join(', ')}`));
  } else checkEnum(errors, `${path}.sideEffects`, hook.sideEffects, allowed);
  const { timeoutSeconds } = hook;
  if (
    timeoutSeconds !== undefined &&
    (timeoutSeconds < 1 || timeoutSeconds > MAX_TIMEOUT_SECONDS)
  ) {
    const text = `the timeout value must be between 1 and ${MAX_TIMEOUT_SECONDS} seconds`;
    errors.push(invalid(`${path}.timeoutSeconds`, timeoutSeconds, text));
  }
  checkLabelSelector(errors, `${path}.namespaceSelector`, hook.namespaceSelector);
  checkLabelSelector(errors, `${path}.objectSelector`, hook.objectSelector);
  if (hook.reinvocationPolicy !== undefined) {
    checkEnum(errors, `${path}.reinvocationPolicy`, hook.reinvocationPolicy, REINVOCATIONS);
  }
  checkClient(errors, `${path}.clientConfig`, hook.clientConfig ?? {});
  if (strict.conditions) {
    checkConditions(errors, `${path}.matchConditions`, hook.matchConditions ?? [], false);
  }
}

function checkName(errors: Errors, path: string, name: string): void {
  if (name === '') errors.push(required(path));
  else if (isDns1123Subdomain(name).length > 0) {
    addInvalid(errors, path, name, [isDns1123Subdomain(name).join(',')]);
  } else if (name.split('.').length < 3) {
    errors.push(
      invalid(path, name, 'should be a domain with at least three segments separated by dots'),
    );
  }
}

function checkVersions(errors: Errors, path: string, hook: Webhook, known: boolean): void {
  const { admissionReviewVersions: versions = [] } = hook;
  if (versions.length === 0) {
    errors.push(required(path, `must specify one of ${VERSIONS.join(', ')}`));
    return;
  }
  const seen = new Set<string>();
  for (const [i, version] of versions.entries()) {
    if (seen.has(version)) {
      errors.push(invalid(`${path}[${i}]`, version, 'duplicate version'));
      continue;
    }
    seen.add(version);
    addInvalid(errors, `${path}[${i}]`, version, isDns1035Label(version));
  }
  if (known && !versions.some((version) => VERSIONS.includes(version))) {
    errors.push(invalid(path, versions, `must include at least one of ${VERSIONS.join(', ')}`));
  }
}

function checkClient(errors: Errors, path: string, config: Webhook['clientConfig']): void {
  const { url, service } = config;
  if ((url === undefined) === (service === undefined)) {
    errors.push(required(path, 'exactly one of url or service is required'));
  } else if (url !== undefined) checkUrl(errors, `${path}.url`, url);
  else if (service) checkService(errors, `${path}.service`, service);
}

const FORM = '; desired format: https://host[/path]';

/** Taken apart by hand: what is reported are the parts as they were written. */
export function checkUrl(errors: Errors, path: string, text: string): void {
  const match =
    /^(?:([a-zA-Z][a-zA-Z0-9+.-]*):)?(?:\/\/(?:([^/?#@]*)@)?([^/?#]*))?[^?#]*(?:\?([^#]*))?(?:#(.*))?$/.exec(
      text,
    );
  if (!match || (/^[^/?#]*:/.test(text) && match[1] === undefined)) {
    const reason = `parse ${JSON.stringify(text)}: first path segment in URL cannot contain colon`;
    errors.push(required(path, `url must be a valid URL: ${reason}${FORM}`));
    return;
  }
  const [, scheme = '', user, host = '', query = '', fragment = ''] = match;
  if (scheme.toLowerCase() !== 'https') {
    errors.push(
      invalid(path, scheme.toLowerCase(), `'https' is the only allowed URL scheme${FORM}`),
    );
  }
  if (host === '') errors.push(invalid(path, host, `host must be specified${FORM}`));
  if (user !== undefined) {
    errors.push(invalid(path, user, 'user information is not permitted in the URL'));
  }
  if (fragment) errors.push(invalid(path, fragment, 'fragments are not permitted in the URL'));
  if (query) errors.push(invalid(path, query, 'query parameters are not permitted in the URL'));
}

type ServiceReference = NonNullable<Webhook['clientConfig']['service']>;

/** The service behind a webhook or converter. */
export function checkService(errors: Errors, path: string, service: ServiceReference): void {
  const { name = '', namespace = '', path: target, port = HTTPS_PORT } = service;
  if (name === '') errors.push(required(`${path}.name`));
  if (namespace === '') errors.push(required(`${path}.namespace`));
  if (port < 1 || port > 65_535) {
    const text = 'port is not valid: must be between 1 and 65535, inclusive';
    errors.push(invalid(`${path}.port`, port, text));
  }
  if (!target || target === '/') return;
  const at = `${path}.path`;
  if (target === '//') {
    errors.push(invalid(at, target, 'segment[0] may not be empty'));
    return;
  }
  if (!target.startsWith('/')) errors.push(invalid(at, target, "must start with a '/'"));
  for (const [i, step] of target.slice(1).replace(/\/$/, '').split('/').entries()) {
    if (step === '') errors.push(invalid(at, target, `segment[${i}] may not be empty`));
    else
      addInvalid(
        errors,
        at,
        target,
        isDns1123Subdomain(step).map((text) => `segment[${i}]: ${text}`),
      );
  }
}
