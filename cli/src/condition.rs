//! What `--for` waits for: something about tasks, as plain data.
//!
//! ```text
//! condition   what is said of all tasks together, with `and`, `or`, `not` and parentheses
//!   all(TEST)  any(TEST)  none(TEST)  count(TEST) >= 3
//! TEST        what is said of one task, put together in the same way; nothing is every task
//!   status == completed    priority != low    assignee in [ana, bo]    title ~ login
//!   tags has backend       version >= 2       repository not in [a, b]
//! ```

mod eval;
mod lex;
mod parse;
#[cfg(test)]
mod tests;

pub(crate) use self::eval::{Tally, tasks_in_words};

/// A condition that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Put together of quantifiers, by their numbers.
    logic: Logic<usize>,
    quantifiers: Vec<Quantifier>,
    doubts: Vec<String>,
}

impl Condition {
    /// What may be a slip, a sentence each.
    pub(crate) fn doubts(&self) -> &[String] {
        &self.doubts
    }
}

/// Something that is so or not, put together of smaller ones.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Logic<T> {
    Is(T),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

/// What is said of all tasks together.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Quantifier {
    kind: Kind,
    /// What it asks of a task; `None` is every task.
    test: Option<Logic<Test>>,
    /// As it was written.
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    All,
    Any,
    None,
    Count(Order, u64),
}

/// What is said of one field of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Test {
    field: Field,
    check: Check,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Repository,
    Title,
    Status,
    Priority,
    Assignee,
    Tags,
    Version,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Check {
    /// It is one of these.
    In(Vec<String>),
    /// This is a part of it, in large or small letters; kept in small ones.
    Contains(String),
    /// This is one of its tags.
    Has(String),
    Number(Order, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Field {
    const ALL: [Self; 8] = [
        Self::Id,
        Self::Repository,
        Self::Title,
        Self::Status,
        Self::Priority,
        Self::Assignee,
        Self::Tags,
        Self::Version,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Repository => "repository",
            Self::Title => "title",
            Self::Status => "status",
            Self::Priority => "priority",
            Self::Assignee => "assignee",
            Self::Tags => "tags",
            Self::Version => "version",
        }
    }
}
