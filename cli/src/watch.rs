//! The loop between the SDK's stream and the two outputs.

mod printer;
mod stderr;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::time::{Duration, Instant};

use futures_util::future::poll_immediate;
use futures_util::{Stream, StreamExt};
use jiff::Zoned;
use jiff::tz::TimeZone;
use taskwatch_client::protocol::Timestamp;
use taskwatch_client::{Client, Cursor, OnGap, TransportChoice, Update, Updates, WatchError};
use terminal_size::terminal_size_of;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::args::{self, Format, WatchArgs};
use crate::connection;
use crate::enough::Enough;
use crate::exit::{End, Failure};
use crate::filter::Filter;
use crate::goal::Goal;
use crate::moment::Since;
use crate::output::{LocalTimes, TextFormat};
use crate::paint::Paint;
use crate::position::Position;
use crate::status::Status;
use crate::status_line::{CHECK_EVERY, StatusLine};

pub(crate) use self::printer::Printer;
use self::stderr::Stderr;

/// For a polite end; after it the connection is just dropped.
const CLOSE_LIMIT: Duration = Duration::from_millis(1_500);
/// For the last piece, if a signal comes while it is written to a pipe that is full.
const FINISH_LIMIT: Duration = Duration::from_millis(500);
const CLOSE_POLL: Duration = Duration::from_millis(5);
/// What is printed at once, but for a line that is longer, and a snapshot: what a pipe holds.
const PIECE: usize = 64 * 1024;
/// How often the status line is looked at, while nothing else happens.
const TICK: Duration = Duration::from_secs(1);
/// Of a terminal that does not say.
const COLUMNS: u16 = 80;

/// The stream that the arguments ask for, from this position on, if there is one. Nothing is dialled
/// yet.
///
/// # Errors
/// If they make no sense.
pub(crate) fn open(
    args: &WatchArgs,
    position: Option<Cursor>,
    now: &Zoned,
) -> Result<Updates, Failure> {
    let on_gap = match args.on_gap {
        _ if args.goal.needs_state() => OnGap::Snapshot,
        args::OnGap::Error => OnGap::Error,
        args::OnGap::Live => OnGap::Live,
        args::OnGap::Snapshot => OnGap::Snapshot,
    };
    let names = args.repositories.iter().map(ToString::to_string);
    let mut events = client(args)?.subscribe(names)?.on_gap(on_gap);
    let begins_with_state = args.snapshot || args.goal.needs_state();
    // A snapshot holds whole tasks, so where there may be one the kinds are chosen here.
    if !args.kinds().is_empty() && !begins_with_state && on_gap != OnGap::Snapshot {
        events = events.types(args.kinds());
    }
    if begins_with_state {
        events = events.snapshot();
    }
    if args.hook.hook().is_some() {
        events = events.manual_ack();
    }
    if args.has_status_line() || args.until.is_some() {
        events = events.freshness(CHECK_EVERY);
    }
    let events = match (position, &args.since, args.tail) {
        (Some(cursor), ..) => events.since(cursor),
        (None, Some(Since::Cursor(cursor)), _) => events.since(cursor.clone()),
        (None, Some(Since::Moment(moment)), _) => {
            events.since_time(moment.past(now).ok_or(Failure::Moment)?)
        }
        (None, None, Some(number)) => events.tail(number.get()),
        (None, None, None) => events,
    };
    Ok(events.updates())
}

/// The client that the arguments ask for.
///
/// # Errors
/// If they make no sense.
pub(crate) fn client(args: &WatchArgs) -> Result<Client, Failure> {
    let transport = match args.transport {
        args::Transport::Auto => TransportChoice::Auto,
        args::Transport::Ws => TransportChoice::WebSocket,
        args::Transport::Sse => TransportChoice::Sse,
        args::Transport::Poll => TransportChoice::LongPoll,
    };
    Ok(connection::client(&args.connection)?.transport(transport).build()?)
}

/// What becomes of an update: what is printed of it, what is told, and whether it is the last.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) printer: Printer,
    pub(crate) filter: Filter,
    pub(crate) enough: Enough,
    /// What is waited for.
    pub(crate) goal: Option<Goal>,
    pub(crate) status: Status,
    /// `None` where it could not be taken back.
    pub(crate) status_line: Option<StatusLine>,
    /// Where the times that are shown are those of.
    pub(crate) zone: TimeZone,
}

