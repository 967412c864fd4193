//! What really happened, by rules that share nothing with those of the hub: texts, lists, loops.

use std::collections::BTreeMap;

use serde_json::Value;

/// The log as an onlooker knows it who forgets nothing.
#[derive(Clone, Debug)]
pub struct Truth {
    /// The lives of the log, as cursors name them, each with the number before its first event.
    lives: Vec<(String, u64)>,
    floor: u64,
    head: u64,
    entries: Vec<Entry>,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Entry {
    pub seq: u64,
    pub repository: String,
    pub kind: String,
    pub text: String,
    /// When it happened.
    pub time: String,
    frame: Value,
}

/// What somebody wants.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub patterns: Vec<String>,
    pub kinds: Option<Vec<String>>,
    /// What they may see; `None` is everything.
    pub granted: Option<Vec<String>>,
}

impl Filter {
    pub fn wants(&self, entry: &Entry) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&entry.kind))
            && self.patterns.iter().any(|pattern| matches(pattern, &entry.repository))
            && self.may_see(&entry.repository)
    }

    pub fn may_see(&self, repository: &str) -> bool {
        let granted = self.granted.as_ref();
        granted.is_none_or(|granted| granted.iter().any(|pattern| matches(pattern, repository)))
    }
}

fn matches(pattern: &str, repository: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => repository.starts_with(prefix) && repository.len() > prefix.len(),
        None => pattern == repository,
    }
}

/// The two parts of a cursor: whose life, and the number.
fn parts(cursor: &str) -> Option<(&str, u64)> {
    let (life, seq) = cursor.strip_prefix("c1-")?.split_once('-')?;
    Some((life, seq.parse().ok()?))
}

impl Truth {
    /// A log in which `head` events were, all of them forgotten.
    pub fn new(head: u64) -> Self {
        Self { lives: vec![], floor: head, head, entries: vec![] }
    }

    /// A server opened the log.
    pub fn open(&mut self, life: u64) {
        self.lives.push((format!("{life:016x}"), self.head));
    }

    /// A change is on disk.
    pub fn commit(&mut self, envelope: &[u8]) {
        let text = String::from_utf8(envelope.to_vec()).expect("a text");
        let frame: Value = serde_json::from_str(&text).expect("JSON");
        let word = |value: &Value| value.as_str().expect("a word").to_owned();
        let (_, seq) = parts(frame["cursor"].as_str().expect("a cursor")).expect("a cursor");
        assert_eq!(seq, self.head + 1, "numbers have no holes here");
        let (repository, kind) = (word(&frame["data"]["repository"]), word(&frame["type"]));
        self.head = seq;
        let time = word(&frame["timestamp"]);
        self.entries.push(Entry { seq, repository, kind, text, time, frame });
    }

    /// Events up to `floor` are gone.
    pub fn forget(&mut self, floor: u64) {
        self.floor = self.floor.max(floor.min(self.head));
    }

    pub fn head(&self) -> u64 {
        self.head
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The number of a cursor that this log may have written; `None` for any other text.
    pub fn seq(&self, cursor: &str) -> Option<u64> {
        self.range(cursor).ok()
    }

    /// What a resume from `cursor` must lead to: its number, or the word for the reset.
    pub fn resume(&self, cursor: &str) -> Result<u64, &'static str> {
        let seq = self.range(cursor)?;
        if seq < self.floor { Err("expired") } else { Ok(seq) }
    }

    /// Where a subscription from a time on must begin, or the word for the reset. Times of one form
    /// are in the order of their texts.
    pub fn at_time(&self, time: &str) -> Result<u64, &'static str> {
        let first = self.entries.iter().find(|entry| *entry.time >= *time);
        match first {
            Some(entry) if entry.seq <= self.floor => Err("expired"),
            Some(entry) => Ok(entry.seq - 1),
            None => Ok(self.head),
        }
    }

    fn range(&self, cursor: &str) -> Result<u64, &'static str> {
        let (life, seq) = parts(cursor).ok_or("malformed")?;
        let at = self.lives.iter().position(|(known, _)| known == life).ok_or("incarnation")?;
        let (begin, end) = (self.lives[at].1, self.lives.get(at + 1).map(|next| next.1));
        match end {
            _ if seq < begin => Err("incarnation"),
            Some(end) if seq > end => Err("incarnation"),
            None if seq > self.head => Err("future"),
            _ => Ok(seq),
        }
    }

    /// The event with this number, if it was not forgotten before the beginning.
    pub fn entry(&self, seq: u64) -> Option<&Entry> {
        let first = self.entries.first()?.seq;
        self.entries.get(usize::try_from(seq.checked_sub(first)?).ok()?)
    }

    /// Whether the same happened in both, up to a position.
    pub fn is_like(&self, other: &Self, upto: u64) -> bool {
        upto <= self.head.min(other.head) && self.texts(upto).eq(other.texts(upto))
    }

    fn texts(&self, upto: u64) -> impl Iterator<Item = &String> {
        self.entries.iter().take_while(move |entry| entry.seq <= upto).map(|entry| &entry.text)
    }

    /// What somebody must see between two positions.
    pub fn wanted<'a>(
        &'a self,
        filter: &'a Filter,
        after: u64,
        upto: u64,
    ) -> impl Iterator<Item = &'a Entry> {
        self.entries
            .iter()
            .filter(move |entry| entry.seq > after && entry.seq <= upto && filter.wants(entry))
    }

    /// The tasks of some repositories at a position, as far as they may be seen: the log, folded.
    pub fn visible_state(
        &self,
        patterns: &[String],
        filter: &Filter,
        at: u64,
    ) -> BTreeMap<String, Value> {
        let mut tasks = self.state(patterns, at);
        tasks.retain(|_, task| filter.may_see(task["repository"].as_str().unwrap_or_default()));
        tasks
    }

    /// The tasks of some repositories at a position: the log, folded.
    pub fn state(&self, patterns: &[String], at: u64) -> BTreeMap<String, Value> {
        let mut tasks = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.seq <= at) {
            let id = entry.frame["data"]["task_id"].to_string();
            if entry.kind == "task.deleted" {
                tasks.remove(&id);
            } else if patterns.iter().any(|pattern| matches(pattern, &entry.repository)) {
                tasks.insert(id, entry.frame["data"]["task"].clone());
            }
        }
        tasks
    }
}
