/** Manifests of the tests, small enough to read. */

export type WebOptions = { name: string; replicas?: number; image: string; version?: string };

/** A Deployment of a web server that answers with its pod's name and version, and its Service. */
export function webManifest({ name, replicas = 2, image, version = 'v1' }: WebOptions): string {
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
        image: ${image}
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
  type: NodePort
  selector: { app: ${name} }
  ports: [{ name: http, port: 80, targetPort: http }]
`;
}

/** A pod that stays and has a shell: for calls from inside the cluster. */
export function shellManifest(name: string, image: string): string {
  return `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: ${name} } }
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: shell
    image: ${image}
    command: [sh, -c, 'trap "exit 0" TERM; echo started; while true; do sleep 1; done']
`;
}