impl Watcher {
    /// As the arguments have it, at this time and in this zone.
    ///
    /// # Errors
    /// If a time is none.
    pub(crate) fn new(args: &WatchArgs, now: &Zoned) -> Result<Self, Failure> {
        let printer = match args.output {
            Format::Json => Printer::Json,
            Format::Text => {
                let paint = Paint(args.color.on(&io::stdout()));
                Printer::Text(TextFormat::new(paint, &args.repositories))
            }
        };
        let until = args.until.as_ref();
        let until = until.map(|until| until.future(now).ok_or(Failure::Moment)).transpose()?;
        let (count, follow) = (args.count, !args.no_follow);
        let mut enough = Enough::new(args.beginning());
        (enough.count, enough.until, enough.follow) = (count, until, follow);
        let paint = Paint(args.color.on(&io::stderr()));
        Ok(Self {
            printer,
            filter: args.filter(),
            enough,
            goal: args.goal.goal(&args.repositories),
            status: Status::new(paint, args.quiet, &args.connection.url),
            status_line: args.has_status_line().then(StatusLine::new),
            zone: now.time_zone().clone(),
        })
    }

    /// What is to be said at the very end: how it went, what became of what was waited for, and what
    /// was wrong.
    pub(crate) fn farewell(&mut self, watched: Duration, end: &Result<End, Failure>) -> String {
        // A signal leaves the status line there.
        let mut text = if self.status_line.is_some() { "\r\u{1b}[K" } else { "" }.to_owned();
        let last = match end {
            Ok(end) => self.status.verdict(*end, self.goal.as_ref(), watched),
            Err(failure) => {
                self.status.ended(failure);
                Some(self.status.failure(failure))
            }
        };
        for line in self.status.summary(watched).into_iter().chain(last) {
            text = text + &line + "\n";
        }
        text
    }

    /// Prints snapshots and events to `out` and tells of the connection on `err`, until there is
    /// enough, `out` is closed, or the stream ends. `position` follows what was printed.
    ///
    /// What is there already is printed in one piece, up to a limit: a write for each line took over
    /// ten times as long as all the rest. While a piece is written the next one is put together, and no
    /// more, so that a slow reader slows the stream and not the memory. No line is kept back for any
    /// other reason.
    ///
    /// # Errors
    /// Whenever it ends otherwise than it was asked to.
    pub(crate) async fn watch(
        &mut self,
        updates: impl Stream<Item = Result<Update, WatchError>> + Unpin,
        position: &mut Position,
        out: impl AsyncWrite + Unpin,
        err: impl AsyncWrite + Unpin,
    ) -> Result<End, Failure> {
        let mut err = Stderr::new(err);
        let end = self.watch_until_closed(updates, position, out, &mut err).await;
        err.show("").await;
        match end {
            Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                Ok(End::OutputClosed)
            }
            end => end,
        }
    }

    async fn watch_until_closed(
        &mut self,
        mut updates: impl Stream<Item = Result<Update, WatchError>> + Unpin,
        position: &mut Position,
        mut out: impl AsyncWrite + Unpin,
        err: &mut Stderr<impl AsyncWrite + Unpin>,
    ) -> Result<End, Failure> {
        let (mut lines, mut times) = (String::new(), self.times());
        // Whether a piece may still be on its way.
        let mut is_printing = false;
        // The last event, where there may be one that is excluded.
        let mut last = None;
        loop {
            let ready = poll_immediate(updates.next()).await;
            if ready.is_none() {
                self.enough.nothing_waits(present());
            }
            let update = match ready {
                Some(update) => update,
                None if is_printing || !lines.is_empty() => tokio::select! {
                    biased;
                    free = out.flush() => {
                        free.map_err(Failure::Output)?;
                        position.flushed()?;
                        is_printing = !lines.is_empty();
                        write(&mut out, &mut lines).await.map_err(Failure::Output)?;
                        position.written();
                        continue;
                    }
                    update = updates.next() => update,
                },
                None => {
                    err.show(&self.status_line_text()).await;
                    tokio::select! {
                        update = updates.next() => update,
                        () = sleep(TICK), if self.status_line.is_some() => continue,
                    }
                }
            };
            let Some(update) = update else { break };
            if lines.is_empty() {
                times = self.times();
            }
            let cursor = self.enough.until.and(update.as_ref().ok()).and_then(cursor_of);
            let step = self.take(update, &mut times, &mut lines);
            if step.told.is_some() || !lines.is_empty() {
                // What is printed now stands where the line stood.
                err.show("").await;
            }
            // Who sees both outputs sees them in the order in which things happened.
            if step.end.is_some() || step.told.is_some() {
                print(&mut out, &mut lines).await.map_err(Failure::Output)?;
                is_printing = false;
            } else if lines.len() >= PIECE {
                // Waits for the piece before this one.
                write(&mut out, &mut lines).await.map_err(Failure::Output)?;
                position.written();
                is_printing = true;
            }
            if step.is_excluded {
                // It is for the next run.
                position.written_to(last.take());
            } else if lines.is_empty() && !is_printing {
                position.save()?;
            }
            last = cursor.or(last);
            if let Some(line) = step.told {
                err.tell(line).await;
            }
            if let Some(end) = step.end {
                return end;
            }
        }
        print(&mut out, &mut lines).await.map_err(Failure::Output)?;
        Err(Failure::Ended)
    }

    /// Adds what an update puts on stdout to `lines`. `times` are those of what is printed with it.
    fn take(
        &mut self,
        update: Result<Update, WatchError>,
        times: &mut LocalTimes,
        lines: &mut String,
    ) -> Step {
        let update = match update {
            Ok(Update::Event(event)) if self.enough.excludes(&event) => {
                return Step { is_excluded: true, ..Step::last(Ok(End::Enough)) };
            }
            Ok(update) => update,
            Err(error) => {
                self.printer.end(&error, lines);
                return Step::last(Err(error.into()));
            }
        };
        let mut is_enough = self.enough.reached(&update);
        if self.shows(&update) {
            self.printer.lines(&update, &self.filter, times, lines);
            is_enough |= self.counts(&update);
        }
        if let Some(line) = &mut self.status_line {
            line.take(&update, Instant::now());
        }
        let told = self.status.line(&update);
        let is_met = self.goal.as_mut().is_some_and(|goal| goal.take(update));
        let end = is_met.then_some(End::Met).or(is_enough.then_some(End::Enough));
        Step { told, end: end.map(Ok), is_excluded: false }
    }

    /// Whether the filter lets an update pass.
    pub(crate) fn shows(&self, update: &Update) -> bool {
        !matches!(update, Update::Event(event) if !self.filter.shows(event))
    }

    /// Takes note of what is shown; whether it is the last.
    pub(crate) fn counts(&mut self, update: &Update) -> bool {
        let is_event = matches!(update, Update::Event(_));
        if is_event {
            self.status.shown();
            self.status_line.iter_mut().for_each(StatusLine::shown);
        }
        is_event && self.enough.shown()
    }

    fn times(&self) -> LocalTimes {
        LocalTimes::new(jiff::Timestamp::now().to_zoned(self.zone.clone()))
    }

    fn status_line_text(&self) -> String {
        match &self.status_line {
            // Behind the prompt of a shell it would be in the way.
            Some(line) if is_in_foreground() => line.text(Instant::now(), columns()),
            _ => String::new(),
        }
    }
}

