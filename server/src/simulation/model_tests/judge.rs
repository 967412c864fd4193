//! What one connection must be told.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use self::listening::Listening;
use self::seeking::{is_sought, resume};
use super::super::{Filter, Held, Truth};

/// Fails with the name of what was broken.
macro_rules! must {
    ($condition:expr, $invariant:literal, $($what:tt)+) => {
        assert!($condition, "{}: {}", $invariant, format_args!($($what)+))
    };
}

mod listening;
mod seeking;

/// Follows one connection frame by frame, as they are put on their way.
#[derive(Debug)]
pub(super) struct Judge {
    filter: Filter,
    is_subscribed: bool,
    has_asked: bool,
    /// Everything wanted up to here was sent, and nothing behind it.
    position: u64,
    delivered: u64,
    is_welcome: bool,
    asked: VecDeque<Asked>,
    pinged: VecDeque<String>,
    snapshot: Option<Snapshot>,
    /// The last frame was that of a snapshot, or a heartbeat behind it.
    after_snapshot: bool,
    last_id: u64,
    /// Its last subscription began in the middle of things.
    has_joined: bool,
    /// For a peer that cannot talk back.
    listening: Option<Listening>,
}

/// A request that is not answered.
#[derive(Debug)]
struct Asked {
    id: Option<String>,
    frame: Value,
    /// What a resume would have led to at that time.
    resume: Option<Result<u64, &'static str>>,
    /// What was published by then.
    head: u64,
}

/// A snapshot that has begun.
#[derive(Debug)]
struct Snapshot {
    id: Option<String>,
    repositories: Vec<String>,
    seq: u64,
    tasks: BTreeMap<String, Value>,
    has_begun: bool,
}

/// What is true at the moment.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) truth: &'a Truth,
    /// The newest event the hub has begun to give out.
    pub(super) head: u64,
}

impl Judge {
    /// For a connection that was made when the hub was at `position`, of a peer who may see what
    /// is granted.
    pub(super) fn new(position: u64, granted: Vec<String>) -> Self {
        Self {
            filter: Filter { granted: Some(granted), ..Filter::default() },
            is_subscribed: false,
            has_asked: false,
            position,
            delivered: 0,
            is_welcome: false,
            asked: VecDeque::new(),
            pinged: VecDeque::new(),
            snapshot: None,
            after_snapshot: false,
            last_id: 0,
            has_joined: false,
            listening: None,
        }
    }

