//! What ends the watcher from outside: a signal, or a stdout that nobody reads.

use std::io;

use crate::exit::End;

/// Waits for a reason to stop. Signals are caught from the first poll on.
///
/// # Errors
/// If the system does not let signals be caught.
#[cfg(unix)]
pub(crate) async fn requested(stdout: impl std::os::fd::AsFd) -> io::Result<End> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => End::Interrupted,
        _ = terminate.recv() => End::Terminated,
        () = closed(stdout) => End::OutputClosed,
    })
}

/// Waits for Ctrl-C.
///
/// # Errors
/// If the system does not let it be caught.
#[cfg(not(unix))]
pub(crate) async fn requested<T>(_stdout: T) -> io::Result<End> {
    tokio::signal::ctrl_c().await?;
    Ok(End::Interrupted)
}

/// Waits until the reader of a pipe has gone. Otherwise `taskwatch | grep -m1 done` would end only
/// when one more event finds the pipe closed, which may be never.
#[cfg(unix)]
async fn closed(stdout: impl std::os::fd::AsFd) {
    use tokio::io::Interest;
    use tokio::net::unix::pipe::Sender;

    // Unchecked, since what is not a pipe either cannot be waited for or never reports an error.
    // Nothing is written through it, so the pipe, which others may share, stays a blocking one.
    let pipe = stdout.as_fd().try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked);
    match pipe {
        Ok(pipe) if pipe.ready(Interest::ERROR).await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_reader_that_goes_is_noticed_without_a_write() {
        let (reader, writer) = io::pipe().unwrap();
        let mut stop = std::pin::pin!(requested(&writer));
        assert!(stop.as_mut().now_or_never().is_none());
        drop(reader);
        assert_eq!(stop.await.unwrap(), End::OutputClosed);
    }

    #[tokio::test]
    async fn a_file_is_never_closed() {
        let stop = std::pin::pin!(requested(std::fs::File::open("Cargo.toml").unwrap()));
        assert!(stop.now_or_never().is_none());
    }
}
