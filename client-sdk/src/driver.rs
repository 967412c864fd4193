//! Carries out what the machine decides. The only file that dials, sleeps or reads the clock.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::poll_immediate;
use taskwatch_protocol::{ClientFrame, CloseCode};
use tokio::task::yield_now;
use tokio::time::{sleep_until, timeout};

use crate::connection::Connection;
use crate::dial::{DialError, Dialer};
use crate::feed::{Caller, Feed, News};
use crate::link::{Link, Received};
use crate::machine::{Action, Generation, Input, LinkInput, Machine, Now, Stage, Wish};
use crate::transport::Route;
use crate::{ConnectionState, Token, TokenError, WatchError};

/// The machine sees the clocks at least this often, so that it notices when the computer slept.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// So many bytes of frames that have come already are handled in a row, without a look at the clocks, at
/// the caller and at what else there is. Then what they say is handed over, and the caller has a turn,
/// also where one thread does everything.
///
/// Some forty events: with fewer, two threads wake each other more often than it is worth.
const BURST: usize = 64 * 1024;
/// What a frame counts for beside its text.
const FRAME: usize = 1024;
/// For one frame, all the way into the kernel.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

type Dialling = Pin<Box<dyn Future<Output = Result<(Route, Link), DialError>> + Send>>;
type Asking = Pin<Box<dyn Future<Output = Result<Token, TokenError>> + Send>>;

enum Line {
    Down,
    Dialling(Generation, Dialling),
    Up(Generation, Link),
}

/// Runs until the stream is dropped or ends for good.
pub(crate) fn run(
    machine: Machine,
    dialer: Dialer,
    feed: Arc<Feed>,
    connection: Connection,
    first: Wish,
) -> impl Future<Output = ()> + Send {
    // Made before the first poll: also a task that never runs tells its stream.
    let (line, now) = (Line::Down, clocks());
    let mut driver = Driver {
        machine,
        dialer,
        feed,
        connection,
        stage: Stage::default(),
        line,
        asking: None,
        now,
        burst: 0,
        news: Vec::new(),
    };
    async move {
        driver.handle(Input::Wish(first));
        while driver.perform().await {
            if driver.burst < BURST && driver.ready().await {
                continue;
            }
            if !driver.hand_over() {
                break;
            }
            if driver.burst >= BURST {
                yield_now().await;
            }
            driver.step().await;
        }
        driver.leave().await;
    }
}

fn clocks() -> Now {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    Now { steady: Instant::now(), wall: SystemTime::now() }
}

struct Driver {
    machine: Machine,
    dialer: Dialer,
    feed: Arc<Feed>,
    connection: Connection,
    /// What whoever looks at the connection was shown.
    stage: Stage,
    line: Line,
    /// For a token while the connection goes on.
    asking: Option<(Generation, Asking)>,
    /// When the last step was made: all that had come by then is handled at this time.
    now: Now,
    /// What was handled since.
    burst: usize,
    /// What it says to the caller, who is not told yet.
    news: Vec<News>,
}

impl Driver {
    fn handle(&mut self, input: Input) {
        if let Input::Link(_, LinkInput::Text(text)) = &input {
            self.burst += FRAME + text.len();
        }
        self.machine.handle(self.now, input);
    }

    /// Tells the machine of what has come already; false if nothing has.
    ///
    /// To wait for everything at once sets a timer and three wakers, and takes them back, for each frame.
    async fn ready(&mut self) -> bool {
        let Line::Up(..) = self.line else { return false };
        if !self.machine.is_reading() {
            return false;
        }
        let input = poll_immediate(self.line.next()).await;
        input.map(|input| self.handle(input)).is_some()
    }

    /// Waits for one thing to happen, and tells the machine.
    async fn step(&mut self) {
        let latest = self.now.steady + LONGEST_SLEEP;
        let wake = self.machine.deadline().map_or(latest, |deadline| deadline.min(latest));
        let input = tokio::select! {
            () = self.feed.changed() => None,
            input = self.line.next(), if self.machine.is_reading() => Some(input),
            input = answer(&mut self.asking) => Some(input),
            () = sleep_until(wake.into()) => Some(Input::Tick),
        };
        (self.now, self.burst) = (clocks(), 0);
        match input {
            Some(input) => self.handle(input),
            None => self.caller_changed(),
        }
    }

    fn caller_changed(&mut self) {
        for wish in self.feed.take_wishes() {
            self.handle(Input::Wish(wish));
        }
        if self.machine.is_full() && self.feed.is_half_empty() {
            self.handle(Input::Room);
        }
    }

