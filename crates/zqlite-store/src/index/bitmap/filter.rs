//! The language of filters: what may stand behind WHERE about one table, without functions and arithmetic.
//!
//! ```text
//! filter  = and { OR and }                       and = not { AND not }           not = { NOT } test
//! test    = ( filter ) | column compare literal | column [NOT] BETWEEN literal AND literal | column IS [NOT] literal
//!         | column [NOT] IN ( [ literal { , literal } ] ) | column ISNULL | column NOTNULL | column NOT NULL
//! compare = = | == | != | <> | < | <= | > | >=   literal = [+|-] number | 'text' | x'blob' | NULL | TRUE | FALSE
//! ```

use std::ops::Bound;

use rusqlite::types::{Value, ValueRef};

use crate::index::bitmap::key::Key;
use crate::index::source::Column;
use crate::index::token::{TokenKind, Tokens};
use crate::{Error, ErrorCode, Result};

/// A filter, bound to the columns of an index.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    /// Rows whose column lies within one of these; with NULL among the alternatives what lies in none is unknown.
    Within {
        column: usize,
        spans: Vec<Span>,
        or_null: bool,
    },
    /// The same, but never unknown: NULL lies in none.
    Is {
        column: usize,
        span: Option<Span>,
    },
}

/// Keys between two bounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    pub(crate) low: Bound<Key>,
    pub(crate) high: Bound<Key>,
}

impl Span {
    fn only(key: Key) -> Self {
        Self { low: Bound::Included(key.clone()), high: Bound::Included(key) }
    }
}

/// How deep parentheses and NOT may be nested.
const DEEPEST: usize = 200;
/// Bytes of a filter.
const LONGEST: usize = 1 << 20;

impl Filter {
    /// Reads a filter over these columns.
    ///
    /// # Errors
    /// `ERR_FILTER_SYNTAX` with the position.
    pub(crate) fn parse(text: &str, columns: &[Column]) -> Result<Self> {
        if text.len() > LONGEST {
            let message = format!("a filter has at most {LONGEST} bytes, not {}", text.len());
            return Err(Error::new(ErrorCode::FilterSyntax, message));
        }
        let mut parser = Parser { tokens: Tokens::new(text, ErrorCode::FilterSyntax), columns, depth: 0 };
        let filter = parser.or()?;
        if parser.tokens.peek().kind != TokenKind::End {
            return Err(parser.tokens.wrong("AND, OR or the end"));
        }
        Ok(filter)
    }
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    columns: &'a [Column],
    depth: usize,
}

