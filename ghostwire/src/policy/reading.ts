// What the readers of all sections share: the text, the names it defines, and errors that know their place.

import type { GhostwireError } from '../errors.js';
import type { HuJson, Node } from './hujson.js';
import { parseSelector, SelectorError, type Names, type Selector } from './selectors.js';
import { ServiceError } from './services.js';

export class Reading {
  readonly source: HuJson;
  readonly names: Names;

  constructor(source: HuJson, names: Names) {
    this.source = source;
    this.names = names;
  }

  invalid(message: string, node: Node): GhostwireError {
    return this.source.invalid(message, node);
  }

  /** Runs a parser that knows no places. @param prefix before its message @throws GhostwireError ERR_POLICY_INVALID */
  at<T>(node: Node, prefix: string, parse: () => T): T {
    try {
      return parse();
    } catch (error) {
      if (error instanceof SelectorError) {
        const code = error.unsupported ? 'ERR_POLICY_UNSUPPORTED' : 'ERR_POLICY_INVALID';
        throw this.source.error(code, `${prefix}${error.message}`, node, error.hint);
      }
      if (error instanceof ServiceError) throw this.invalid(`${prefix}${error.message}`, node);
      throw error;
    }
  }

  selector(node: Node, what: string, prefix: string): Selector {
    const text = this.source.string(node, what);
    return this.at(node, prefix, () => parseSelector(text, this.names));
  }
}
