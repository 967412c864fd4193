//! From bytes to frames and back.

pub(crate) mod framing;
