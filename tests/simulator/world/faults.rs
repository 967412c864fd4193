//! What goes wrong.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use taskwatch_client::simulation::Incoming;
use taskwatch_protocol::Pattern;
use taskwatch_server::simulation::Server;

use super::{PATTERNS, World};
use crate::network::Up;

/// What goes wrong, and what else changes by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// A link is cut; each side hears of it at its own time.
    Cut,
    /// Nothing gets through a link any more, and nobody is told.
    Silence,
    /// For a while nothing gets through to one client; then all of it does.
    Partition,
    /// The server is killed,
    Kill,
    /// or told to stop, and is away for a while.
    Stop,
    /// An older copy of the log is put back.
    Restore,
    /// The copy is made.
    Copy,
    /// Retention.
    Forget,
    /// The log cannot be read for a while.
    Break,
    /// A caller does not read for a while.
    Slow,
    /// A client's computer sleeps for a while.
    Sleep,
    /// A client's program ends, and begins again at the position it saved.
    Program,
    /// A caller wants more,
    Add,
    /// or less.
    Remove,
    /// Much happens at once.
    Burst,
}

pub(super) const FAULTS: [Fault; 15] = [
    Fault::Cut,
    Fault::Silence,
    Fault::Partition,
    Fault::Kill,
    Fault::Stop,
    Fault::Restore,
    Fault::Copy,
    Fault::Forget,
    Fault::Break,
    Fault::Slow,
    Fault::Sleep,
    Fault::Program,
    Fault::Add,
    Fault::Remove,
    Fault::Burst,
];

impl World<'_> {
    /// A while that ends before the last fault.
    fn while_from_now(&mut self, seconds: u64) -> Duration {
        self.soon(seconds * 1_000).min(self.peace)
    }

    pub(super) fn fault(&mut self) {
        let Some(&fault) = self.faults.choose(&mut self.rng) else { return };
        let at = self.rng.random_range(0..self.clients.len());
        if self.now >= self.peace || self.now < self.clients[at].asleep_until {
            return;
        }
        self.held.tell(|| format!("{fault:?} {at}"));
        match fault {
            Fault::Cut => {
                if let Some(link) = self.link(at) {
                    self.held.note("cut");
                    self.cut(link);
                }
            }
            Fault::Silence => {
                if let Some(link) = self.link(at) {
                    self.held.note("silence");
                    self.links[link].is_silent = true;
                }
            }
            Fault::Partition => {
                self.held.note("partition");
                self.clients[at].partitioned_until = self.while_from_now(60);
            }
            Fault::Kill => self.kill(),
            Fault::Stop => {
                if let Some(server) = &self.server {
                    self.held.note("shutdown");
                    self.is_stopped = true;
                    let rng = &mut self.rng;
                    server.stop(|most| rng.random_range(0..=most));
                    self.wake_all();
                    self.start_at = Some(self.while_from_now(5));
                }
            }
            Fault::Restore => {
                if let Some((content, truth)) = self.copy.take() {
                    self.held.note("restore");
                    self.kill();
                    self.disk.restore(content);
                    self.lines.push(truth);
                }
            }
            Fault::Copy => {
                self.copy = Some((self.disk.copy(), self.lines.last().unwrap().clone()));
            }
            Fault::Forget => {
                let truth = self.lines.last_mut().unwrap();
                let floor = self.rng.random_range(truth.floor()..=truth.head());
                truth.forget(floor);
                self.disk.forget(floor);
            }
            Fault::Break => {
                self.disk.set_broken(true);
                self.mend_at = Some(self.while_from_now(5));
            }
            Fault::Slow => self.clients[at].slow_until = self.while_from_now(30),
            Fault::Sleep => {
                let until = self.while_from_now(120);
                let client = &mut self.clients[at];
                self.held.note("sleep");
                client.slept += until - self.now;
                client.asleep_until = until;
            }
            Fault::Program => {
                self.held.note("program restarted");
                let cursor = self.clients[at].stream.cursor();
                let watcher = &mut self.clients[at].watcher;
                watcher.restarts(&self.lines, cursor.as_ref().map(|it| it.as_str()));
                self.open(at, cursor);
            }
            Fault::Add => {
                let pattern = *PATTERNS.choose(&mut self.rng).unwrap();
                let client = &mut self.clients[at];
                let now = client.clocks(self.now);
                if client.watcher.can_add(pattern) {
                    client.watcher.add(pattern);
                    client.stream.add(now, one(pattern));
                }
                self.talk(at);
            }
            Fault::Remove => {
                let client = &mut self.clients[at];
                let now = client.clocks(self.now);
                if let [_, pattern] = client.watcher.wished() {
                    let pattern = pattern.clone();
                    client.watcher.remove(&pattern);
                    client.stream.remove(now, one(&pattern));
                }
                self.talk(at);
            }
            Fault::Burst => (0..self.rng.random_range(10..100)).for_each(|_| self.commit()),
        }
    }

    /// A link of a client, if there is one.
    fn link(&self, client: usize) -> Option<usize> {
        self.links.iter().position(|link| link.client == client && link.is_held)
    }

    /// Both ends are told, each at its own time; of what was on its way some arrives.
    fn cut(&mut self, at: usize) {
        let (up, down) = (self.soon(3_000), self.soon(3_000));
        let link = &mut self.links[at];
        link.down.lose(self.rng.random_range(0..=link.down.len()));
        link.up.lose(self.rng.random_range(0..=link.up.len()));
        link.down.send(down, Incoming::Lost("cut".to_owned()));
        link.up.send(up, Up::Bye);
    }

    /// The server is gone; its clients are told, or not.
    fn kill(&mut self) {
        if self.server.is_none() {
            return;
        }
        self.count();
        self.held.note("restart");
        self.server = None;
        self.committed.clear();
        (self.publish_at, self.fan_out_at) = (None, None);
        self.disk.set_broken(false);
        for at in 0..self.links.len() {
            if self.links[at].server.take().is_none() {
                continue;
            }
            if self.rng.random_ratio(1, 5) {
                self.links[at].is_silent = true;
            } else {
                self.cut(at);
            }
        }
        self.start_at = Some(self.while_from_now(20));
    }

    pub(super) fn start(&mut self) {
        self.kill();
        self.start_at = None;
        self.is_stopped = false;
        self.lives += 1;
        self.disk.open(self.lives);
        self.lines.last_mut().unwrap().open(self.lives);
        self.server = Some(Server::start(Arc::new(self.disk.clone()), self.config.clone()));
    }
}

fn one(pattern: &str) -> Vec<Pattern> {
    vec![pattern.parse().unwrap()]
}
