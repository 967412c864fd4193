//! A condition in pieces.

use std::ops::Range;

/// A piece of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name, a word or a number.
    Word(String),
    /// A text in quotes, without them.
    Quoted(String),
    Symbol(&'static str),
    /// Something that means nothing.
    Stray,
    /// A text whose quotes are not closed.
    Unclosed,
    End,
}

/// The longer ones first.
const SYMBOLS: [&str; 13] = ["==", "!=", "<=", ">=", "(", ")", "[", "]", ",", "=", "<", ">", "~"];

/// All pieces with their places, in bytes; the last one is the end.
pub(super) fn tokens(source: &str) -> Vec<(Token, Range<usize>)> {
    let mut tokens = Vec::new();
    loop {
        let at = tokens.last().map_or(0, |(_, place): &(Token, Range<usize>)| place.end);
        let rest = source[at..].trim_start();
        let at = source.len() - rest.len();
        let (token, length) = token(rest);
        let is_end = token == Token::End;
        tokens.push((token, at..at + length));
        if is_end {
            return tokens;
        }
    }
}

/// The first piece, and how many bytes it is.
fn token(rest: &str) -> (Token, usize) {
    let Some(first) = rest.chars().next() else { return (Token::End, 0) };
    if matches!(first, '"' | '\'') {
        return quoted(rest, first);
    }
    if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
        return (Token::Symbol(symbol), symbol.len());
    }
    match rest.find(|c| !is_of_a_word(c)) {
        Some(0) => (Token::Stray, first.len_utf8()),
        end => {
            let word = &rest[..end.unwrap_or(rest.len())];
            (Token::Word(word.to_owned()), word.len())
        }
    }
}

/// What stands in words and in names of repositories, but for `~`.
fn is_of_a_word(c: char) -> bool {
    c.is_alphanumeric() || "_-./:@+".contains(c)
}

/// Behind a backslash, any character stands for itself.
fn quoted(rest: &str, quote: char) -> (Token, usize) {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return (Token::Quoted(text), at + c.len_utf8()),
            '\\' => text.extend(chars.next().map(|(_, c)| c)),
            _ => text.push(c),
        }
    }
    (Token::Unclosed, rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_their_places() {
        let word = |text: &str| Token::Word(text.to_owned());
        assert_eq!(
            tokens(" a/b!=\"x \\\" y\" é'"),
            [
                (word("a/b"), 1..4),
                (Token::Symbol("!="), 4..6),
                (Token::Quoted("x \" y".to_owned()), 6..14),
                (word("é"), 15..17),
                (Token::Unclosed, 17..18),
                (Token::End, 18..18),
            ]
        );
        assert_eq!(tokens("\u{1f331}")[0], (Token::Stray, 0..4));
    }
}
