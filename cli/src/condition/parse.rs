//! From the words of a condition to what they mean.

use std::fmt::{self, Display, Formatter};
use std::ops::Range;
use std::str::FromStr;

use taskwatch_client::{Priority, Status};
use uuid::Uuid;

use super::lex::{Token, tokens};
use super::{Check, Condition, Field, Kind, Logic, Order, Quantifier, Test};
use crate::escape::Visible;

/// Parentheses and `not` within each other: far more than anybody reads, far less than a stack holds.
const MAX_DEPTH: usize = 64;

const QUANTIFIERS: &str = "all(..), any(..), none(..) or count(..)";

/// A condition makes no sense, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct ConditionError {
    source_text: String,
    /// The piece that makes no sense, in bytes.
    place: Range<usize>,
    problem: String,
    hint: String,
}

impl Display for ConditionError {
    /// The problem, the condition, and a line that points at the place.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = |text: &str| Visible(text).to_string().chars().count();
        let before = width(&self.source_text[..self.place.start]);
        let carets = width(&self.source_text[self.place.clone()]).max(1);
        writeln!(f, "{}", Visible(&self.problem))?;
        writeln!(f, "  {}", Visible(&self.source_text))?;
        write!(f, "  {:before$}{:^<carets$} {}", "", "", Visible(&self.hint))
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(source: &str) -> Result<Self, ConditionError> {
        let mut parser = Parser {
            source,
            tokens: tokens(source),
            next: 0,
            depth: 0,
            quantifiers: Vec::new(),
            doubts: Vec::new(),
        };
        let logic = parser.either(Parser::quantifier)?;
        match parser.peek() {
            Token::End => {}
            _ => return Err(parser.unexpected("`and`, `or` or the end")),
        }
        Ok(Self { logic, quantifiers: parser.quantifiers, doubts: parser.doubts })
    }
}

struct Parser<'s> {
    source: &'s str,
    /// The last one is the end, and is never passed.
    tokens: Vec<(Token, Range<usize>)>,
    next: usize,
    depth: usize,
    quantifiers: Vec<Quantifier>,
    doubts: Vec<String>,
}

type Result<T, E = ConditionError> = std::result::Result<T, E>;
/// What is put together: of quantifiers the condition, of tests what a quantifier asks.
type Leaf<'s, T> = fn(&mut Parser<'s>) -> Result<Logic<T>>;

impl<'s> Parser<'s> {
    fn either<T>(&mut self, leaf: Leaf<'s, T>) -> Result<Logic<T>> {
        let first = self.both(leaf)?;
        let mut others = Vec::new();
        while self.takes_word("or") {
            others.push(self.both(leaf)?);
        }
        Ok(joined(first, others, Logic::Or))
    }

    fn both<T>(&mut self, leaf: Leaf<'s, T>) -> Result<Logic<T>> {
        let first = self.one(leaf)?;
        let mut others = Vec::new();
        while self.takes_word("and") {
            others.push(self.one(leaf)?);
        }
        Ok(joined(first, others, Logic::And))
    }

    fn one<T>(&mut self, leaf: Leaf<'s, T>) -> Result<Logic<T>> {
        if self.depth == MAX_DEPTH {
            return Err(
                self.error("this is nested too deeply", "say it with less within each other")
            );
        }
        self.depth += 1;
        let one = if self.takes_word("not") {
            Logic::Not(Box::new(self.one(leaf)?))
        } else if self.takes("(") {
            let inner = self.either(leaf)?;
            self.closes()?;
            inner
        } else {
            leaf(self)?
        };
        self.depth -= 1;
        Ok(one)
    }

