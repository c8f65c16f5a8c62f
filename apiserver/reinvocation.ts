/**
 * Mutating webhooks and policies may ask to see an object again when others changed it after them.
 * There is one second round, for those alone. Source: Kubernetes "Reinvocation policy".
 */
export class Reinvocation {
  #round = 1;
  #wanted = false;
  #called = new Set<string>();
  #due = new Set<string>();
  #seen: string | null = null;

  /** 0, or 1 in the second round. */
  get round(): number {
    return this.#round - 1;
  }

  /** Whether one may be called in this round. */
  mayCall(id: string): boolean {
    return this.#round === 1 || this.#due.has(id);
  }

  /** One was called; `reinvocable`: its policy is IfNeeded. `changed`: it changed the object. */
  called(id: string, reinvocable: boolean, changed: boolean): void {
    if (changed) this.#requireEarlier();
    if (reinvocable) this.#called.add(id);
    if (changed && this.#round === 1 && this.#due.size > 0) this.#wanted = true;
  }

  #requireEarlier(): void {
    for (const id of this.#called) this.#due.add(id);
    this.#called.clear();
  }

  /** Remembers what the object was after the last call of the first round. */
  leave(object: unknown): void {
    this.#seen = JSON.stringify(object);
  }

  /** At the start of the second round: built-in rules may have changed the object as well. */
  enter(object: unknown): void {
    if (this.#round === 2 && this.#seen !== null && this.#seen !== JSON.stringify(object)) {
      this.#requireEarlier();
    }
  }

  /** Whether a second round is due; it begins with the question. */
  startRound(): boolean {
    if (this.#round !== 1 || !this.#wanted) return false;
    this.#round = 2;
    return true;
  }
}
