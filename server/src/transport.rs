//! From bytes to frames and back.

mod connection;
pub(crate) mod framing;
pub(crate) mod upgrade;
mod wire;

#[cfg(any(test, feature = "simulation"))]
pub(crate) use connection::{MAX_UNWRITTEN, PROGRESS};
