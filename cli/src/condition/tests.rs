//! Conditions in words, judged beside a model that counts in the plainest way.

use proptest::prelude::*;
use serde_json::json;
use taskwatch_client::protocol::Task;

use super::*;

fn task(number: u32, draw: &Draw) -> Task {
    let tags: Vec<_> = TAGS.iter().take(draw.tags).collect();
    let task = json!({
        "id": format!("0192f0c1-2b3c-7def-8a9b-{number:012}"), "repository": "acme/api",
        "title": TITLES[draw.title], "status": STATUSES[draw.status], "priority": PRIORITIES[draw.priority],
        "assignee": ASSIGNEES[draw.assignee], "tags": tags, "version": draw.version,
        "created_at": "2026-11-22T14:03:22Z", "updated_at": "2026-11-22T14:03:22Z",
    });
    serde_json::from_value(task).unwrap()
}

const STATUSES: [&str; 5] = ["pending", "in_progress", "completed", "cancelled", "on hold"];
const PRIORITIES: [&str; 3] = ["low", "medium", "high"];
const TITLES: [&str; 3] = ["Fix login", "Water \"the\" plants", ""];
const ASSIGNEES: [Option<&str>; 3] = [None, Some("ana"), Some("bo")];
const TAGS: [&str; 2] = ["backend", "and"];

#[derive(Clone, Debug)]
struct Draw {
    title: usize,
    status: usize,
    priority: usize,
    assignee: usize,
    tags: usize,
    version: u64,
}

prop_compose! {
    fn draw()(
        title in 0..3_usize, status in 0..5_usize, priority in 0..3_usize, assignee in 0..3_usize,
        tags in 0..3_usize, version in 1..4_u64,
    ) -> Draw {
        Draw { title, status, priority, assignee, tags, version }
    }
}

/// Something said of tasks, as it is written, and the same as a program.
struct Said<T: ?Sized> {
    text: String,
    is_so: std::sync::Arc<dyn Fn(&T) -> bool>,
}

impl<T: ?Sized> Clone for Said<T> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), is_so: self.is_so.clone() }
    }
}

impl<T: ?Sized> std::fmt::Debug for Said<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn said<T: ?Sized + 'static>(
    text: impl Into<String>,
    is_so: impl Fn(&T) -> bool + 'static,
) -> BoxedStrategy<Said<T>> {
    Just(Said { text: text.into(), is_so: std::sync::Arc::new(is_so) }).boxed()
}

fn test() -> BoxedStrategy<Said<Task>> {
    let quoted = |text: &str| format!("'{text}'");
    let one = prop_oneof![
        prop::sample::select(&STATUSES[..]).prop_flat_map(move |status| {
            said(format!("status=={}", quoted(status)), move |task: &Task| {
                task.status.as_str() == status
            })
        }),
        (0..4_usize, 0..4_usize).prop_flat_map(|(a, b)| {
            let (a, b) = (STATUSES[a], STATUSES[b]);
            said(format!("status not in [{a} , {b}]"), move |task: &Task| {
                ![a, b].contains(&task.status.as_str())
            })
        }),
        prop::sample::select(&PRIORITIES[..]).prop_flat_map(|priority| {
            said(format!("priority != {priority}"), move |task: &Task| {
                task.priority.as_str() != priority
            })
        }),
        prop::sample::select(&ASSIGNEES[..]).prop_flat_map(move |who| {
            let text = format!("assignee = {}", quoted(who.unwrap_or_default()));
            said(text, move |task: &Task| task.assignee.as_deref() == who)
        }),
        said("title ~ \"\\\"THE\\\"\"", |task: &Task| task.title.contains("\"the\"")),
        said("tags has and", |task: &Task| task.tags.iter().any(|tag| tag == "and")),
        (1..4_u64).prop_flat_map(|n| {
            said(format!("version>={n}"), move |task: &Task| task.version >= n)
        }),
        said("version in [1,3]", |task: &Task| [1, 3].contains(&task.version)),
        said("repository == acme/api", |_: &Task| true),
        said("id = 0192F0C1-2B3C-7DEF-8A9B-000000000001", |task: &Task| {
            task.id.to_string().ends_with("01")
        }),
    ];
    together(one.boxed())
}

/// The same things put together, as deep as it goes.
fn together<T: ?Sized + 'static>(leaf: BoxedStrategy<Said<T>>) -> BoxedStrategy<Said<T>> {
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_flat_map(|it| {
                said(format!("not ({})", it.text), move |of: &T| !(it.is_so)(of))
            }),
            (inner.clone(), inner.clone()).prop_flat_map(|(a, b)| {
                said(format!("({}) and ({})", a.text, b.text), move |of: &T| {
                    (a.is_so)(of) && (b.is_so)(of)
                })
            }),
            (inner.clone(), inner).prop_flat_map(|(a, b)| {
                said(format!("({}) or ({})", a.text, b.text), move |of: &T| {
                    (a.is_so)(of) || (b.is_so)(of)
                })
            }),
        ]
        .boxed()
    })
    .boxed()
}

