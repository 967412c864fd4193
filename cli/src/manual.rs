//! Completions and the manual page, made of the definition of the arguments.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;

/// The script that completes the flags in a shell.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "taskwatch", &mut script);
    script
}

/// The manual page, in roff: of the watcher, then of each of its commands.
pub(crate) fn page() -> Vec<u8> {
    let mut page = Vec::new();
    let mut command = Args::command();
    // So that each names the ones above it.
    command.build();
    let inner: Vec<_> =
        command.get_subcommands().filter(|it| it.get_name() != "help").cloned().collect();
    for command in std::iter::once(command).chain(inner) {
        // Writing to memory does not fail.
        let _ = clap_mangen::Man::new(command).render(&mut page);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_is_told_the_flags() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completions(shell)).unwrap();
            for word in ["taskwatch", "on-gap", "completions"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn the_page_has_flags_examples_and_exit_codes() {
        let page = String::from_utf8(page()).unwrap();
        for part in [".TH taskwatch 1", "\\-\\-on\\-gap", "Exit codes:", ".TH taskwatch-doctor 1"] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
}
