import { checkDescendingPath } from '#api/core/volume-paths.ts';
import {
  duplicate,
  forbidden,
  invalid,
  notSupported,
  required,
  tooLong,
} from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import type { Container, PodSpec } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkEnum, checkId } from '#api/validate.ts';
import { isDns1123Subdomain } from '#api/validate-names.ts';

type PodContext = NonNullable<PodSpec['securityContext']>;
type Context = NonNullable<Container['securityContext']>;
type Seccomp = NonNullable<Context['seccompProfile']>;
type AppArmor = NonNullable<Context['appArmorProfile']>;
type Windows = NonNullable<Context['windowsOptions']>;

const PROFILES = ['Localhost', 'RuntimeDefault', 'Unconfined'];
const NOT_FOR_WINDOWS = 'cannot be set for a windows pod';
const NOT_FOR_LINUX = 'windows options cannot be set for a linux pod';

/** The longest path a kernel takes, without its end mark. */
const MAX_PROFILE_BYTES = 4095;

const SYSCTL = /^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$/;
const SYSCTL_TEXT = '^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$';
const MAX_SYSCTL = 253;
const IPC_SYSCTLS = new Set(['kernel.sem']);
const IPC_PREFIXES = ['kernel.shm', 'kernel.msg', 'fs.mqueue.'];

/** Source: core/v1 SecurityContext. */
export function checkSecurityContext(
  errors: Errors,
  path: string,
  context: Context,
  hostUsers: boolean,
): void {
  checkId(errors, `${path}.runAsUser`, context.runAsUser);
  checkId(errors, `${path}.runAsGroup`, context.runAsGroup);
  if (context.procMount !== undefined) {
    checkEnum(errors, `${path}.procMount`, context.procMount, ['Default', 'Unmasked']);
    if (hostUsers && context.procMount === 'Unmasked') {
      errors.push(
        invalid(
          `${path}.procMount`,
          context.procMount,
          '`hostUsers` must be false to use `Unmasked`',
        ),
      );
    }
  }
  checkSeccomp(errors, `${path}.seccompProfile`, context.seccompProfile);
  if (context.allowPrivilegeEscalation === false) checkEscalation(errors, path, context);
  checkWindowsOptions(errors, `${path}.windowsOptions`, context.windowsOptions);
  checkAppArmor(errors, `${path}.appArmorProfile`, context.appArmorProfile);
}

function checkEscalation(errors: Errors, path: string, context: Context): void {
  if (context.privileged) {
    errors.push(
      invalid(
        path,
        internalForm('SecurityContext', context),
        'cannot set `allowPrivilegeEscalation` to false and `privileged` to true',
      ),
    );
  }
  for (const capability of context.capabilities?.add ?? []) {
    if (capability !== 'CAP_SYS_ADMIN') continue;
    errors.push(
      invalid(
        path,
        internalForm('SecurityContext', context),
        'cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN',
      ),
    );
  }
}

/** Source: core/v1 PodSecurityContext. */
export function checkPodSecurityContext(
  errors: Errors,
  path: string,
  context: PodContext,
  spec: PodSpec,
): void {
  checkId(errors, `${path}.fsGroup`, context.fsGroup);
  checkId(errors, `${path}.runAsUser`, context.runAsUser);
  checkId(errors, `${path}.runAsGroup`, context.runAsGroup);
  for (const [i, group] of (context.supplementalGroups ?? []).entries()) {
    checkId(errors, `${path}.supplementalGroups[${i}]`, group);
  }
  if (spec.shareProcessNamespace && spec.hostPID) {
    errors.push(
      invalid(
        `${path}.shareProcessNamespace`,
        true,
        'ShareProcessNamespace and HostPID cannot both be enabled',
      ),
    );
  }
  if (context.sysctls?.length) checkSysctls(errors, `${path}.sysctls`, context.sysctls, spec);
  const { fsGroupChangePolicy, supplementalGroupsPolicy, seLinuxChangePolicy } = context;
  if (fsGroupChangePolicy !== undefined) {
    checkEnum(errors, `${path}.fsGroupChangePolicy`, fsGroupChangePolicy, [
      'Always',
      'OnRootMismatch',
    ]);
  }
  checkSeccomp(errors, `${path}.seccompProfile`, context.seccompProfile);
  checkWindowsOptions(errors, `${path}.windowsOptions`, context.windowsOptions);
  checkAppArmor(errors, `${path}.appArmorProfile`, context.appArmorProfile);
  if (supplementalGroupsPolicy !== undefined) {
    checkEnum(errors, `${path}.supplementalGroupsPolicy`, supplementalGroupsPolicy, [
      'Merge',
      'Strict',
    ]);
  }
  if (seLinuxChangePolicy !== undefined) {
    checkEnum(errors, `${path}.seLinuxChangePolicy`, seLinuxChangePolicy, [
      'MountOption',
      'Recursive',
    ]);
  }
}

