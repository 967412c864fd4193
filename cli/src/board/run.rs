//! The loop between the stream, the keys, the clock, the signals and the screen.

mod signals;

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, OptionFuture};
use jiff::Zoned;
use ratatui::crossterm::event::{self, Event};
use taskwatch_client::OnGap;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use self::signals::{Signal, Signals};
use super::draw::Look;
use super::entry::Change;
use super::model::{Action, Model};
use super::screen::{self, Screen};
use super::{Moment, history};
use crate::args::WatchArgs;
use crate::exit::{End, Failure};
use crate::watch;

/// Pictures come no faster, unless a key is pressed.
const FRAME: Duration = Duration::from_millis(100);
/// Updates that are taken in before anything else is looked at.
const BATCH: usize = 512;
/// How often the server is asked whether there is more than what is shown.
const FRESHNESS: Duration = Duration::from_secs(2);
/// Keys that are waiting.
const KEYS: usize = 64;

type Fetched = (Uuid, Result<Vec<Change>, String>);

/// Shows the board until somebody ends it.
///
/// # Errors
/// If there is no terminal, or the stream ends.
pub(crate) async fn run(args: &WatchArgs) -> Result<End, Failure> {
    if let Some(why) = screen::missing() {
        return Err(Failure::Board(why));
    }
    if args.connection.verbose > 0 && io::IsTerminal::is_terminal(&io::stderr()) {
        return Err(Failure::Board("-v would write over it; 2>FILE keeps the log apart"));
    }
    let client = watch::client(args)?;
    let names = args.repositories.iter().map(ToString::to_string);
    let events = client.subscribe(names)?.snapshot().on_gap(OnGap::Snapshot);
    let mut updates = events.freshness(FRESHNESS).updates().ready_chunks(BATCH);
    // Signals are caught before there is something to give back.
    let mut signals = Signals::new().map_err(Failure::Start)?;
    let look = Look { has_colours: args.color.on(&io::stdout()) };
    let mut screen = Screen::open(look).map_err(Failure::Output)?;
    let mut keys = keys();

    let start = Instant::now();
    let now = || Moment { elapsed: start.elapsed(), wall: Zoned::now() };
    let mut model = Model::new(&args.repositories, &args.connection.url);
    let mut fetching: OptionFuture<BoxFuture<'static, Fetched>> = None.into();
    // Whether there is something to draw, and how soon.
    let (mut is_stale, mut frame) = (true, Instant::now());
    let end = loop {
        if is_stale && !screen.is_writing() && Instant::now() >= frame {
            let now = now();
            model.expire(&now);
            if let Err(error) = screen.draw(&mut model, &now).await {
                break Err(Failure::Output(error));
            }
            (is_stale, frame) = (false, Instant::now() + FRAME);
        }
        let wake = match is_stale {
            // Something to draw waits for nothing but its time, and for the last picture.
            true => (!screen.is_writing()).then_some(frame),
            false => model.due(&now()).map(|due| start + due),
        };
        let wake: OptionFuture<_> = wake.map(sleep_until).into();
        tokio::select! {
            biased;
            signal = signals.next() => match signal {
                Signal::End(end) => break Ok(end),
                Signal::Suspend => {
                    screen.leave().await;
                    signals::stop();
                }
                Signal::Continue => {
                    if let Err(error) = screen.take() {
                        break Err(Failure::Output(error));
                    }
                    (is_stale, frame) = (true, Instant::now());
                }
            },
            Some(event) = keys.recv() => {
                let action = match event {
                    Ok(Event::Key(key)) => model.key(key),
                    Ok(_) => None,
                    Err(error) => break Err(Failure::Terminal(error)),
                };
                (is_stale, frame) = (true, Instant::now());
                match action {
                    Some(Action::Quit) => break Ok(End::Left),
                    Some(Action::Interrupt) => break Ok(End::Interrupted),
                    Some(Action::Suspend) => signals::suspend(),
                    Some(Action::Redraw) => screen.redraw(),
                    Some(Action::FetchHistory(id)) => {
                        let history = history::fetch(client.clone(), id, now());
                        let fetched = async move { (id, history.await) };
                        fetching = Some(Box::pin(fetched) as BoxFuture<'static, Fetched>).into();
                    }
                    None => {}
                }
            }
            written = screen.written(), if screen.is_writing() => {
                if let Err(error) = written {
                    break Err(Failure::Output(error));
                }
            }
            Some((id, history)) = &mut fetching => {
                model.history(id, history);
                fetching = None.into();
                is_stale = true;
            }
            batch = updates.next() => {
                let now = now();
                let Some(batch) = batch else { break Err(Failure::Ended) };
                match batch.into_iter().try_for_each(|update| {
                    is_stale |= model.update(update?, &now);
                    Ok(())
                }) {
                    Ok(()) => {}
                    Err(error) => break Err(Failure::Watch(error)),
                }
            }
            Some(()) = wake => is_stale = true,
        }
    };
    // Whatever is told from here on is told on the terminal as it was before.
    screen.leave().await;
    watch::close(updates.into_inner()).await;
    end
}

/// What is pressed. A thread of its own waits for it, since a terminal cannot be waited for otherwise
/// in all systems; it ends with the process.
fn keys() -> mpsc::Receiver<io::Result<Event>> {
    let (sender, keys) = mpsc::channel(KEYS);
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let is_broken = event.is_err();
            if sender.blocking_send(event).is_err() || is_broken {
                break;
            }
        }
    });
    keys
}
