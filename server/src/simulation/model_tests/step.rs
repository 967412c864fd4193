//! What can happen to a hub and its connections.

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A change is made; the hub does not know of it yet.
    Commit,
    /// The hub is told of some of what was committed.
    Publish,
    /// The fan-out goes on for a few pushes.
    FanOut,
    /// Retention.
    Forget,
    /// A peer connects,
    Connect,
    /// or is gone without a word.
    Cut,
    Subscribe,
    Unsubscribe,
    Ping,
    /// A peer takes some of what was written.
    Read,
    /// A connection looks whether it was woken.
    Turn,
    /// A connection's read of the log comes one step nearer.
    Fetch,
    /// Time passes.
    Tick,
    /// What a peer may see changes.
    Grant,
    /// Events are not what they were: all that was read of the log is forgotten.
    Rewrite,
    /// The log cannot be read, or can be again.
    Break,
    /// The server is told to stop,
    Stop,
    /// or killed, and started again;
    Restart,
    /// before that an older copy of the log is put back.
    Restore,
    /// The copy is made.
    Copy,
}

/// The steps, and how often each is taken: at least and at most so many times in a thousand or so.
pub(super) const STEPS: [(Step, u32, u32); 20] = [
    (Step::Commit, 40, 200),
    (Step::Publish, 40, 200),
    (Step::FanOut, 40, 300),
    (Step::Forget, 0, 10),
    (Step::Connect, 40, 80),
    (Step::Cut, 0, 30),
    (Step::Subscribe, 40, 80),
    (Step::Unsubscribe, 0, 15),
    (Step::Ping, 0, 60),
    (Step::Read, 40, 300),
    (Step::Turn, 50, 300),
    (Step::Fetch, 50, 300),
    (Step::Tick, 0, 15),
    (Step::Grant, 0, 5),
    (Step::Rewrite, 0, 20),
    (Step::Break, 0, 2),
    (Step::Stop, 0, 2),
    (Step::Restart, 0, 2),
    (Step::Restore, 0, 3),
    (Step::Copy, 0, 5),
];
