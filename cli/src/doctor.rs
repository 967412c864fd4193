//! `taskwatch doctor`: which step of the way to the server fails, and what to do about it.

mod words;

use std::io;

use serde_json::json;
use taskwatch_client::diagnose::{Finding, Outcome};
use tokio::runtime;

use self::words::{Place, Told};
use crate::args::{DoctorArgs, DoctorFormat};
use crate::escape::{JsonLine, Visible};
use crate::exit::{self, Failure};
use crate::paint::{BAD, FAINT, GOOD, NOTE, Paint};
use crate::status::Status;
use crate::{connection, log, tasks};

/// Looks at everything, and says what it finds: the exit code.
///
/// # Errors
/// If the settings make no sense, so that there is nothing to look at.
pub(crate) fn run(args: &DoctorArgs, status: &Status) -> Result<u8, Failure> {
    log::start(args.connection.verbose);
    connection::check_token_file(&args.connection, status)?;
    let client = connection::client(&args.connection)?.build()?;
    let place = Place::new(&args.connection.url, |name| std::env::var_os(name));
    let output = Output { format: args.output, paint: Paint(args.color.on(&io::stdout())) };
    output.print("address", "good", &words::address(&place))?;
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Start)?;
    let (mut code, mut printed) = (0, Ok(()));
    runtime.block_on(client.diagnose(args.repositories.iter().cloned(), |finding| {
        code = worse(code, &finding.outcome);
        let told = words::told(&finding, &place);
        let line = output.print(finding.check.as_str(), outcome(&finding), &told);
        if printed.is_ok() {
            printed = line;
        }
    }));
    runtime.shutdown_background();
    printed.map(|()| code)
}

/// The exit code with one more finding: a refusal says more than that something is wrong.
fn worse(code: u8, outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Good(_) | Outcome::Skipped => code,
        Outcome::Failed(fault) if fault.is_refusal() => exit::REFUSED,
        _ => code.max(exit::FAILURE),
    }
}

fn outcome(finding: &Finding) -> &'static str {
    match finding.outcome {
        Outcome::Good(_) => "good",
        Outcome::Warning(_) => "warning",
        Outcome::Skipped => "skipped",
        _ => "failed",
    }
}

/// Where findings go.
#[derive(Clone, Copy, Debug)]
struct Output {
    format: DoctorFormat,
    paint: Paint,
}

impl Output {
    /// A line about a check, and one about what to do.
    fn print(self, check: &str, outcome: &str, told: &Told) -> Result<(), Failure> {
        tasks::print(&self.text(check, outcome, told))
    }

    fn text(self, check: &str, outcome: &str, Told { message, advice }: &Told) -> String {
        if self.format == DoctorFormat::Json {
            let line = json!({
                "check": check, "outcome": outcome, "message": message, "advice": advice,
            });
            return format!("{}\n", JsonLine(&line.to_string()));
        }
        let (style, mark) = match outcome {
            "good" => (GOOD, "ok  "),
            "warning" => (NOTE, "warn"),
            "skipped" => (FAINT, "–   "),
            _ => (BAD, "FAIL"),
        };
        let mark = self.paint.text(style, mark);
        let line = format!("{mark}  {check:<10}  {}\n", Visible(message));
        match advice {
            Some(advice) => format!("{line}                  → {}\n", Visible(advice)),
            None => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use taskwatch_client::diagnose::{Fact, Fault};

    use super::*;

    #[test]
    fn a_refusal_says_more_than_another_fault_whichever_comes_first() {
        let refused = Outcome::Failed(Fault::TokenMissing);
        let broken = Outcome::Failed(Fault::NoTls);
        let odd = Outcome::Warning(Fault::Clock { ahead_ms: 9_000 });
        let code = |outcomes: &[&Outcome]| outcomes.iter().fold(0, |code, it| worse(code, it));
        assert_eq!(code(&[&Outcome::Good(Fact::Server), &Outcome::Skipped]), 0);
        assert_eq!(code(&[&odd]), 1);
        assert_eq!(code(&[&broken, &refused, &odd]), 3);
        assert_eq!(code(&[&refused, &broken]), 3);
    }

    #[test]
    fn what_the_network_says_drives_no_terminal() {
        let told = Told { message: "a\u{1b}[2J".to_owned(), advice: Some("\u{202e}".to_owned()) };
        let text = Output { format: DoctorFormat::Text, paint: Paint(false) };
        assert_eq!(
            text.text("server", "failed", &told),
            "FAIL  server      a\\u{1b}[2J\n                  → \\u{202e}\n"
        );
        let json = Output { format: DoctorFormat::Json, paint: Paint(false) };
        let line = json.text("server", "failed", &told);
        assert!(!line.contains('\u{202e}'), "{line:?}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["message"], &value["advice"]),
            (&json!("a\u{1b}[2J"), &json!("\u{202e}"))
        );
    }
}