    /// Its number.
    fn quantifier(&mut self) -> Result<Logic<usize>> {
        let from = self.place().start;
        let kind = match self.word() {
            Some("all") => Kind::All,
            Some("any") => Kind::Any,
            Some("none") => Kind::None,
            Some("count") => Kind::Count(Order::AtLeast, 0),
            Some(word) if field(word).is_some() => {
                let problem = "it is not said for which tasks this should be so";
                let hint = format!("put it into {QUANTIFIERS}, as in all({word} == …)");
                return Err(self.error(problem, &hint));
            }
            _ => return Err(self.unexpected(QUANTIFIERS)),
        };
        self.next += 1;
        if !self.takes("(") {
            return Err(self.unexpected("`(`"));
        }
        let test = if self.takes(")") {
            None
        } else {
            let test = self.either(Self::test)?;
            self.closes()?;
            Some(test)
        };
        let kind = match kind {
            Kind::Count(..) => {
                let Some(order) = self.takes_order() else {
                    return Err(self.unexpected("`>=`, `==` or another comparison"));
                };
                Kind::Count(order, self.number()?)
            }
            kind => kind,
        };
        let text = self.source[from..self.tokens[self.next - 1].1.end].to_owned();
        self.quantifiers.push(Quantifier { kind, test, text });
        Ok(Logic::Is(self.quantifiers.len() - 1))
    }

    fn test(&mut self) -> Result<Logic<Test>> {
        let Some(word) = self.word() else { return Err(self.unexpected("a field of a task")) };
        let Some(field) = field(word) else {
            let fields: Vec<_> = Field::ALL.into_iter().map(Field::name).collect();
            let problem = format!("a task has no field `{word}`");
            return Err(self.error(&problem, &format!("expected one of {}", fields.join(", "))));
        };
        self.next += 1;
        match field {
            Field::Tags => self.tag_test(),
            Field::Version => self.number_test(),
            _ => self.text_test(field),
        }
    }

    fn text_test(&mut self, field: Field) -> Result<Logic<Test>> {
        let is = |check| Logic::Is(Test { field, check });
        if let Some(isnt) = self.takes_in() {
            let words = self.list(|parser| parser.value(field))?;
            return Ok(negated(isnt, is(Check::In(words))));
        }
        if self.takes("~") {
            let part = self.text("a text that it contains")?.0;
            return Ok(is(Check::Contains(part.to_lowercase())));
        }
        let isnt = match self.takes_order() {
            Some(Order::Equal) => false,
            Some(Order::NotEqual) => true,
            _ => return Err(self.unexpected("`==`, `!=`, `~`, `in [..]` or `not in [..]`")),
        };
        Ok(negated(isnt, is(Check::In(vec![self.value(field)?]))))
    }

    fn tag_test(&mut self) -> Result<Logic<Test>> {
        if !self.takes_word("has") {
            return Err(self.unexpected("`has`, as in tags has backend"));
        }
        let (tag, _) = self.text("a tag")?;
        Ok(Logic::Is(Test { field: Field::Tags, check: Check::Has(tag) }))
    }

    fn number_test(&mut self) -> Result<Logic<Test>> {
        let is = |order, number| {
            Logic::Is(Test { field: Field::Version, check: Check::Number(order, number) })
        };
        if let Some(isnt) = self.takes_in() {
            let mut numbers = self.list(Self::number)?;
            let first = is(Order::Equal, numbers.remove(0));
            let others = numbers.into_iter().map(|number| is(Order::Equal, number)).collect();
            return Ok(negated(isnt, joined(first, others, Logic::Or)));
        }
        let Some(order) = self.takes_order() else {
            return Err(self.unexpected("`>=`, `==` or another comparison"));
        };
        Ok(is(order, self.number()?))
    }

    /// `in`, or `not in`, which is true; nothing is taken of anything else.
    fn takes_in(&mut self) -> Option<bool> {
        let is_in = |token: Option<&(Token, _)>| matches!(token, Some((Token::Word(word), _)) if word == "in");
        if self.takes_word("in") {
            return Some(false);
        }
        if self.word() == Some("not") && is_in(self.tokens.get(self.next + 1)) {
            self.next += 2;
            return Some(true);
        }
        None
    }

