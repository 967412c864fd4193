//! One client of the SDK through all restarts.

use std::hash::{DefaultHasher, Hash, Hasher};

use futures_util::StreamExt;
use taskwatch_client::{Update, Updates};
use taskwatch_protocol::CloseCode;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::socket::{Frame, frame};

/// What one client was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) events: usize,
    /// Numbers that were skipped.
    pub(crate) lost: usize,
    /// Events that came again, or late.
    pub(crate) again: usize,
    /// Of all events, in their order.
    pub(crate) digest: u64,
    /// Times a connection was closed with 1012.
    pub(crate) sent_away: usize,
    /// Why connections ended otherwise.
    pub(crate) cut: Vec<String>,
    /// Attempts that came to nothing.
    pub(crate) failed_dials: usize,
}

/// Reads up to the last event, as soon as it is known which that is. Says each time that it is level again.
pub(crate) async fn follow(
    mut updates: Updates,
    level: UnboundedSender<()>,
    mut last: watch::Receiver<Option<u64>>,
) -> Told {
    let mut told = Told::default();
    let mut digest = DefaultHasher::new();
    let (mut seen, mut connected) = (0, true);
    let sent_away = format!("the server closed the connection: {}", CloseCode::Restart);
    while last.borrow().is_none_or(|last| seen < last) {
        let update = tokio::select! {
            update = updates.next() => update.expect("it ends with an error").unwrap(),
            _ = last.changed() => continue,
        };
        match update {
            Update::Event(event) => {
                let Frame::Event(seq) = frame(event.envelope()) else { panic!("an event") };
                if seq <= seen {
                    told.again += 1;
                } else {
                    told.lost += usize::try_from(seq - seen - 1).unwrap();
                    seen = seq;
                }
                told.events += 1;
                event.envelope().hash(&mut digest);
            }
            Update::Connected { .. } => connected = true,
            Update::CaughtUp { .. } => drop(level.send(())),
            Update::Interrupted { reason, .. } => {
                if !std::mem::take(&mut connected) {
                    told.failed_dials += 1;
                } else if reason == sent_away {
                    told.sent_away += 1;
                } else {
                    told.cut.push(reason);
                }
            }
            Update::Gap(gap) => told.cut.push(format!("{gap:?}")),
            _ => {}
        }
    }
    told.digest = digest.finish();
    told
}

/// The digest of a log.
pub(crate) fn digest<'a>(envelopes: impl Iterator<Item = &'a str>) -> u64 {
    let mut digest = DefaultHasher::new();
    envelopes.for_each(|envelope| envelope.hash(&mut digest));
    digest.finish()
}
