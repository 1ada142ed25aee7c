// What is in force: the policy file and the native rules, as one set of rules for the ACL engine.
//
// Rules expire without anybody writing anything, so there is a clock here too: when one has expired, that is noted in the
// journal, and so peers are told of it as of any other change.

import type { AclRule } from 'zqlite';
import type { CompiledPolicy } from './compile.js';
import type { Policies } from './policies.js';
import { NATIVE, type NativeRules } from './rules.js';

/** Longer than Node's timers can wait. */
const LONGEST_WAIT = 2 ** 31 - 1;
const RETRY = 1_000;

/** Where a rule of the ACL engine comes from. */
export type Origin =
  /** An entry of the file; `line` is null for what the file means by saying nothing. */
  { readonly kind: 'file'; readonly line: number | null } | { readonly kind: 'rule'; readonly id: number };

export class Enforcement {
  readonly #policies: Policies;
  readonly #rules: NativeRules;
  #known: { readonly file: CompiledPolicy; readonly policy: CompiledPolicy } | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Whether the timer is for the rules as they are. */
  #waiting = false;

  constructor(policies: Policies, rules: NativeRules) {
    this.#policies = policies;
    this.#rules = rules;
  }

  /** The file's policy with the native rules added. */
  get policy(): CompiledPolicy {
    const file = this.#policies.compiled;
    if (this.#known?.file !== file) this.#known = { file, policy: this.with(file) };
    return this.#known.policy;
  }

  /** Another file's policy with the native rules that are in force. */
  with(file: CompiledPolicy): CompiledPolicy {
    const native: readonly AclRule[] = this.#rules.compiled;
    return native.length === 0 ? file : { ...file, rules: [...file.rules, ...native] };
  }

  /** @param rule an id in the ACL engine */
  origin(rule: number): Origin {
    if (rule > NATIVE) return { kind: 'rule', id: rule - NATIVE };
    return { kind: 'file', line: this.#policies.compiled.lines.get(rule) ?? null };
  }

  /** To be called when native rules have changed. */
  changed(): void {
    this.#known = undefined;
    this.#waiting = false;
  }

  /**
   * Waits for the next rule to expire, unless it is waited for already. `onExpiry` is called again a second after it fails.
   */
  watch(onExpiry: () => Promise<void>): void {
    if (this.#waiting) return;
    this.#waiting = true;
    this.#wait(this.#rules.nextExpiry(Date.now()), onExpiry);
  }

  #wait(due: number | undefined, onExpiry: () => Promise<void>): void {
    clearTimeout(this.#timer);
    if (due === undefined) return;
    const again = (): void => {
      const now = Date.now();
      if (now < due) this.#wait(due, onExpiry);
      else
        onExpiry().then(
          () => this.#wait(this.#rules.nextExpiry(now), onExpiry),
          () => {
            this.#timer = setTimeout(again, RETRY).unref();
          },
        );
    };
    this.#timer = setTimeout(again, Math.min(Math.max(due - Date.now(), 1), LONGEST_WAIT)).unref();
  }
}