fn quantified(allow_empty: bool) -> BoxedStrategy<Said<[Task]>> {
    let each = (test(), 0..5_usize, 0..4_usize).prop_flat_map(move |(test, kind, n)| {
        let Said { text, is_so } = test;
        let count = move |tasks: &[Task]| tasks.iter().filter(|task| is_so(task)).count();
        match kind {
            0 => said(format!("all({text})"), move |tasks: &[Task]| {
                count(tasks) == tasks.len() && (allow_empty || !tasks.is_empty())
            }),
            1 => said(format!("any({text})"), move |tasks: &[Task]| count(tasks) > 0),
            2 => said(format!("none( {text} )"), move |tasks: &[Task]| count(tasks) == 0),
            3 => said(format!("count({text}) < {n}"), move |tasks: &[Task]| count(tasks) < n),
            _ => said(format!("count() = {n}"), move |tasks: &[Task]| tasks.len() == n),
        }
    });
    together(each.boxed())
}

proptest! {
    #[test]
    fn a_condition_means_what_it_says(
        (allow_empty, condition) in any::<bool>().prop_flat_map(|it| (Just(it), quantified(it))),
        before in prop::collection::vec(draw(), 0..5),
        steps in prop::collection::vec((0..8_u32, prop::option::of(draw())), 0..12),
    ) {
        let parsed: Condition = condition.text.parse().unwrap();
        let mut tasks: std::collections::BTreeMap<u32, Task> =
            (0..).zip(&before).map(|(number, draw)| (number, task(number, draw))).collect();
        let mut tally = parsed.tally(tasks.values());
        for step in std::iter::once(None).chain(steps.into_iter().map(Some)) {
            if let Some((number, draw)) = step {
                let new = draw.map(|draw| task(number, &draw));
                let old = match &new {
                    Some(new) => tasks.insert(number, new.clone()),
                    None => tasks.remove(&number),
                };
                old.iter().for_each(|old| parsed.remove(old, &mut tally));
                new.iter().for_each(|new| parsed.add(new, &mut tally));
            }
            let all: Vec<Task> = tasks.values().cloned().collect();
            prop_assert_eq!(&tally, &parsed.tally(&all));
            let holds = (condition.is_so)(&all);
            prop_assert_eq!(parsed.holds(&tally, allow_empty), holds, "{:?}", all);
            prop_assert_eq!(parsed.missing(&tally, allow_empty, &all.iter().collect::<Vec<_>>()).is_empty(), holds);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}") {
        let _ = text.parse::<Condition>().map_err(|error| error.to_string());
    }

    #[test]
    fn so_is_any_heap_of_pieces(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..20)) {
        let text = pieces.concat();
        if let Err(error) = text.parse::<Condition>() {
            let lines: Vec<String> = error.to_string().lines().map(ToOwned::to_owned).collect();
            prop_assert_eq!(lines.len(), 3, "{}", error);
            let caret = lines[2].chars().position(|c| c == '^').unwrap();
            prop_assert!(caret <= lines[1].chars().count(), "{}", error);
        }
    }
}

const PIECES: &[&str] = &[
    "all",
    "any",
    "none",
    "count",
    "(",
    "(",
    ")",
    ")",
    "[",
    "]",
    ",",
    " and ",
    " or ",
    "not ",
    " in ",
    " has ",
    "status",
    "tags",
    "version",
    "title",
    "==",
    "!=",
    "~",
    ">=",
    "completed",
    "3",
    " ",
    "'",
    "\"a\"",
    "é",
    "\u{202e}",
    "\n",
];

/// Where it is wrong, and what is said there.
fn refused(text: &str) -> [String; 3] {
    let error = text.parse::<Condition>().unwrap_err().to_string();
    let lines: Vec<_> = error.lines().map(ToOwned::to_owned).collect();
    lines.try_into().unwrap()
}

