//! What only the parts together can show: one module for each promise.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod architecture;
mod backup;
mod condition;
mod crud;
mod doctor;
mod embed;
mod fallback;
mod fan_out;
mod frames;
mod hooks;
mod hostile_text;
mod http_streams;
mod if_match;
mod jwt;
mod lifecycle;
mod limits;
mod mcp;
mod metrics;
mod network;
mod operate;
mod permission;
mod previous;
mod property;
mod reconnect;
mod resume;
mod shell;
mod since;
mod slow;
mod snapshot;
mod supervisor;
mod tls;
mod tokens;
mod traces;
mod transports;
mod upgrade;
mod view;