    pub(super) fn granted(&self) -> Option<&[String]> {
        self.filter.granted.as_deref()
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.is_subscribed
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn unanswered(&self) -> usize {
        self.asked.len() + self.pinged.len()
    }

    /// Whether the next subscription is the connection's first.
    pub(super) fn is_new(&self) -> bool {
        !self.is_subscribed && self.asked.is_empty()
    }

    pub(super) fn ping(&mut self) -> String {
        let id = self.id();
        self.pinged.push_back(id.clone());
        json!({"type": "ping", "id": id}).to_string()
    }

    /// Notes a request, `subscribe` or `unsubscribe`.
    pub(super) fn ask(&mut self, kind: &str, data: &Value, at: Moment<'_>) -> String {
        let id = self.can_talk().then(|| self.id());
        let frame = json!({"type": kind, "id": id, "data": data});
        let text = frame.to_string();
        self.has_asked |= kind == "subscribe";
        let resume = resume(data, at.truth);
        self.asked.push_back(Asked { id, frame, resume, head: at.head });
        text
    }

    fn id(&mut self) -> String {
        self.last_id += 1;
        self.last_id.to_string()
    }

    /// Judges the next frame.
    pub(super) fn frame(&mut self, at: Moment<'_>, text: &str, held: &mut Held) {
        let frame: Value = serde_json::from_str(text).unwrap();
        let kind = frame["type"].as_str().unwrap();
        assert!(!self.is_over(), "after the end: {text}");
        must!(self.is_welcome != (kind == "welcome"), "welcome", "first and only once: {text}");
        self.after_snapshot &= matches!(kind, "ping" | "pong");
        match kind {
            "welcome" => self.is_welcome = true,
            "ping" | "pong" => self.heartbeat(at, kind, &frame),
            "subscribed" => self.subscribed(at, &frame, held),
            "unsubscribed" => {
                let asked = self.answer(&frame);
                assert_eq!(asked["type"], "unsubscribe");
                must!(frame["cursor"] == frame["data"]["head"], "I6 bookmark", "{text}");
                self.is_level(at, &frame);
                let gone = strings(&asked["data"]["repositories"]);
                self.filter.patterns.retain(|pattern| !gone.contains(pattern));
            }
            "snapshot" => self.snapshot(at, &frame),
            "error" => {
                let asked = self.answer(&frame);
                let code = frame["data"]["code"].as_str().unwrap();
                let is_right = match self.expected_error(&asked["data"]) {
                    Some(expected) => code == expected,
                    // The log may be broken for a while.
                    None => code == "unavailable" && self.may_have_to_read(&asked["data"]),
                };
                assert!(is_right, "{asked} was refused: {text}");
                // What may work later is asked for again.
                self.may_be_over(code != "unavailable");
            }
            _ => self.event(at, &frame, text, held),
        }
    }

    fn event(&mut self, at: Moment<'_>, frame: &Value, text: &str, held: &mut Held) {
        must!(self.snapshot.is_none(), "I7 snapshot", "an event inside of it: {text}");
        let seq = frame["cursor"].as_str().and_then(|cursor| at.truth.seq(cursor));
        let entry = seq.and_then(|seq| at.truth.entry(seq));
        must!(entry.is_some_and(|entry| entry.text == text), "I5 durable", "no such event: {text}");
        let entry = entry.unwrap();
        must!(self.filter.wants(entry), "I4 filter", "{:?} gets {text}", self.filter);
        must!(entry.seq > self.position, "I2 once", "after {} comes {}", self.position, entry.seq);
        self.passes(at, entry.seq - 1, "event");
        self.position = entry.seq;
        self.delivered += 1;
        self.count(text);
        if self.has_joined {
            held.note("join");
        }
    }

    /// Nothing that was wanted lies between here and `upto`.
    fn passes(&self, at: Moment<'_>, upto: u64, what: &str) {
        let missed = at.truth.wanted(&self.filter, self.position, upto).next();
        let missed = missed.map(|entry| entry.seq);
        if what == "event" {
            must!(missed.is_none(), "I3 no gap", "{missed:?} is missing before {}", upto + 1);
        } else {
            must!(
                missed.is_none(),
                "I3 no gap, or I6 bookmark",
                "{what} {upto}, but {missed:?} was not sent"
            );
        }
    }

    fn bookmark(&mut self, at: Moment<'_>, cursor: &Value, what: &str) {
        let seq = cursor.as_str().and_then(|cursor| at.truth.seq(cursor));
        must!(seq.is_some(), "I6 bookmark", "{what} {cursor} is no position");
        let seq = seq.unwrap();
        must!(seq >= self.position, "I6 bookmark", "{what} {seq} goes back from {}", self.position);
        self.passes(at, seq, what);
        self.position = seq;
    }

    fn heartbeat(&mut self, at: Moment<'_>, kind: &str, frame: &Value) {
        if kind == "pong" {
            assert_eq!(frame["id"].as_str(), self.pinged.pop_front().as_deref());
            let head = frame["data"]["head"].as_str().and_then(|head| at.truth.seq(head));
            let is_head = head.is_some_and(|head| head >= at.head) == self.can_talk();
            must!(is_head, "level", "the head is {}: {frame}", at.head);
        }
        let delivered = &frame["data"]["delivered"];
        must!(*delivered == self.delivered, "delivered", "{delivered}, not {}", self.delivered);
        if !self.can_talk() {
            match kind {
                "pong" => self.counted(at, frame),
                _ => self.level(at, frame),
            }
        } else if self.snapshot.is_some() {
            must!(frame["cursor"].is_null(), "I6 bookmark", "{kind} inside of a snapshot");
        } else if self.has_asked && !self.is_subscribed {
            must!(frame["cursor"].is_null(), "I6 bookmark", "{kind} before the first is accepted");
        } else if !(self.after_snapshot && frame["cursor"].is_null()) {
            // That the snapshot has ended is noticed a moment after its last frame.
            self.bookmark(at, &frame["cursor"], kind);
        }
    }

    /// Takes the request that `frame` answers: the oldest.
    fn answer(&mut self, frame: &Value) -> Value {
        must!(self.snapshot.is_none(), "I7 snapshot", "an answer inside of it: {frame}");
        let asked = self.asked.pop_front().unwrap_or_else(|| panic!("nothing was asked: {frame}"));
        assert_eq!(frame["id"].as_str(), asked.id.as_deref());
        let mut asked_frame = asked.frame;
        if let Some(resume) = asked.resume {
            asked_frame["resume"] = resume.err().into();
        }
        asked_frame["head"] = asked.head.into();
        asked_frame
    }

    /// Everything up to the head that the answer names was sent, and that is all there is.
    fn is_level(&mut self, at: Moment<'_>, frame: &Value) {
        self.bookmark(at, &frame["data"]["head"], "answer");
        must!(self.position >= at.head, "level", "answered at {}, not {}", self.position, at.head);
    }

    fn may_be_snapshot(&self, data: &Value) -> bool {
        data["snapshot"] == true || data["on_gap"] == "snapshot"
    }

    /// Whether the log is read for the answer.
    fn may_have_to_read(&self, data: &Value) -> bool {
        self.may_be_snapshot(data) || is_sought(data)
    }

    fn expected_error(&self, data: &Value) -> Option<&'static str> {
        let kinds = kinds(data);
        let held = if self.is_subscribed { self.filter.kinds.clone() } else { kinds.clone() };
        if is_sought(data) && (data["snapshot"] == true || data["since"].is_string()) {
            Some("bad_message")
        } else if self.is_subscribed && (data["since"].is_string() || is_sought(data)) {
            Some("since_not_first")
        } else if (kinds.is_some() && kinds != held)
            || (self.may_be_snapshot(data) && held.is_some())
        {
            Some("bad_message")
        } else {
            None
        }
    }

