//! Tasks in columns that fit the terminal. Pure, but for the question how wide that is.

use std::io::{self, IsTerminal};

use taskwatch_client::Task;
use unicode_width::UnicodeWidthStr;

use crate::escape::Visible;

/// Between columns.
const GAP: usize = 2;
/// Whose names are longer is cut.
const MAX_ASSIGNEE: usize = 20;
/// What a title should have at least; other columns give way to it.
const TITLE: usize = 20;
/// With less room than this beside the id, a title has a line of its own.
const MIN_TITLE: usize = 8;

/// How wide the terminal is; `None` if stdout is none, so that nothing is cut.
pub(super) fn terminal_width() -> Option<usize> {
    let size = io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    size.map(|(width, _)| usize::from(width.0))
}

/// A column, and how early it gives way to the titles: the highest first, 0 never.
struct Column {
    name: &'static str,
    yields: u8,
    cells: Vec<String>,
}

/// A line of names, and one for each task; nothing for none.
pub(super) fn table(tasks: &[&Task], with_repository: bool, width: Option<usize>) -> String {
    let column = |name, yields, cell: &dyn Fn(&Task) -> String| Column {
        name,
        yields,
        cells: tasks.iter().map(|task| cell(task)).collect(),
    };
    let visible = |text: &str| Visible(text).to_string();
    let mut columns = vec![
        column("ID", 0, &|task| task.id.to_string()),
        column("STATUS", 1, &|task| visible(task.status.as_str())),
        column("PRIORITY", 4, &|task| visible(task.priority.as_str())),
        column("ASSIGNEE", 3, &|task| match &task.assignee {
            Some(who) => cut(&visible(who), MAX_ASSIGNEE),
            None => "–".to_owned(),
        }),
    ];
    if with_repository {
        columns.push(column("REPOSITORY", 2, &|task| task.repository.to_string()));
    }
    let title = column("TITLE", 0, &|task| visible(&task.title));
    if tasks.is_empty() {
        return String::new();
    }
    let room = width.map_or(usize::MAX, |width| fit(&mut columns, title.width(), width));
    if let (Some(width), ..MIN_TITLE) = (width, room) {
        let rows = columns[0].cells.iter().zip(&title.cells);
        return rows
            .map(|(id, title)| format!("{id}\n  {}\n", cut(title, width.saturating_sub(2))))
            .collect();
    }
    let widths: Vec<_> = columns.iter().map(Column::width).collect();
    let mut lines = String::new();
    let line = |lines: &mut String, cells: &mut dyn Iterator<Item = &str>, title: &str| {
        for (cell, width) in cells.zip(&widths) {
            lines.push_str(cell);
            lines.extend(std::iter::repeat_n(' ', width - cell.width() + GAP));
        }
        lines.push_str(&cut(title, room));
        lines.push('\n');
    };
    line(&mut lines, &mut columns.iter().map(|column| column.name), title.name);
    for (row, title) in title.cells.iter().enumerate() {
        line(&mut lines, &mut columns.iter().map(|column| &*column.cells[row]), title);
    }
    lines
}

/// Leaves columns out until titles have room: how much they have.
fn fit(columns: &mut Vec<Column>, title: usize, width: usize) -> usize {
    loop {
        let taken: usize = columns.iter().map(|column| column.width() + GAP).sum();
        let room = width.saturating_sub(taken);
        let first = columns.iter().enumerate().max_by_key(|(_, column)| column.yields);
        match first {
            Some((at, column)) if room < title.min(TITLE) && column.yields > 0 => {
                columns.remove(at);
            }
            _ => return room,
        }
    }
}

impl Column {
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.width());
        cells.fold(self.name.width(), usize::max)
    }
}

/// As much of a text as fits into so many columns of the terminal.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if short.width() >= width {
            short.pop();
            break;
        }
    }
    short + "…"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(title: &str, repository: &str, assignee: Option<&str>) -> Task {
        serde_json::from_value(json!({
            "id": "019abb4e-5c00-7a31-8f02-6d1c0b9e4a77", "repository": repository, "title": title,
            "status": "in_progress", "priority": "high", "assignee": assignee,
            "created_at": "2026-11-22T09:58:00Z", "updated_at": "2026-11-22T09:58:00Z", "version": 1,
        }))
        .unwrap()
    }

    const ID: &str = "019abb4e-5c00-7a31-8f02-6d1c0b9e4a77";

    #[test]
    fn columns_are_aligned_also_with_wide_characters() {
        let tasks = [
            task("Water the plants", "foo", Some("ana")),
            task("植物に水をやる", "foo", Some("日本")),
        ];
        let tasks: Vec<_> = tasks.iter().collect();
        assert_eq!(
            table(&tasks, false, None),
            format!(
                "ID                                    STATUS       PRIORITY  ASSIGNEE  TITLE\n\
                 {ID}  in_progress  high      ana       Water the plants\n\
                 {ID}  in_progress  high      日本      植物に水をやる\n"
            )
        );
        assert_eq!(table(&[], true, None), "");
    }

    #[test]
    fn what_matters_less_gives_way_to_titles_which_are_cut() {
        let long = "植物に水をやる".repeat(20);
        let task = task(&long, "github.com/acme/api", None);
        for (width, names) in [
            (200, &["ID", "STATUS", "PRIORITY", "ASSIGNEE", "REPOSITORY", "TITLE"][..]),
            (104, &["ID", "STATUS", "ASSIGNEE", "REPOSITORY", "TITLE"]),
            (94, &["ID", "STATUS", "REPOSITORY", "TITLE"]),
            (80, &["ID", "STATUS", "TITLE"]),
            (70, &["ID", "TITLE"]),
            (47, &["ID", "TITLE"]),
        ] {
            let table = table(&[&task], true, Some(width));
            let shown: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
            assert_eq!(shown, names, "{width}");
            for line in table.lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
            assert!(table.ends_with("…\n"), "{table}");
        }
        let narrow = table(&[&task], true, Some(40));
        let [id, title] = narrow.lines().collect::<Vec<_>>()[..] else { panic!("{narrow}") };
        assert!(id == ID && title.starts_with("  植物") && title.width() <= 40, "{narrow}");
        // Too narrow for an id: the line breaks, but nothing of it is lost.
        assert!(table(&[&task], true, Some(1)).starts_with(ID));
    }

    #[test]
    fn what_would_drive_a_terminal_is_shown() {
        let task = task("a\u{1b}[2Jb", "foo", Some("\u{202e}"));
        let table = table(&[&task], false, None);
        assert!(table.contains(r"a\u{1b}[2Jb") && table.contains(r"\u{202e}"), "{table}");
    }

    #[test]
    fn a_cut_takes_no_half_of_a_character() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
    }
}