impl Parser<'_> {
    fn or(&mut self) -> Result<Filter> {
        let mut parts = vec![self.and()?];
        while self.tokens.word("or") {
            parts.push(self.and()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Filter::Or(parts) })
    }

    fn and(&mut self) -> Result<Filter> {
        let mut parts = vec![self.not()?];
        while self.tokens.word("and") {
            parts.push(self.not()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Filter::And(parts) })
    }

    fn not(&mut self) -> Result<Filter> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Error::new(
                ErrorCode::FilterSyntax,
                format!("the filter is nested deeper than {DEEPEST} at byte {}", self.tokens.peek().at),
            ));
        }
        let filter = if self.tokens.word("not") {
            Ok(Filter::Not(Box::new(self.not()?)))
        } else if self.tokens.symbol("(") {
            let filter = self.or()?;
            self.tokens.expect_symbol(")")?;
            Ok(filter)
        } else {
            self.test()
        };
        self.depth -= 1;
        filter
    }

    fn test(&mut self) -> Result<Filter> {
        let at = self.tokens.peek();
        let name = self.tokens.expect_name("a column")?;
        let found = self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(&name));
        let column = found.ok_or_else(|| {
            let columns: Vec<_> = self.columns.iter().map(|column| column.name.as_str()).collect();
            let excerpt: String = name.chars().take(64).collect();
            let message = format!("the index has no column {excerpt:?} (byte {}), only {}", at.at, columns.join(", "));
            Error::new(ErrorCode::FilterSyntax, message)
        })?;
        let tokens = &mut self.tokens;
        if tokens.word("isnull") {
            return Ok(Filter::Is { column, span: None });
        }
        if tokens.word("notnull") {
            return Ok(not(Filter::Is { column, span: None }));
        }
        if tokens.word("is") {
            return self.is(column);
        }
        if tokens.word("not") {
            if tokens.word("null") {
                return Ok(not(Filter::Is { column, span: None }));
            }
            return if tokens.word("in") {
                Ok(not(self.among(column)?))
            } else if tokens.word("between") {
                Ok(not(self.between(column)?))
            } else {
                Err(tokens.wrong("IN, BETWEEN or NULL"))
            };
        }
        if tokens.word("in") {
            return self.among(column);
        }
        if tokens.word("between") {
            return self.between(column);
        }
        const COMPARISONS: [&str; 8] = ["=", "==", "!=", "<>", "<", "<=", ">", ">="];
        let Some(operator) = COMPARISONS.into_iter().find(|symbol| tokens.symbol(symbol)) else {
            return Err(tokens.wrong("a comparison, IS, IN or BETWEEN"));
        };
        let Some(key) = self.literal(column)? else { return Ok(unknown(column)) };
        let spans = vec![match operator {
            "<" => Span { low: Bound::Unbounded, high: Bound::Excluded(key) },
            "<=" => Span { low: Bound::Unbounded, high: Bound::Included(key) },
            ">" => Span { low: Bound::Excluded(key), high: Bound::Unbounded },
            ">=" => Span { low: Bound::Included(key), high: Bound::Unbounded },
            _ => Span::only(key),
        }];
        let filter = Filter::Within { column, spans, or_null: false };
        Ok(if matches!(operator, "!=" | "<>") { not(filter) } else { filter })
    }

    fn is(&mut self, column: usize) -> Result<Filter> {
        let negated = self.tokens.word("not");
        if self.tokens.peek().is("distinct") {
            return Err(self.tokens.wrong("a literal"));
        }
        let at = self.tokens.peek();
        if at.is("true") || at.is("false") {
            // To SQLite this is no comparison but a question after truth.
            return Err(self.tokens.wrong("a literal other than TRUE and FALSE"));
        }
        let span = self.literal(column)?.map(Span::only);
        let filter = Filter::Is { column, span };
        Ok(if negated { not(filter) } else { filter })
    }

    fn between(&mut self, column: usize) -> Result<Filter> {
        let low = self.literal(column)?;
        self.tokens.expect_word("and")?;
        let high = self.literal(column)?;
        let side = |key: Option<Key>, span: &dyn Fn(Key) -> Span| match key {
            Some(key) => Filter::Within { column, spans: vec![span(key)], or_null: false },
            None => unknown(column),
        };
        Ok(Filter::And(vec![
            side(low, &|key| Span { low: Bound::Included(key), high: Bound::Unbounded }),
            side(high, &|key| Span { low: Bound::Unbounded, high: Bound::Included(key) }),
        ]))
    }

    fn among(&mut self, column: usize) -> Result<Filter> {
        self.tokens.expect_symbol("(")?;
        let (mut spans, mut or_null) = (Vec::new(), false);
        if self.tokens.symbol(")") {
            // Nothing is in an empty list, not even NULL.
            return Ok(Filter::Or(Vec::new()));
        }
        loop {
            match self.literal(column)? {
                Some(key) => spans.push(Span::only(key)),
                None => or_null = true,
            }
            if !self.tokens.symbol(",") {
                break;
            }
        }
        self.tokens.expect_symbol(")")?;
        Ok(Filter::Within { column, spans, or_null })
    }

    /// A literal as the column compares it; `None` is NULL.
    fn literal(&mut self, column: usize) -> Result<Option<Key>> {
        let column = &self.columns[column];
        let mut at = self.tokens.peek();
        let negative = self.tokens.symbol("-");
        let signed = negative || self.tokens.symbol("+");
        if signed {
            at = self.tokens.peek();
        }
        let value = match at.kind {
            TokenKind::Number => number(at.text, negative),
            _ if signed => return Err(self.tokens.wrong("a number")),
            TokenKind::Text => Value::Text(at.content().into_owned()),
            TokenKind::Blob => {
                let content = at.content();
                let bytes = content.as_bytes().chunks_exact(2);
                let digit = |b: u8| (b as char).to_digit(16).unwrap_or_default() as u8;
                Value::Blob(bytes.map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect())
            }
            TokenKind::Word if at.is("null") => Value::Null,
            TokenKind::Word if at.is("true") => Value::Integer(1),
            TokenKind::Word if at.is("false") => Value::Integer(0),
            _ => return Err(self.tokens.wrong("a literal")),
        };
        let key = Key::literal(ValueRef::from(&value), column)
            .map_err(|why| Error::new(ErrorCode::FilterSyntax, format!("{} at byte {}: {why}", column.name, at.at)))?;
        self.tokens.next();
        Ok(key)
    }
}

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

/// Neither true nor false of any row.
fn unknown(column: usize) -> Filter {
    Filter::Within { column, spans: Vec::new(), or_null: true }
}

/// As SQLite reads it: hexadecimal digits are 64 bits, a decimal that is too large for an integer is real.
fn number(text: &str, negative: bool) -> Value {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let bits = u64::from_str_radix(digits, 16).unwrap_or(u64::MAX).cast_signed();
        return Value::Integer(if negative { bits.wrapping_neg() } else { bits });
    }
    let signed = format!("{}{text}", if negative { "-" } else { "" });
    signed.parse().map(Value::Integer).unwrap_or_else(|_| Value::Real(signed.parse().unwrap_or(f64::NAN)))
}
