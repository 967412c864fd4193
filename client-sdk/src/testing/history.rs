//! The log of a hub, and the tasks that it has led to.

use std::collections::{BTreeMap, VecDeque};

use taskwatch_protocol::{
    Cursor, Incarnation, Position, ResetReason, Seq, Task, TaskChange, TaskEvent, Timestamp,
};
use uuid::Uuid;

/// One event, and when it happened.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: TaskEvent,
    pub(super) at: Timestamp,
}

/// Events with their positions, as far back as they are kept.
#[derive(Debug)]
pub(super) struct History {
    incarnation: u64,
    /// Everything up to here was thrown away.
    floor: Seq,
    /// When the last of that happened.
    gone: Option<Timestamp>,
    kept: VecDeque<Entry>,
    tasks: BTreeMap<Uuid, Task>,
}

impl History {
    pub(super) fn new() -> Self {
        Self { incarnation: 1, floor: 0, gone: None, kept: VecDeque::new(), tasks: BTreeMap::new() }
    }

    /// The position of the newest event.
    pub(super) fn head(&self) -> Seq {
        self.floor + self.kept.len() as Seq
    }

    pub(super) fn cursor(&self, seq: Seq) -> Cursor {
        Position { incarnation: Incarnation(self.incarnation), seq }.to_cursor()
    }

    /// The position that a cursor names, if everything after it is there.
    pub(super) fn position(&self, cursor: &Cursor) -> Result<Seq, ResetReason> {
        let Position { incarnation, seq } =
            Position::try_from(cursor).map_err(|_| ResetReason::Malformed)?;
        match seq {
            _ if incarnation.0 != self.incarnation => Err(ResetReason::Incarnation),
            seq if seq > self.head() => Err(ResetReason::Future),
            seq if seq < self.floor => Err(ResetReason::Expired),
            seq => Ok(seq),
        }
    }

    /// The position before everything that happened at or after a time, if all of that is there.
    pub(super) fn position_at(&self, time: Timestamp) -> Result<Seq, ResetReason> {
        if self.gone.is_some_and(|gone| gone >= time) {
            return Err(ResetReason::Expired);
        }
        Ok(self.floor + self.kept.partition_point(|entry| entry.at < time) as Seq)
    }

    /// The position before the last so many events of these; that of the first one kept if there are
    /// fewer.
    pub(super) fn position_of_last(&self, events: u32, is_one: impl Fn(&Entry) -> bool) -> Seq {
        let kept = self.kept.iter().enumerate().rev().filter(|(_, entry)| is_one(entry));
        let oldest = kept.take(events as usize).last();
        oldest.map_or(self.head(), |(place, _)| self.floor + place as Seq)
    }

    /// Whether everything after this position is still there.
    pub(super) fn reaches_back_to(&self, seq: Seq) -> bool {
        seq >= self.floor
    }

    /// The event after a position that it reaches back to; `None` at the head.
    pub(super) fn after(&self, seq: Seq) -> Option<&Entry> {
        self.kept.get(usize::try_from(seq.checked_sub(self.floor)?).ok()?)
    }

    /// Adds an event, as it is, and what it does to its task.
    pub(super) fn append(&mut self, event: TaskEvent, at: Timestamp) -> Cursor {
        match &event.change {
            TaskChange::Created { task } | TaskChange::Updated { task, .. } => {
                self.tasks.insert(event.task_id, Task::clone(task));
            }
            TaskChange::Deleted { .. } => {
                self.tasks.remove(&event.task_id);
            }
        }
        self.kept.push_back(Entry { event, at });
        self.cursor(self.head())
    }

    /// Throws away what has happened so far. The tasks stay.
    pub(super) fn expire(&mut self) {
        self.floor = self.head();
        self.forget();
    }

    /// Begins another life of the log: no position of before means anything in it. The tasks stay.
    pub(super) fn begin_anew(&mut self) {
        self.incarnation += 1;
        self.floor = 0;
        self.forget();
    }

    fn forget(&mut self) {
        self.gone = self.kept.back().map(|last| last.at).or(self.gone);
        self.kept.clear();
    }

    pub(super) fn task(&self, id: Uuid) -> Option<&Task> {
        self.tasks.get(&id)
    }

    /// All tasks as they are now, by their ids.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::task_event;

    fn history(events: u64) -> History {
        let mut history = History::new();
        for seq in 1..=events {
            history.append(task_event(seq), Timestamp::from_unix_millis(0));
        }
        history
    }

    #[test]
    fn every_reason_of_a_reset_is_told() {
        let mut history = history(3);
        let at: Vec<Cursor> = (0..=4).map(|seq| history.cursor(seq)).collect();
        assert_eq!(history.position(&at[0]), Ok(0));
        assert_eq!(history.position(&at[3]), Ok(3));
        assert_eq!(history.position(&at[4]), Err(ResetReason::Future));
        assert_eq!(history.position(&Cursor::new("")), Err(ResetReason::Malformed));
        history.expire();
        assert_eq!(history.position(&at[2]), Err(ResetReason::Expired));
        assert_eq!(history.position(&at[3]), Ok(3));
        history.begin_anew();
        assert_eq!(history.position(&at[0]), Err(ResetReason::Incarnation));
        assert_eq!(history.position(&history.cursor(0)), Ok(0));
    }

    #[test]
    fn numbers_go_on_after_what_was_thrown_away() {
        let mut history = history(2);
        assert!(history.after(1).is_some() && history.after(2).is_none());
        history.expire();
        assert!(!history.reaches_back_to(1) && history.reaches_back_to(2));
        let cursor = history.append(task_event(3), Timestamp::from_unix_millis(0));
        assert_eq!((history.head(), cursor), (3, history.cursor(3)));
        assert_eq!(history.after(2).map(|entry| &entry.event), Some(&task_event(3)));
    }

    #[test]
    fn a_time_and_a_number_of_events_have_positions() {
        let mut history = History::new();
        let at = Timestamp::from_unix_millis;
        for (seq, millis) in [(1, 10), (2, 20), (3, 20)] {
            history.append(task_event(seq), at(millis));
        }
        let times = [0, 10, 11, 20, 21].map(|millis| history.position_at(at(millis)).unwrap());
        assert_eq!(times, [0, 0, 1, 1, 3]);
        let last = |history: &History, events| history.position_of_last(events, |_| true);
        assert_eq!([1, 3, 9].map(|events| last(&history, events)), [2, 0, 0]);
        assert_eq!(history.position_of_last(1, |entry| entry.at < at(20)), 0);
        assert_eq!(history.position_of_last(1, |_| false), 3);
        history.expire();
        assert_eq!(history.position_at(at(20)), Err(ResetReason::Expired));
        assert_eq!((history.position_at(at(21)), last(&history, 9)), (Ok(3), 3));
    }

    #[test]
    fn the_tasks_are_what_the_events_have_led_to() {
        let mut history = history(2);
        let task = history.tasks().next().unwrap().clone();
        assert_eq!((history.tasks().count(), &*task.title), (1, "task 2"));
        history.append(TaskEvent::deleted(task.clone(), "test"), task.created_at);
        assert_eq!(history.task(task.id), None);
    }
}
