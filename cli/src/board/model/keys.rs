//! What keys do.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{Action, Details, Filter, Model, Page};
use crate::board::entry::Entry;

/// What the board says of its keys, for `?`.
pub(crate) const KEYS: [(&str, &str); 10] = [
    ("← → h l", "the column before, the column behind"),
    ("↑ ↓ k j", "the task above, the task below"),
    ("PgUp PgDn", "a page up, a page down"),
    ("Home End g G", "the first task, the last task"),
    ("Enter", "the details of the task, and what happened to it"),
    ("/", "only what has these words: title, assignee, tag, repository, id"),
    ("Esc", "back; or clear the filter; or select nothing"),
    ("Ctrl-L", "draw everything anew"),
    ("Ctrl-Z", "back to the shell; fg comes back here"),
    ("q Ctrl-C", "end"),
];

/// A way through a list.
#[derive(Clone, Copy)]
enum Step {
    Up(usize),
    Down(usize),
}

impl Model {
    /// Takes a key, and says what it asks for beyond a new picture.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Option<Action> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return self.control(key.code);
        }
        match self.page {
            Page::Board { is_typing: true } => self.typed(key.code),
            Page::Board { is_typing: false } => return self.board_key(key.code),
            Page::Help => match key.code {
                KeyCode::Char('q') => return Some(Action::Quit),
                _ => self.page = Page::Board { is_typing: false },
            },
            Page::Details(_) => return self.details_key(key.code),
        }
        None
    }

    /// What means the same everywhere.
    fn control(&mut self, code: KeyCode) -> Option<Action> {
        match code {
            KeyCode::Char('c') => Some(Action::Interrupt),
            KeyCode::Char('z') => Some(Action::Suspend),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('u') if self.is_typing() => {
                self.show(Filter::default());
                None
            }
            _ => None,
        }
    }

    fn typed(&mut self, code: KeyCode) {
        let mut text = self.columns.filter().text().to_owned();
        match code {
            KeyCode::Char(c) => text.push(c),
            KeyCode::Backspace if text.is_empty() => return self.stop_typing(),
            KeyCode::Backspace => _ = text.pop(),
            KeyCode::Esc => {
                text.clear();
                self.stop_typing();
            }
            KeyCode::Enter | KeyCode::Up | KeyCode::Down => return self.stop_typing(),
            _ => return,
        }
        self.show(Filter::new(text));
    }

    fn stop_typing(&mut self) {
        self.page = Page::Board { is_typing: false };
    }

    fn board_key(&mut self, code: KeyCode) -> Option<Action> {
        let page = self.shown.rows.max(1);
        match code {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Char('?') => self.page = Page::Help,
            KeyCode::Char('/') => self.page = Page::Board { is_typing: true },
            KeyCode::Esc if !self.columns.filter().text().is_empty() => {
                self.show(Filter::default());
            }
            KeyCode::Esc => self.selected = None,
            KeyCode::Left | KeyCode::Char('h') => self.turn(self.focused().checked_sub(1)),
            KeyCode::Right | KeyCode::Char('l') => self.turn(self.focused().checked_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.step(Step::Up(1)),
            KeyCode::Down | KeyCode::Char('j') => self.step(Step::Down(1)),
            KeyCode::PageUp => self.step(Step::Up(page)),
            KeyCode::PageDown => self.step(Step::Down(page)),
            KeyCode::Home | KeyCode::Char('g') => self.step(Step::Up(usize::MAX)),
            KeyCode::End | KeyCode::Char('G') => self.step(Step::Down(usize::MAX)),
            KeyCode::Enter => return self.open(),
            _ => {}
        }
        None
    }

    fn details_key(&mut self, code: KeyCode) -> Option<Action> {
        let Page::Details(details) = &mut self.page else { return None };
        let page = self.shown.rows.saturating_sub(1).max(1);
        let scroll = details.scroll;
        // Where the text ends is known when it is drawn.
        details.scroll = match code {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Char('?') => {
                self.page = Page::Help;
                return None;
            }
            KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace | KeyCode::Left => {
                self.page = Page::Board { is_typing: false };
                return None;
            }
            KeyCode::Up | KeyCode::Char('k') => scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => scroll + 1,
            KeyCode::PageUp => scroll.saturating_sub(page),
            KeyCode::PageDown | KeyCode::Char(' ') => scroll + page,
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => usize::MAX / 2,
            _ => scroll,
        };
        None
    }

    /// To another column, and to the task beside the one that was selected.
    fn turn(&mut self, number: Option<usize>) {
        let Some(column) = number.and_then(|number| self.columns.get(number)) else { return };
        let row = self
            .selected_task()
            .and_then(|task| self.columns.get(self.focused()).and_then(|column| column.row(&task)));
        self.selected = column.at_most(row.unwrap_or(0));
        self.focus = column.status.clone();
    }

    fn step(&mut self, step: Step) {
        let task = self.selected_task();
        let Some(column) = self.columns.get(self.focused()) else { return };
        let row = match (task.and_then(|task| column.row(&task)), step) {
            (Some(row), Step::Up(rows)) => row.saturating_sub(rows),
            (Some(row), Step::Down(rows)) => row.saturating_add(rows),
            // Nothing was selected: what is on top is nearest.
            (None, Step::Down(usize::MAX)) => usize::MAX,
            (None, _) => 0,
        };
        self.selected = column.at_most(row);
        self.focus = column.status.clone();
    }

    /// The details of what is selected, or of what is on top.
    fn open(&mut self) -> Option<Action> {
        if self.selected.is_none() {
            self.step(Step::Down(1));
        }
        let task = self.selected_task()?;
        let id = task.id;
        let seen = self.entries.iter().filter_map(|entry| match entry {
            Entry::Change(change) if change.task == id => Some(change.clone()),
            _ => None,
        });
        self.page = Page::Details(Box::new(Details::new(Arc::clone(&task), seen)));
        Some(Action::FetchHistory(id))
    }
}
