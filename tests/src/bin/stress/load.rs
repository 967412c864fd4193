//! Changes as fast as the store takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use taskwatch_protocol::Seq;
use tokio::task::JoinSet;

use crate::http::Http;
use crate::socket::seq;

/// What to publish.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// `ADDR` of the server.
    pub(crate) addr: String,
    /// Taken in turn.
    pub(crate) repositories: Vec<String>,
    pub(crate) events: usize,
    /// Writers at the same time.
    pub(crate) writers: usize,
    /// Bytes of each description.
    pub(crate) bytes: usize,
}

/// What was published.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// The numbers of the events, in their order.
    pub(crate) seqs: Vec<Seq>,
    pub(crate) took: Duration,
}

impl Published {
    /// Events in each second.
    pub(crate) fn rate(&self) -> f64 {
        self.seqs.len() as f64 / self.took.as_secs_f64()
    }
}

impl Load {
    /// Creates the tasks. Every change must be acknowledged.
    pub(crate) async fn publish(self) -> Published {
        let (load, next) = (Arc::new(self), Arc::new(AtomicUsize::new(0)));
        let started = Instant::now();
        let mut writers = JoinSet::new();
        for _ in 0..load.writers {
            writers.spawn(write(Arc::clone(&load), Arc::clone(&next)));
        }
        let mut seqs = writers.join_all().await.concat();
        let took = started.elapsed();
        seqs.sort_unstable();
        Published { seqs, took }
    }
}

async fn write(load: Arc<Load>, next: Arc<AtomicUsize>) -> Vec<Seq> {
    let mut http = Http::connect(&load.addr).await.unwrap();
    let description = "x".repeat(load.bytes);
    let mut seqs = vec![];
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.events {
            return seqs;
        }
        let repository = &load.repositories[number % load.repositories.len()];
        let title = format!("Task {number}");
        let task = json!({ "repository": repository, "title": title, "description": description });
        http.send("POST", "/api/v1/tasks", &task.to_string()).await.unwrap();
        let answer = http.answer().await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
        seqs.push(seq(&answer.cursor.unwrap()));
    }
}
