//! How the machine stands, for whoever looks from outside.

use std::time::Instant;

use super::{Machine, Phase};
use crate::{ConnectionState, Transport};

/// What makes two states of the connection differ. It costs nothing to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    Idle,
    Connecting(u32),
    CatchingUp(Transport),
    Live(Transport),
    Waiting(Instant),
    Parked,
    Stopped,
}

impl Machine {
    /// How it stands.
    pub(crate) fn stage(&self) -> Stage {
        match (&self.phase, self.told) {
            (Phase::Idle, _) => Stage::Idle,
            (Phase::Waiting { until, .. }, _) => Stage::Waiting(*until),
            (Phase::Parked, _) => Stage::Parked,
            (Phase::Stopped, _) => Stage::Stopped,
            // Also while the connection is only made anew: nobody needs to know.
            (Phase::Dialling { .. } | Phase::Open(_), Some(transport)) if self.is_behind() => {
                Stage::CatchingUp(transport)
            }
            (Phase::Dialling { .. } | Phase::Open(_), Some(transport)) => Stage::Live(transport),
            (Phase::Dialling { .. } | Phase::Open(_), None) => Stage::Connecting(self.attempts),
        }
    }

    /// The same in full; `None` when it has stopped, since the error is with who was told.
    pub(crate) fn connection(&self) -> Option<ConnectionState> {
        let server = || match &self.phase {
            Phase::Open(session) => session.server.clone(),
            _ => String::new(),
        };
        Some(match self.stage() {
            Stage::Idle => ConnectionState::Idle,
            Stage::Connecting(attempt) => ConnectionState::Connecting { attempt },
            Stage::CatchingUp(transport) => {
                ConnectionState::CatchingUp { transport, server: server() }
            }
            Stage::Live(transport) => ConnectionState::Live { transport, server: server() },
            Stage::Waiting(until) => {
                let Phase::Waiting { reason, .. } = &self.phase else { return None };
                ConnectionState::Waiting { reason: reason.clone(), until }
            }
            Stage::Parked => ConnectionState::Parked,
            Stage::Stopped => return None,
        })
    }

    fn is_behind(&self) -> bool {
        match &self.phase {
            Phase::Open(session) => session.is_behind() || self.carried.is_some(),
            _ => self.carried.is_some(),
        }
    }
}
