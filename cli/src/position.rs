//! The position that `--cursor-file` keeps, so that the next run goes on there.

use std::path::Path;
use std::time::{Duration, Instant};

use taskwatch_client::{Acker, Cursor, CursorFile, CursorFileError};
use tokio::time::sleep;

use crate::exit::Failure;

/// Each save waits for the disk, and none is needed: at worst more comes again.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How long a file may be in use by another watcher. Of one that was killed, a hook that was just being
/// started has it open for a moment; one that was told to end may need a little longer.
const IN_USE_LIMIT: Duration = Duration::from_secs(2);
const IN_USE_POLL: Duration = Duration::from_millis(20);

/// The file at this path, as soon as it is free.
///
/// # Errors
/// If another program keeps it, or it holds something else.
pub(crate) async fn open(path: &Path) -> Result<CursorFile, Failure> {
    let begin = Instant::now();
    loop {
        match CursorFile::open(path) {
            Err(CursorFileError::InUse { .. }) if begin.elapsed() < IN_USE_LIMIT => {
                sleep(IN_USE_POLL).await;
            }
            file => return Ok(file?),
        }
    }
}

/// Where a stream has come, on the disk.
#[derive(Debug)]
pub(crate) struct Position {
    /// `None` if nothing is kept.
    kept: Option<(CursorFile, Acker)>,
    /// Of what was written, and perhaps not yet through.
    written: Option<Cursor>,
    /// When it was last saved, if nothing was handled since.
    saved: Option<Instant>,
}

impl Position {
    /// Of the stream that `acker` belongs to, in this file, if there is one.
    pub(crate) fn new(file: Option<CursorFile>, acker: Acker) -> Self {
        Self { kept: file.map(|file| (file, acker)), written: None, saved: None }
    }

    /// Of nothing.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self { kept: None, written: None, saved: None }
    }

    /// Something was handled: this is saved without delay.
    pub(crate) fn handled(&mut self) {
        self.saved = None;
    }

    /// Saves where the stream stands, now and then, and at once if something was handled.
    ///
    /// # Errors
    /// If it cannot be saved.
    pub(crate) fn save(&mut self) -> Result<(), Failure> {
        self.written();
        self.flushed()
    }

    /// Everything that the stream has yielded was written.
    pub(crate) fn written(&mut self) {
        if let Some((_, acker)) = &self.kept {
            self.written = acker.cursor();
        }
    }

    /// What was written ends at this event, though the stream has yielded more.
    pub(crate) fn written_to(&mut self, cursor: Option<Cursor>) {
        self.written = cursor.or(self.written.take());
    }

    /// Everything that was written is through.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub(crate) fn flushed(&mut self) -> Result<(), Failure> {
        if self.saved.is_some_and(|saved| saved.elapsed() < SAVE_EVERY) {
            return Ok(());
        }
        self.finish()
    }

    /// The same for the last time.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        if let (Some((file, _)), Some(written)) = (&mut self.kept, &self.written) {
            file.save(written)?;
            self.saved = Some(Instant::now());
        }
        Ok(())
    }
}
