//! Updates and keys in, what is shown out.

mod property;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use taskwatch_client::Priority;

use super::*;
use crate::board::story::{
    changed, connected, created, deleted, fresh, gap, interrupted, moment, replayed, snapshot, task,
};

fn board() -> Model {
    Model::new(&["acme/api".parse().unwrap()], "http://127.0.0.1:8787")
}

fn present(tasks: &[Task]) -> Model {
    let mut model = board();
    model.update(connected(false), &moment(0));
    assert!(model.update(snapshot(tasks), &moment(0)));
    model
}

fn press(model: &mut Model, keys: &str) -> Option<Action> {
    keys.split(' ').fold(None, |_, key| {
        let (code, modifiers) = match key {
            "Enter" => (KeyCode::Enter, KeyModifiers::NONE),
            "Esc" => (KeyCode::Esc, KeyModifiers::NONE),
            "Backspace" => (KeyCode::Backspace, KeyModifiers::NONE),
            "PageDown" => (KeyCode::PageDown, KeyModifiers::NONE),
            key => match key.strip_prefix("C-") {
                Some(key) => (KeyCode::Char(key.chars().next().unwrap()), KeyModifiers::CONTROL),
                None => (KeyCode::Char(key.chars().next().unwrap()), KeyModifiers::NONE),
            },
        };
        model.key(KeyEvent::new(code, modifiers))
    })
}

/// The titles in each column, from top to bottom.
fn titles(model: &Model) -> Vec<(String, Vec<String>)> {
    let title = |id: &Uuid| model.tasks.get(*id).unwrap().title.clone();
    let column = |column: &Column| {
        let titles = column.places.iter().map(|(_, id)| title(id)).collect();
        (column.status.to_string(), titles)
    };
    model.columns.iter().map(column).collect()
}

fn column(model: &Model, status: &str) -> Vec<String> {
    titles(model).into_iter().find(|(name, _)| name == status).unwrap().1
}

fn selected(model: &Model) -> Option<String> {
    model.selected_task().map(|task| task.title.clone())
}

#[test]
fn tasks_stand_by_status_and_the_last_changed_on_top() {
    let tasks = [
        task(1, "old", "pending", 60),
        task(2, "new", "pending", 5),
        task(3, "odd", "on_hold", 1),
        task(4, "done", "completed", 9),
    ];
    let mut model = present(&tasks);
    let names: Vec<_> = titles(&model).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["pending", "in_progress", "completed", "cancelled", "on_hold"]);
    assert_eq!(column(&model, "pending"), ["new", "old"]);

    model.update(changed(&tasks[0], 10, |task| task.title = "fresh".into()), &moment(20));
    assert_eq!(column(&model, "pending"), ["fresh", "new"]);
    model.update(changed(&tasks[2], 30, |task| task.status = "completed".into()), &moment(30));
    assert_eq!(column(&model, "completed"), ["odd", "done"]);
    let names: Vec<_> = titles(&model).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["pending", "in_progress", "completed", "cancelled"]);
}

#[test]
fn what_changed_is_marked_for_a_while() {
    let tasks = [task(1, "one", "pending", 60)];
    let mut model = present(&tasks);
    assert_eq!(model.mark(tasks[0].id), None);
    model.update(changed(&tasks[0], 100, |task| task.title = "two".into()), &moment(100));
    let new = task(2, "new", "pending", 0);
    model.update(created(&new, 200), &moment(200));
    assert_eq!(model.mark(tasks[0].id), Some(EventKind::Updated));
    assert_eq!(model.mark(new.id), Some(EventKind::Created));
    assert_eq!(model.due(&moment(200)), Some(Duration::from_millis(4_100)));
    model.expire(&moment(4_100));
    assert_eq!(model.mark(tasks[0].id), None);
    assert_eq!(model.mark(new.id), Some(EventKind::Created));
    model.update(deleted(&new, 4_150), &moment(4_150));
    assert_eq!(model.mark(new.id), None);
    assert_eq!(model.due(&moment(4_150)), None);
}

