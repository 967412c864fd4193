//! From bytes to frames and back.

mod connection;
pub(crate) mod framing;
pub(crate) mod upgrade;
mod wire;
