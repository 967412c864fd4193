//! What the board looks like. The pictures are in `snapshots`; `INSTA_UPDATE=always` draws them anew.

use insta::assert_snapshot;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use taskwatch_client::{Task, Update};
use unicode_width::UnicodeWidthStr;

use super::*;
use crate::board::story::{
    changed, connected, created, deleted, fresh, gap, interrupted, moment, replayed, snapshot, task,
};

const PLAIN: Look = Look { has_colours: false };
const COLOURED: Look = Look { has_colours: true };

/// Some tasks of some people, most of them with all that a column can show.
fn tasks() -> Vec<Task> {
    let mut tasks = vec![
        task(1, "Water the plants", "pending", 70),
        task(2, "Fix login on the phone, where the keyboard hides the button", "pending", 50),
        task(3, "Write the changelog", "in_progress", 40),
        task(4, "Move to the new office", "in_progress", 30),
        task(5, "Order new chairs", "completed", 3_000),
        task(6, "Buy a boat", "cancelled", 9_000),
        task(7, "Ask the landlord", "on_hold", 600),
    ];
    for (task, who) in tasks.iter_mut().zip(["ana", "ben", "ana", "cy", "ben", "ana", "cy"]) {
        task.assignee = Some(who.to_owned());
    }
    tasks[1].priority = Priority::High;
    tasks[2].tags = vec!["docs".to_owned(), "1.0".to_owned()];
    tasks
}

/// A board of these tasks, one of which has just begun.
fn board(watched: &[&str], tasks: &[Task]) -> Model {
    let watched: Vec<_> = watched.iter().map(|name| name.parse().unwrap()).collect();
    let mut model = Model::new(&watched, "http://127.0.0.1:8787");
    for update in [Update::Connecting { attempt: 1 }, connected(false), snapshot(tasks)] {
        model.update(update, &moment(0));
    }
    model
}

fn busy() -> Model {
    let tasks = tasks();
    let mut model = board(&["acme/api"], &tasks);
    let begun = changed(&tasks[0], 1_000, |task| task.status = Status::InProgress);
    model.update(begun, &moment(1_000));
    model.update(created(&task(8, "Answer the mail", "pending", 0), 2_000), &moment(2_000));
    model.update(deleted(&tasks[5], 2_500), &moment(2_500));
    model.update(fresh(180), &moment(2_600));
    model
}

fn press(model: &mut Model, keys: impl IntoIterator<Item = KeyCode>) {
    for code in keys {
        model.key(KeyEvent::new(code, KeyModifiers::NONE));
    }
}

fn cells_of(model: &mut Model, millis: u64, look: Look, width: u16, height: u16) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    let shown = draw(model, &moment(millis), look, area, &mut buffer);
    model.shown(shown);
    buffer
}

/// The picture as text, with its right edge.
fn picture(model: &mut Model, millis: u64, width: u16, height: u16) -> String {
    let buffer = cells_of(model, millis, PLAIN, width, height);
    let mut text = String::new();
    for y in 0..height {
        let mut x = 0;
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            text.push_str(symbol);
            // A wide character hides the cell behind it.
            x += symbol.width().max(1) as u16;
        }
        text.push_str("|\n");
    }
    text
}

#[test]
fn the_usual_terminal() {
    assert_snapshot!(picture(&mut busy(), 3_000, 80, 24));
}

#[test]
fn a_small_terminal() {
    assert_snapshot!(picture(&mut busy(), 3_000, 40, 12));
}

#[test]
fn a_large_terminal_and_several_repositories() {
    let mut tasks = tasks();
    tasks[0].repository = "acme/web".parse().unwrap();
    let mut model = board(&["acme/*"], &tasks);
    let begun = changed(&tasks[0], 1_000, |task| task.status = Status::InProgress);
    model.update(begun, &moment(1_000));
    press(&mut model, [KeyCode::Down, KeyCode::Right]);
    assert_snapshot!(picture(&mut model, 3_000, 120, 40));
}

#[test]
fn a_terminal_that_is_too_small() {
    for (width, height) in [(29, 24), (80, 7), (12, 2), (1, 1), (0, 0)] {
        let text = picture(&mut busy(), 3_000, width, height);
        let told: String = "The terminal is too small:".chars().take(width.into()).collect();
        let told = told.chars().take(3).collect::<String>();
        assert!(width < 4 || text.starts_with(&told), "{text}");
    }
    assert_snapshot!(picture(&mut busy(), 3_000, 28, 4));
}

#[test]
fn wide_characters() {
    let mut tasks = vec![
        task(1, "植物に水をやる、そして窓を閉める", "pending", 4),
        task(2, "Party 🎉🎉🎉🎉🎉🎉🎉🎉", "pending", 5),
        task(3, "❤\u{fe0f} to all of you, 世界", "completed", 6),
        task(4, "e\u{301}te\u{301} \u{1b}[2J\u{202e}", "in_progress", 7),
    ];
    tasks[0].assignee = Some("田中".to_owned());
    let mut model = board(&["acme/api"], &tasks);
    model.update(changed(&tasks[1], 500, |task| task.title.push('🎉')), &moment(500));
    assert_snapshot!(picture(&mut model, 1_000, 80, 16));
}

#[test]
fn a_filter_while_it_is_typed() {
    let mut model = busy();
    press(&mut model, "/the".chars().map(KeyCode::Char));
    assert_snapshot!("a_filter_while_it_is_typed", picture(&mut model, 3_000, 80, 16));
    press(&mut model, [KeyCode::Enter]);
    let kept = picture(&mut model, 3_000, 80, 16);
    assert!(kept.contains(" /the  Esc clear"), "{kept}");
}

