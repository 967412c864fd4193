//! What a connection has to wait for.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use taskwatch_protocol::{Pattern, Seq};

use crate::clock::Now;
use crate::log::SpooledFrames;
use crate::{Hub, Page, ReadError, SnapshotError, TaskSnapshot};

/// What a connection asks for.
#[derive(Debug)]
pub(crate) enum Fetch {
    /// The events after a position, from the log.
    Page { after: Seq, upto: Seq },
    /// The present state, for the request `id`.
    Snapshot { repositories: Vec<Pattern>, id: Option<String> },
    /// The next frame of a snapshot.
    Frame(SpooledFrames),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Fetched {
    Page(Result<Arc<Page>, ReadError>),
    Snapshot(Result<TaskSnapshot, SnapshotError>),
    Frame(io::Result<(SpooledFrames, Bytes)>),
}

impl Fetch {
    /// Gets it.
    pub(crate) async fn run(self, hub: Hub, now: Now) -> Fetched {
        match self {
            Self::Page { after, upto } => Fetched::Page(hub.read_log(after, upto).await),
            Self::Snapshot { repositories, id } => {
                Fetched::Snapshot(hub.snapshot(repositories, id, now.wall).await)
            }
            Self::Frame(frames) => Fetched::Frame(frames.next().await),
        }
    }
}
