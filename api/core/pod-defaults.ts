import { defaultVolume } from '#api/core/volume-defaults.ts';
import { imagePullPolicyFor } from '#api/core/image-name.ts';
import { sumOfRequests } from '#api/pod-resources.ts';
import { canonicalResources } from '#api/meta/resource-list.ts';
import type { Container, PodSpec, PodTemplateSpec, Probe } from '#api/types.ts';

type HttpGet = { path?: string; scheme?: string };
type Handler = { httpGet?: HttpGet; grpc?: { service?: string } };

/**
 * Fills in what a pod's author left out; `standalone` is true for pods themselves and false for
 * templates, whose pods get the rest when they are created. Source: core/v1 PodSpec.
 */
export function defaultPodSpec(spec: PodSpec, { standalone }: { standalone: boolean }): void {
  // Validation refuses a pod without containers; until then everybody may count on the list.
  spec.containers ??= [];
  for (const container of eachContainer(spec)) defaultContainer(container, spec, standalone);
  for (const volume of spec.volumes ?? []) defaultVolume(volume);
  if (!spec.dnsPolicy) spec.dnsPolicy = 'ClusterFirst';
  if (!spec.restartPolicy) spec.restartPolicy = 'Always';
  if (!spec.schedulerName) spec.schedulerName = 'default-scheduler';
  spec.securityContext ??= {};
  spec.terminationGracePeriodSeconds ??= 30;
  if (standalone) spec.enableServiceLinks ??= true;
  // `serviceAccount` is the old name of the field; both are always shown.
  const account = spec.serviceAccountName || spec.serviceAccount;
  if (account) {
    spec.serviceAccountName = account;
    spec.serviceAccount = account;
  }
  canonicalResources(spec.overhead);
  if (spec.resources) {
    canonicalResources(spec.resources.limits);
    canonicalResources(spec.resources.requests);
    if (standalone) defaultPodRequests(spec);
  }
}

/** Templates always show their metadata, and their pods' defaults. */
export function defaultPodTemplate(template: PodTemplateSpec): void {
  template.metadata ??= {};
  template.spec ??= {} as PodSpec;
  defaultPodSpec(template.spec, { standalone: false });
}

/** Every container of a pod: init, ephemeral (which lack some fields) and main ones. */
export function* eachContainer(spec: PodSpec): Generator<Container> {
  yield* spec.initContainers ?? [];
  yield* spec.containers ?? [];
  yield* (spec.ephemeralContainers ?? []) as Container[];
}

function defaultContainer(container: Container, spec: PodSpec, standalone: boolean): void {
  container.name ??= '';
  container.resources ??= {};
  const { resources } = container;
  canonicalResources(resources.limits);
  canonicalResources(resources.requests);
  if (standalone && resources.limits) {
    const requests = (resources.requests ??= {});
    for (const [name, limit] of Object.entries(resources.limits)) requests[name] ??= limit;
    if (Object.keys(requests).length === 0) delete resources.requests;
  }
  if (!container.imagePullPolicy) container.imagePullPolicy = imagePullPolicyFor(container.image);
  if (!container.terminationMessagePath) {
    container.terminationMessagePath = '/dev/termination-log';
  }
  if (!container.terminationMessagePolicy) container.terminationMessagePolicy = 'File';
  for (const port of container.ports ?? []) {
    if (!port.protocol) port.protocol = 'TCP';
    if (standalone && spec.hostNetwork && !port.hostPort && port.containerPort)
      port.hostPort = port.containerPort;
  }
  defaultEnv(container);
  if (container.livenessProbe) defaultProbe(container.livenessProbe);
  if (container.readinessProbe) defaultProbe(container.readinessProbe);
  if (container.startupProbe) defaultProbe(container.startupProbe);
  if (container.lifecycle?.postStart) defaultHandler(container.lifecycle.postStart);
  if (container.lifecycle?.preStop) defaultHandler(container.lifecycle.preStop);
}

function defaultEnv(container: Container): void {
  for (const { valueFrom } of container.env ?? []) {
    if (!valueFrom) continue;
    if (valueFrom.fieldRef && !valueFrom.fieldRef.apiVersion) valueFrom.fieldRef.apiVersion = 'v1';
    if (valueFrom.resourceFieldRef) valueFrom.resourceFieldRef.divisor ??= '0';
    if (valueFrom.fileKeyRef) valueFrom.fileKeyRef.optional ??= false;
  }
}

function defaultProbe(probe: Probe): void {
  probe.timeoutSeconds ||= 1;
  probe.periodSeconds ||= 10;
  probe.successThreshold ||= 1;
  probe.failureThreshold ||= 3;
  defaultHandler(probe as Handler);
}

function defaultHandler(handler: Handler): void {
  if (handler.httpGet) {
    if (!handler.httpGet.path) handler.httpGet.path = '/';
    if (!handler.httpGet.scheme) handler.httpGet.scheme = 'HTTP';
  }
  if (handler.grpc) handler.grpc.service ??= '';
}

/** Pod-level requests follow pod-level limits for the resources that a whole pod may ask for. */
function defaultPodRequests(spec: PodSpec): void {
  const limits = spec.resources?.limits;
  if (!spec.resources || !limits || Object.keys(limits).length === 0) return;
  const requests = { ...spec.resources.requests };
  for (const name of ['cpu', 'memory'] as const) {
    if (requests[name] !== undefined) continue;
    const sum = sumOfRequests(spec, name);
    if (sum !== undefined) requests[name] = sum;
  }
  for (const [name, limit] of Object.entries(limits)) {
    if (name === 'cpu' || name === 'memory' || name.startsWith('hugepages-')) {
      requests[name] ??= limit;
    }
  }
  if (Object.keys(requests).length > 0) spec.resources.requests = requests;
}
