//! From bytes to frames and back.

mod body;
mod connection;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod echo;
mod encoding;
pub(crate) mod framing;
mod query;
mod reading;
mod response;
mod serve;
mod stream;
pub(crate) mod streams;
pub(crate) mod upgrade;
mod visitor;
mod websocket;
mod wire;

pub(crate) use connection::Connection;
#[cfg(any(test, feature = "simulation"))]
pub(crate) use connection::{MAX_UNWRITTEN, PROGRESS};
pub(crate) use reading::Incoming;
pub(crate) use serve::Ended;
pub(crate) use visitor::Visitor;
pub(crate) use wire::{Left, Wire};
