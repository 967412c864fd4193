//! What only the parts together can show: one module for each promise.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod architecture;
mod crud;
mod frames;
mod upgrade;
