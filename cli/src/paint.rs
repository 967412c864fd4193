//! Colours, for the watcher's own words only: text from a server is never styled.

use std::fmt::{Display, from_fn};

use anstyle::{AnsiColor, Style};

/// Green: something new, something good.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Yellow: something changed, something to know.
pub(crate) const NOTE: Style = AnsiColor::Yellow.on_default();
/// Red: something gone, something bad.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// What the eye may skip.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// Puts colours on, or leaves them off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    /// The text in that style.
    pub(crate) fn text(self, style: Style, text: impl Display) -> impl Display {
        let style = if self.0 { style } else { Style::new() };
        from_fn(move |f| write!(f, "{style}{text}{style:#}"))
    }
}
