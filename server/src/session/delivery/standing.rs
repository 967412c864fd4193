//! Where a delivery stands: for people, and when the log has changed behind it.

use taskwatch_protocol::CloseCode;

use super::{Delivery, Source};
use crate::hub::{ConnectionState, Stop};
use crate::session::{Fetched, Session};

impl Delivery {
    /// Moves the position over what was fanned out and is not wanted here.
    pub(crate) fn refresh(&self, session: &mut Session) {
        if self.is_level() {
            let fanned = self.hub.fanned(&self.member);
            if self.member.queue().is_drained() {
                session.scanned(fanned);
            }
        }
    }

    /// What it is doing, for people.
    pub(crate) fn state(&self, session: &Session) -> ConnectionState {
        let snapshot = self.asked.is_some() || session.is_in_snapshot();
        match self.source {
            Source::Level if !self.member.queue().is_overflowed() => ConnectionState::Live,
            _ if snapshot => ConnectionState::Snapshot,
            _ => ConnectionState::CatchingUp,
        }
    }

    /// Lets go of what was read before the log was rewritten. True if it was a snapshot: its peer has
    /// some of it already, and has to come back for another.
    pub(super) fn is_stale(&mut self) -> bool {
        let rewrites = self.hub.rewrites();
        if self.rewrites == rewrites || matches!(self.source, Source::Fetching) {
            return false;
        }
        self.rewrites = rewrites;
        if matches!(self.source, Source::Page { .. }) {
            self.source = Source::Behind;
        }
        self.snapshot.is_some() || matches!(self.source, Source::Snapshot(_))
    }

    /// What was fetched, unless it is of before and is to be read again.
    pub(super) fn not_stale(&self, fetched: Fetched) -> Result<Option<Fetched>, Stop> {
        if self.rewrites == self.hub.rewrites() {
            return Ok(Some(fetched));
        }
        match fetched {
            Fetched::Page(Ok(_)) => Ok(None),
            Fetched::Snapshot(Ok(_)) | Fetched::Frame(Ok(_)) => {
                Err(Stop::new(CloseCode::AccessChanged))
            }
            other => Ok(Some(other)),
        }
    }
}
