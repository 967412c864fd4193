//! Signals, and stopping.

use std::io;

use crate::exit::End;

/// What somebody else wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// The end.
    End(End),
    /// The terminal, for a while.
    Suspend,
    /// That it goes on, with a terminal that others may have used.
    Continue,
}

#[cfg(unix)]
pub(super) use unix::{Signals, stop, suspend};

#[cfg(not(unix))]
pub(super) use elsewhere::{Signals, stop, suspend};

#[cfg(unix)]
mod unix {
    use rustix::process::{Signal as Number, getpid, kill_current_process_group, kill_process};
    use tokio::signal::unix::{Signal as Source, SignalKind, signal};

    use super::{End, Signal, io};

    /// The signals that the board takes.
    #[derive(Debug)]
    pub(in super::super) struct Signals {
        interrupt: Source,
        terminate: Source,
        hangup: Source,
        suspend: Source,
        resume: Source,
    }

    impl Signals {
        /// Catches them from now on.
        ///
        /// # Errors
        /// If the system does not let them be caught.
        pub(in super::super) fn new() -> io::Result<Self> {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hangup: signal(SignalKind::hangup())?,
                suspend: signal(SignalKind::from_raw(Number::TSTP.as_raw()))?,
                resume: signal(SignalKind::from_raw(Number::CONT.as_raw()))?,
            })
        }

        /// Waits for one.
        pub(in super::super) async fn next(&mut self) -> Signal {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => Signal::End(End::Interrupted),
                _ = self.terminate.recv() => Signal::End(End::Terminated),
                _ = self.hangup.recv() => Signal::End(End::HungUp),
                _ = self.suspend.recv() => Signal::Suspend,
                _ = self.resume.recv() => Signal::Continue,
            }
        }
    }

    /// What Ctrl-Z does where keys are not taken one by one: whatever was started together with the
    /// board is asked to stop, so that the shell notices.
    pub(in super::super) fn suspend() {
        // To be asked by oneself cannot be forbidden.
        let _ = kill_current_process_group(Number::TSTP);
    }

    /// Stops, until somebody says to go on.
    pub(in super::super) fn stop() {
        let _ = kill_process(getpid(), Number::STOP);
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use super::{End, Signal, io};

    /// Ctrl-C from another program.
    #[derive(Debug)]
    pub(in super::super) struct Signals;

    impl Signals {
        pub(in super::super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(in super::super) async fn next(&mut self) -> Signal {
            match tokio::signal::ctrl_c().await {
                Ok(()) => Signal::End(End::Interrupted),
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// There is no such thing here.
    pub(in super::super) fn suspend() {}

    /// There is no such thing here.
    pub(in super::super) fn stop() {}
}