#[test]
fn what_is_selected_stays_so_while_others_change() {
    let tasks =
        [1, 2, 3].map(|number| task(number, &format!("task {number}"), "pending", 10 * number));
    let mut model = present(&tasks);
    press(&mut model, "j j");
    assert_eq!(selected(&model).as_deref(), Some("task 2"));
    model.update(changed(&tasks[2], 10, |task| task.priority = Priority::High), &moment(10));
    model.update(created(&task(4, "another", "pending", 0), 20), &moment(20));
    assert_eq!(selected(&model).as_deref(), Some("task 2"));
    assert_eq!(model.focused(), 0);

    // It is followed to another column.
    model.update(changed(&tasks[1], 30, |task| task.status = "completed".into()), &moment(30));
    assert_eq!((selected(&model).as_deref(), model.focused()), (Some("task 2"), 2));

    // And when it goes, its neighbour takes its place.
    press(&mut model, "h h g");
    assert_eq!(column(&model, "pending"), ["task 3", "another", "task 1"]);
    assert_eq!(selected(&model).as_deref(), Some("task 3"));
    let shown = model.tasks.get(tasks[2].id).unwrap().as_ref().clone();
    model.update(deleted(&shown, 40), &moment(40));
    assert_eq!(selected(&model).as_deref(), Some("another"));
}

#[test]
fn keys_go_from_column_to_column_beside_each_other() {
    let tasks =
        [task(1, "a", "pending", 1), task(2, "b", "pending", 2), task(3, "c", "completed", 1)];
    let mut model = present(&tasks);
    press(&mut model, "G l");
    assert_eq!((selected(&model), model.focused()), (None, 1));
    press(&mut model, "l");
    assert_eq!((selected(&model).as_deref(), model.focused()), (Some("c"), 2));
    press(&mut model, "l l l");
    assert_eq!((selected(&model), model.focused()), (None, 3));
    press(&mut model, "h h h j j PageDown");
    assert_eq!((selected(&model).as_deref(), model.focused()), (Some("b"), 0));
    press(&mut model, "Esc");
    assert_eq!(selected(&model), None);
}

#[test]
fn a_filter_is_typed_and_cleared() {
    let mut tasks = [
        task(1, "Water the plants", "pending", 1),
        task(2, "Fix login", "pending", 2),
        task(3, "Fix logout", "completed", 3),
    ];
    tasks[0].assignee = Some("Ana".into());
    tasks[1].tags = vec!["Urgent".into()];
    let mut model = present(&tasks);
    let shown =
        |model: &Model| titles(model).into_iter().flat_map(|(_, it)| it).collect::<Vec<_>>();
    press(&mut model, "G / F i x");
    assert!(model.is_typing());
    assert_eq!(shown(&model), ["Fix login", "Fix logout"]);
    assert_eq!(selected(&model).as_deref(), Some("Fix login"), "what is selected is shown");
    // Keys are letters meanwhile; each word must stand somewhere.
    for c in " q".chars() {
        model.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE));
    }
    assert_eq!(shown(&model), Vec::<String>::new());
    assert_eq!(selected(&model), None);
    press(&mut model, "Backspace u r g");
    assert_eq!(shown(&model), ["Fix login"]);
    press(&mut model, "Enter");
    assert!(!model.is_typing());

    // What comes is filtered, and counted.
    model.update(created(&task(4, "Fix me", "pending", 0), 10), &moment(10));
    model.update(created(&task(5, "Fix it urgently", "pending", 0), 20), &moment(20));
    assert_eq!(shown(&model), ["Fix it urgently", "Fix login"]);
    assert_eq!(model.columns.get(0).unwrap().total, 4);

    press(&mut model, "Esc");
    assert_eq!(shown(&model).len(), 5);
    for (words, count) in
        [("a n a", 1), ("a c m e", 5), ("0 1 9 2 f 0 c 1", 5), ("n o w h e r e", 0)]
    {
        press(&mut model, &format!("/ {words} Enter"));
        assert_eq!(shown(&model).len(), count, "{words}");
        press(&mut model, "Esc");
    }
}

