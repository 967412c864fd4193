//! The terminal: taken over, and given back whatever happens.
//!
//! Pictures are written beside everything else, so that a terminal that takes nothing more keeps nobody
//! from ending the board.

use std::io::{self, IsTerminal};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use ratatui::crossterm::{execute, queue};
use ratatui::layout::Rect;
use tokio::io::{AsyncWriteExt, Stdout};
use tokio::time::timeout;

use super::Moment;
use super::draw::{Look, draw};
use super::model::Model;

/// For the last picture, if the terminal takes it slowly.
const FINISH_LIMIT: Duration = Duration::from_millis(500);

/// Whether the terminal is ours. For the whole process, since a panic knows nothing else.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, while it is ours. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Screen {
    out: Stdout,
    look: Look,
    /// What is on it.
    shown: Buffer,
    is_writing: bool,
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
        let shown = Buffer::default();
        let mut screen = Self { out: tokio::io::stdout(), look, shown, is_writing: false };
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
        self.redraw();
        Ok(())
    }

    /// Gives the terminal back, when the picture that is being written is written.
    pub(super) async fn leave(&mut self) {
        if timeout(FINISH_LIMIT, self.out.flush()).await.is_ok() {
            give_back();
        } else if TAKEN.swap(false, Ordering::SeqCst) {
            // Nothing more can be written to it.
            let _ = disable_raw_mode();
        }
    }

    /// Has the next picture drawn as if nothing were known of what is there.
    pub(super) fn redraw(&mut self) {
        self.shown = Buffer::default();
    }

    /// Whether the last picture is still on its way.
    pub(super) fn is_writing(&self) -> bool {
        self.is_writing
    }

    /// Waits until the last picture has been written.
    ///
    /// # Errors
    /// If the terminal did not take it.
    pub(super) async fn written(&mut self) -> io::Result<()> {
        self.out.flush().await?;
        self.is_writing = false;
        Ok(())
    }

    /// Begins to write what has changed since the last picture.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub(super) async fn draw(&mut self, model: &mut Model, now: &Moment) -> io::Result<()> {
        if !TAKEN.load(Ordering::SeqCst) {
            return Ok(());
        }
        let (width, height) = size()?;
        let area = Rect::new(0, 0, width, height);
        let mut bytes = Vec::new();
        if self.shown.area != area {
            queue!(bytes, Clear(ClearType::All))?;
            self.shown = Buffer::empty(area);
        }
        let mut picture = Buffer::empty(area);
        model.shown(draw(model, now, self.look, area, &mut picture));
        CrosstermBackend::new(&mut bytes).draw(self.shown.diff_iter(&picture))?;
        self.shown = picture;
        self.is_writing = true;
        self.out.write_all(&bytes).await
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
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    }
}
