//! Findings in their order.

use super::{Check, Fact, Fault, Finding, Outcome};

/// What was found so far: the findings come in the order of the checks, whatever was left out.
pub(super) struct Report<F> {
    /// The number of the check that comes next.
    next: usize,
    tell: F,
}

/// The way ends here; the reason was told.
pub(super) struct Stop;

impl<F: FnMut(Finding)> Report<F> {
    pub(super) fn new(tell: F) -> Self {
        Self { next: 0, tell }
    }

    pub(super) fn add(&mut self, check: Check, outcome: Outcome) {
        let at = Check::ALL.iter().position(|it| *it == check).unwrap_or(Check::ALL.len());
        self.skip_to(at);
        self.next = at + 1;
        (self.tell)(Finding { check, outcome });
    }

    pub(super) fn good(&mut self, check: Check, fact: Fact) {
        self.add(check, Outcome::Good(fact));
    }

    pub(super) fn failed(&mut self, check: Check, fault: Fault) -> Stop {
        self.add(check, Outcome::Failed(fault));
        Stop
    }

    /// Leaves out what was not looked at.
    pub(super) fn end(mut self) {
        self.skip_to(Check::ALL.len());
    }

    fn skip_to(&mut self, at: usize) {
        while self.next < at {
            let check = Check::ALL[self.next];
            self.next += 1;
            (self.tell)(Finding { check, outcome: Outcome::Skipped });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_told_once_in_order_whatever_was_left_out() {
        let mut told = Vec::new();
        let mut report =
            Report::new(|finding: Finding| told.push((finding.check, finding.outcome)));
        report.good(Check::Tcp, Fact::Direct);
        report.good(Check::Permission, Fact::Server);
        // One for each repository.
        report.failed(Check::Permission, Fault::TokenMissing);
        report.end();
        let checks: Vec<_> = told.iter().map(|(check, _)| *check).collect();
        let mut expected = Check::ALL.to_vec();
        expected.insert(8, Check::Permission);
        assert_eq!(checks, expected);
        let looked_at: Vec<_> =
            told.iter().filter(|(_, outcome)| *outcome != Outcome::Skipped).collect();
        assert_eq!(looked_at.len(), 3);
        assert_eq!(told[9], (Check::Permission, Outcome::Failed(Fault::TokenMissing)));
    }
}
