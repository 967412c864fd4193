//! Those who come all the time, each on a connection of its own: writers, and visitors who ask or watch.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use taskwatch_tests::within;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::REPOSITORY;
use crate::http::Http;
use crate::socket::Socket;

/// One visitor a turn: in a restart of a second they are dozens.
const VISIT: Duration = Duration::from_millis(20);

/// How often they come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// In a second.
    pub(crate) changes: u32,
    pub(crate) visits: bool,
}

/// What became of them.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) acknowledged: AtomicUsize,
    pub(crate) visits: AtomicUsize,
    /// Changes that were sent, and may have been made.
    unanswered: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
}

/// They come until it ends.
#[derive(Debug)]
pub(crate) struct Calls {
    outcome: Arc<Outcome>,
    enough: Arc<AtomicBool>,
    kinds: Vec<JoinHandle<()>>,
}

impl Calls {
    pub(crate) fn start(addr: &Arc<str>, pace: Pace) -> Self {
        let mut calls = Self { outcome: Arc::default(), enough: Arc::default(), kinds: vec![] };
        let addr = Arc::clone(addr);
        let writes = calls.every(Duration::from_secs(1) / pace.changes, {
            let (addr, outcome) = (Arc::clone(&addr), Arc::clone(&calls.outcome));
            move |number| change(Arc::clone(&addr), Arc::clone(&outcome), number)
        });
        calls.kinds.push(writes);
        if pace.visits {
            let outcome = Arc::clone(&calls.outcome);
            let visits = calls
                .every(VISIT, move |number| visit(Arc::clone(&addr), Arc::clone(&outcome), number));
            calls.kinds.push(visits);
        }
        calls
    }

    /// Whether those before are answered or not.
    fn every<F>(
        &self,
        pause: Duration,
        call: impl Fn(usize) -> F + Send + 'static,
    ) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let enough = Arc::clone(&self.enough);
        tokio::spawn(async move {
            let mut pace = interval(pause);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut calls = JoinSet::new();
            for number in 0.. {
                pace.tick().await;
                if enough.load(Ordering::Relaxed) {
                    break;
                }
                calls.spawn(call(number));
                while calls.try_join_next().is_some() {}
            }
            calls.join_all().await;
        })
    }

    /// Nobody comes any more, and all have their answer.
    pub(crate) async fn end(self) -> Arc<Outcome> {
        self.enough.store(true, Ordering::Relaxed);
        for kind in self.kinds {
            within("the last answer", kind).await.unwrap();
        }
        self.outcome
    }
}

impl Outcome {
    /// Changes that were sent and not answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.lock().unwrap().len()
    }

    /// Why, for all whom no server answered as it should.
    pub(crate) fn refused(&self) -> Vec<String> {
        [&self.refused, &self.unanswered].map(|told| told.lock().unwrap().clone()).concat()
    }
}

async fn change(addr: Arc<str>, outcome: Arc<Outcome>, number: usize) {
    // Where nobody keeps the port open, a server that starts is waited for.
    let mut http = loop {
        match Http::connect(&addr).await {
            Ok(http) => break http,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    let task = json!({ "repository": REPOSITORY, "title": format!("Change {number}") }).to_string();
    let answer = async {
        http.send("POST", "/api/v1/tasks", &task).await?;
        http.answer().await
    };
    match answer.await {
        Ok(answer) if answer.status == 201 => {
            outcome.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer) => outcome.refused.lock().unwrap().push(format!("a change: {answer:?}")),
        Err(error) => outcome.unanswered.lock().unwrap().push(format!("a change: {error}")),
    }
}

async fn visit(addr: Arc<str>, outcome: Arc<Outcome>, number: usize) {
    let visited = if number.is_multiple_of(2) {
        Socket::subscribed(&addr, REPOSITORY).await.map(drop)
    } else {
        ask(&addr).await
    };
    outcome.visits.fetch_add(1, Ordering::Relaxed);
    if let Err(error) = visited {
        outcome.refused.lock().unwrap().push(format!("a visitor: {error}"));
    }
}

async fn ask(addr: &str) -> io::Result<()> {
    let mut http = Http::connect(addr).await?;
    http.send("GET", "/api/v1/tasks?limit=1", "").await?;
    let answer = http.answer().await?;
    if answer.status == 200 { Ok(()) } else { Err(io::Error::other(format!("{answer:?}"))) }
}
