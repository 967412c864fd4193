//! Soon.
/// Soon.
#[derive(Debug)]
pub struct MemoryLog;
/// Soon.
#[derive(Debug)]
pub struct TaskEventPublisher;
