//! The state of tasks at one position, on its way from the log to one connection.

use std::io::{self, Read, Seek, Write};
use std::path::Path;

use bytes::Bytes;
use taskwatch_protocol::{
    Cursor, Envelope, Pattern, Seq, ServerMessage, Snapshot, Task, Timestamp,
};
use tempfile::SpooledTempFile;
use tokio::sync::OwnedSemaphorePermit;

use crate::transport::framing;

/// About so many bytes of tasks make a frame.
const FRAME: usize = 32 << 10;
/// Of a task besides its texts.
const TASK: usize = 400;
/// Bytes in front of each frame of the spool: its length.
const LENGTH: usize = size_of::<u32>();

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The log knows events only, not the tasks they happened to.
    #[error("this server has no state to send, only events")]
    Unsupported,
    /// The state cannot be read now.
    #[error("the state cannot be read: {0}")]
    Unavailable(String),
}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Takes the tasks of a snapshot, as fast as they can be read, and spools them: in memory up to a
/// limit, then in a file without a name. So no peer decides how long the log is read.
#[derive(Debug)]
pub struct SnapshotSink {
    repositories: Vec<Pattern>,
    id: Option<String>,
    timestamp: Timestamp,
    spool: SpooledTempFile,
    tasks: Vec<Task>,
    bytes: usize,
    is_first: bool,
    memory: Option<OwnedSemaphorePermit>,
}

/// A complete snapshot.
#[derive(Debug)]
pub struct TaskSnapshot {
    seq: Seq,
    frames: SnapshotFrames,
}

/// The frames of a snapshot, one after the other.
#[derive(Debug)]
pub(crate) struct SnapshotFrames {
    spool: SpooledTempFile,
    _memory: Option<OwnedSemaphorePermit>,
}

impl SnapshotSink {
    /// For the tasks of `repositories`, as the reply to the request `id`. With `memory` up to so
    /// many bytes stay there; without, and beyond, they go to a file in `dir`.
    pub(crate) fn new(
        repositories: Vec<Pattern>,
        id: Option<String>,
        timestamp: Timestamp,
        memory: Option<(OwnedSemaphorePermit, usize)>,
        dir: Option<&Path>,
    ) -> Self {
        let (memory, max_size) = memory.map_or((None, 0), |(permit, bytes)| (Some(permit), bytes));
        let spool = match dir {
            Some(dir) => tempfile::spooled_tempfile_in(max_size, dir),
            None => tempfile::spooled_tempfile(max_size),
        };
        let (tasks, bytes, is_first) = (Vec::new(), 0, true);
        Self { repositories, id, timestamp, spool, tasks, bytes, is_first, memory }
    }

    /// Adds a task; one of another repository is left out.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn push(&mut self, task: Task) -> io::Result<()> {
        if !self.repositories.iter().any(|pattern| pattern.matches(&task.repository)) {
            return Ok(());
        }
        // Before it is added, so that something is left for the last frame.
        if self.bytes >= FRAME {
            self.write_frame(None)?;
        }
        self.bytes += TASK + task.title.len() + task.description.len();
        self.tasks.push(task);
        Ok(())
    }

    /// Ends the snapshot: it holds exactly the effects of all events up to `seq`, whose cursor is
    /// `cursor`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(mut self, seq: Seq, cursor: Cursor) -> io::Result<TaskSnapshot> {
        self.write_frame(Some(cursor))?;
        self.spool.rewind()?;
        let frames = SnapshotFrames { spool: self.spool, _memory: self.memory };
        Ok(TaskSnapshot { seq, frames })
    }

    /// The last frame carries the cursor.
    fn write_frame(&mut self, cursor: Option<Cursor>) -> io::Result<()> {
        let message = ServerMessage::Snapshot(Snapshot {
            repositories: self.repositories.clone(),
            tasks: std::mem::take(&mut self.tasks),
            first: std::mem::replace(&mut self.is_first, false),
            last: cursor.is_some(),
        });
        self.bytes = 0;
        let frame = Envelope::new(message).at(self.timestamp).id(self.id.clone()).cursor(cursor);
        let (frame, _) = framing::text_frame(frame.encode().as_bytes());
        let len = u32::try_from(frame.len()).map_err(io::Error::other)?;
        self.spool.write_all(&len.to_be_bytes())?;
        self.spool.write_all(&frame)
    }
}