#[test]
fn details_follow_their_task() {
    let tasks = [task(1, "one", "pending", 1)];
    let mut model = present(&tasks);
    let id = tasks[0].id;
    model.update(changed(&tasks[0], 10, |task| task.title = "two".into()), &moment(10));
    assert_eq!(press(&mut model, "Enter"), Some(Action::FetchHistory(id)));
    let details = |model: &Model| match &model.page {
        Page::Details(details) => details.as_ref().clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((&*details(&model).task.title, details(&model).changes.len()), ("two", 1));
    assert_eq!(details(&model).history, History::Loading);

    // The history holds what was seen as well.
    let changes: Vec<_> = details(&model).changes;
    let first = Change { version: 1, ..changes[0].clone() };
    model.history(Uuid::from_u128(9), Err("another".into()));
    assert_eq!(details(&model).history, History::Loading);
    model.history(id, Ok(vec![first, changes[0].clone()]));
    let versions =
        |model: &Model| details(model).changes.iter().map(|it| it.version).collect::<Vec<_>>();
    assert_eq!((versions(&model), details(&model).history), (vec![2, 1], History::Whole));

    let shown = model.tasks.get(id).unwrap().as_ref().clone();
    model.update(deleted(&shown, 20), &moment(20));
    assert!(details(&model).is_gone);
    assert_eq!((versions(&model), &*details(&model).task.title), (vec![3, 2, 1], "two"));
    press(&mut model, "Esc");
    assert!(matches!(model.page, Page::Board { is_typing: false }));
    assert_eq!(press(&mut model, "Enter"), None, "there is nothing to open");
}

#[test]
fn the_connection_says_how_it_stands() {
    let mut model = board();
    let text = |model: &Model, millis| model.link.text(Duration::from_millis(millis));
    assert_eq!(text(&model, 0), "connecting to http://127.0.0.1:8787");
    model.update(connected(false), &moment(0));
    assert_eq!(text(&model, 0), "catching up over WebSocket");
    model.update(snapshot(&[]), &moment(0));
    assert_eq!(text(&model, 0), "live over WebSocket");
    model.update(fresh(180), &moment(200));
    assert_eq!(text(&model, 200), "live over WebSocket · 0.2 s behind");
    model.update(created(&task(2, "seen", "pending", 0), 300), &moment(300));
    assert_eq!(text(&model, 300), "live over WebSocket · 0.2 s behind");
    assert_eq!(model.link.due(moment(300).elapsed), Some(Duration::from_millis(6_200)));
    let unchecked = "live over WebSocket · 0.2 s behind · checked 7 s ago";
    assert_eq!(text(&model, 7_300), unchecked);
    assert_eq!(model.link.due(moment(7_300).elapsed), Some(Duration::from_millis(8_200)));
    model.update(interrupted(2_500), &moment(1_000));
    assert_eq!(text(&model, 1_000), "reconnecting in 3 s: the connection was cut");
    assert_eq!(model.link.due(moment(1_000).elapsed), Some(Duration::from_millis(1_500)));
    assert_eq!(text(&model, 1_500), "reconnecting in 2 s: the connection was cut");
    assert_eq!(model.link.due(moment(1_500).elapsed), Some(Duration::from_millis(2_500)));
    assert_eq!(text(&model, 3_500), "reconnecting: the connection was cut");
    assert_eq!(model.link.due(moment(3_500).elapsed), None);
    model.update(connected(true), &moment(3_600));
    let missed = task(1, "missed", "pending", 0);
    model.update(replayed(created(&missed, 2_000)), &moment(3_600));
    assert_eq!(text(&model, 3_600), "catching up over WebSocket");
    let away = Duration::from_millis(2_600);
    model.update(Update::CaughtUp { replayed: 1, away }, &moment(3_700));
    assert_eq!(text(&model, 3_700), "live over WebSocket");
    let notice = model.notice().unwrap();
    assert_eq!(notice.text, "reconnected after 2.6 s · 1 replayed · 0 lost");
    model.expire(&moment(33_700));
    assert_eq!(model.notice(), None);
}

#[test]
fn a_gap_is_told_and_counted() {
    let mut model = present(&[task(1, "one", "pending", 1)]);
    assert!(model.update(gap(), &moment(10)));
    assert_eq!(model.gaps, 1);
    assert_eq!(model.link.text(Duration::ZERO), "catching up over WebSocket");
    let notice = model.notice().unwrap();
    assert!(notice.is_warning && notice.text.contains("events were missed"), "{notice:?}");
    assert_eq!(column(&model, "pending"), ["one"], "shown meanwhile");
    model.update(snapshot(&[]), &moment(20));
    assert_eq!(column(&model, "pending"), Vec::<String>::new());
}

#[test]
fn what_shows_nothing_new_is_said_to() {
    let mut model = present(&[]);
    let bookmark = Update::Bookmark(taskwatch_client::Cursor::new("c-7"));
    assert!(!model.update(bookmark, &moment(10)));
    assert!(!model.update(Update::Connecting { attempt: 2 }, &moment(10)));
    assert!(model.update(created(&task(1, "one", "pending", 0), 10), &moment(10)));
}

#[test]
fn keys_that_end_or_suspend_do_so_everywhere() {
    for page in ["Esc", "/ x", "?", "j Enter"] {
        let mut model = present(&[task(1, "one", "pending", 1)]);
        press(&mut model, page);
        assert_eq!(press(&mut model, "C-c"), Some(Action::Interrupt), "{page}");
        assert_eq!(press(&mut model, "C-z"), Some(Action::Suspend), "{page}");
        assert_eq!(press(&mut model, "C-l"), Some(Action::Redraw), "{page}");
        let quit = (!model.is_typing()).then_some(Action::Quit);
        assert_eq!(press(&mut model, "q"), quit, "{page}");
    }
}
