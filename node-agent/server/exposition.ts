export type Family = { name: string; type: 'counter' | 'gauge'; help: string };
export type Labels = Readonly<Record<string, string>>;

/** Text in Prometheus' exposition format, family after family. */
export class Exposition {
  readonly #lines: string[] = [];

  family({ name, type, help }: Family, samples: readonly (readonly [Labels, number])[]): void {
    if (samples.length === 0) return;
    this.#lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const [labels, value] of samples) {
      const list = Object.entries(labels).map(([key, text]) => `${key}="${escape(text)}"`);
      this.#lines.push(`${name}${list.length > 0 ? `{${list.join(',')}}` : ''} ${value}`);
    }
  }

  toString(): string {
    return `${this.#lines.join('\n')}\n`;
  }
}

const escape = (text: string): string =>
  text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
