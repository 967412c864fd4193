//! The loop that all sockets share.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll};

use super::args::{Args, Mode, body};
use super::publisher::{Message, Publishers};
use super::subscribers::{Speech, Subscribers};
use super::window::Window;
use crate::Failure;
use crate::stamp::Stamp;

/// Large enough for what comes in one turn of a server that is far ahead.
const BUFFER: usize = 256 << 10;
/// Connections that are being opened at the same time: fewer than a short listen queue holds.
const OPENING: usize = 64;
/// So long may all the connections take, and so long the first messages.
const PATIENCE: Duration = Duration::from_secs(60);
/// In a flood, without one delivery for so long, what is under way is lost.
const STALL: Duration = Duration::from_secs(1);
/// After so long without one delivery those who resume will not get the rest.
const PATIENCE_FOR_ONE: Duration = Duration::from_secs(5);

/// Everything that is open while a server is measured.
pub(super) struct Client {
    pub(super) poll: Poll,
    pub(super) events: Events,
    pub(super) buffer: Vec<u8>,
    pub(super) speech: Speech,
    pub(super) subscribers: Subscribers,
    pub(super) publishers: Option<Publishers>,
    /// The token of the first publisher.
    pub(super) first_publisher: usize,
    pub(super) window: Window,
    pub(super) messages: Vec<Message>,
    pub(super) start: Instant,
}