impl TaskSnapshot {
    /// The position whose state it is.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    pub(crate) fn into_frames(self) -> SnapshotFrames {
        self.frames
    }
}

impl SnapshotFrames {
    /// The next frame as it goes to the socket; `None` behind the last. The disk is waited for
    /// elsewhere.
    pub(crate) async fn next(mut self) -> io::Result<(Self, Option<Bytes>)> {
        let read = tokio::task::spawn_blocking(move || {
            let frame = self.read()?;
            Ok((self, frame))
        });
        read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    pub(crate) fn read(&mut self) -> io::Result<Option<Bytes>> {
        let mut len = [0; LENGTH];
        match self.spool.read_exact(&mut len) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        self.spool.read_exact(&mut frame)?;
        Ok(Some(frame.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use taskwatch_protocol::ServerFrame;
    use tokio::sync::Semaphore;
    use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket};

    fn task(repository: &str, description: &str) -> Task {
        let json = serde_json::json!({
            "id": uuid::Uuid::new_v4(), "repository": repository, "title": "One",
            "description": description, "status": "pending", "priority": "low", "tags": [],
            "assignee": null, "created_at": "2026-11-22T10:00:00.000Z",
            "updated_at": "2026-11-22T10:00:00.000Z", "version": 1,
        });
        serde_json::from_value(json).unwrap()
    }

    fn sink(max_bytes: Option<usize>) -> SnapshotSink {
        let memory = max_bytes
            .map(|bytes| (Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(), bytes));
        let repositories = vec!["foo".parse().unwrap(), "a/*".parse().unwrap()];
        SnapshotSink::new(
            repositories,
            Some("7".into()),
            Timestamp::from_unix_millis(0),
            memory,
            None,
        )
    }

    fn frames(snapshot: TaskSnapshot) -> Vec<(Snapshot, ServerFrame)> {
        let mut frames = snapshot.into_frames();
        let next = || frames.read().unwrap();
        let decode = |frame: Bytes| {
            let stream = io::Cursor::new(frame.to_vec());
            let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
            let Message::Text(text) = socket.read().unwrap() else { panic!("not a text") };
            let frame = ServerFrame::decode(&text).unwrap();
            let ServerMessage::Snapshot(snapshot) = frame.message.clone() else { panic!() };
            (snapshot, frame)
        };
        std::iter::from_fn(next).map(decode).collect()
    }

    #[test]
    fn nothing_is_one_frame() {
        let snapshot = sink(Some(1024)).finish(5, Cursor::new("five")).unwrap();
        assert_eq!(snapshot.seq(), 5);
        let frames = frames(snapshot);
        let [(only, frame)] = &frames[..] else { panic!("{frames:?}") };
        assert!(only.first && only.last && only.tasks.is_empty());
        assert_eq!(frame.cursor, Some(Cursor::new("five")));
        assert_eq!(frame.id.as_deref(), Some("7"));
    }

    #[test]
    fn what_is_large_is_several_frames_in_memory_and_in_a_file_alike() {
        for memory in [None, Some(10_000), Some(10_000_000)] {
            let mut sink = sink(memory);
            for number in 0..40 {
                sink.push(task("foo", &number.to_string().repeat(2_000))).unwrap();
                sink.push(task("bar", "not asked for")).unwrap();
                sink.push(task("a/b", "")).unwrap();
            }
            let frames = frames(sink.finish(5, Cursor::new("five")).unwrap());
            assert!(frames.len() > 2);
            let edges: Vec<_> = frames
                .iter()
                .map(|(part, frame)| (part.first, part.last, frame.cursor.is_some()))
                .collect();
            let last = edges.len() - 1;
            for (at, edge) in edges.into_iter().enumerate() {
                assert_eq!(edge, (at == 0, at == last, at == last));
            }
            let tasks: Vec<_> = frames.iter().flat_map(|(part, _)| &part.tasks).collect();
            assert_eq!(tasks.len(), 80);
            assert!(tasks.iter().all(|task| task.repository.as_str() != "bar"));
        }
    }
}
