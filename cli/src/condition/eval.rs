//! Whether a condition holds. An event costs the tests of one task, however many there are.

use std::borrow::Cow;
use std::fmt::Write;

use taskwatch_client::protocol::Task;

use super::{Check, Condition, Field, Kind, Logic, Order, Quantifier, Test};
use crate::escape::Visible;
use crate::output;

/// So many tasks are named, for a person to begin with.
const NAMED: usize = 3;

/// How many tasks there are, and how many of them each quantifier of a condition is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    matching: Vec<usize>,
    total: usize,
}

impl Tally {
    /// How many tasks there are.
    pub(crate) fn total(&self) -> usize {
        self.total
    }
}

impl Condition {
    /// Counts all tasks.
    pub(crate) fn tally<'a>(&self, tasks: impl IntoIterator<Item = &'a Task>) -> Tally {
        let mut tally = Tally { matching: vec![0; self.quantifiers.len()], total: 0 };
        for task in tasks {
            self.add(task, &mut tally);
        }
        tally
    }

    /// There is one more.
    pub(crate) fn add(&self, task: &Task, tally: &mut Tally) {
        tally.total += 1;
        for (quantifier, matching) in self.quantifiers.iter().zip(&mut tally.matching) {
            *matching += usize::from(quantifier.matches(task));
        }
    }

    /// One that was counted is gone.
    pub(crate) fn remove(&self, task: &Task, tally: &mut Tally) {
        tally.total -= 1;
        for (quantifier, matching) in self.quantifiers.iter().zip(&mut tally.matching) {
            *matching -= usize::from(quantifier.matches(task));
        }
    }

    /// Whether it holds. `all` of no task at all is so only if `allow_empty`.
    pub(crate) fn holds(&self, tally: &Tally, allow_empty: bool) -> bool {
        self.logic.holds(&|number| self.quantifier_holds(*number, tally, allow_empty))
    }

    fn quantifier_holds(&self, number: usize, tally: &Tally, allow_empty: bool) -> bool {
        let (matching, total) = (tally.matching[number], tally.total);
        match self.quantifiers[number].kind {
            Kind::All => matching == total && (total > 0 || allow_empty),
            Kind::Any => matching > 0,
            Kind::None => matching == 0,
            Kind::Count(order, than) => order.holds(matching as u64, than),
        }
    }

    /// What is in the way, for a person; nothing if it holds.
    pub(crate) fn missing(&self, tally: &Tally, allow_empty: bool, tasks: &[&Task]) -> String {
        let mut culprits = Vec::new();
        let is_so = |number: &usize| self.quantifier_holds(*number, tally, allow_empty);
        self.logic.culprits(true, &is_so, &mut culprits);
        let mut said = String::new();
        for (number, wanted) in culprits {
            if !said.is_empty() {
                said.push_str("; ");
            }
            self.say(number, wanted, tally, tasks, &mut said);
        }
        said
    }

    /// Why a quantifier is not as `wanted`. Writing to a string does not fail.
    fn say(&self, number: usize, wanted: bool, tally: &Tally, tasks: &[&Task], said: &mut String) {
        let quantifier = &self.quantifiers[number];
        let (matching, total) = (tally.matching[number], tally.total);
        let _ = write!(said, "{}", Visible(&quantifier.text));
        // Those that would have to be otherwise.
        let named = match (quantifier.kind, wanted) {
            (Kind::All, true) if total > 0 => Some((total - matching, false)),
            (Kind::None, true) | (Kind::Any, false) => Some((matching, true)),
            _ => None,
        };
        let Some((count, is_matching)) = named else {
            let _ = match total {
                0 => write!(said, ": there is no task"),
                _ => write!(said, ": {matching} of {}", tasks_in_words(total)),
            };
            return;
        };
        let _ = write!(
            said,
            ": {count} of {} {}",
            tasks_in_words(total),
            match is_matching {
                true => "still so",
                false => "not so",
            }
        );
        let culprits =
            tasks.iter().filter(|task| quantifier.matches(task) == is_matching).take(NAMED);
        for (nth, task) in culprits.enumerate() {
            let title = output::title(&task.title);
            let _ = write!(said, "{} {title}", if nth == 0 { ":" } else { "," });
            quantifier.say_fields(task, said);
        }
        if count > NAMED {
            said.push_str(", …");
        }
    }
}

