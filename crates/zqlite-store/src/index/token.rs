//! SQL cut into tokens, by SQLite's own rules (<https://sqlite.org/lang_keywords.html>, `tokenize.c`): for the statements
//! that SQLite cannot parse, and for the filters of bitmap indexes.

use std::borrow::Cow;

use crate::{Error, ErrorCode, Result};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A keyword, or a name without quotes.
    Word,
    /// A name in quotes of any of SQLite's forms.
    Quoted,
    /// `'text'`
    Text,
    /// `x'00ff'`
    Blob,
    /// `1`, `1.5e3`, `0xff`
    Number,
    /// Punctuation or an operator.
    Symbol,
    /// What cannot stand anywhere, or is not closed.
    Bad,
    /// The end of the text.
    End,
}

/// A token and where it begins, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind,
    pub(crate) text: &'a str,
    pub(crate) at: usize,
}

impl<'a> Token<'a> {
    /// Whether it is this keyword.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub(crate) fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == TokenKind::Symbol && self.text == symbol
    }

    /// What is within the quotes, if it has some.
    pub(crate) fn content(&self) -> Cow<'a, str> {
        let inner = |from: usize| self.text.get(from..self.text.len().saturating_sub(1)).unwrap_or_default();
        match (self.kind, self.text.as_bytes().first()) {
            (TokenKind::Quoted, Some(b'[')) => inner(1).into(),
            (TokenKind::Quoted, Some(b'`')) => inner(1).replace("``", "`").into(),
            (TokenKind::Quoted, _) => inner(1).replace("\"\"", "\"").into(),
            (TokenKind::Text, _) => inner(1).replace("''", "'").into(),
            (TokenKind::Blob, _) => inner(2).into(),
            _ => self.text.into(),
        }
    }
}

/// Reads a text token by token, one ahead.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    text: &'a str,
    position: usize,
    next: Token<'a>,
    code: ErrorCode,
}

impl<'a> Tokens<'a> {
    /// Errors will have this code.
    pub(crate) fn new(text: &'a str, code: ErrorCode) -> Self {
        let mut tokens = Self { text, position: 0, next: Token { kind: TokenKind::End, text: "", at: 0 }, code };
        tokens.next = tokens.read();
        tokens
    }

    pub(crate) fn peek(&self) -> Token<'a> {
        self.next
    }

    pub(crate) fn next(&mut self) -> Token<'a> {
        let following = self.read();
        std::mem::replace(&mut self.next, following)
    }

    /// Takes the next token if it is this keyword.
    pub(crate) fn word(&mut self, word: &str) -> bool {
        let found = self.next.is(word);
        if found {
            self.next();
        }
        found
    }

    pub(crate) fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.next.is_symbol(symbol);
        if found {
            self.next();
        }
        found
    }

    /// Takes a name: of a table, a column, an index.
    pub(crate) fn name(&mut self) -> Option<String> {
        matches!(self.next.kind, TokenKind::Word | TokenKind::Quoted).then(|| self.next().content().into_owned())
    }

    /// Says that the next token is not what was wanted.
    pub(crate) fn wrong(&self, wanted: &str) -> Error {
        let Token { kind, text, at } = self.next;
        let excerpt: String = text.chars().take(24).collect();
        let found = match kind {
            TokenKind::End => "the end".to_owned(),
            TokenKind::Bad => format!("{excerpt:?}, which is no token or is not closed"),
            _ => format!("{excerpt:?}"),
        };
        Error::new(self.code, format!("expected {wanted} at byte {at}, found {found}"))
    }

    pub(crate) fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.word(word) { Ok(()) } else { Err(self.wrong(word)) }
    }

    pub(crate) fn expect_symbol(&mut self, symbol: &str) -> Result<()> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.wrong(&format!("{symbol:?}"))) }
    }

    pub(crate) fn expect_name(&mut self, what: &str) -> Result<String> {
        self.name().ok_or_else(|| self.wrong(what))
    }

    /// Takes the semicolon that may stand there, and then the end.
    pub(crate) fn expect_end(&mut self) -> Result<()> {
        while self.symbol(";") {}
        if self.next.kind == TokenKind::End { Ok(()) } else { Err(self.wrong("the end")) }
    }

    fn read(&mut self) -> Token<'a> {
        self.skip_blanks();
        let at = self.position;
        let rest = &self.text[at..];
        let (kind, length) = measure(rest);
        self.position += length;
        Token { kind, text: &rest[..length], at }
    }

    /// Passes over blanks and comments.
    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.position..];
            let bytes = rest.as_bytes();
            self.position += match bytes {
                [b' ' | b'\t' | b'\n' | b'\r' | 0x0c, ..] => 1,
                [b'-', b'-', ..] => rest.find('\n').map_or(rest.len(), |end| end + 1),
                [b'/', b'*', ..] => rest[2..].find("*/").map_or(rest.len(), |end| end + 4),
                _ => return,
            };
        }
    }
}

