//! What peers do: they come, ask, and go.

use rand::RngExt;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use taskwatch_protocol::{ClientFrame, ClientMessage, Timestamp};

use super::super::judge::{Judge, Moment};
use super::super::step::Step;
use super::{KINDS, LIFETIME, Link, PATTERNS, WAIT, World};
use crate::session::Terms;
use crate::{EventLog, Token};

impl World<'_> {
    /// Has a peer told how far it is: because it asks, or because it waits.
    pub(super) fn bookmark(&mut self, at: usize) {
        let Some(link) = &self.peers[at].link else { return };
        if link.judge.can_talk() {
            return self.take(Step::Ping, at);
        }
        self.now += WAIT;
        // Its token may be due as well, and comes first.
        for _ in 0..2 {
            self.with(at, |connection, _, now| connection.tick(now));
            self.with(at, |connection, _, now| connection.turn(now));
        }
        self.read(at, usize::MAX);
    }

    pub(super) fn connect(&mut self, at: usize) {
        if self.peers[at].link.is_some() {
            return;
        }
        let Some(principal) = self.grants.principal(at) else { return };
        let (token, phase) = (Some(Token::new(at.to_string())), self.rng.random());
        let granted = self.grants.of(at).unwrap_or_default();
        let granted = granted.into_iter().map(str::to_owned).collect();
        let (connection, judge) = if self.rng.random_ratio(2, 3) {
            let connection = self.server.accept_of(principal, token, self.now, phase);
            (connection, Judge::new(self.server.head(), granted))
        } else {
            let is_poll = self.rng.random();
            let mut judge = Judge::listening(self.server.head(), granted, is_poll);
            let mut asked = vec![self.subscription(at, true)];
            if self.rng.random_ratio(1, 3) {
                asked.push(json!({"repositories": self.some(&PATTERNS, 2), "snapshot": true}));
            }
            self.held.note(if is_poll { "poll" } else { "stream" });
            self.held.tell(|| format!("{at} asks for {asked:?}"));
            let moment = Moment { truth: &self.truth, head: self.server.head() };
            let asked = asked.iter().map(|data| {
                let frame = judge.ask("subscribe", data, moment);
                let ClientMessage::Subscribe(asked) = ClientFrame::decode(&frame).unwrap().message
                else {
                    unreachable!("that is what was asked")
                };
                asked
            });
            let terms = Terms { lifetime: LIFETIME, wait: is_poll.then_some(WAIT) };
            let asked = asked.collect();
            let who = (principal, token);
            (self.server.listen(who, asked, terms, self.now, phase), judge)
        };
        let (spoke, took) = (self.now, vec![]);
        self.peers[at].link = Some(Link { connection, judge, judged: 0, spoke, took });
        self.with(at, |_, _, _| {});
    }

    pub(super) fn grant(&mut self, at: usize) {
        let grant = match self.rng.random_range(0..8) {
            0 => None,
            1..4 => Some(vec!["*"]),
            _ => Some(self.some(&PATTERNS, 3)),
        };
        self.held.tell(|| format!("{at} may see {grant:?}"));
        self.held.note("permission changed");
        self.grants.set(at, grant);
        self.server.access_changed();
    }

    pub(super) fn cut(&mut self, at: usize) {
        if self.peers[at].link.take().is_some() {
            self.held.note("cut");
        }
    }

    pub(super) fn some(&mut self, words: &[&'static str], most: usize) -> Vec<&'static str> {
        let count = self.rng.random_range(1..=most);
        words.sample(&mut self.rng, count).copied().collect()
    }

    pub(super) fn subscribe(&mut self, at: usize) {
        let Some(link) = self.peers[at].link.as_ref().filter(|link| link.judge.can_talk()) else {
            return;
        };
        let is_first = link.judge.is_new();
        let data = self.subscription(at, is_first);
        self.ask(at, "subscribe", &data);
    }

    /// Something to ask for.
    pub(super) fn subscription(&mut self, at: usize, is_first: bool) -> Value {
        let mut data = json!({"repositories": self.some(&PATTERNS, 2)});
        let has_been_here = is_first && !self.peers[at].known.is_empty();
        if self.rng.random_ratio(if has_been_here { 8 } else { 1 }, 10) {
            data["since"] = self.since(at);
            let on_gap = [json!("live"), json!("snapshot"), json!("error"), Value::Null];
            data["on_gap"] = on_gap.choose(&mut self.rng).unwrap().clone();
        }
        // With or without a snapshot: then it makes no sense, and is refused.
        if data["since"].is_null() && is_first && self.rng.random_ratio(1, 2) {
            let on_gap = [json!("live"), json!("snapshot"), json!("error"), Value::Null];
            data["on_gap"] = on_gap.choose(&mut self.rng).unwrap().clone();
            if self.rng.random() {
                data["tail"] = self.rng.random_range(1..6).into();
            } else {
                let millis = self.rng.random_range(0..=self.now.as_millis() + 100);
                let millis = i64::try_from(millis).unwrap();
                data["since_time"] = Timestamp::from_unix_millis(millis).to_string().into();
            }
        }
        if self.rng.random_ratio(1, 4) {
            data["snapshot"] = true.into();
        }
        if self.rng.random_ratio(1, 8) {
            data["types"] = json!(self.some(&KINDS, 2));
        }
        data
    }

    /// The newest cursor the peer knows, an earlier one, or one that is none.
    pub(super) fn since(&mut self, at: usize) -> Value {
        let known = &self.peers[at].known;
        match self.rng.random_range(0..20) {
            0 => "not a cursor".into(),
            1 => self.disk.cursor(self.truth.head() + 3).as_str().into(),
            2..8 => known.choose(&mut self.rng).cloned().unwrap_or_default().into(),
            _ => known.last().cloned().unwrap_or_default().into(),
        }
    }

    pub(super) fn ask(&mut self, at: usize, kind: &str, data: &Value) {
        self.held.tell(|| format!("{kind} {data}"));
        self.say(at, |judge, moment| judge.ask(kind, data, moment));
    }

    /// The peer sends something, if it has not asked too much already.
    pub(super) fn say(&mut self, at: usize, what: impl FnOnce(&mut Judge, Moment<'_>) -> String) {
        let Some(link) = &mut self.peers[at].link else { return };
        let may = link.judge.can_talk() && link.judge.unanswered() < 4;
        if may && link.connection.reads() {
            let moment = Moment { truth: &self.truth, head: self.server.head() };
            let text = what(&mut link.judge, moment);
            link.spoke = self.now;
            self.with(at, |connection, _, now| connection.text(now, &text));
        }
    }
}
