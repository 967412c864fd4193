//! The terminal: taken over, and given back whatever happens.

use std::io::{self, IsTerminal, Stdout};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::Moment;
use super::draw::{Look, draw};
use super::model::Model;

/// Whether the terminal is ours. For the whole process, since a panic knows nothing else.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, while it is ours. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    look: Look,
}

/// Why there is no screen to take.
pub(super) fn missing() -> Option<&'static str> {
    if !io::stdout().is_terminal() {
        return Some("stdout is none");
    }
    if !io::stdin().is_terminal() {
        return Some("stdin is none");
    }
    let is_dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
    is_dumb.then_some("TERM=dumb says that this one can do nothing but print")
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// If it does not take part.
    pub(super) fn open(look: Look) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let tell = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                give_back();
                tell(panic);
            }));
        });
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        let mut screen = Self { terminal, look };
        screen.take()?;
        Ok(screen)
    }

    /// Takes the terminal, also if somebody else had it meanwhile.
    ///
    /// # Errors
    /// If it does not take part.
    pub(super) fn take(&mut self) -> io::Result<()> {
        give_back();
        // Before it is done, so that half of it is undone too.
        TAKEN.store(true, Ordering::SeqCst);
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        self.redraw()
    }

    /// Gives the terminal back.
    pub(super) fn leave(&self) {
        give_back();
    }

    /// Has the next picture drawn as if nothing of it were there.
    ///
    /// # Errors
    /// If the terminal does not take it.
    pub(super) fn redraw(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }

    /// Shows the board.
    ///
    /// # Errors
    /// If the terminal does not take it.
    pub(super) fn draw(&mut self, model: &mut Model, now: &Moment) -> io::Result<()> {
        if !TAKEN.load(Ordering::SeqCst) {
            return Ok(());
        }
        let look = self.look;
        self.terminal.draw(|frame| {
            let area = frame.area();
            let shown = draw(model, now, look, area, frame.buffer_mut());
            model.shown(shown);
        })?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs nothing.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}