/// The kind and length of the token that `rest` begins with.
fn measure(rest: &str) -> (TokenKind, usize) {
    let bytes = rest.as_bytes();
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80;
    let run = |from: usize, f: &dyn Fn(u8) -> bool| from + bytes[from..].iter().take_while(|b| f(**b)).count();
    match bytes {
        [] => (TokenKind::End, 0),
        [quote @ (b'"' | b'`'), ..] => quoted(bytes, 0, *quote, TokenKind::Quoted),
        [b'\'', ..] => quoted(bytes, 0, b'\'', TokenKind::Text),
        [b'[', ..] => rest.find(']').map_or((TokenKind::Bad, rest.len()), |end| (TokenKind::Quoted, end + 1)),
        [b'x' | b'X', b'\'', ..] => {
            let (kind, length) = quoted(bytes, 1, b'\'', TokenKind::Blob);
            let digits = bytes.get(2..length - 1).unwrap_or_default();
            let whole = digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit);
            (if whole { kind } else { TokenKind::Bad }, length)
        }
        [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => {
            let end = run(2, &|b| b.is_ascii_hexdigit());
            if bytes.get(end).is_some_and(|b| is_word(*b)) {
                (TokenKind::Bad, run(end, &is_word))
            } else {
                (TokenKind::Number, end)
            }
        }
        [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => number(bytes, &is_word),
        [b, ..] if is_word(*b) => (TokenKind::Word, run(0, &is_word)),
        [b'=', b'=', ..] | [b'!', b'=', ..] | [b'<', b'=' | b'>', ..] | [b'>', b'=', ..] => (TokenKind::Symbol, 2),
        [b'(' | b')' | b',' | b'=' | b'<' | b'>' | b'.' | b';' | b'+' | b'-', ..] => (TokenKind::Symbol, 1),
        _ => (TokenKind::Bad, rest.chars().next().map_or(0, char::len_utf8)),
    }
}

/// From the quote at `from` to the one that closes it; two of them are one within.
fn quoted(bytes: &[u8], from: usize, quote: u8, kind: TokenKind) -> (TokenKind, usize) {
    let mut at = from + 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|b| *b == quote)) {
        at += found + 1;
        if bytes.get(at) != Some(&quote) {
            return (kind, at);
        }
        at += 1;
    }
    (TokenKind::Bad, bytes.len())
}

fn number(bytes: &[u8], is_word: &dyn Fn(u8) -> bool) -> (TokenKind, usize) {
    let digits = |from: usize| from + bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    let tail = bytes[end..].iter().take_while(|b| is_word(**b)).count();
    if tail > 0 { (TokenKind::Bad, end + tail) } else { (TokenKind::Number, end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(TokenKind, String)> {
        let mut tokens = Tokens::new(text, ErrorCode::Sql);
        std::iter::from_fn(|| Some(tokens.next()))
            .take_while(|t| t.kind != TokenKind::End)
            .map(|t| (t.kind, t.content().into_owned()))
            .collect()
    }

    #[test]
    fn tokens_are_those_of_sqlite() {
        use TokenKind::{Bad, Blob, Number, Quoted, Symbol, Text, Word};
        for (text, expected) in [
            ("a-- c\n/* b */b/* open", vec![(Word, "a"), (Word, "b")]),
            (r#""a""b" `c``d` [e f]"#, vec![(Quoted, "a\"b"), (Quoted, "c`d"), (Quoted, "e f")]),
            ("'it''s' x'0aFF'", vec![(Text, "it's"), (Blob, "0aFF")]),
            (
                "1 .5 1.5e-3 0xff 1e",
                vec![(Number, "1"), (Number, ".5"), (Number, "1.5e-3"), (Number, "0xff"), (Bad, "1e")],
            ),
            (
                "a>=1<>2==é",
                vec![
                    (Word, "a"),
                    (Symbol, ">="),
                    (Number, "1"),
                    (Symbol, "<>"),
                    (Number, "2"),
                    (Symbol, "=="),
                    (Word, "é"),
                ],
            ),
            ("'open", vec![(Bad, "'open")]),
            ("x'0'", vec![(Bad, "x'0'")]),
            ("#", vec![(Bad, "#")]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(kind, text)| (kind, text.to_owned())).collect();
            assert_eq!(all(text), expected, "{text}");
        }
    }
}
