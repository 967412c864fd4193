//! In place of TLS where the crate is built without it.

use std::io;
use std::path::Path;

use crate::BuildError;
use crate::address::Host;
use crate::link::Io;

/// There is none.
#[derive(Clone, Debug)]
pub(crate) enum Tls {}

impl Tls {
    pub(crate) fn new(_: Option<&Path>) -> Result<Self, BuildError> {
        Err(BuildError::NoTls)
    }

    pub(super) async fn handshake(&self, _: &Host, _: Box<dyn Io>) -> io::Result<Box<dyn Io>> {
        match *self {}
    }
}

pub(super) fn certificate_fault(_: &io::Error) -> Option<String> {
    None
}
