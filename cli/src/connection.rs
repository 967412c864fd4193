//! From the arguments to a client of the server.

use std::io::{self, Write};

use taskwatch_client::{Client, ClientBuilder};

use crate::args::ConnectionArgs;
use crate::exit::Failure;
use crate::status::Status;
use crate::token::{self, TOKEN_VARIABLE, with_token};

/// The client that the arguments describe. Nothing is dialled.
///
/// # Errors
/// If they make no sense.
pub(crate) fn client(args: &ConnectionArgs) -> Result<ClientBuilder, Failure> {
    let variable = std::env::var_os(TOKEN_VARIABLE);
    let client = with_token(Client::builder(&args.url), args.token_file.as_deref(), variable)?;
    Ok(match &args.cacert {
        Some(path) => client.cacert(path),
        None => client,
    })
}

/// Warns of a token file that others may read.
///
/// # Errors
/// If it cannot be read at all.
pub(crate) fn check_token_file(args: &ConnectionArgs, status: &Status) -> Result<(), Failure> {
    if let Some(path) = &args.token_file
        && let Some(mode) = token::open_to_others(path)?
    {
        let _ = writeln!(io::stderr(), "{}", status.open_to_others(path, mode));
    }
    Ok(())
}