impl Client {
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        let start = Instant::now();
        let addr = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let topics: Vec<String> = (0..args.topics.max(1)).map(|i| format!("t{i}")).collect();
        let target = args.target();
        let messages = topics
            .iter()
            .map(|topic| Message::new(&target, topic, &body(topic, args.size)))
            .collect();
        let replies = args.reply.iter().map(|reply| {
            let (start, answer) = reply.split_once("=>").ok_or("--reply START=>ANSWER")?;
            Ok((start.to_owned(), answer.to_owned()))
        });
        let speech = Speech {
            path: args.path.clone(),
            init: args.init.clone(),
            replies: replies.collect::<Result<_, Failure>>()?,
            spanning: args.spanning,
            cursor: args.cursor.clone(),
        };
        // Who resumes needs one before who saw where from.
        let witness = usize::from(args.mode == Mode::Resume);
        // Up to a minute, within a hundredth.
        let latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 2)?;
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            buffer: vec![0; BUFFER],
            speech,
            window: Window::new(topics.len(), args.window),
            subscribers: Subscribers::new(addr(args.port), topics, start, latency),
            publishers: None,
            first_publisher: witness + args.subscribers + args.bystanders,
            messages,
            start,
        })
    }

    /// Messages that were published; of those nobody listens to, those that were answered.
    pub(super) fn published(&self) -> u64 {
        if self.subscribers.len() == 0 {
            return self.publishers.as_ref().map_or(0, |publishers| publishers.accepted);
        }
        (0..self.messages.len()).map(|topic| self.window.published(topic)).sum()
    }

    /// Takes what has come, and waits for it at most so long.
    pub(super) fn turn(&mut self, most: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(most)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &self.events {
            let at = event.token().0;
            if at < self.first_publisher {
                let registry = self.poll.registry();
                self.subscribers.on_event(
                    event,
                    &self.speech,
                    &mut self.window,
                    registry,
                    &mut self.buffer,
                );
            } else if let Some(publishers) = &mut self.publishers {
                let at = at - self.first_publisher;
                if event.is_writable() {
                    publishers.writable(at)?;
                }
                if event.is_readable() || event.is_read_closed() {
                    publishers.readable(at, &mut self.buffer)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn wait(&mut self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        while let Some(left) =
            until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            self.turn(left)?;
        }
        Ok(())
    }

    /// Subscribers, then bystanders, who say something else.
    pub(super) fn open(&mut self, args: &Args) -> Result<(), Failure> {
        self.connect(args.subscribers, args.topics.max(1))?;
        let init = std::mem::replace(&mut self.speech.init, args.bystander_init.clone());
        self.connect(args.bystanders, 0)?;
        self.speech.init = init;
        Ok(())
    }

    fn connect(&mut self, count: usize, topics: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        let first = self.subscribers.len();
        let all = first + count;
        loop {
            let counts = self.subscribers.counts;
            let settled = counts.open + self.subscribers.failed();
            let fault = self.subscribers.first_fault.clone();
            if settled == all && counts.open == all {
                return Ok(());
            }
            if settled == all || Instant::now() > deadline {
                let why = fault.unwrap_or_else(|| "too slow".to_owned());
                return Err(format!("{} of {all} connections opened: {why}", counts.open).into());
            }
            while self.subscribers.len() < all && self.subscribers.len() - settled < OPENING {
                let topic = (self.subscribers.len() - first).checked_rem(topics);
                self.subscribers.connect(topic, self.poll.registry())?;
            }
            self.turn(Duration::from_millis(10))?;
        }
    }

    pub(super) fn connect_publishers(&mut self, args: &Args) -> Result<(), Failure> {
        let target = args.target();
        let publishers = Publishers::connect(
            &target,
            args.publishers,
            self.poll.registry(),
            self.first_publisher,
        )?;
        self.publishers = Some(publishers);
        let deadline = Instant::now() + PATIENCE;
        while !self.publishers.as_ref().is_some_and(Publishers::are_ready) {
            if Instant::now() > deadline {
                return Err("the publishers do not connect".into());
            }
            self.turn(Duration::from_millis(10))?;
        }
        Ok(())
    }

    /// One message of each topic shows that all are subscribed.
    pub(super) fn first_messages(&mut self, args: &Args) -> Result<(), Failure> {
        self.deliver(self.messages.len() as u64, args)
    }

    /// Publishes so many messages, and waits until everybody has them.
    fn deliver(&mut self, mut left: u64, args: &Args) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while left > 0 || self.window.under_way() > 0 {
            left -= self.publish(left, args.window.max(1))?;
            self.turn(Duration::from_millis(1))?;
            if Instant::now() > deadline {
                let refusal =
                    self.publishers.as_ref().and_then(|publishers| publishers.first_refusal);
                let refusal = refusal
                    .map_or(String::new(), |status| format!(", publishing was answered {status}"));
                let reached = self.subscribers.reached();
                return Err(format!(
                    "{reached} of {} have a first message{refusal}",
                    args.subscribers
                )
                .into());
            }
        }
        Ok(())
    }

    /// Publishes at most so many messages, as far as the window and the connections allow.
    fn publish(&mut self, most: u64, window: u64) -> io::Result<u64> {
        let Some(publishers) = &mut self.publishers else { return Ok(0) };
        let mut published = 0;
        while published < most && self.window.under_way() < window && publishers.may_publish() {
            let Some((topic, number)) = self.window.publish() else { break };
            let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            publishers.publish(&mut self.messages[topic], Stamp { nanos, number })?;
            published += 1;
        }
        if published > 0 {
            publishers.flush()?;
        }
        Ok(published)
    }

    pub(super) fn flood(&mut self, args: &Args) -> io::Result<()> {
        let end = Instant::now() + Duration::from_secs_f64(args.seconds);
        let mut last = (self.subscribers.counts.deliveries, Instant::now());
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            self.publish(u64::MAX, args.window)?;
            self.turn(Duration::from_millis(5))?;
            if self.subscribers.counts.deliveries != last.0 {
                last = (self.subscribers.counts.deliveries, now);
            } else if now > last.1 + STALL {
                self.window.give_up();
                last.1 = now;
            }
        }
    }

    pub(super) fn pace(&mut self, args: &Args) -> io::Result<()> {
        let begun = Instant::now();
        let end = begun + Duration::from_secs_f64(args.seconds);
        let step = Duration::from_secs_f64(1.0 / args.rate.max(0.001));
        let mut next = begun;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            // One that waits for a connection goes late; its stamp has the time at which it goes.
            if now >= next && self.publish(1, u64::MAX)? == 1 {
                next += step;
            }
            let idle = next.min(end).saturating_duration_since(Instant::now());
            self.turn(idle.clamp(Duration::from_millis(1), Duration::from_millis(100)))?;
        }
    }
    /// Every connection has a message under way, whoever listens.
    pub(super) fn commit(&mut self, args: &Args) -> io::Result<()> {
        let end = Instant::now() + Duration::from_secs_f64(args.seconds);
        let mut number = 0;
        while Instant::now() < end {
            if let Some(publishers) = &mut self.publishers {
                while publishers.may_publish() {
                    publishers.publish(&mut self.messages[0], Stamp { nanos: 0, number })?;
                    number += 1;
                }
            }
            self.turn(Duration::from_millis(5))?;
        }
        Ok(())
    }

    /// One subscriber sees from where on the others, who are connected then, have missed everything.
    pub(super) fn fall_behind(&mut self, args: &Args) -> Result<(), Failure> {
        self.connect(1, 1)?;
        self.connect_publishers(args)?;
        self.deliver(args.behind, args)?;
        if self.subscribers.cursor.is_none() {
            return Err("no cursor came before the first message".into());
        }
        self.speech.init.clear();
        self.connect(args.subscribers, 1)
    }

    /// All but the first ask for what they have missed, and get it.
    pub(super) fn come_back(&mut self, args: &Args) -> io::Result<()> {
        for at in 1..self.subscribers.len() {
            self.subscribers.say(at, &args.resume, &mut self.window);
        }
        let all = self.subscribers.counts.deliveries + args.behind * args.subscribers as u64;
        let mut last = (self.subscribers.counts.deliveries, Instant::now());
        while last.0 < all && last.1.elapsed() < PATIENCE_FOR_ONE {
            self.turn(Duration::from_millis(100))?;
            if self.subscribers.counts.deliveries != last.0 {
                last = (self.subscribers.counts.deliveries, Instant::now());
            }
        }
        Ok(())
    }
}
