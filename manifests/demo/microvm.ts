/** The manifest of a workload, with its pods in microVMs: the same text and one line more. */
export function inMicrovm(manifest: string): string {
  return manifest.replace(
    /^( +)template:\n( +)metadata:.*\n(?:.*\n)*?\2spec:\n/m,
    (found) => `${found}${' '.repeat(6)}runtimeClassName: microvm\n`,
  );
}