    fn subscribed(&mut self, at: Moment<'_>, frame: &Value, held: &mut Held) {
        let asked = self.answer(frame);
        let (data, answer) = (&asked["data"], &frame["data"]);
        assert_eq!(asked["type"], "subscribe");
        assert_eq!(self.expected_error(data), None, "{asked} was accepted");
        let granted = self.filter.granted.clone().unwrap_or_default();
        let (repositories, denied): (Vec<_>, Vec<_>) = strings(&data["repositories"])
            .into_iter()
            .partition(|asked| asked == "*" || granted.iter().any(|one| overlap(one, asked)));
        let denied = denied.iter().map(|name| json!({"repository": name, "code": "not_found"}));
        must!(answer["denied"] == json!(denied.collect::<Vec<_>>()), "I4 filter", "{frame}");
        if repositories.is_empty() {
            assert_eq!((&answer["accepted"], &answer["mode"]), (&json!([]), &json!("live")));
            must!(frame["cursor"].is_null(), "I6 bookmark", "nothing was subscribed: {frame}");
            self.is_level(at, frame);
            held.note("all denied");
            self.may_be_over(true);
            return;
        }
        let resume = resume(data, at.truth);
        let tail = data["tail"].as_u64();
        let mode = answer["mode"].as_str().unwrap();
        let with_snapshot = mode == "snapshot"
            || (mode == "reset" && (data["snapshot"] == true || data["on_gap"] == "snapshot"));
        if with_snapshot {
            let seq = answer["head"].as_str().and_then(|head| at.truth.seq(head));
            must!(seq.is_some(), "I7 snapshot", "at a position that is none: {frame}");
            self.bookmark(at, &answer["head"], "answer");
        } else {
            self.is_level(at, frame);
        }
        match mode {
            "live" => {
                let is_plain = resume.is_none() && tail.is_none() && data["snapshot"] != true;
                assert!(is_plain, "{asked}: {frame}");
            }
            "snapshot" => assert!(resume.is_none() && data["snapshot"] == true, "{asked}: {frame}"),
            // What was looked for was found some time before it is told.
            "resumed" if is_sought(data) => {}
            "resumed" => assert!(matches!(resume, Some(Ok(_))), "{resume:?}: {frame}"),
            "reset" => {
                // With a snapshot the reason was found some time before it is told.
                let reason = answer["reason"].as_str();
                let is_old = with_snapshot || is_sought(data);
                let then = asked["resume"].as_str().filter(|_| is_old);
                let now = resume.unwrap().err();
                must!(
                    reason.is_some() && (reason == now || reason == then),
                    "reset",
                    "{now:?}: {frame}"
                );
                held.note(match reason.unwrap() {
                    "expired" => "reset expired",
                    "incarnation" => "reset incarnation",
                    "future" => "reset future",
                    _ => "reset malformed",
                });
            }
            other => panic!("no such mode: {other}"),
        }
        if mode == "reset" && !with_snapshot && data["on_gap"] != "live" {
            assert_eq!(answer["accepted"], json!([]));
            assert!(frame["cursor"].is_null());
            self.is_refused();
            return;
        }
        assert_eq!(strings(&answer["accepted"]), repositories);
        if !self.is_subscribed {
            self.filter.kinds = kinds(data);
        }
        self.is_subscribed = true;
        self.filter.patterns.extend(repositories.clone());
        self.has_joined = at.truth.entry(self.position).is_some();
        if with_snapshot {
            must!(frame["cursor"].is_null(), "I7 snapshot", "a cursor before it: {frame}");
            let (id, seq) = (frame["id"].as_str().map(str::to_owned), self.position);
            let tasks = BTreeMap::new();
            self.snapshot = Some(Snapshot { id, repositories, seq, tasks, has_begun: false });
        } else if mode == "resumed" && is_sought(data) {
            let head = self.position;
            self.sought(at, &asked, frame);
            if at.truth.wanted(&self.filter, self.position, head).next().is_some() {
                held.note(if tail.is_some() { "tail" } else { "since a time" });
            }
        } else if mode == "resumed" {
            assert_eq!(frame["cursor"], data["since"]);
            self.position = resume.unwrap().unwrap();
            if at.truth.wanted(&self.filter, self.position, at.head).next().is_some() {
                held.note("resume");
            }
        } else {
            assert_eq!(frame["cursor"], answer["head"]);
        }
    }

