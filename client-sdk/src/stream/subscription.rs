//! The caller's end of a stream, whichever form it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use taskwatch_protocol::{InvalidName, Pattern};
use tracing::{Instrument, info_span};

use super::Acker;
use crate::backoff::Delays;
use crate::config::{Settings, patterns};
use crate::connection::Connection;
use crate::driver;
use crate::feed::Feed;
use crate::machine::{Machine, Plan, Wish};
use crate::{ConnectionWatch, Update, WatchError};

/// Numbers the streams of a program, in its logs.
static STREAMS: AtomicU64 = AtomicU64::new(1);

/// The caller's end of a feed, and what its driver begins with.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) feed: Arc<Feed>,
    /// `None` once the driver runs.
    pub(super) start: Option<Start>,
    pub(super) connection: ConnectionWatch,
}

#[derive(Debug)]
pub(super) struct Start {
    settings: Settings,
    pub(super) plan: Plan,
    wished: Vec<Pattern>,
    connection: Connection,
}

impl Start {
    fn run(self, feed: Arc<Feed>) {
        let Settings { dialer, backoff_initial, backoff_cap, max_elapsed, draw, .. } =
            self.settings;
        let delays = Delays::new(backoff_initial, backoff_cap, draw);
        let machine = Machine::new(self.plan, delays, max_elapsed);
        let first = Wish::Add(self.wished);
        let number = STREAMS.fetch_add(1, Ordering::Relaxed);
        let span = info_span!("taskwatch.stream", stream = number, server = dialer.server());
        let run = driver::run(machine, dialer, feed, self.connection, first);
        tokio::spawn(run.instrument(span));
    }
}

impl Subscription {
    pub(super) fn new(settings: Settings, wished: Vec<Pattern>) -> Self {
        let has_tokens = settings.dialer.has_tokens();
        let plan = Plan { has_tokens, transport: settings.transport, ..Plan::default() };
        let (shown, connection) = Connection::new();
        let start = Some(Start { settings, plan, wished, connection: shown });
        Self { feed: Arc::new(Feed::new()), start, connection }
    }

    pub(super) fn acker(&self) -> Acker {
        Acker::new(Arc::clone(&self.feed))
    }

    fn start(&mut self) {
        if let Some(start) = self.start.take() {
            start.run(Arc::clone(&self.feed));
        }
    }

    pub(super) fn poll_update(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Update, WatchError>>> {
        self.start();
        self.feed.poll_next(cx)
    }

    pub(super) async fn ready(&mut self) -> Result<(), WatchError> {
        self.start();
        std::future::poll_fn(|cx| self.feed.poll_ready(cx)).await
    }

    pub(super) fn add<I>(&self, repositories: I) -> Result<(), InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.feed.wish(Wish::Add(patterns(repositories)?));
        Ok(())
    }

    pub(super) fn remove<I>(&self, repositories: I) -> Result<(), InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.feed.wish(Wish::Remove(patterns(repositories)?));
        Ok(())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.feed.abandon();
    }
}
