//! What the board shows, as plain data: updates and keys in, what to show and what to do out. It knows
//! no clock and no terminal.

mod columns;
mod details;
mod keys;
mod link;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use taskwatch_client::protocol::Pattern;
use taskwatch_client::{Event, EventKind, Status as TaskStatus, Task, Tasks, Update};
use uuid::Uuid;

pub(crate) use self::columns::{Column, Columns, Filter};
pub(crate) use self::details::{Details, History};
pub(crate) use self::keys::KEYS;
pub(crate) use self::link::{Health, Link};
use super::Moment;
use super::entry::{Change, Entry, Notice};
use crate::paint::Paint;
use crate::status::Status;

/// How long a task that changed is marked.
const MARKED: Duration = Duration::from_secs(4);
/// How long the last notice stands beside the connection.
const NOTICED: Duration = Duration::from_secs(30);
/// How many things that happened are kept.
const ENTRIES: usize = 500;

/// What the board knows, and what it is asked to show.
#[derive(Debug)]
pub(crate) struct Model {
    /// Says what happens to the connection.
    words: Status,
    /// What is watched: `acme/api, acme/web`.
    pub(crate) watched: String,
    /// Whether a task's repository is worth a word.
    pub(crate) is_many: bool,
    pub(crate) tasks: Tasks,
    pub(crate) columns: Columns,
    /// What has happened, the last first.
    pub(crate) entries: VecDeque<Entry>,
    pub(crate) link: Link,
    /// How often something was missed for good.
    pub(crate) gaps: u64,
    notice: Option<(Duration, Notice)>,
    marks: HashMap<Uuid, Mark>,
    /// The column that keys are about.
    pub(crate) focus: TaskStatus,
    /// The task that keys are about; always in that column.
    pub(crate) selected: Option<Uuid>,
    pub(crate) page: Page,
    shown: Shown,
}

/// What fills the screen.
#[derive(Clone, Debug)]
pub(crate) enum Page {
    /// The columns. While a filter is typed keys are letters.
    Board { is_typing: bool },
    /// What the keys do.
    Help,
    /// One task.
    Details(Box<Details>),
}

/// What there is to do for whoever has the means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// End.
    Quit,
    /// End, as Ctrl-C does.
    Interrupt,
    /// Give the terminal back to the shell, and stop.
    Suspend,
    /// Draw everything anew.
    Redraw,
    /// Ask the server what happened to this task.
    FetchHistory(Uuid),
}

/// What the last picture could show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Tasks in a column, or lines of a text.
    pub(crate) rows: usize,
    /// The first line of a text.
    pub(crate) scroll: usize,
}

/// A change that is still worth a mark.
#[derive(Clone, Copy, Debug)]
struct Mark {
    is_new: bool,
    until: Duration,
}

impl Model {
    /// A board of these repositories at this address.
    pub(crate) fn new(watched: &[Pattern], url: &str) -> Self {
        Self {
            words: Status::new(Paint(false), false, url),
            watched: watched.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            is_many: !matches!(watched, [Pattern::Exact(_)]),
            tasks: Tasks::default(),
            columns: Columns::new(),
            entries: VecDeque::new(),
            link: Link::new(url),
            gaps: 0,
            notice: None,
            marks: HashMap::new(),
            focus: TaskStatus::Pending,
            selected: None,
            page: Page::Board { is_typing: false },
            shown: Shown::default(),
        }
    }

    /// Takes what happened on the stream; false if there is nothing new to show.
    pub(crate) fn update(&mut self, update: Update, now: &Moment) -> bool {
        let has_state = self.tasks.cursor().is_some();
        let is_linked = self.link.update(&update, has_state, now.elapsed);
        let is_told = self.tell(&update, now);
        let has_changed = match update {
            Update::Event(event) => {
                self.change(event, now);
                true
            }
            Update::Snapshot(_) | Update::Denied(_) => {
                self.tasks.apply(update);
                self.show(self.columns.filter().clone());
                true
            }
            update => {
                self.gaps += u64::from(matches!(update, Update::Gap(_)));
                self.tasks.apply(update);
                false
            }
        };
        is_linked | is_told | has_changed
    }

    /// What the server says of a task's past, or why it says nothing.
    pub(crate) fn history(&mut self, id: Uuid, history: Result<Vec<Change>, String>) {
        if let Page::Details(details) = &mut self.page
            && details.task.id == id
        {
            details.fetched(history);
        }
    }

    /// What the last picture could show.
    pub(crate) fn shown(&mut self, shown: Shown) {
        self.shown = shown;
        if let Page::Details(details) = &mut self.page {
            details.scroll = shown.scroll;
        }
    }

