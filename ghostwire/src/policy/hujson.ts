// HuJSON (JSON with comments and trailing commas) as a tree in which every node knows its place.
//
// The reading itself is jsonc-parser's; this adds what it leaves out: bounded nesting, no duplicate keys, and errors with
// line and column.

import { parseTree, printParseErrorCode, type Node, type ParseError } from 'jsonc-parser';
import { GhostwireError, type GhostwireErrorCode } from '../errors.js';

/** Deeper than any policy nests; jsonc-parser recurses. */
const DEEPEST = 64;

/** Line and column from 1, as editors count. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

export class HuJson {
  readonly #text: string;
  readonly root: Node;

  /** @throws GhostwireError ERR_POLICY_SYNTAX */
  constructor(text: string) {
    this.#text = text;
    this.#checkDepth();
    const errors: ParseError[] = [];
    const root = parseTree(text, errors, { allowTrailingComma: true });
    const [first] = errors;
    if (first !== undefined) throw this.#fail('ERR_POLICY_SYNTAX', readable(printParseErrorCode(first.error)), first.offset);
    if (root === undefined) throw this.#fail('ERR_POLICY_SYNTAX', 'the policy is empty', 0);
    this.root = root;
  }

  positionOf(offset: number): Position {
    const before = this.#text.slice(0, offset);
    const lineStart = before.lastIndexOf('\n') + 1;
    return { line: before.split('\n').length, column: offset - lineStart + 1 };
  }

  /** An error that says where in the text. */
  error(code: GhostwireErrorCode, message: string, node: Node): GhostwireError {
    return this.#fail(code, message, node.offset);
  }

  invalid(message: string, node: Node): GhostwireError {
    return this.error('ERR_POLICY_INVALID', message, node);
  }

  /** An object's members in order. `what` names the object in errors. */
  members(node: Node, what: string): { readonly key: string; readonly keyNode: Node; readonly value: Node }[] {
    if (node.type !== 'object') throw this.invalid(`${what} must be an object`, node);
    const seen = new Set<string>();
    return (node.children ?? []).map((property) => {
      const [keyNode, value] = property.children ?? [];
      if (keyNode === undefined || value === undefined) throw this.invalid(`${what} has a member without a value`, property);
      const key = String(keyNode.value);
      if (seen.has(key)) throw this.invalid(`${what} has the key ${JSON.stringify(key)} twice`, keyNode);
      seen.add(key);
      return { key, keyNode, value };
    });
  }

  items(node: Node, what: string): readonly Node[] {
    if (node.type !== 'array') throw this.invalid(`${what} must be an array`, node);
    return node.children ?? [];
  }

  string(node: Node, what: string): string {
    if (node.type !== 'string') throw this.invalid(`${what} must be a string`, node);
    return String(node.value);
  }

  #fail(code: GhostwireErrorCode, message: string, offset: number): GhostwireError {
    const position = this.positionOf(offset);
    return new GhostwireError(code, `line ${position.line}, column ${position.column}: ${message}`, { ...position });
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

/** 'CommaExpected' -> 'comma expected' */
const readable = (code: string): string => code.replaceAll(/(?<=[a-z])([A-Z])/g, ' $1').toLowerCase();
