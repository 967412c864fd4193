//! `PROTOCOL.md` says what the code does: its types, tables and examples are compared with it.
#![expect(clippy::unwrap_used, reason = "a page of another shape fails the test")]

use std::collections::BTreeSet;

use serde_json::Value;
use taskwatch_protocol::{
    Advice, ClientFrame, ClientMessage, CloseCode, CloseReason, ErrorCode, Mode, OnGap, Priority,
    ResetReason, SUBPROTOCOL, ServerFrame, ServerMessage, Status, VERSION_HEADER,
};

const PAGE: &str = include_str!("../PROTOCOL.md");

/// The text from the heading `title` to the next heading of the same level.
fn section(title: &str) -> &'static str {
    let start = PAGE.find(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("no ## {title}"));
    let body = &PAGE[start + 1..];
    body.find("\n## ").map_or(body, |end| &body[..end])
}

/// The rows of the tables in a section, without headers and rules, split into cells.
fn rows(title: &str) -> Vec<Vec<&'static str>> {
    let lines: Vec<_> = section(title).lines().collect();
    let is_row = |line: &str| line.starts_with("| ") && !line.starts_with("|--");
    let is_header = |i: usize| lines.get(i + 1).is_some_and(|next| next.starts_with("|--"));
    (0..lines.len())
        .filter(|&i| is_row(lines[i]) && !is_header(i))
        .map(|i| lines[i].trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

fn advice(code: CloseCode) -> String {
    match code.advice() {
        Advice::Stop => "stop".into(),
        Advice::BackOff { at_least } if at_least.is_zero() => "back off".into(),
        Advice::BackOff { at_least } => format!("back off, at least {} s", at_least.as_secs()),
        Advice::AtOnce => "come back at once".into(),
    }
}

#[test]
fn every_close_code_has_its_row_and_every_row_its_code() {
    let rows: BTreeSet<String> =
        rows("Closing").iter().map(|cells| format!("| {} |", cells.join(" | "))).collect();
    let expected: BTreeSet<String> = CloseCode::KNOWN
        .iter()
        .map(|&code| {
            let (number, word, meaning) = (code.code(), code.word(), code.meaning());
            format!("| {number} | `{word}` | {meaning} | {} |", advice(code))
        })
        .collect();
    let missing: Vec<_> = expected.difference(&rows).map(String::as_str).collect();
    assert!(missing.is_empty(), "PROTOCOL.md, Closing: add\n{}", missing.join("\n"));
    let stale: Vec<_> = rows.difference(&expected).map(String::as_str).collect();
    assert!(stale.is_empty(), "PROTOCOL.md, Closing: take away\n{}", stale.join("\n"));
}

#[test]
fn every_error_word_has_its_row_and_every_row_its_word() {
    let rows = rows("Errors");
    for code in ErrorCode::KNOWN {
        let (word, retryable) =
            (format!("`{code}`"), if code.is_retryable() { "yes" } else { "no" });
        let fits = |cells: &&Vec<&str>| cells.first() == Some(&&*word);
        let row = rows.iter().find(fits).unwrap_or_else(|| {
            panic!("PROTOCOL.md, Errors: add\n| {word} | what it means | {retryable} |")
        });
        assert_eq!(row.last(), Some(&retryable), "PROTOCOL.md, Errors: retryable of {word}");
    }
    for row in &rows {
        let word = row[0].trim_matches('`');
        assert!(ErrorCode::from(word).is_known(), "PROTOCOL.md, Errors: {word} is no error word");
    }
}

/// The blocks fenced as `json server` and `json client`.
fn examples(direction: &str) -> Vec<&'static str> {
    PAGE.split("\n```json ")
        .skip(1)
        .map(|block| block.split_once('\n').unwrap())
        .filter(|(of, _)| {
            assert!(matches!(*of, "server" | "client"), "```json {of}: server or client?");
            *of == direction
        })
        .map(|(_, rest)| rest.split_once("\n```").unwrap().0)
        .collect()
}

fn expect_example_and_heading(direction: &str, types: &[&str]) {
    let kinds: BTreeSet<String> = examples(direction)
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).unwrap()["type"].as_str().unwrap().into())
        .collect();
    for kind in types {
        assert!(kinds.contains(*kind), "PROTOCOL.md: add a ```json {direction} example of {kind}");
        let heading = PAGE
            .lines()
            .any(|line| line.starts_with("### ") && line.contains(&format!("`{kind}`")));
        assert!(heading, "PROTOCOL.md: add a heading with `{kind}`");
    }
    for kind in kinds {
        assert!(types.contains(&&*kind), "PROTOCOL.md: {kind} is no type of a {direction}");
    }
}

#[test]
fn every_type_has_a_heading_and_an_example() {
    expect_example_and_heading("server", ServerMessage::TYPES);
    expect_example_and_heading("client", ClientMessage::TYPES);
}

#[test]
fn every_example_is_read_and_says_all_there_is() {
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for text in examples("server") {
        let frame = ServerFrame::decode(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(value(&frame.encode()), value(text));
    }
    for text in examples("client") {
        let frame = ClientFrame::decode(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(value(&frame.encode()), value(text));
    }
    assert!(!PAGE.contains("```json\n"), "say whose frame it is: ```json server or client");
}

#[test]
fn every_word_is_named() {
    let words = [
        ("Mode", Mode::KNOWN.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ("ResetReason", ResetReason::KNOWN.iter().map(ToString::to_string).collect()),
        ("OnGap", OnGap::KNOWN.iter().map(ToString::to_string).collect()),
        ("Status", Status::KNOWN.iter().map(ToString::to_string).collect()),
        ("Priority", Priority::KNOWN.iter().map(ToString::to_string).collect()),
    ];
    for (of, words) in words {
        for word in words {
            assert!(PAGE.contains(&format!("`{word}`")), "PROTOCOL.md: `{word}` of {of}");
        }
    }
    assert!(PAGE.contains(VERSION_HEADER) && PAGE.contains(SUBPROTOCOL));
}

#[test]
fn the_example_of_a_close_reason_is_one() {
    let shown = "restart retry_after_ms=1500";
    assert!(section("Closing").contains(&format!("`{shown}`")));
    let reason = CloseReason::parse(shown);
    assert_eq!((&*reason.word, reason.retry_after_ms), ("restart", Some(1500)));
    assert_eq!(reason.to_string(), shown);
}

/// The browser example is short enough to be copied.
#[test]
fn the_browser_example_has_about_thirty_lines() {
    let code = section("A browser client").split("```js\n").nth(1).unwrap();
    let lines = code.split("```").next().unwrap().lines().count();
    assert!((20..=40).contains(&lines), "{lines} lines");
}
