// HuJSON (JSON with comments and trailing commas) as a tree in which every node knows its place.
//
// The reading itself is jsonc-parser's; this adds what it leaves out: bounded size and nesting, no duplicate keys, names of
// fields in any case, and errors with line and column.

import { parseTree, printParseErrorCode, type Node, type ParseError } from 'jsonc-parser';
import { GhostwireError, type GhostwireErrorCode } from '../errors.js';
import { didYouMean, quote } from './quote.js';

export type { Node } from 'jsonc-parser';

/** Characters. The largest policies known have some 100,000. */
const LARGEST = 8 * 1024 * 1024;

/** Deeper than any policy nests; jsonc-parser recurses. */
const DEEPEST = 64;

/** Line and column from 1, as editors count. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

interface Member {
  readonly key: string;
  readonly keyNode: Node;
  readonly value: Node;
}

export class HuJson {
  readonly #text: string;
  /** Offsets at which lines begin; made when first asked for. */
  #lines: number[] | undefined;
  readonly root: Node;

  /** @throws GhostwireError ERR_POLICY_SYNTAX */
  constructor(text: string) {
    this.#text = text;
    if (text.length > LARGEST) throw this.#fail('ERR_POLICY_SYNTAX', `${text.length} characters, at most ${LARGEST} are read`, 0);
    this.#checkDepth();
    const errors: ParseError[] = [];
    const root = parseTree(text, errors, { allowTrailingComma: true });
    const [first] = errors;
    if (first !== undefined) throw this.#fail('ERR_POLICY_SYNTAX', readable(printParseErrorCode(first.error)), first.offset);
    if (root === undefined) throw this.#fail('ERR_POLICY_SYNTAX', 'the policy is empty', 0);
    this.root = root;
  }

  positionOf(offset: number): Position {
    this.#lines ??= lineStarts(this.#text);
    let low = 0;
    let high = this.#lines.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#lines[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: offset - (this.#lines[low] ?? 0) + 1 };
  }

  lineOf(node: Node): number {
    return this.positionOf(node.offset).line;
  }

  /**
   * An error that says where in the text.
   * @param hint what may help, after the message; no part of `details.reason`
   */
  error(code: GhostwireErrorCode, message: string, node: Node, hint = ''): GhostwireError {
    return this.#fail(code, message, node.offset, hint);
  }

  invalid(message: string, node: Node, hint = ''): GhostwireError {
    return this.error('ERR_POLICY_INVALID', message, node, hint);
  }

  /** An object's members in order. `what` names the object in errors. */
  members(node: Node, what: string): Member[] {
    if (node.type !== 'object') throw this.invalid(`${what} must be an object`, node);
    const seen = new Set<string>();
    return (node.children ?? []).map((property) => {
      const [keyNode, value] = property.children ?? [];
      if (keyNode === undefined || value === undefined) throw this.invalid(`${what} has a member without a value`, property);
      const key = String(keyNode.value);
      if (seen.has(key)) throw this.invalid(`${what} has the key ${quote(key)} twice`, keyNode);
      seen.add(key);
      return { key, keyNode, value };
    });
  }

  /**
   * An object's members by the names of `known`, whatever case they are written in; members that are null are left out.
   * @param aliases older names of fields
   */
  fields<Name extends string>(
    node: Node,
    what: string,
    known: readonly Name[],
    aliases: Readonly<Record<string, Name>> = {},
  ): Map<Name, Node> {
    const byLowerCase = new Map<string, Name>(known.map((name) => [name.toLowerCase(), name]));
    for (const [alias, name] of Object.entries(aliases)) byLowerCase.set(alias, name);
    const fields = new Map<Name, Node>();
    const seen = new Set<Name>();
    for (const { key, keyNode, value } of this.members(node, what)) {
      const name = byLowerCase.get(key.toLowerCase());
      if (name === undefined)
        throw this.invalid(`unknown field ${quote(key)}`, keyNode, ` in ${what}${didYouMean(key, known)}`);
      if (seen.has(name)) throw this.invalid(`${what} has the field "${name}" twice`, keyNode);
      seen.add(name);
      if (value.type !== 'null') fields.set(name, value);
    }
    return fields;
  }

  items(node: Node | undefined, what: string): readonly Node[] {
    if (node === undefined) return [];
    if (node.type !== 'array') throw this.invalid(`${what} must be an array`, node);
    return node.children ?? [];
  }

  string(node: Node, what: string): string {
    if (node.type !== 'string') throw this.invalid(`${what} must be a string`, node);
    return String(node.value);
  }

  strings(node: Node | undefined, what: string): string[] {
    return this.items(node, what).map((item) => this.string(item, what));
  }

  /** Any value as plain data. */
  value(node: Node): unknown {
    if (node.type === 'array') return (node.children ?? []).map((item) => this.value(item));
    if (node.type !== 'object') return node.value as unknown;
    // A null prototype: "__proto__" is a key like any other.
    const object = Object.create(null) as Record<string, unknown>;
    for (const { key, value } of this.members(node, 'an object')) object[key] = this.value(value);
    return object;
  }

  /** `details.reason` is the message alone. */
  #fail(code: GhostwireErrorCode, reason: string, offset: number, hint = ''): GhostwireError {
    const position = this.positionOf(offset);
    return new GhostwireError(code, `line ${position.line}, column ${position.column}: ${reason}${hint}`, { ...position, reason });
  }

  /** Looks at brackets only, outside of strings and comments; what else is wrong is the parser's to say. */
  #checkDepth(): void {
    const text = this.#text;
    const skipTo = (end: string, from: number): number => {
      const at = text.indexOf(end, from);
      return at < 0 ? text.length : at + end.length - 1;
    };
    let depth = 0;
    for (let index = 0; index < text.length; index += 1) {
      const character = text[index];
      if (character === '"') {
        for (index += 1; index < text.length && text[index] !== '"' && text[index] !== '\n'; index += 1)
          if (text[index] === '\\') index += 1;
      } else if (character === '/' && text[index + 1] === '/') index = skipTo('\n', index);
      else if (character === '/' && text[index + 1] === '*') index = skipTo('*/', index + 2);
      else if (character === '{' || character === '[') depth += 1;
      else if (character === '}' || character === ']') depth -= 1;
      if (depth > DEEPEST) throw this.#fail('ERR_POLICY_SYNTAX', `nested more than ${DEEPEST} levels deep`, index);
    }
  }
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return starts;
}

/** 'CommaExpected' -> 'comma expected' */
const readable = (code: string): string => code.replaceAll(/(?<=[a-z])([A-Z])/g, ' $1').toLowerCase();
