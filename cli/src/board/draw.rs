//! From the model to cells.

mod details;
#[cfg(test)]
mod tests;
mod text;

use jiff::Zoned;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use taskwatch_client::protocol::Timestamp;
use taskwatch_client::{EventKind, Priority, Status, Task};

use self::text::{fit, width};
use super::Moment;
use super::entry::{Change, Entry};
use super::model::{Column, Health, KEYS, Model, Page, Shown};
use crate::escape::Visible;
use crate::output::{self, LocalTimes};

/// The least that it takes to show anything.
const LEAST: (u16, u16) = (30, 8);
/// The least width of a column.
const COLUMN: u16 = 16;
/// From this height of the columns on a task has two lines.
const ROOMY: u16 = 10;

/// Whether there are colours. Without, weight and reversal say what they can.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) has_colours: bool,
}

/// What a piece of text is to say by its look.
#[derive(Clone, Copy, Debug)]
enum Tone {
    Plain,
    Strong,
    Good,
    Note,
    Bad,
    /// What the eye may skip.
    Faint,
}

impl Look {
    fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        match (tone, self.has_colours) {
            (Tone::Strong, _) | (Tone::Note | Tone::Bad, false) => {
                style.add_modifier(Modifier::BOLD)
            }
            (Tone::Good, true) => style.fg(Color::Green),
            (Tone::Note, true) => style.fg(Color::Yellow),
            (Tone::Bad, true) => style.fg(Color::Red),
            (Tone::Faint, true) => style.add_modifier(Modifier::DIM),
            (Tone::Plain, _) | (Tone::Good | Tone::Faint, false) => style,
        }
    }

    fn span<'a>(self, tone: Tone, text: impl Into<std::borrow::Cow<'a, str>>) -> Span<'a> {
        Span::styled(text, self.style(tone))
    }
}

/// A picture in the making.
struct Picture<'a> {
    model: &'a Model,
    look: Look,
    now: &'a Moment,
    times: LocalTimes,
    buffer: &'a mut Buffer,
}

/// Draws the board, and says what of it could be shown.
pub(crate) fn draw(
    model: &Model,
    now: &Moment,
    look: Look,
    area: Rect,
    buffer: &mut Buffer,
) -> Shown {
    let times = LocalTimes::new(Zoned::clone(&now.wall));
    let mut picture = Picture { model, look, now, times, buffer };
    if area.width < LEAST.0 || area.height < LEAST.1 {
        picture.too_small(area);
        return Shown::default();
    }
    picture.top(Rect { height: 1, ..area });
    let body = Rect { y: area.y + 1, height: area.height - 3, ..area };
    let shown = match &model.page {
        Page::Board { .. } => picture.board(body),
        Page::Help => picture.help(body),
        Page::Details(details) => picture.details(details, body),
    };
    picture.connection(Rect { y: area.bottom() - 2, height: 1, ..area });
    picture.keys(Rect { y: area.bottom() - 1, height: 1, ..area });
    shown
}

