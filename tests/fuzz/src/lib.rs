//! What is fuzzed stands in `tests/fuzzing`, where the stable tests replay the corpora.

#[path = "../../fuzzing/targets/mod.rs"]
mod targets;

macro_rules! targets {
    ($($target:ident)*) => {
        $(
            pub fn $target(input: &[u8]) {
                targets::$target(input);
            }
        )*
    };
}
targets! { access client_frame cursor escaping pattern rest server_frame }
