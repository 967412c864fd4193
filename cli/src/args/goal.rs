//! What to wait for, and how long.

use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use taskwatch_client::Pattern;

use crate::condition::Condition;
use crate::goal::Goal;

/// What to wait for, and how long.
#[derive(Debug, Args)]
#[command(next_help_heading = "Wait for a state")]
pub(crate) struct GoalArgs {
    /// Print the tasks as they are, then what happens, and exit with 0 as soon as this is so of them: all(..),
    /// any(..), none(..), count(..) >= N, with and, or, not. Inside stand fields, as in
    /// 'all(status in [completed, cancelled])' or 'none(assignee == ana and tags has release)'
    #[arg(
        long = "for",
        value_name = "CONDITION",
        conflicts_with_all = ["since", "tail", "until", "no_follow", "on_gap", "count"]
    )]
    condition: Option<Condition>,

    /// Let all(..) be so when there is no task at all
    #[arg(long, requires = "condition")]
    allow_empty: bool,

    /// Exit with 124 after this time: 90s, 30m, 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) timeout: Option<Duration>,
}

impl GoalArgs {
    /// What is waited for in these repositories, if anything.
    #[must_use]
    pub(crate) fn goal(&self, repositories: &[Pattern]) -> Option<Goal> {
        let condition = self.condition.clone()?;
        Some(Goal::new(condition, self.allow_empty, repositories.to_vec()))
    }

    /// Whether something is waited for: then the state must be known, also after a gap.
    #[must_use]
    pub(crate) fn needs_state(&self) -> bool {
        self.condition.is_some()
    }
}

fn time(text: &str) -> Result<Duration, &'static str> {
    let time: Option<SignedDuration> = text.parse().ok();
    time.filter(SignedDuration::is_positive)
        .and_then(|time| time.try_into().ok())
        .ok_or("expected a time such as 90s, 30m or 2h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h 30m", 5400)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "30", "-5s", "0s", "soon", "1y"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