/// `1 task`, `7 tasks`
pub(crate) fn tasks_in_words(count: usize) -> String {
    if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") }
}

impl<T> Logic<T> {
    fn holds(&self, is_so: &impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Is(it) => is_so(it),
            Self::Not(it) => !it.holds(is_so),
            Self::And(them) => them.iter().all(|it| it.holds(is_so)),
            Self::Or(them) => them.iter().any(|it| it.holds(is_so)),
        }
    }

    /// The parts that keep it from being as `wanted`, and what they would have to be.
    fn culprits(&self, wanted: bool, is_so: &impl Fn(&T) -> bool, found: &mut Vec<(T, bool)>)
    where
        T: Copy,
    {
        if self.holds(is_so) == wanted {
            return;
        }
        match self {
            Self::Is(it) => found.push((*it, wanted)),
            Self::Not(it) => it.culprits(!wanted, is_so, found),
            Self::And(them) | Self::Or(them) => {
                them.iter().for_each(|it| it.culprits(wanted, is_so, found));
            }
        }
    }

    fn visit<'a>(&'a self, visit: &mut impl FnMut(&'a T)) {
        match self {
            Self::Is(it) => visit(it),
            Self::Not(it) => it.visit(visit),
            Self::And(them) | Self::Or(them) => them.iter().for_each(|it| it.visit(visit)),
        }
    }
}

impl Quantifier {
    fn matches(&self, task: &Task) -> bool {
        self.test.as_ref().is_none_or(|test| test.holds(&|test| test.holds(task)))
    }

    /// `(status pending, assignee –)`: what it asks about.
    fn say_fields(&self, task: &Task, said: &mut String) {
        let mut fields = Vec::new();
        if let Some(test) = &self.test {
            test.visit(&mut |test| {
                if test.field != Field::Title && !fields.contains(&test.field) {
                    fields.push(test.field);
                }
            });
        }
        for (nth, field) in fields.iter().enumerate() {
            let _ = write!(said, "{}{} ", if nth == 0 { " (" } else { ", " }, field.name());
            let _ = match &*field.text(task) {
                "" => write!(said, "–"),
                text => write!(said, "{}", output::word(text)),
            };
        }
        if !fields.is_empty() {
            said.push(')');
        }
    }
}

impl Test {
    fn holds(&self, task: &Task) -> bool {
        match &self.check {
            Check::In(words) => words.contains(&self.field.text(task).into_owned()),
            Check::Contains(part) => self.field.text(task).to_lowercase().contains(part),
            Check::Has(tag) => task.tags.contains(tag),
            Check::Number(order, than) => order.holds(task.version, *than),
        }
    }
}

impl Field {
    /// What it holds. Nobody is the empty text.
    fn text(self, task: &Task) -> Cow<'_, str> {
        match self {
            Self::Id => task.id.to_string().into(),
            Self::Repository => task.repository.as_str().into(),
            Self::Title => task.title.as_str().into(),
            Self::Status => task.status.as_str().into(),
            Self::Priority => task.priority.as_str().into(),
            Self::Assignee => task.assignee.as_deref().unwrap_or_default().into(),
            Self::Tags => task.tags.join(", ").into(),
            Self::Version => task.version.to_string().into(),
        }
    }
}

impl Order {
    fn holds(self, number: u64, than: u64) -> bool {
        match self {
            Self::Equal => number == than,
            Self::NotEqual => number != than,
            Self::Less => number < than,
            Self::AtMost => number <= than,
            Self::More => number > than,
            Self::AtLeast => number >= than,
        }
    }
}