function checkSysctls(
  errors: Errors,
  path: string,
  sysctls: NonNullable<PodContext['sysctls']>,
  spec: PodSpec,
): void {
  const seen = new Set<string>();
  for (const [i, { name }] of sysctls.entries()) {
    const at = `${path}[${i}].name`;
    if (!name) errors.push(required(at));
    else if (name.length > MAX_SYSCTL || !SYSCTL.test(name)) {
      const rule = `must have at most ${MAX_SYSCTL} characters and match regex ${SYSCTL_TEXT}`;
      errors.push(invalid(at, name, rule));
    } else if (seen.has(name)) errors.push(duplicate(at, name));
    const dotted = (name ?? '').replaceAll('/', '.');
    if (spec.hostNetwork && dotted.startsWith('net.')) {
      errors.push(invalid(at, name, "may not be specified when 'hostNetwork' is true"));
    } else if (spec.hostIPC && isIpcSysctl(dotted)) {
      errors.push(invalid(at, name, "may not be specified when 'hostIPC' is true"));
    }
    seen.add(name);
  }
}

const isIpcSysctl = (name: string): boolean =>
  IPC_SYSCTLS.has(name) || IPC_PREFIXES.some((prefix) => name.startsWith(prefix));

function checkSeccomp(errors: Errors, path: string, profile: Seccomp | undefined): void {
  if (!profile) return;
  if (!profile.type) {
    errors.push(required(`${path}.type`, 'type is required when seccompProfile is set'));
  } else if (!PROFILES.includes(profile.type)) {
    errors.push(notSupported(`${path}.type`, profile.type, PROFILES));
  }
  const at = `${path}.localhostProfile`;
  if (profile.type !== 'Localhost') {
    if (profile.localhostProfile !== undefined) {
      errors.push(
        invalid(
          at,
          internalForm('Profile', profile),
          'can only be set when seccomp type is Localhost',
        ),
      );
    }
  } else if (profile.localhostProfile === undefined) {
    errors.push(required(at, 'must be set when seccomp type is Localhost'));
  } else checkDescendingPath(errors, at, profile.localhostProfile);
}

function checkAppArmor(errors: Errors, path: string, profile: AppArmor | undefined): void {
  if (!profile) return;
  const at = `${path}.localhostProfile`;
  const { type, localhostProfile: name } = profile;
  if (!type) {
    errors.push(required(`${path}.type`, 'type is required when appArmorProfile is set'));
  } else if (!PROFILES.includes(type)) {
    errors.push(notSupported(`${path}.type`, type, PROFILES));
  } else if (type !== 'Localhost') {
    if (name !== undefined) {
      errors.push(invalid(at, name, 'can only be set when AppArmor type is Localhost'));
    }
  } else if (name === undefined || name === '') {
    errors.push(required(at, 'must be set when AppArmor type is Localhost'));
  } else {
    if (name.trim() !== name) {
      errors.push(invalid(at, name, 'must not be padded with whitespace'));
    }
    if (Buffer.byteLength(name) > MAX_PROFILE_BYTES) errors.push(tooLong(at, MAX_PROFILE_BYTES));
  }
}

const MAX_GMSA_KIB = 64;
const MAX_DOMAIN = 256;
const MAX_USER = 104;
const NETBIOS = /^[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}$/;
const DNS_PART = '[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?';
const DNS_DOMAIN = new RegExp(`^${DNS_PART}(?:\\.${DNS_PART})*$`);

function checkWindowsOptions(errors: Errors, path: string, options: Windows | undefined): void {
  if (!options) return;
  const { gmsaCredentialSpecName, gmsaCredentialSpec, runAsUserName } = options;
  if (gmsaCredentialSpecName !== undefined) {
    const at = `${path}.gmsaCredentialSpecName`;
    addInvalid(errors, at, gmsaCredentialSpecName, isDns1123Subdomain(gmsaCredentialSpecName));
  }
  if (gmsaCredentialSpec !== undefined) {
    const at = `${path}.gmsaCredentialSpec`;
    if (gmsaCredentialSpec === '') {
      errors.push(invalid(at, '', 'gmsaCredentialSpec cannot be an empty string'));
    } else if (Buffer.byteLength(gmsaCredentialSpec) > MAX_GMSA_KIB * 1024) {
      const rule = `gmsaCredentialSpec size must be under ${MAX_GMSA_KIB} KiB`;
      errors.push(invalid(at, gmsaCredentialSpec, rule));
    }
  }
  if (runAsUserName !== undefined) {
    addInvalid(errors, `${path}.runAsUserName`, runAsUserName, windowsUserProblems(runAsUserName));
  }
}

