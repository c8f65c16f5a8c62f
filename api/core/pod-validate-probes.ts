import { SIGNALS } from '#api/meta/field-rules.ts';
import { forbidden, invalid, notSupported, required } from '#api/field-error.ts';
import type { Container, Probe } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkEnum, checkNotNegative, checkPortNumberOrName } from '#api/validate.ts';
import { isHttpHeaderName } from '#api/validate-names.ts';

type Lifecycle = NonNullable<Container['lifecycle']>;
type Handler = Pick<Probe, 'exec' | 'httpGet' | 'tcpSocket' | 'grpc'> & {
  sleep?: { seconds: number };
};

const SCHEMES = ['HTTP', 'HTTPS'];

/** One of the ways to ask or tell a container something. Source: core/v1 ProbeHandler. */
function checkHandler(
  errors: Errors,
  path: string,
  handler: Handler,
  graceSeconds: number | undefined,
): void {
  let count = 0;
  const one = (kind: keyof Handler, check: (at: string) => void): void => {
    if (handler[kind] == null) return;
    const at = `${path}.${kind}`;
    if (count++ > 0) errors.push(forbidden(at, 'may not specify more than 1 handler type'));
    else check(at);
  };
  one('exec', (at) => {
    if (!handler.exec?.command?.length) errors.push(required(`${at}.command`));
  });
  one('httpGet', (at) => {
    const { path: url, port, scheme, httpHeaders } = handler.httpGet ?? {};
    if (!url) errors.push(required(`${at}.path`));
    checkPortNumberOrName(errors, `${at}.port`, port);
    checkEnum(errors, `${at}.scheme`, scheme, SCHEMES);
    for (const { name } of httpHeaders ?? []) {
      addInvalid(errors, `${at}.httpHeaders`, name, isHttpHeaderName(name));
    }
  });
  one('tcpSocket', (at) => checkPortNumberOrName(errors, `${at}.port`, handler.tcpSocket?.port));
  one('grpc', (at) => checkPortNumberOrName(errors, `${at}.port`, handler.grpc?.port));
  one('sleep', (at) => {
    const seconds = handler.sleep?.seconds ?? 0;
    if (graceSeconds === undefined || (seconds >= 0 && seconds <= graceSeconds)) return;
    errors.push(
      invalid(
        at,
        seconds,
        `must be non-negative and less than terminationGracePeriodSeconds (${graceSeconds})`,
      ),
    );
  });
  if (count === 0) errors.push(required(path, 'must specify a handler type'));
}

function checkProbe(errors: Errors, path: string, probe: Probe): void {
  const { exec, httpGet, tcpSocket, grpc } = probe;
  checkHandler(errors, path, { exec, httpGet, tcpSocket, grpc } as Handler, undefined);
  checkNotNegative(errors, `${path}.initialDelaySeconds`, probe.initialDelaySeconds);
  checkNotNegative(errors, `${path}.timeoutSeconds`, probe.timeoutSeconds);
  checkNotNegative(errors, `${path}.periodSeconds`, probe.periodSeconds);
  checkNotNegative(errors, `${path}.successThreshold`, probe.successThreshold);
  checkNotNegative(errors, `${path}.failureThreshold`, probe.failureThreshold);
  const grace = probe.terminationGracePeriodSeconds;
  if (grace !== undefined && grace <= 0) {
    errors.push(invalid(`${path}.terminationGracePeriodSeconds`, grace, 'must be greater than 0'));
  }
}

/** Liveness and startup probes pass at the first success. */
function checkSuccessOnce(errors: Errors, path: string, probe: Probe): void {
  checkProbe(errors, path, probe);
  if (probe.successThreshold !== 1) {
    errors.push(invalid(`${path}.successThreshold`, probe.successThreshold ?? 0, 'must be 1'));
  }
}

/** Lifecycle hooks and probes of a container that runs beside others. */
export function checkRunningParts(
  errors: Errors,
  path: string,
  container: Container,
  graceSeconds: number | undefined,
): void {
  const { lifecycle, livenessProbe, readinessProbe, startupProbe } = container;
  if (lifecycle) checkLifecycle(errors, `${path}.lifecycle`, lifecycle, graceSeconds);
  if (livenessProbe) checkSuccessOnce(errors, `${path}.livenessProbe`, livenessProbe);
  if (readinessProbe) {
    checkProbe(errors, `${path}.readinessProbe`, readinessProbe);
    const grace = readinessProbe.terminationGracePeriodSeconds;
    if (grace !== undefined) {
      errors.push(
        invalid(
          `${path}.readinessProbe.terminationGracePeriodSeconds`,
          grace,
          'must not be set for readinessProbes',
        ),
      );
    }
  }
  if (startupProbe) checkSuccessOnce(errors, `${path}.startupProbe`, startupProbe);
}

function checkLifecycle(
  errors: Errors,
  path: string,
  lifecycle: Lifecycle,
  graceSeconds: number | undefined,
): void {
  const { postStart, preStop, stopSignal } = lifecycle;
  if (postStart) checkHandler(errors, `${path}.postStart`, postStart, graceSeconds);
  if (preStop) checkHandler(errors, `${path}.preStop`, preStop, graceSeconds);
  if (stopSignal && !SIGNALS.includes(stopSignal)) {
    errors.push(notSupported(`${path}.stopSignal`, stopSignal, SIGNALS));
  }
}
