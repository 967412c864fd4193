//! One task on the whole screen.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::text::wrap;
use super::{Picture, Tone};
use crate::board::model::{Details, History, Shown};
use crate::escape::Visible;

impl Picture<'_> {
    pub(super) fn details(&mut self, details: &Details, area: Rect) -> Shown {
        let lines = self.details_lines(details, usize::from(area.width).saturating_sub(2));
        let rows = usize::from(area.height);
        let scroll = details.scroll.min(lines.len().saturating_sub(rows));
        for (line, y) in lines.into_iter().skip(scroll).zip(area.y..area.bottom()) {
            self.cut(line, Rect { y, height: 1, ..area });
        }
        Shown { rows, scroll }
    }

    fn details_lines(&mut self, details: &Details, room: usize) -> Vec<Line<'static>> {
        let task = &details.task;
        let look = self.look;
        let mut lines = vec![Line::raw("")];
        let strong = |text: String| Line::from(look.span(Tone::Strong, format!(" {text}")));
        lines.extend(wrap(&visible(&task.title), room).into_iter().map(strong));
        if details.is_gone {
            lines.push(Line::from(
                look.span(Tone::Bad, " This task is gone; this is how it last was."),
            ));
        }
        lines.push(Line::raw(""));
        let tags: Vec<String> = task.tags.iter().map(|tag| visible(tag)).collect();
        let mut time = |at| self.time(at).content.trim().to_owned();
        for (name, value) in [
            ("id", task.id.to_string()),
            ("repository", task.repository.to_string()),
            ("status", visible(task.status.as_str())),
            ("priority", visible(task.priority.as_str())),
            ("assignee", task.assignee.as_deref().map_or_else(|| "–".to_owned(), visible)),
            ("tags", if tags.is_empty() { "–".to_owned() } else { tags.join(", ") }),
            ("created", time(task.created_at)),
            ("changed", time(task.updated_at)),
            ("version", task.version.to_string()),
        ] {
            let name = look.span(Tone::Faint, format!(" {name:<12}"));
            lines.push(Line::from(vec![name, Span::raw(value)]));
        }
        if !task.description.is_empty() {
            lines.push(Line::raw(""));
            for paragraph in task.description.lines() {
                let paragraph = visible(&paragraph.replace('\t', "    "));
                let plain = |text: String| Line::raw(format!(" {text}"));
                lines.extend(wrap(&paragraph, room).into_iter().map(plain));
            }
        }
        lines.push(Line::raw(""));
        lines.push(strong(match &details.history {
            History::Loading => "History (asking the server)".to_owned(),
            History::Whole => "History".to_owned(),
            History::Seen(reason) => format!("History since this board was opened ({reason})"),
        }));
        let changes = details.changes.iter().map(|change| self.change(change, false));
        lines.extend(changes);
        if details.changes.is_empty() && details.history != History::Loading {
            lines.push(Line::raw(" nothing yet"));
        }
        lines
    }
}

fn visible(text: &str) -> String {
    Visible(text).to_string()
}
