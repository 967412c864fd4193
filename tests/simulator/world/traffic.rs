//! What passes between the clients and the server.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use taskwatch_client::simulation::{Incoming, Outgoing};
use taskwatch_protocol::CloseCode;
use taskwatch_server::simulation::Connection;

use super::World;
use crate::network::{Link, Up};

impl World<'_> {
    /// Carries out what a client wants.
    pub(super) fn talk(&mut self, at: usize) {
        for outgoing in self.clients[at].stream.outgoing() {
            self.held.tell(|| format!("{at} -> {outgoing:?}"));
            let arrival = |rng: &mut StdRng, now, link: &Link| {
                now + link.latency + Duration::from_micros(rng.random_range(0..2_000))
            };
            let newest = self.links.iter_mut().rev().find(|link| link.client == at && link.is_held);
            match (outgoing, newest) {
                (Outgoing::Dial(id), _) => {
                    let latency = *[1, 20, 300].choose(&mut self.rng).unwrap();
                    let mut link = Link::new(at, id, Duration::from_millis(latency));
                    link.up.send(arrival(&mut self.rng, self.now, &link), Up::Dial);
                    self.links.push(link);
                }
                (Outgoing::Text(text), Some(link)) => {
                    link.up.send(arrival(&mut self.rng, self.now, link), Up::Text(text));
                }
                (Outgoing::Drop | Outgoing::Leave, Some(link)) => {
                    link.is_held = false;
                    link.up.send(arrival(&mut self.rng, self.now, link), Up::Bye);
                }
                _ => {}
            }
        }
        let read_at = self.soon(50);
        let client = &mut self.clients[at];
        client.read_at = client.read_at.or(Some(read_at));
    }

    /// Something goes to a client.
    pub(super) fn down(&mut self, at: usize, incoming: Incoming) {
        let jitter = Duration::from_micros(self.rng.random_range(0..2_000));
        let link = &mut self.links[at];
        link.down.send(self.now + link.latency + jitter, incoming);
    }

    /// Something arrives at the server.
    pub(super) fn up(&mut self, at: usize) {
        let Some(packet) = self.links[at].up.take() else { return };
        self.held.tell(|| format!("server <- {packet:?}"));
        match packet {
            Up::Dial => match self.server.as_ref().filter(|_| !self.is_stopped) {
                Some(server) => {
                    let connection = server.accept(self.now, self.rng.random());
                    self.links[at].server = Some(connection);
                    self.down(at, Incoming::Opened);
                }
                None => self.down(at, Incoming::NotOpened("nobody is there".to_owned())),
            },
            Up::Text(text) => self.serve(at, |connection, now| connection.text(now, &text)),
            Up::Bye => self.links[at].server = None,
        }
    }

    /// Something happens at the server's end of a link.
    pub(super) fn serve(&mut self, at: usize, what: impl FnOnce(&mut Connection, Duration)) {
        let Some(connection) = &mut self.links[at].server else { return };
        what(connection, self.now);
        let Some((code, reason)) = connection.ending() else { return };
        self.held.tell(|| format!("closed with {code}"));
        let is_right = match code {
            CloseCode::Restart => self.is_stopped,
            CloseCode::Slow | CloseCode::NoPong | CloseCode::Unavailable => true,
            CloseCode::InsufficientState => true,
            _ => false,
        };
        assert!(is_right, "closed with {code}");
        let mut left = vec![];
        while let Some(text) = connection.write(self.now) {
            left.push(text);
        }
        self.links[at].server = None;
        if code == CloseCode::Slow {
            return self.down(at, Incoming::Lost("reset".to_owned()));
        }
        left.into_iter().for_each(|text| self.down(at, Incoming::Text(text)));
        self.down(at, Incoming::Closed(code, reason));
    }

    /// The server's end of a link does what it has to do, at its own time.
    pub(super) fn plan(&mut self, at: usize) {
        let (soon, later) = (self.soon(3), self.soon(20));
        let link = &mut self.links[at];
        let Some(connection) = &link.server else { return };
        if connection.is_fetching() {
            link.due.fetch = link.due.fetch.or(Some(later));
        }
        if !connection.unwritten().is_empty() && link.down.len() < self.window {
            link.due.write = link.due.write.or(Some(soon));
        }
        if connection.gives_way() {
            link.due.turn = link.due.turn.or(Some(soon));
        }
    }

    pub(super) fn wake_all(&mut self) {
        for at in 0..self.links.len() {
            let soon = self.soon(3);
            let turn = &mut self.links[at].due.turn;
            *turn = turn.or(Some(soon));
        }
    }
}