    fn snapshot(&mut self, at: Moment<'_>, frame: &Value) {
        let data = &frame["data"];
        let Some(snapshot) = &mut self.snapshot else { panic!("I7 snapshot: not now: {frame}") };
        assert_eq!(frame["id"].as_str(), snapshot.id.as_deref());
        assert_eq!(strings(&data["repositories"]), snapshot.repositories);
        assert_eq!(data["first"] == true, !std::mem::replace(&mut snapshot.has_begun, true));
        for task in data["tasks"].as_array().unwrap() {
            let twice = snapshot.tasks.insert(task["id"].to_string(), task.clone());
            must!(twice.is_none(), "I7 snapshot", "twice: {task}");
        }
        if data["last"] != true {
            must!(frame["cursor"].is_null(), "I7 snapshot", "a cursor before its end: {frame}");
            return;
        }
        let seq = frame["cursor"].as_str().and_then(|cursor| at.truth.seq(cursor));
        must!(seq == Some(snapshot.seq), "I7 snapshot", "at {}: {frame}", snapshot.seq);
        let expected = at.truth.visible_state(&snapshot.repositories, &self.filter, snapshot.seq);
        must!(snapshot.tasks == expected, "I7 snapshot", "the state is {expected:?}: {frame}");
        self.snapshot = None;
        self.after_snapshot = true;
    }
}

/// Whether some name matches both: one of them begins with what the other stands for.
fn overlap(one: &str, other: &str) -> bool {
    match (one.strip_suffix('*'), other.strip_suffix('*')) {
        (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
        (Some(prefix), None) => other.starts_with(prefix),
        (None, Some(prefix)) => one.starts_with(prefix),
        (None, None) => one == other,
    }
}

/// The types of events that a request names; their order means nothing.
fn kinds(data: &Value) -> Option<Vec<String>> {
    let mut kinds = data.get("types").map(strings);
    kinds.iter_mut().for_each(|kinds| kinds.sort());
    kinds
}

fn strings(value: &Value) -> Vec<String> {
    let words = value.as_array().unwrap().iter();
    words.map(|word| word.as_str().unwrap().to_owned()).collect()
}
