//! Where the watcher's token comes from.

use std::ffi::OsString;
use std::path::Path;

use taskwatch_client::{ClientBuilder, Token};

use crate::exit::Failure;

/// Holds a token, if no file is named.
pub(crate) const TOKEN_VARIABLE: &str = "TASKWATCH_TOKEN";

/// Lets the client show the token in `file`, or else in `variable`. One that is set to nothing is
/// not set.
///
/// # Errors
/// If the variable holds none.
pub(crate) fn with_token(
    client: ClientBuilder,
    file: Option<&Path>,
    variable: Option<OsString>,
) -> Result<ClientBuilder, Failure> {
    if let Some(path) = file {
        return Ok(client.token_file(path));
    }
    match variable.filter(|text| !text.is_empty()) {
        Some(text) => {
            let token = Token::new(text.to_string_lossy()).map_err(Failure::TokenVariable)?;
            Ok(client.token(token))
        }
        None => Ok(client),
    }
}

/// Checks that there is a token file: the mode of one that others may read as well.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn open_to_others(path: &Path) -> Result<Option<u32>, Failure> {
    let mode = || -> std::io::Result<Option<u32>> {
        let metadata = std::fs::metadata(path)?;
        // To open a pipe would take what it holds.
        if !metadata.is_file() {
            return Ok(None);
        }
        std::fs::File::open(path)?;
        Ok(mode(&metadata).filter(|mode| mode & 0o077 != 0))
    };
    mode().map_err(|error| Failure::TokenFile { path: path.display().to_string(), error })
}

#[cfg(unix)]
fn mode(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(metadata.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn mode(_: &std::fs::Metadata) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use taskwatch_client::Client;

    use super::*;

    #[test]
    fn a_variable_that_holds_no_token_is_refused_without_being_shown() {
        let with = |text: &str| with_token(Client::builder("http://x"), None, Some(text.into()));
        let failure = with("two words").unwrap_err();
        assert_eq!(failure.code(), 2);
        let text = failure.to_string();
        assert!(text.starts_with("TASKWATCH_TOKEN: ") && !text.contains("two words"), "{text}");
        assert!(with("").is_ok() && with("an-example-token").is_ok());
        let file = Path::new("token");
        let both = with_token(Client::builder("http://x"), Some(file), Some("two words".into()));
        assert!(both.is_ok());
    }
}
