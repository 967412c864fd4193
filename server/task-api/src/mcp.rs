//! MCP.

mod bridge;

pub use bridge::{BridgeError, McpBridge};
