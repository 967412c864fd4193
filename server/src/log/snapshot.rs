//! The state of tasks at one position, on its way from the log to one connection.

use std::io;

use taskwatch_protocol::{
    Cursor, Envelope, Pattern, Seq, ServerMessage, Snapshot, Task, Timestamp,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::spool::{Spool, SpoolLimits, SpooledFrames};
use crate::hub::SnapshotOf;
use crate::transport::framing;

/// So many bytes of tasks make a frame, or one task that is larger.
const FRAME: usize = 32 << 10;

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
    /// What of them the peer may see.
    visible: Vec<Pattern>,
    id: Option<String>,
    timestamp: Timestamp,
    spool: Spool,
    tasks: Vec<Task>,
    bytes: usize,
    is_first: bool,
    /// Held while the log is read, however long the peer stays.
    turn: Option<OwnedSemaphorePermit>,
    abandoned: CancellationToken,
}

/// A complete snapshot.
#[derive(Debug)]
pub struct TaskSnapshot {
    seq: Seq,
    frames: SpooledFrames,
}

impl SnapshotSink {
    pub(crate) fn new(
        of: SnapshotOf,
        timestamp: Timestamp,
        limits: SpoolLimits<'_>,
        turn: Option<OwnedSemaphorePermit>,
        abandoned: CancellationToken,
    ) -> Self {
        let SnapshotOf { repositories, visible, id } = of;
        Self {
            repositories,
            visible,
            id,
            timestamp,
            spool: Spool::new(limits),
            tasks: Vec::new(),
            bytes: 0,
            is_first: true,
            turn,
            abandoned,
        }
    }

    /// Adds a task; one that was not asked for, or may not be seen, is left out. May wait for the disk, so it belongs
    /// on a thread that may.
    ///
    /// # Errors
    /// If the file cannot be written or too much waits in files, and when nobody wants the
    /// snapshot any more. Then reading on is of no use.
    pub fn push(&mut self, task: Task) -> io::Result<()> {
        if self.abandoned.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the peer has left"));
        }
        if !self.visible.iter().any(|pattern| pattern.matches(&task.repository)) {
            return Ok(());
        }
        let mut size = ByteCount(0);
        serde_json::to_writer(&mut size, &task)?;
        // Before it is added, so that something is left for the last frame.
        if !self.tasks.is_empty() && self.bytes + size.0 > FRAME {
            self.write_frame(None)?;
        }
        self.bytes += size.0;
        self.tasks.push(task);
        Ok(())
    }

    /// Ends the snapshot: it holds exactly the effects of all events up to `seq`, whose cursor is
    /// `cursor`. May wait for the disk.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self, seq: Seq, cursor: Cursor) -> io::Result<TaskSnapshot> {
        self.write_frame(Some(cursor))?;
        drop(self.turn);
        Ok(TaskSnapshot { seq, frames: self.spool.into_frames()? })
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
        self.spool.write(&frame)
    }
}

/// Counts what is written to it.
struct ByteCount(usize);

impl io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TaskSnapshot {
    /// The position whose state it is.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    pub(crate) fn into_frames(self) -> SpooledFrames {
        self.frames
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use bytes::Bytes;
    use taskwatch_protocol::ServerFrame;
    use tokio::sync::Semaphore;
    use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket};

    fn task(repository: &str, text: &str) -> Task {
        let json = serde_json::json!({
            "id": uuid::Uuid::new_v4(), "repository": repository, "title": "One",
            "description": text, "status": "pending", "priority": "low", "tags": [text],
            "assignee": null, "created_at": "2026-11-22T10:00:00.000Z",
            "updated_at": "2026-11-22T10:00:00.000Z", "version": 1,
        });
        serde_json::from_value(json).unwrap()
    }

    fn sink(max_bytes: Option<usize>) -> SnapshotSink {
        let permit = || Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let limits = SpoolLimits {
            memory: max_bytes.map(|bytes| (permit(), bytes)),
            disk: Arc::new(Semaphore::new(10_000)),
            dir: None,
            spools: Arc::default(),
        };
        let repositories = vec!["foo".parse().unwrap(), "a/*".parse().unwrap()];
        let time = Timestamp::from_unix_millis(0);
        let of = SnapshotOf { visible: repositories.clone(), repositories, id: Some("7".into()) };
        SnapshotSink::new(of, time, limits, None, Default::default())
    }

    fn frames(snapshot: TaskSnapshot) -> Vec<(Snapshot, ServerFrame)> {
        let mut frames = snapshot.into_frames();
        let next = || (!frames.is_empty()).then(|| frames.read().unwrap());
        let decode = |frame: Bytes| {
            let stream = io::Cursor::new(frame.to_vec());
            let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
            let Message::Text(text) = socket.read().unwrap() else { panic!("not a text") };
            assert!(text.len() < FRAME + 1_000);
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
                // A byte of it takes six on the wire.
                sink.push(task("foo", &"\u{1}".repeat(number * 60))).unwrap();
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

    #[test]
    fn for_a_peer_that_has_left_nothing_is_read_on() {
        let mut sink = sink(None);
        sink.push(task("foo", "")).unwrap();
        sink.abandoned.cancel();
        assert!(sink.push(task("foo", "")).is_err());
    }
}