    /// When the picture changes though nothing happens.
    pub(crate) fn due(&self, now: &Moment) -> Option<Duration> {
        let mark = self.marks.values().map(|mark| mark.until).min();
        let notice = self.notice.as_ref().map(|(until, _)| *until);
        [mark, notice, self.link.due(now.elapsed)].into_iter().flatten().min()
    }

    /// Forgets what has been shown for long enough.
    pub(crate) fn expire(&mut self, now: &Moment) {
        self.marks.retain(|_, mark| mark.until > now.elapsed);
        self.notice.take_if(|(until, _)| *until <= now.elapsed);
    }

    /// Whether a task is new (`+`), changed (`~`), or neither.
    pub(crate) fn mark(&self, id: Uuid) -> Option<EventKind> {
        let kind = |mark: &Mark| if mark.is_new { EventKind::Created } else { EventKind::Updated };
        self.marks.get(&id).map(kind)
    }

    /// The last thing that was told of the connection, while it is news.
    pub(crate) fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref().map(|(_, notice)| notice)
    }

    pub(crate) fn is_typing(&self) -> bool {
        matches!(self.page, Page::Board { is_typing: true })
    }

    /// Keeps what is worth a line.
    fn tell(&mut self, update: &Update, now: &Moment) -> bool {
        let Some(text) = self.words.line(update) else { return false };
        let is_warning = matches!(update, Update::Gap(_) | Update::Denied(_) | Update::Granted(_));
        let notice = Notice { at: now.timestamp(), text, is_warning };
        if is_warning || matches!(update, Update::CaughtUp { .. }) {
            self.notice = Some((now.elapsed + NOTICED, notice.clone()));
        }
        self.happened(Entry::Notice(notice));
        true
    }

    fn happened(&mut self, entry: Entry) {
        self.entries.truncate(ENTRIES - 1);
        self.entries.push_front(entry);
    }

    fn change(&mut self, event: Event, now: &Moment) {
        let id = event.task_id;
        let change = Change::new(&event, event.timestamp, event.replayed, now);
        let is_new = event.kind() == EventKind::Created;
        let before = self.tasks.get(id).cloned();
        self.tasks.apply(Update::Event(event));
        let after = self.tasks.get(id).cloned();
        self.replace(before.as_deref(), after.as_deref());
        match &after {
            Some(_) => {
                self.marks.insert(id, Mark { is_new, until: now.elapsed + MARKED });
            }
            None => {
                self.marks.remove(&id);
            }
        }
        if let Page::Details(details) = &mut self.page
            && details.task.id == id
        {
            details.changed(after, change.clone());
        }
        self.happened(Entry::Change(change));
    }

    /// Moves a task from where it stood to where it stands.
    fn replace(&mut self, before: Option<&Task>, after: Option<&Task>) {
        if let Some(before) = before {
            self.columns.remove(before);
        }
        if let Some(after) = after {
            self.columns.insert(after);
        }
        let Some(before) = before.filter(|before| self.selected == Some(before.id)) else { return };
        if after.is_none_or(|after| !self.select(after)) {
            // What was selected is gone: its neighbour takes its place.
            let column = self.columns.number(&before.status).ok();
            let column = column.and_then(|number| self.columns.get(number));
            self.selected = column.and_then(|column| column.next_to(before));
        }
    }

    /// Selects a task, if it is shown.
    fn select(&mut self, task: &Task) -> bool {
        let column = self.columns.number(&task.status).ok();
        let column = column.and_then(|number| self.columns.get(number));
        let is_shown = column.is_some_and(|column| column.row(task).is_some());
        if is_shown {
            self.focus = task.status.clone();
            self.selected = Some(task.id);
        }
        is_shown
    }

    /// Puts all tasks where they belong.
    fn show(&mut self, filter: Filter) {
        self.columns.show(self.tasks.iter().map(AsRef::as_ref), filter);
        self.marks.retain(|id, _| self.tasks.get(*id).is_some());
        let selected = self.selected_task();
        if selected.is_none_or(|task| !self.select(&task)) {
            self.selected = None;
        }
        if let Page::Details(details) = &mut self.page {
            details.replaced(self.tasks.get(details.task.id).cloned());
        }
    }

    /// The column that keys are about. One that only this server knew may be gone.
    pub(crate) fn focused(&self) -> usize {
        let number = self.columns.number(&self.focus);
        number.unwrap_or_else(|place| place.min(self.columns.iter().len() - 1))
    }

    fn selected_task(&self) -> Option<Arc<Task>> {
        self.selected.and_then(|id| self.tasks.get(id)).cloned()
    }
}