/// How wide the terminal is, less one: in the last column some terminals wrap already.
fn columns() -> usize {
    let size = terminal_size_of(io::stderr());
    usize::from(size.map_or(COLUMNS, |(columns, _)| columns.0).saturating_sub(1))
}

/// Whether the terminal is this program's at the moment, and not the shell's.
#[cfg(unix)]
fn is_in_foreground() -> bool {
    let its_own = rustix::termios::tcgetpgrp(io::stderr());
    its_own.map_or(true, |group| group == rustix::process::getpgrp())
}

#[cfg(not(unix))]
fn is_in_foreground() -> bool {
    true
}

/// What to do about an update beside printing it.
struct Step {
    /// A line about the connection.
    told: Option<String>,
    /// What it ends the watch with.
    end: Option<Result<End, Failure>>,
    /// It lies behind the end, and was not printed.
    is_excluded: bool,
}

impl Step {
    fn last(end: Result<End, Failure>) -> Self {
        Self { told: None, end: Some(end), is_excluded: false }
    }
}

fn cursor_of(update: &Update) -> Option<Cursor> {
    if let Update::Event(event) = update { Some(event.cursor.clone()) } else { None }
}

/// The time it is.
pub(crate) fn present() -> Timestamp {
    Timestamp::from_unix_millis(jiff::Timestamp::now().as_millisecond())
}

/// Waits for what was handed to `out`, as far as somebody reads it; whether all of it was.
pub(crate) async fn finish(mut out: impl AsyncWrite + Unpin) -> bool {
    matches!(timeout(FINISH_LIMIT, out.flush()).await, Ok(Ok(())))
}

/// Says goodbye to the server, as far as it takes part.
pub(crate) async fn close(updates: Updates) {
    // The SDK closes in the background when the stream is dropped, and a runtime that ends would
    // cut that short. Its task is the only one here, so it is over when none is left.
    drop(updates);
    let tasks = Handle::current().metrics();
    let closed = async {
        while tasks.num_alive_tasks() > 0 {
            tokio::time::sleep(CLOSE_POLL).await;
        }
    };
    let _ = timeout(CLOSE_LIMIT, closed).await;
}

/// Writes lines at once, whether to a terminal, a file or a pipe, and waits until they are there.
async fn print(to: &mut (impl AsyncWrite + Unpin), lines: &mut String) -> io::Result<()> {
    write(to, lines).await?;
    to.flush().await
}

/// Hands lines over. Stdout is written to beside everything else, one piece after the other.
async fn write(to: &mut (impl AsyncWrite + Unpin), lines: &mut String) -> io::Result<()> {
    to.write_all(lines.as_bytes()).await?;
    lines.clear();
    lines.shrink_to(PIECE);
    Ok(())
}
