/**
 * Cuts a SQL text into its statements, without understanding more of it than where a statement ends: strings, quoted names
 * and comments hide a semicolon, and so does the body of a trigger.
 */

/** A statement of a text. */
export interface SqlStatement {
  /** Without the semicolon. */
  sql: string
  /** The line that it begins on, counted from 1. */
  line: number
}

/**
 * A doubled quote needs no rule: `'it''s'` reads as two strings side by side. What is not closed reaches to the end, where
 * SQLite names the fault. Each alternative takes characters one by one, so that a large text costs no backtracking.
 */
const TOKEN = /[ \t\n\f\r]+|--[^\n]*|\/\*[^]*?(?:\*\/|$)|'[^']*'?|"[^"]*"?|`[^`]*`?|\[[^\]]*\]?|[\w$\u0080-\uffff]+|[^]/gy

const SPACE = /^(?:[ \t\n\f\r]|--|\/\*)/
const LINE_BREAK = /\n/g

/**
 * The statements of a text, in order; what is empty or only a comment is left out.
 *
 * The rule for triggers is that of SQLite's own `sqlite3_complete()`: after `CREATE TRIGGER` the end is an `END` between
 * two semicolons, which the `END` of a `CASE` never is.
 */
export function splitStatements(text: string): SqlStatement[] {
  const statements: SqlStatement[] = []
  let line = 1
  /** The words that a statement begins with, as far as they decide whether it makes a trigger. */
  let head: string[] = []
  let previous = ''
  /** Whether a trigger's `; END` was read last. */
  let ended = false
  let start = -1
  let startLine = 1
  let end = 0

  const finish = () => {
    if (start >= 0) statements.push({ sql: text.slice(start, end), line: startLine })
    start = -1
    head = []
    previous = ''
    ended = false
  }

  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    if (!SPACE.test(token)) {
      const word = token.toUpperCase()
      if (word === ';' && (!isTrigger(head) || ended)) {
        finish()
      } else {
        if (start < 0) {
          start = index
          startLine = line
        }
        if (head.length < 6) head.push(word)
        ended = word === 'END' && previous === ';'
        previous = word
        end = index + token.length
      }
    }
    line += token.match(LINE_BREAK)?.length ?? 0
  }
  finish()
  return statements
}

function isTrigger(head: readonly string[]): boolean {
  return /^(?:EXPLAIN (?:QUERY PLAN )?)?CREATE (?:TEMP(?:ORARY)? )?TRIGGER\b/.test(head.join(' '))
}

const WRITE = /^[\s(]*(?:insert|update|delete|replace|create|drop|alter|reindex|analyze)\b/i
/** What may hide the word that decides: comments, and common table expressions. */
const VEILED = /^[\s(]*(?:with\b|--|\/\*|pragma\b)/i

/** Whether a statement writes, as far as its text shows: it need not be right to be safe. */
export function writes(sql: string): boolean {
  return VEILED.test(sql) ? unveiled(sql) : WRITE.test(sql)
}

function unveiled(sql: string): boolean {
  const words: string[] = []
  let depth = 0
  for (const [token] of sql.matchAll(TOKEN)) {
    if (token === '(') depth++
    else if (token === ')') depth--
    else if (!SPACE.test(token) && (depth === 0 || words.length === 0)) words.push(token.toUpperCase())
  }
  const [first = ''] = words
  if (first === 'PRAGMA') return /^PRAGMA (?:\w+ \. )?(?:USER_VERSION|APPLICATION_ID) =/.test(words.join(' ')) || /^\W*pragma\b[^(]*\b(?:user_version|application_id)\s*\(/i.test(sql)
  if (first !== 'WITH') return WRITE.test(first)
  // Behind the table expressions, whose own statements stand in parentheses.
  const decides = words.findIndex((word, i) => /^(?:SELECT|VALUES|INSERT|UPDATE|DELETE)$/.test(word) || (word === 'REPLACE' && words[i + 1] === 'INTO'))
  return decides >= 0 && WRITE.test(words[decides] as string)
}
