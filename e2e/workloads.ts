/** Manifests of the tests, small enough to read. Images are those of manifests/demo/build-images.ts. */

export const BUSYBOX = 'gantry.internal/busybox:1';

export type WebOptions = { name: string; replicas?: number; version?: string; spec?: string };

/** A Deployment of a web server that answers with its pod's name and version, and its Service. */
export function webManifest({ name, replicas = 2, version = 'v1', spec = '' }: WebOptions): string {
  return `
apiVersion: apps/v1
kind: Deployment
metadata: { name: ${name}, labels: { app: ${name} } }
spec:
  replicas: ${replicas}
  selector: { matchLabels: { app: ${name} } }
  template:
    metadata: { labels: { app: ${name} } }
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: ${BUSYBOX}
        command: [sh, -c]
        args:
        - |
          mkdir -p /tmp/www && echo "$POD_NAME $VERSION" > /tmp/www/index.html
          exec httpd -f -p 8080 -h /tmp/www
        env:
        - { name: VERSION, value: ${version} }
        - { name: POD_NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
        ports: [{ name: http, containerPort: 8080 }]
        readinessProbe: { httpGet: { path: /, port: http }, periodSeconds: 1 }
        resources: { requests: { cpu: 10m, memory: 16Mi }, limits: { memory: 64Mi } }
---
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec:
  ${spec || 'type: NodePort'}
  selector: { app: ${name} }
  ports: [{ name: http, port: 80, targetPort: http }]
`;
}

/** A pod that stays and has a shell: for calls from inside the cluster. */
export function shellManifest(name: string): string {
  return `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: ${name} } }
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: shell
    image: ${BUSYBOX}
    command: [sh, -c, 'trap "exit 0" TERM; echo started; while true; do sleep 1; done']
`;
}
