//! From bytes to frames and back.

mod connection;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod echo;
pub(crate) mod framing;
mod pieces;
mod stream;
pub(crate) mod upgrade;
mod wire;

#[cfg(any(test, feature = "simulation"))]
pub(crate) use connection::{MAX_UNWRITTEN, PROGRESS};