    /// At least one.
    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        if !self.takes("[") {
            return Err(self.unexpected("`[`, as in [a, b]"));
        }
        let mut items = vec![item(self)?];
        while self.takes(",") {
            items.push(item(self)?);
        }
        if self.takes("]") { Ok(items) } else { Err(self.unexpected("`,` or `]`")) }
    }

    /// What a field is compared with. A word that it never holds would be waited for without end.
    fn value(&mut self, field: Field) -> Result<String> {
        let before = self.next;
        let (value, is_quoted) = self.text("a word, or a text in quotes")?;
        let known: Vec<&str> = match field {
            Field::Status => Status::KNOWN.iter().map(Status::as_str).collect(),
            Field::Priority => Priority::KNOWN.iter().map(Priority::as_str).collect(),
            Field::Id => {
                let id = value.parse::<Uuid>().map(|id| id.to_string());
                return id.map_err(|_| {
                    self.next = before;
                    self.error("this is not the id of a task", "expected a UUID")
                });
            }
            _ => return Ok(value),
        };
        if known.contains(&value.as_str()) {
            return Ok(value);
        }
        let (name, known) = (field.name(), known.join(", "));
        if !is_quoted {
            self.next = before;
            let hint = format!("expected one of {known}; \"{value}\" if the server knows it");
            return Err(self.error(&format!("`{value}` is not a {name}"), &hint));
        }
        self.doubts
            .push(format!("`{value}` is not a {name} that is known here; these are: {known}"));
        Ok(value)
    }

    /// A word or a text, and whether it was in quotes.
    fn text(&mut self, expected: &str) -> Result<(String, bool)> {
        let text = match self.peek() {
            Token::Word(word) => (word.clone(), false),
            Token::Quoted(text) => (text.clone(), true),
            _ => return Err(self.unexpected(expected)),
        };
        self.next += 1;
        Ok(text)
    }

    fn number(&mut self) -> Result<u64> {
        let Some(number) = self.word().and_then(|word| word.parse().ok()) else {
            return Err(self.unexpected("a number"));
        };
        self.next += 1;
        Ok(number)
    }

    fn takes_order(&mut self) -> Option<Order> {
        let order = match self.peek() {
            Token::Symbol("==" | "=") => Order::Equal,
            Token::Symbol("!=") => Order::NotEqual,
            Token::Symbol("<") => Order::Less,
            Token::Symbol("<=") => Order::AtMost,
            Token::Symbol(">") => Order::More,
            Token::Symbol(">=") => Order::AtLeast,
            _ => return None,
        };
        self.next += 1;
        Some(order)
    }

    fn closes(&mut self) -> Result<()> {
        if self.takes(")") { Ok(()) } else { Err(self.unexpected("`and`, `or` or `)`")) }
    }

    fn takes(&mut self, symbol: &str) -> bool {
        let takes = matches!(self.peek(), Token::Symbol(it) if *it == symbol);
        self.next += usize::from(takes);
        takes
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let takes = self.word() == Some(word);
        self.next += usize::from(takes);
        takes
    }

    fn word(&self) -> Option<&str> {
        match self.peek() {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.next].0
    }

    fn place(&self) -> Range<usize> {
        self.tokens[self.next].1.clone()
    }

    fn unexpected(&self, expected: &str) -> ConditionError {
        let problem = match self.peek() {
            Token::End => "it ends too early".to_owned(),
            Token::Unclosed => "a text has no closing quote".to_owned(),
            _ => format!("`{}` makes no sense here", &self.source[self.place()]),
        };
        self.error(&problem, &format!("expected {expected}"))
    }

    /// Something is wrong with the next piece.
    fn error(&self, problem: &str, hint: &str) -> ConditionError {
        ConditionError {
            source_text: self.source.to_owned(),
            place: self.place(),
            problem: problem.to_owned(),
            hint: hint.to_owned(),
        }
    }
}

fn field(word: &str) -> Option<Field> {
    Field::ALL.into_iter().find(|field| field.name() == word)
}

fn negated<T>(isnt: bool, logic: Logic<T>) -> Logic<T> {
    if isnt { Logic::Not(Box::new(logic)) } else { logic }
}

fn joined<T>(
    first: Logic<T>,
    others: Vec<Logic<T>>,
    join: fn(Vec<Logic<T>>) -> Logic<T>,
) -> Logic<T> {
    if others.is_empty() {
        return first;
    }
    join(std::iter::once(first).chain(others).collect())
}