#[test]
fn details() {
    let mut tasks = tasks();
    tasks[2].description = "What is new, and what is no more.\n\n\tOnly what somebody notices: \
         a line for each change, the last version on top, and how to move there from the one before."
        .to_owned();
    let mut model = board(&["acme/api"], &tasks);
    press(&mut model, [KeyCode::Right, KeyCode::Down, KeyCode::Enter]);
    assert_snapshot!("details_asking", picture(&mut model, 3_000, 80, 24));
    let update = changed(&tasks[2], 3_500, |task| {
        task.assignee = None;
        task.priority = Priority::High;
    });
    model.update(update, &moment(3_500));
    let Update::Event(first) = created(&tasks[2], 0) else { panic!("an event") };
    let change = Change::new(&first, first.timestamp, false, &moment(0));
    model.history(tasks[2].id, Ok(vec![change]));
    press(&mut model, [KeyCode::End]);
    assert_snapshot!("details_with_history", picture(&mut model, 4_000, 60, 16));
    model.history(tasks[2].id, Err("the server refused: \u{9b}no (403)".to_owned()));
    let shown = Task::clone(model.tasks.get(tasks[2].id).unwrap());
    model.update(deleted(&shown, 4_000), &moment(4_000));
    press(&mut model, [KeyCode::Home]);
    assert_snapshot!("details_of_a_task_that_is_gone", picture(&mut model, 5_000, 80, 30));
}

#[test]
fn help() {
    let mut model = busy();
    press(&mut model, [KeyCode::Char('?')]);
    assert_snapshot!(picture(&mut model, 3_000, 80, 16));
}

#[test]
fn a_cut_and_the_way_back() {
    let mut model = busy();
    model.update(interrupted(2_400), &moment(3_000));
    assert_snapshot!("reconnecting", picture(&mut model, 3_000, 80, 14));
    model.update(connected(true), &moment(44_000));
    let missed = task(9, "Missed", "pending", 0);
    model.update(replayed(created(&missed, 30_000)), &moment(44_000));
    let away = std::time::Duration::from_secs(41);
    model.update(Update::CaughtUp { replayed: 14, away }, &moment(44_100));
    assert_snapshot!("reconnected", picture(&mut model, 44_200, 80, 14));
}

#[test]
fn a_gap() {
    let mut model = busy();
    model.update(gap(), &moment(3_000));
    assert_snapshot!(picture(&mut model, 3_100, 100, 14));
}

#[test]
fn before_there_is_anything() {
    let model = &mut Model::new(&["*".parse().unwrap()], "http://127.0.0.1:8787/\u{1b}[2J");
    assert_snapshot!(picture(model, 0, 80, 10));
}

#[test]
fn a_task_far_down_is_shown_when_it_is_selected() {
    let tasks: Vec<_> = (1..=200)
        .map(|number| task(number, &format!("task {number}"), "pending", number))
        .collect();
    let mut model = board(&["acme/api"], &tasks);
    assert!(picture(&mut model, 0, 80, 24).contains("task 1 "));
    press(&mut model, std::iter::repeat_n(KeyCode::Down, 90));
    let far = picture(&mut model, 0, 80, 24);
    assert!(far.contains("task 90 ") && !far.contains("task 1 "), "{far}");
    press(&mut model, [KeyCode::PageDown]);
    let further = picture(&mut model, 0, 80, 24);
    assert!(further.contains("task 97 ") && !further.contains("task 90 "), "{further}");
    press(&mut model, [KeyCode::End]);
    let end = picture(&mut model, 0, 80, 24);
    assert!(end.contains("task 200 ") && end.contains("task 194 "), "{end}");
}

#[test]
fn colours_are_for_those_who_want_them() {
    let has_colours = |look| {
        let mut model = busy();
        model.update(interrupted(2_400), &moment(3_000));
        press(&mut model, [KeyCode::Down]);
        let buffer = cells_of(&mut model, 3_000, look, 80, 24);
        let is_coloured =
            |cell: &ratatui::buffer::Cell| cell.fg != Color::Reset || cell.bg != Color::Reset;
        // What is selected is told apart in any case: its two lines, the bar and the focused head.
        let reversed =
            buffer.content().iter().filter(|cell| cell.modifier.contains(Modifier::REVERSED));
        assert_eq!(reversed.count(), 80 + 3 * 15);
        buffer.content().iter().any(is_coloured)
    };
    assert!(has_colours(COLOURED) && !has_colours(PLAIN));
}

proptest::proptest! {
    #[test]
    fn any_size_and_any_text_can_be_drawn(
        width in 0_u16..140, height in 0_u16..50, title: String, status in "\\PC{1,30}",
        keys in proptest::collection::vec(0..8_usize, 0..6),
    ) {
        let codes = [
            KeyCode::Down, KeyCode::Right, KeyCode::Enter, KeyCode::Char('/'), KeyCode::Char('?'),
            KeyCode::Esc, KeyCode::End, KeyCode::PageDown,
        ];
        let mut odd = task(1, &title, &status, 1);
        odd.description = title.clone();
        odd.assignee = Some(title);
        let mut model = board(&["acme/*"], &[odd, task(2, "two", "pending", 2)]);
        for key in keys {
            press(&mut model, [codes[key]]);
            cells_of(&mut model, 0, COLOURED, width, height);
        }
        let buffer = cells_of(&mut model, 0, PLAIN, width, height);
        let hazardous = |cell: &ratatui::buffer::Cell| {
            cell.symbol().contains(crate::escape::is_hazardous)
        };
        proptest::prop_assert!(!buffer.content().iter().any(hazardous));
    }
}
