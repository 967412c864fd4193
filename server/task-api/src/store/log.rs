//! The store as the log that the hub reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use taskwatch_protocol::{Cursor, Pattern, ResetReason, Seq, Timestamp};
use taskwatch_server::mutant::{self, Mutant};
use taskwatch_server::{
    EventLog, PageLimit, ReadError, ReadFuture, SeekError, SeekFuture, SnapshotError,
    SnapshotFuture, SnapshotSink, Tail,
};

use super::{Store, reader};

impl EventLog for Store {
    fn head(&self) -> Seq {
        self.open.shared.head.load(Ordering::Acquire)
    }

    fn cursor(&self, seq: Seq) -> Cursor {
        self.open.shared.incarnations.cursor(seq)
    }

    fn validate(&self, cursor: &Cursor) -> Result<Seq, ResetReason> {
        let floor = self.open.shared.floor.load(Ordering::Acquire);
        self.open.shared.incarnations.validate(cursor, self.head(), floor)
    }

    fn read(&self, after: Seq, upto: Seq, limit: PageLimit) -> ReadFuture<'_> {
        Box::pin(async move {
            let read =
                self.open.readers.read(move |tx| reader::events(tx, after, upto, limit)).await;
            read.unwrap_or_else(|error| Err(ReadError::Unavailable(error.to_string())))
        })
    }

    fn seek_time(&self, time: Timestamp) -> SeekFuture<'_> {
        Box::pin(async move {
            let found = self.open.readers.read(move |tx| reader::seek_time(tx, time)).await;
            found.unwrap_or_else(|error| Err(SeekError::Unavailable(error.to_string())))
        })
    }

    fn seek_tail(&self, tail: Tail) -> SeekFuture<'_> {
        Box::pin(async move {
            let found = self.open.long_readers.read(move |tx| reader::seek_tail(tx, tail)).await;
            found.map_err(|error| SeekError::Unavailable(error.to_string()))
        })
    }

    fn snapshot(&self, repositories: &[Pattern], mut into: SnapshotSink) -> SnapshotFuture<'_> {
        let (repositories, shared) = (repositories.to_vec(), Arc::clone(&self.open.shared));
        Box::pin(async move {
            let read = self.open.long_readers.read(move |tx| {
                let head = reader::snapshot(tx, &repositories, &mut |task| into.push(task))?;
                let head = head.map(|seq| seq + u64::from(mutant::active(Mutant::StaleSnapshot)));
                Ok(head.and_then(|head| into.finish(head, shared.incarnations.cursor(head))))
            });
            match read.await {
                Ok(snapshot) => Ok(snapshot?),
                Err(error) => Err(SnapshotError::Unavailable(error.to_string())),
            }
        })
    }
}