    /// Does what the machine wants; false when there is nothing more to do at all.
    async fn perform(&mut self) -> bool {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Dial(generation, route) => {
                    let dialer = self.dialer.clone();
                    let dialling = Box::pin(async move { dialer.dial(route).await });
                    self.line = Line::Dialling(generation, dialling);
                }
                Action::Send(frame) => self.send(&frame).await,
                Action::AskToken(generation) => {
                    let dialer = self.dialer.clone();
                    let asking = Box::pin(async move { dialer.token().await });
                    self.asking = Some((generation, asking));
                }
                Action::Yield(update, position) => self.news.push(News::Update(update, position)),
                Action::Bookmark(cursor) => self.news.push(News::Bookmark(cursor)),
                Action::Ready => self.news.push(News::Ready),
                Action::Drop => self.line = Line::Down,
                Action::Leave => self.leave().await,
                Action::Stop(error) => {
                    self.hand_over();
                    self.end(error);
                    return false;
                }
            }
        }
        self.show();
        true
    }

    /// Shows how the connection stands, if that has changed.
    fn show(&mut self) {
        let stage = self.machine.stage();
        if stage != self.stage
            && let Some(state) = self.machine.connection()
        {
            self.stage = stage;
            self.connection.is(state);
        }
    }

    /// Ends the stream. The first end counts.
    fn end(&self, error: WatchError) {
        match self.feed.end(error) {
            Some(error) => self.connection.is(ConnectionState::Ended(error)),
            None => self.connection.is(ConnectionState::Idle),
        }
    }

    /// Tells the caller; false if there is none any more.
    fn hand_over(&mut self) -> bool {
        let Caller { is_full, is_gone } = self.feed.take(&mut self.news);
        if self.burst < 4 * FRAME {
            // Not much comes: an idle stream has no use for the room.
            self.news = Vec::new();
        }
        if is_full && !self.machine.is_full() {
            self.handle(Input::Full);
        }
        !is_gone
    }

    async fn send(&mut self, frame: &ClientFrame) {
        // It may take its time.
        self.hand_over();
        let Line::Up(generation, link) = &mut self.line else { return };
        let sent = timeout(WRITE_LIMIT, link.send(frame)).await;
        self.now = clocks();
        let problem = match sent {
            Ok(Ok(())) => return,
            Ok(Err(problem)) => problem,
            Err(_) => format!("the server took nothing for {WRITE_LIMIT:?}"),
        };
        let input = Input::Link(*generation, LinkInput::Lost(problem));
        self.handle(input);
    }

    /// Closes the link as the protocol has it, as far as the peer takes part.
    async fn leave(&mut self) {
        self.hand_over();
        if let Line::Up(_, link) = std::mem::replace(&mut self.line, Line::Down) {
            link.close(CloseCode::Bye).await;
        }
    }
}

/// The answer of the provider, if it was asked.
async fn answer(asking: &mut Option<(Generation, Asking)>) -> Input {
    let Some((generation, token)) = asking else { return std::future::pending().await };
    let input = Input::Link(*generation, LinkInput::Token(token.await));
    *asking = None;
    input
}

impl Drop for Driver {
    /// If the runtime ends or something panics, the caller is not left waiting.
    fn drop(&mut self) {
        self.end(WatchError::Aborted);
    }
}

impl Line {
    async fn next(&mut self) -> Input {
        let (generation, input) = match self {
            Self::Down => std::future::pending().await,
            Self::Dialling(generation, dialling) => {
                let generation = *generation;
                match dialling.await {
                    Ok((route, link)) => {
                        *self = Self::Up(generation, link);
                        (generation, LinkInput::Opened(route))
                    }
                    Err(error) => {
                        *self = Self::Down;
                        (generation, LinkInput::DialFailed(error))
                    }
                }
            }
            Self::Up(generation, link) => {
                let generation = *generation;
                let received = link.next().await;
                (generation, self.received(received))
            }
        };
        Input::Link(generation, input)
    }

    /// What it means for the machine. A link that has come to its end is seen off by the way: the
    /// next one need not wait for that.
    fn received(&mut self, received: Received) -> LinkInput {
        match received {
            Received::Text(text) => LinkInput::Text(text),
            Received::Binary(bytes) => {
                self.see_off(|link| link.close(CloseCode::Binary));
                LinkInput::Lost(format!(
                    "the server sent a binary message of {} bytes",
                    bytes.len()
                ))
            }
            Received::Alive => LinkInput::Alive,
            Received::Rerouted(route) => LinkInput::Rerouted(route),
            Received::Refused(error) => {
                *self = Self::Down;
                LinkInput::DialFailed(error)
            }
            Received::Closed(code, reason) => {
                self.see_off(Link::part);
                LinkInput::Closed(code, reason)
            }
            Received::Broken(code, reason) => {
                self.see_off(|link| link.close(code));
                LinkInput::Lost(format!("the server broke the protocol: {reason}"))
            }
            Received::Lost(reason) => {
                self.see_off(Link::part);
                LinkInput::Lost(reason)
            }
        }
    }

    fn see_off<F>(&mut self, end: impl FnOnce(Link) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Self::Up(_, link) = std::mem::replace(self, Self::Down) {
            tokio::spawn(end(link));
        }
    }
}