#[test]
fn a_slip_is_pointed_at() {
    let (known, fields) = (
        "pending, in_progress, completed, cancelled",
        "id, repository, title, status, priority, assignee, tags, version",
    );
    for (text, carets, problem, hint) in [
        ("", "^", "it ends too early", "expected all(..), any(..), none(..) or count(..)"),
        (
            "status == completed",
            "^^^^^^",
            "it is not said for which tasks this should be so",
            "put it into all(..), any(..), none(..) or count(..), as in all(status == …)",
        ),
        (
            "all(stat == completed)",
            "    ^^^^",
            "a task has no field `stat`",
            &format!("expected one of {fields}"),
        ),
        (
            "all(status == done)",
            "              ^^^^",
            "`done` is not a status",
            &format!("expected one of {known}; \"done\" if the server knows it"),
        ),
        (
            "any(priority in [low, urgent])",
            "                      ^^^^^^",
            "`urgent` is not a priority",
            "expected one of low, medium, high; \"urgent\" if the server knows it",
        ),
        (
            "all(status completed)",
            "           ^^^^^^^^^",
            "`completed` makes no sense here",
            "expected `==`, `!=`, `~`, `in [..]` or `not in [..]`",
        ),
        (
            "all(status == completed",
            "                       ^",
            "it ends too early",
            "expected `and`, `or` or `)`",
        ),
        (
            "none() && any()",
            "       ^",
            "`&` makes no sense here",
            "expected `and`, `or` or the end",
        ),
        ("count(tags has 'x", "               ^^", "a text has no closing quote", "expected a tag"),
        (
            "any(tags == x)",
            "         ^^",
            "`==` makes no sense here",
            "expected `has`, as in tags has backend",
        ),
        (
            "count() 3",
            "        ^",
            "`3` makes no sense here",
            "expected `>=`, `==` or another comparison",
        ),
        ("count() > x", "          ^", "`x` makes no sense here", "expected a number"),
        ("any(id = 7)", "         ^", "this is not the id of a task", "expected a UUID"),
        (
            "all(title in [])",
            "              ^",
            "`]` makes no sense here",
            "expected a word, or a text in quotes",
        ),
        (
            "\u{202e} any",
            "^^^^^^^^",
            "`\\u{202e}` makes no sense here",
            "expected all(..), any(..), none(..) or count(..)",
        ),
    ] {
        let shown = text.replace('\u{202e}', "\\u{202e}");
        assert_eq!(
            refused(text),
            [problem.to_owned(), format!("  {shown}"), format!("  {carets} {hint}")],
        );
    }
}

#[test]
fn what_is_nested_without_end_is_refused() {
    for nested in
        ["(".repeat(100_000), "not ".repeat(100_000), format!("all({}", "(".repeat(100_000))]
    {
        assert_eq!(refused(&nested)[0], "this is nested too deeply");
    }
    let deep = format!("{}any(){}", "(".repeat(60), ")".repeat(60));
    assert!(deep.parse::<Condition>().is_ok());
}

#[test]
fn a_word_in_quotes_is_taken_and_doubted() {
    let condition: Condition = "all(status == 'done' or priority = \"low\")".parse().unwrap();
    assert_eq!(
        condition.doubts(),
        [
            "`done` is not a status that is known here; these are: pending, in_progress, completed, cancelled"
        ]
    );
}

fn missing_of(condition: &Condition, tasks: &[Task]) -> String {
    condition.missing(&condition.tally(tasks), false, &tasks.iter().collect::<Vec<_>>())
}

#[test]
fn what_is_missing_is_told_with_names() {
    let draw = |title, status, assignee| Draw {
        title,
        status,
        priority: 0,
        assignee,
        tags: 1,
        version: 1,
    };
    let mut tasks = vec![task(1, &draw(0, 0, 0)), task(2, &draw(1, 2, 1)), task(3, &draw(2, 1, 1))];
    for (text, missing) in [
        (
            "all(status == completed)",
            "all(status == completed): 2 of 3 tasks not so: Fix login (status pending), (no title) (status in_progress)",
        ),
        (
            "none(tags has backend and assignee = '')",
            "none(tags has backend and assignee = ''): 1 of 3 tasks still so: Fix login (tags backend, assignee –)",
        ),
        ("any(status = cancelled)", "any(status = cancelled): 0 of 3 tasks"),
        (
            "count(status != pending) > 2 and any() and none(title ~ login)",
            "count(status != pending) > 2: 2 of 3 tasks; none(title ~ login): 1 of 3 tasks still so: Fix login",
        ),
        ("not any()", "any(): 3 of 3 tasks still so: Fix login, Water \"the\" plants, (no title)"),
        ("any()", ""),
    ] {
        let condition: Condition = text.parse().unwrap();
        assert_eq!(missing_of(&condition, &tasks), missing);
    }
    tasks.clear();
    let condition: Condition = "all(status == completed)".parse().unwrap();
    let missing = missing_of(&condition, &tasks);
    assert_eq!(missing, "all(status == completed): there is no task");

    let nasty = Task { title: "\u{1b}[2J\u{202e}".to_owned(), ..task(1, &draw(0, 0, 0)) };
    let four = vec![nasty; 4];
    let missing = missing_of(&condition, &four);
    assert!(
        missing.contains("4 of 4 tasks not so: \\u{1b}[2J\\u{202e} (status pending), "),
        "{missing}"
    );
    assert!(missing.ends_with("(status pending), …"), "{missing}");
}
