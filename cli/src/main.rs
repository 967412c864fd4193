//! `taskwatch` prints what happens to tasks, as it happens.

use std::process::ExitCode;

fn main() -> ExitCode {
    taskwatch_cli::run(std::env::args_os())
}
