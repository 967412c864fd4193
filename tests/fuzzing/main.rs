//! Everything that fuzzing has found worth keeping, on a stable compiler: each file below
//! `tests/fuzz/corpus` goes through its target again, and so do some that are made out of them.
//! `ci/fuzz` looks for more.
#![expect(clippy::expect_used, reason = "a target fails by panicking")]
#![expect(clippy::print_stdout, reason = "the output names the input that failed")]

mod mutation;
mod targets;

use std::path::Path;

/// A corpus that was lost, or a file that was put into the wrong folder, would test nothing.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = folder.read_dir().expect("a corpus");
    let files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    assert!(files.len() >= 5, "{} holds {} files", folder.display(), files.len());
    let mut corpus = vec![];
    for file in files {
        let input = std::fs::read(&file).expect("a file");
        assert!(input.len() <= 8 << 10, "{} is too large to keep", file.display());
        println!("{}", file.display());
        target(&input);
        corpus.push(input);
    }
    corpus.sort();
    let (cases, seed) = mutation::plan();
    for case in 0..cases {
        let input = mutation::input(&corpus, seed, case);
        let failed = std::panic::catch_unwind(|| target(&input)).is_err();
        assert!(!failed, "TASKWATCH_SEED={seed}, case {case}: \"{}\"", input.escape_ascii());
    }
}

macro_rules! corpora {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target), targets::$target);
            }
        )*

        /// Every corpus has its test.
        #[test]
        fn no_corpus_is_left_out() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
            for entry in folder.read_dir().expect("the corpora") {
                let name = entry.expect("an entry").file_name();
                assert!([$(stringify!($target)),*].iter().any(|it| name == *it), "{name:?}");
            }
        }
    };
}
corpora! { access client_frame cursor escaping pattern rest server_frame }
