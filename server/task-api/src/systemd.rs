//! What systemd, or another supervisor that speaks as it does, hands over and is told.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// The socket that was handed over could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    #[error("{0} sockets were handed over, and one is served: leave one ListenStream=")]
    Many(usize),
    #[error("what was handed over is no listening TCP socket: {0}")]
    Unusable(io::Error),
}

/// The listening socket that was handed over, if one was. It takes the variables that say so out of the
/// environment, and so has to be called before there is a second thread.
pub(crate) fn socket() -> Result<Option<TcpListener>, HandoverError> {
    let mut handed = ListenFd::from_env();
    match handed.len() {
        0 => Ok(None),
        1 => {
            let socket = handed.take_tcp_listener(0).map_err(HandoverError::Unusable)?;
            // A connection, such as Accept=yes hands over, is a TCP socket too.
            if let Some(socket) = &socket
                && !socket2::SockRef::from(socket).is_listener().map_err(HandoverError::Unusable)?
            {
                return Err(HandoverError::Unusable(io::Error::other("it does not listen")));
            }
            Ok(socket)
        }
        many => Err(HandoverError::Many(many)),
    }
}

/// Requests are answered at `url`.
pub(crate) fn ready(url: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("serving {url}"))]);
}

/// The end has begun.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("sending the watchers away")]);
}

/// Says again and again that all is well, if somebody wants to hear it. As a task of the runtime it falls
/// silent when the runtime does.
pub(crate) async fn keep_alive() {
    let Some(longest) = sd_notify::watchdog_enabled() else { return };
    let mut turns = tokio::time::interval(pause(longest));
    loop {
        turns.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// Twice in the time that may pass.
fn pause(longest: Duration) -> Duration {
    (longest / 2).max(Duration::from_millis(1))
}

/// Does nothing where nobody listens.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the supervisor could not be told how it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_speaks_twice_before_it_counts_as_dead() {
        assert_eq!(pause(Duration::from_secs(30)), Duration::from_secs(15));
        // An interval of nothing would be a panic.
        assert_eq!(pause(Duration::ZERO), Duration::from_millis(1));
    }
}
