//! `taskwatch` prints what happens to tasks, as it happens.

use std::process::ExitCode;

/// An event is many small pieces.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    taskwatch_cli::run(std::env::args_os())
}