/** `DOMAIN\user`. Source: Windows account naming rules, as the API reference cites them. */
function windowsUserProblems(name: string): string[] {
  if (name === '') return ['runAsUserName cannot be an empty string'];
  if (/\p{Cc}/u.test(name)) return ['runAsUserName cannot contain control characters'];
  const parts = name.split('\\');
  if (parts.length > 2) return ['runAsUserName cannot contain more than one backslash'];
  const problems: string[] = [];
  const user = parts.at(-1) ?? '';
  const domain = parts.length === 2 ? (parts[0] ?? '') : undefined;
  if (domain !== undefined) {
    if (domain.length >= MAX_DOMAIN) {
      problems.push(`runAsUserName's Domain length must be under ${MAX_DOMAIN} characters`);
    }
    if (!NETBIOS.test(domain) && !DNS_DOMAIN.test(domain)) {
      problems.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
  }
  if (user === '') problems.push("runAsUserName's User cannot be empty");
  else if (user.length > MAX_USER) {
    problems.push(`runAsUserName's User length must not be longer than ${MAX_USER} characters`);
  }
  if (/^[. ]+$/.test(user)) {
    problems.push("runAsUserName's User cannot contain only periods or spaces");
  }
  if (/["/\\:;|=,+*?<>@[\]]/.test(user)) {
    problems.push(
      'runAsUserName\'s User cannot contain the following characters: "/\\:;|=,+*?<>@[]',
    );
  }
  return problems;
}

/** Containers that run as processes of a Windows node, all of them or none. */
export function checkHostProcess(
  errors: Errors,
  path: string,
  spec: PodSpec,
  containers: readonly Located[],
): void {
  const whole = spec.securityContext?.windowsOptions?.hostProcess;
  let count = 0;
  for (const { container, path: at } of containers) {
    const own = container.securityContext?.windowsOptions?.hostProcess;
    if (whole !== undefined && own !== undefined && whole !== own) {
      errors.push(
        invalid(
          `${at}.securityContext.windowsOptions.hostProcess`,
          own,
          `pod hostProcess value must be identical if both are specified, was ${whole}`,
        ),
      );
    }
    if (own ?? whole) count++;
  }
  if (count === 0) return;
  if (count !== containers.length) {
    const rule =
      'If pod contains any hostProcess containers then all containers must be HostProcess containers';
    errors.push(invalid(path, '', rule));
  }
  if (!spec.hostNetwork) {
    const rule = 'hostNetwork must be true if pod contains any hostProcess containers';
    errors.push(invalid(`${path}.hostNetwork`, false, rule));
  }
}

type Located = { container: Container; path: string };

/** Fields that exist on one operating system only. Source: core/v1 PodSpec.os. */
export function checkOs(
  errors: Errors,
  path: string,
  spec: PodSpec,
  containers: readonly Located[],
): void {
  const name = spec.os?.name;
  if (!spec.os) return;
  if (!name) errors.push(required(`${path}.os.name`, 'cannot be empty'));
  else if (name === 'linux') checkLinux(errors, path, spec, containers);
  else if (name === 'windows') checkWindows(errors, path, spec, containers);
  else errors.push(notSupported(`${path}.os`, name, ['linux', 'windows']));
}

function checkLinux(
  errors: Errors,
  path: string,
  spec: PodSpec,
  containers: readonly Located[],
): void {
  if (spec.securityContext?.windowsOptions) {
    errors.push(forbidden(`${path}.securityContext.windowsOptions`, NOT_FOR_LINUX));
  }
  for (const { container, path: at } of containers) {
    if (container.securityContext?.windowsOptions) {
      errors.push(forbidden(`${at}.securityContext.windowsOptions`, NOT_FOR_LINUX));
    }
  }
}

const POD_LINUX_ONLY = [
  ['securityContext', 'appArmorProfile'],
  ['securityContext', 'seLinuxOptions'],
  ['', 'hostUsers'],
  ['', 'hostPID'],
  ['', 'hostIPC'],
  ['securityContext', 'seccompProfile'],
  ['securityContext', 'fsGroup'],
  ['securityContext', 'fsGroupChangePolicy'],
  ['securityContext', 'sysctls'],
  ['', 'shareProcessNamespace'],
  ['securityContext', 'runAsUser'],
  ['securityContext', 'runAsGroup'],
  ['securityContext', 'supplementalGroups'],
  ['securityContext', 'supplementalGroupsPolicy'],
  ['securityContext', 'seLinuxChangePolicy'],
] as const;

const CONTAINER_LINUX_ONLY = [
  'appArmorProfile',
  'seLinuxOptions',
  'seccompProfile',
  'capabilities',
  'readOnlyRootFilesystem',
  'privileged',
  'allowPrivilegeEscalation',
  'procMount',
  'runAsUser',
  'runAsGroup',
] as const;

function checkWindows(
  errors: Errors,
  path: string,
  spec: PodSpec,
  containers: readonly Located[],
): void {
  for (const [part, field] of POD_LINUX_ONLY) {
    const holder = (part === '' ? spec : (spec.securityContext ?? {})) as Record<string, unknown>;
    const value = holder[field];
    if (value === undefined || value === false || (Array.isArray(value) && value.length === 0)) {
      continue;
    }
    errors.push(forbidden(part ? `${path}.${part}.${field}` : `${path}.${field}`, NOT_FOR_WINDOWS));
  }
  for (const { container, path: at } of containers) {
    for (const field of CONTAINER_LINUX_ONLY) {
      if (container.securityContext?.[field] !== undefined) {
        errors.push(forbidden(`${at}.securityContext.${field}`, NOT_FOR_WINDOWS));
      }
    }
  }
}
