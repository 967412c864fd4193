//! What a connection has to wait for.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use taskwatch_protocol::Seq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Now;
use crate::hub::SnapshotOf;
use crate::log::SpooledFrames;
use crate::session::SeekRequest;
use crate::{Hub, Page, ReadError, SeekError, SnapshotError, TaskSnapshot};

/// Turns at reading the log, where they are limited.
pub(crate) type Turns = Option<Arc<Semaphore>>;

/// What a connection asks for.
#[derive(Debug)]
pub(crate) enum Fetch {
    /// The events after a position, from the log.
    Page { after: Seq, upto: Seq, turns: Turns },
    /// The position at which a subscription is to begin.
    Seek { request: Box<SeekRequest>, turns: Turns },
    /// The present state.
    Snapshot { of: Box<SnapshotOf>, turns: Turns },
    /// The next frame of a snapshot.
    Frame(Box<SpooledFrames>),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Fetched {
    Page(Result<Arc<Page>, ReadError>),
    Sought(Box<SeekRequest>, Result<Seq, SeekError>),
    Snapshot(Result<TaskSnapshot, SnapshotError>),
    Frame(io::Result<(Box<SpooledFrames>, Bytes)>),
}

impl Fetch {
    /// Gets it.
    pub(crate) async fn run(self, hub: Hub, now: Now) -> Fetched {
        match self {
            Self::Page { after, upto, turns } => {
                let _turn = turn(turns).await;
                Fetched::Page(hub.read_log(after, upto).await)
            }
            Self::Seek { request, turns } => {
                let _turn = turn(turns).await;
                let found = hub.seek(request.start.clone()).await;
                Fetched::Sought(request, found)
            }
            Self::Snapshot { of, turns } => {
                let _turn = turn(turns).await;
                Fetched::Snapshot(hub.snapshot(*of, now.wall).await)
            }
            Self::Frame(frames) => {
                let next = frames.next().await;
                Fetched::Frame(next.map(|(frames, frame)| (Box::new(frames), frame)))
            }
        }
    }
}

async fn turn(turns: Turns) -> Option<OwnedSemaphorePermit> {
    // Nobody closes it.
    turns?.acquire_owned().await.ok()
}