impl Picture<'_> {
    /// Puts a line somewhere; what does not fit is cut.
    fn line(&mut self, x: u16, y: u16, width: u16, line: &Line<'_>) {
        self.buffer.set_line(x, y, line, width);
    }

    fn too_small(&mut self, area: Rect) {
        let (width, height) = LEAST;
        let sizes = format!("this is {}x{}, it takes {width}x{height}", area.width, area.height);
        let lines = ["The terminal is too small:", &sizes, "q ends"];
        for (line, y) in lines.into_iter().zip(area.y..area.bottom()) {
            self.line(area.x, y, area.width, &Line::raw(fit(line, area.width.into())));
        }
    }

    /// What is watched, and how much there is of it.
    fn top(&mut self, area: Rect) {
        let model = self.model;
        let bar = Style::new().add_modifier(Modifier::REVERSED);
        self.buffer.set_style(area, bar);
        let mut right = match model.tasks.len() {
            1 => "1 task".to_owned(),
            tasks => format!("{tasks} tasks"),
        };
        if model.gaps > 0 {
            let gaps =
                if model.gaps == 1 { "1 gap".to_owned() } else { format!("{} gaps", model.gaps) };
            right = format!("{gaps} · {right}");
        }
        let (shown, all) = (self.columns(area.width).len(), model.columns.iter().len());
        if shown < all && matches!(model.page, Page::Board { .. }) {
            right = format!("{shown} of {all} columns · {right}");
        }
        let room = usize::from(area.width).saturating_sub(width(&right) + 3);
        let mut left = format!("taskwatch  {}", model.watched);
        if width(&left) > room {
            left = fit(&model.watched, room);
        }
        let bold = bar.add_modifier(Modifier::BOLD);
        self.line(area.x + 1, area.y, area.width - 1, &Line::styled(left, bold));
        let x = area.right().saturating_sub(cells(&right) + 1);
        self.line(x, area.y, cells(&right), &Line::styled(right, bar));
    }

    fn board(&mut self, area: Rect) -> Shown {
        let below = match area.height {
            ..7 => 0,
            7..12 => 3,
            height => (height / 4).clamp(4, 12),
        };
        let columns = Rect { height: area.height - below, ..area };
        let per_task = if columns.height > ROOMY { 2 } else { 1 };
        let numbers = self.columns(area.width);
        let each = area.width / numbers.len().max(1) as u16;
        for (place, number) in numbers.enumerate() {
            let x = area.x + place as u16 * each;
            let is_last = x + 2 * each > area.right();
            let width = if is_last { area.right() - x } else { each - 1 };
            if let Some(column) = self.model.columns.get(number) {
                let is_focused = number == self.model.focused();
                self.column(column, is_focused, per_task, Rect { x, width, ..columns });
            }
        }
        if below > 0 {
            self.changes(Rect { y: columns.bottom(), height: below, ..area });
        }
        Shown { rows: usize::from((columns.height - 1) / per_task), scroll: 0 }
    }

    /// The columns for which there is room, around the one that keys are about.
    fn columns(&self, width: u16) -> std::ops::Range<usize> {
        let all = self.model.columns.iter().len();
        let room = usize::from(width / COLUMN).clamp(1, all);
        let first = (self.model.focused() + 1).saturating_sub(room);
        first..first + room
    }

    fn column(&mut self, column: &Column, is_focused: bool, per_task: u16, area: Rect) {
        let model = self.model;
        let total = column.total;
        let count = match column.places.len() {
            _ if model.columns.filter().is_empty() => total.to_string(),
            shown => format!("{shown}/{total}"),
        };
        let name = column.status.as_str().replace('_', " ");
        let name = fit(
            &Visible(&name).to_string(),
            usize::from(area.width).saturating_sub(count.len() + 3),
        );
        let tone = match column.status {
            Status::InProgress => Tone::Note,
            Status::Completed => Tone::Good,
            _ => Tone::Plain,
        };
        let mut style = self.look.style(tone).add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
        if is_focused {
            style = style.add_modifier(Modifier::REVERSED);
        }
        let head = Rect { height: 1, ..area };
        self.buffer.set_style(head, style);
        self.line(area.x, area.y, area.width, &Line::styled(format!(" {name} {count}"), style));

        let rows = usize::from((area.height - 1) / per_task);
        let selected = model.selected.and_then(|id| model.tasks.get(id));
        let row = selected.and_then(|task| column.row(task)).unwrap_or(0);
        // In the middle, where what is above and below can be seen.
        let first = row.saturating_sub(rows / 2).min(column.places.len().saturating_sub(rows));
        let mut y = area.y + 1;
        for (_, id) in column.places.iter().skip(first).take(rows) {
            if let Some(task) = model.tasks.get(*id) {
                self.task(task, Rect { y, height: per_task, ..area });
            }
            y += per_task;
        }
    }

    fn task(&mut self, task: &Task, area: Rect) {
        let (mark, tone) = match self.model.mark(task.id) {
            Some(EventKind::Created) => ("+ ", Tone::Good),
            Some(_) => ("~ ", Tone::Note),
            None => ("  ", Tone::Plain),
        };
        let room = usize::from(area.width).saturating_sub(2);
        let title = fit(&output::title(&task.title).to_string(), room);
        let weight = if task.priority == Priority::High { Tone::Strong } else { Tone::Plain };
        let line = Line::from(vec![self.look.span(tone, mark), self.look.span(weight, title)]);
        self.line(area.x, area.y, area.width, &line);
        if area.height > 1 {
            let fields = fit(&self.fields(task), room);
            let line = Line::from(vec![Span::raw("  "), self.look.span(Tone::Faint, fields)]);
            self.line(area.x, area.y + 1, area.width, &line);
        }
        if self.model.selected == Some(task.id) {
            self.buffer.set_style(area, Style::new().add_modifier(Modifier::REVERSED));
        }
    }

    /// What is worth saying of a task besides its title: `acme/api · ana · high`.
    fn fields(&self, task: &Task) -> String {
        let mut fields = Vec::new();
        if self.model.is_many {
            fields.push(task.repository.to_string());
        }
        fields.extend(task.assignee.as_deref().map(|who| Visible(who).to_string()));
        fields.push(Visible(task.priority.as_str()).to_string());
        fields.join(" · ")
    }

    /// What has happened, the last on top.
    fn changes(&mut self, area: Rect) {
        let style = self.look.style(Tone::Strong).add_modifier(Modifier::UNDERLINED);
        self.buffer.set_style(Rect { height: 1, ..area }, style);
        self.line(area.x, area.y, area.width, &Line::styled(" Last changes", style));
        for (entry, y) in self.model.entries.iter().zip(area.y + 1..area.bottom()) {
            let line = match entry {
                Entry::Change(change) => self.change(change, true),
                Entry::Notice(notice) => {
                    let tone = if notice.is_warning { Tone::Bad } else { Tone::Faint };
                    let time = self.time(notice.at);
                    Line::from(vec![time, self.look.span(tone, format!("  · {}", notice.text))])
                }
            };
            self.cut(line, Rect { y, height: 1, ..area });
        }
    }

    /// `14:03:22  ~ Fix login  status pending → in_progress  by ana`
    fn change(&mut self, change: &Change, is_among_others: bool) -> Line<'static> {
        let (sign, tone) = match change.kind {
            EventKind::Created => ("+", Tone::Good),
            EventKind::Deleted => ("−", Tone::Bad),
            _ => ("~", Tone::Note),
        };
        let verb =
            if is_among_others { "" } else { change.kind.as_str().trim_start_matches("task.") };
        let mut spans = vec![self.time(change.at), Span::raw("  ")];
        spans.push(self.look.span(tone, format!("{sign} {}", Visible(verb)).trim_end().to_owned()));
        if is_among_others && self.model.is_many {
            spans.push(Span::raw(format!(" {} ", change.repository)));
        }
        if is_among_others {
            spans.push(Span::raw(format!(" {}", change.title)));
        }
        if !change.what.is_empty() {
            spans.push(Span::raw(format!("  {}", change.what)));
        }
        spans.push(self.look.span(Tone::Faint, "  by "));
        spans.push(Span::raw(change.by.clone()));
        if change.replayed {
            spans.push(self.look.span(Tone::Faint, "  (replayed)"));
        }
        Line::from(spans)
    }

    fn time(&mut self, at: Timestamp) -> Span<'static> {
        let time = format!(" {}", self.times.show(Some(at)));
        self.look.span(Tone::Faint, time)
    }

    /// Puts a line there, and says so if it does not fit.
    fn cut(&mut self, line: Line<'_>, area: Rect) {
        let is_cut = line.width() > usize::from(area.width);
        self.line(area.x, area.y, area.width, &line);
        if is_cut {
            self.line(area.right() - 2, area.y, 2, &Line::raw(" …"));
        }
    }

    /// How it stands with the connection, and what it went through.
    fn connection(&mut self, area: Rect) {
        let model = self.model;
        let tone = match model.link.health() {
            Health::Good => Tone::Good,
            Health::Waiting => Tone::Note,
            Health::Bad => Tone::Bad,
        };
        let style = self.look.style(tone).add_modifier(Modifier::BOLD);
        let now = self.now.elapsed;
        let mut line = Line::from(vec![Span::raw(" "), Span::styled(model.link.text(now), style)]);
        if let Some(notice) = model.notice() {
            let tone = if notice.is_warning { Tone::Bad } else { Tone::Plain };
            if line.width() + 3 + width(&notice.text) > usize::from(area.width) {
                line.spans[1].content = model.link.short_text(now).into();
            }
            line.push_span(Span::raw(" · "));
            line.push_span(self.look.span(tone, notice.text.clone()));
        }
        self.cut(line, area);
    }

    /// What can be done here.
    fn keys(&mut self, area: Rect) {
        let model = self.model;
        let filter = model.columns.filter();
        let keys: &[(&str, &str)] = match &model.page {
            Page::Board { is_typing: true } => &[("Enter", "keep"), ("Esc", "clear")],
            Page::Board { .. } if !filter.is_empty() => &[
                ("Esc", "clear"),
                ("/", "change"),
                ("Enter", "details"),
                ("?", "help"),
                ("q", "quit"),
            ],
            Page::Board { .. } => &[
                ("←↓↑→", "move"),
                ("Enter", "details"),
                ("/", "filter"),
                ("?", "help"),
                ("q", "quit"),
            ],
            Page::Help => &[("any key", "back"), ("q", "quit")],
            Page::Details(_) => &[("Esc", "back"), ("PgUp PgDn", "scroll"), ("q", "quit")],
        };
        let mut line = Line::raw(" ");
        if model.is_typing() || (!filter.is_empty() && matches!(model.page, Page::Board { .. })) {
            line.push_span(self.look.span(Tone::Strong, "/"));
            line.push_span(self.look.span(Tone::Strong, Visible(filter.text()).to_string()));
            line.push_span(Span::raw(if model.is_typing() { "▏  " } else { "  " }));
        }
        for (key, what) in keys {
            line.push_span(self.look.span(Tone::Strong, *key));
            line.push_span(self.look.span(Tone::Faint, format!(" {what}  ")));
        }
        self.cut(line, area);
    }

    fn help(&mut self, area: Rect) -> Shown {
        let keys = KEYS.into_iter().zip(area.y + 1..area.bottom());
        for ((keys, what), y) in keys {
            let line = Line::from(vec![
                self.look.span(Tone::Strong, format!("  {keys:<14}")),
                Span::raw(what),
            ]);
            self.cut(line, Rect { y, height: 1, ..area });
        }
        Shown::default()
    }
}

fn cells(text: &str) -> u16 {
    u16::try_from(width(text)).unwrap_or(u16::MAX)
}
