//! Faults made on purpose, to show that a test notices them. In a build without the feature
//! `mutants` there are none.

/// A fault, named by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// One live event in 50 is not sent.
    SkipEvent,
    /// A change is acknowledged some time before its commit.
    AckBeforeCommit,
    /// A bookmark names the position after its own.
    BookmarkAhead,
    /// A resume begins with the event at the position instead of the one after it.
    ResumeInclusive,
    /// What a connection catches up with is not filtered.
    ForgetFilter,
    /// A connection that is level joins one event too late.
    JoinLate,
    /// A snapshot lacks the last event before its cursor.
    StaleSnapshot,
    /// After 20 events `delivered` is one too many.
    Miscount,
}

/// Whether the process runs with this fault: the variable `TASKWATCH_MUTANT` names it.
#[cfg(feature = "mutants")]
#[must_use]
pub fn active(mutant: Mutant) -> bool {
    use std::sync::LazyLock;
    static CHOSEN: LazyLock<Option<Mutant>> = LazyLock::new(|| {
        let word = std::env::var("TASKWATCH_MUTANT").ok()?;
        let chosen = match word.as_str() {
            "skip-event" => Mutant::SkipEvent,
            "ack-before-commit" => Mutant::AckBeforeCommit,
            "bookmark-ahead" => Mutant::BookmarkAhead,
            "resume-inclusive" => Mutant::ResumeInclusive,
            "forget-filter" => Mutant::ForgetFilter,
            "join-late" => Mutant::JoinLate,
            "stale-snapshot" => Mutant::StaleSnapshot,
            "miscount" => Mutant::Miscount,
            _ => panic!("TASKWATCH_MUTANT names no mutant: {word:?}"),
        };
        Some(chosen)
    });
    *CHOSEN == Some(mutant)
}

/// Whether the process runs with this fault: never, in this build.
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn active(_: Mutant) -> bool {
    false
}
