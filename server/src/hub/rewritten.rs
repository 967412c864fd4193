//! What the hub does when the log has changed behind it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use taskwatch_protocol::Seq;

use super::{Hub, lock};

/// How often the workers are looked at, who have a few events on their way at most.
const LOOK: Duration = Duration::from_millis(1);

impl Hub {
    /// Tells the hub that events of the log are not what they were, as after a deletion of what must
    /// not be read any more. Numbers, repositories and kinds must be the same.
    ///
    /// All that is in memory is thrown away, and whoever was about to be sent something is sent what
    /// the log says now; so nothing is missed and nothing comes twice. Who is amid a snapshot is closed
    /// with 4203, and comes back for another. When this returns, all that is put together for a
    /// peer from then on is read anew. What stands in a socket's buffer goes out.
    pub async fn log_rewritten(&self) {
        let upto = self.forget();
        // A worker that has begun with events is not called back: it is done in a moment. When the hub
        // stops there may be none left.
        while self.fanned_to_all() < upto && !self.is_draining() {
            tokio::time::sleep(LOOK).await;
        }
        self.read_again();
    }

    /// Forgets what was read. Up to where it was.
    pub(crate) fn forget(&self) -> Seq {
        let upto = {
            let mut recent = lock(&self.shared.recent);
            recent.clear();
            recent.events.head()
        };
        self.shared.pages.clear();
        // Last: who looks at the number first, and then reads, reads anew or finds another number.
        self.shared.rewrites.fetch_add(1, Ordering::SeqCst);
        // Those who are behind the cache have to notice.
        self.wake_workers();
        upto
    }

    /// Sends those to the log for whom something waits.
    pub(crate) fn read_again(&self) {
        let waiting = self.queues();
        waiting.iter().filter(|queue| queue.waiting() > 0).for_each(|queue| queue.overflow());
    }

    /// How often the log was rewritten.
    pub(crate) fn rewrites(&self) -> u32 {
        self.shared.rewrites.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex};

    use taskwatch_protocol::{Cursor, EventKind, ResetReason};

    use super::*;
    use crate::simulation::{Connection, Server};
    use crate::{EventLog, HubConfig, LogEvent, Page, PageLimit, ReadFuture};

    const NOW: Duration = Duration::ZERO;
    const EVENTS: Seq = 9;

    /// Nine long events, which say whether they were rewritten.
    #[derive(Default)]
    struct Words {
        is_new: AtomicBool,
        reads: Mutex<Vec<Seq>>,
    }

    impl Words {
        fn event(&self, seq: Seq) -> LogEvent {
            let word = if self.is_new.load(Ordering::SeqCst) { "new" } else { "old" };
            let text = "x".repeat(10_000);
            let envelope =
                format!(r#"{{"type":"task.created","cursor":"{seq}","{word}":"{text}"}}"#);
            LogEvent::new(seq, "foo".parse().unwrap(), EventKind::Created, &envelope)
        }
    }

    impl EventLog for Words {
        fn head(&self) -> Seq {
            0
        }

        fn cursor(&self, seq: Seq) -> Cursor {
            Cursor::new(seq.to_string())
        }

        fn validate(&self, cursor: &Cursor) -> Result<Seq, ResetReason> {
            cursor.as_str().parse().map_err(|_| ResetReason::Malformed)
        }

        fn read(&self, after: Seq, upto: Seq, _: PageLimit) -> ReadFuture<'_> {
            self.reads.lock().unwrap().push(after);
            let events = (after + 1..=upto).map(|seq| self.event(seq)).collect();
            Box::pin(std::future::ready(Ok(Page { events, scanned_to: upto })))
        }
    }

    /// The numbers of the events that a connection is sent next, and whether each is new.
    fn told(connection: &mut Connection, count: usize) -> Vec<(Seq, bool)> {
        let mut told = vec![];
        while told.len() < count {
            connection.turn(NOW);
            connection.fetch(NOW);
            let Some(text) = connection.write(NOW) else { continue };
            if text.contains("task.created") {
                let cursor = text.split(r#""cursor":""#).nth(1).unwrap();
                let seq = cursor.split('"').next().unwrap().parse().unwrap();
                told.push((seq, text.contains(r#""new""#)));
            }
        }
        told
    }

    fn server() -> (Arc<Words>, Server) {
        let log = Arc::new(Words::default());
        (log.clone(), Server::start(log, HubConfig::default()))
    }

    fn publish(log: &Words, server: &mut Server) {
        (1..=EVENTS).for_each(|seq| server.publish(log.event(seq)));
        while server.fan_out(1) {}
    }

    fn subscribed(server: &Server, since: &str) -> Connection {
        let mut connection = server.accept(NOW, 0.5);
        assert!(connection.write(NOW).unwrap().contains("welcome"));
        let asked = format!(r#"{{"type":"subscribe","data":{{"repositories":["*"]{since}}}}}"#);
        connection.text(NOW, &asked);
        connection.turn(NOW);
        connection
    }

    fn rewrite(log: &Words, server: &Server) {
        log.is_new.store(true, Ordering::SeqCst);
        server.log_rewritten();
    }

    #[test]
    fn what_waits_in_a_queue_is_read_again() {
        let (log, mut server) = server();
        let mut connection = subscribed(&server, "");
        publish(&log, &mut server);
        rewrite(&log, &server);
        let expected: Vec<_> = (1..=EVENTS).map(|seq| (seq, true)).collect();
        assert_eq!(told(&mut connection, expected.len()), expected);
        assert!(!log.reads.lock().unwrap().is_empty());
    }

    #[test]
    fn who_is_amid_a_page_has_the_rest_of_it_anew() {
        for forgotten in [false, true] {
            let (log, mut server) = server();
            publish(&log, &mut server);
            if forgotten {
                // Pages of the log, and not of the cache.
                server.log_rewritten();
            }
            let mut connection = subscribed(&server, r#","since":"0""#);
            let mut all = told(&mut connection, 2);
            rewrite(&log, &server);
            all.extend(told(&mut connection, EVENTS as usize - 2));
            assert!(all.iter().map(|(seq, _)| *seq).eq(1..=EVENTS), "{all:?}");
            // Some had been put together for the next write; nothing goes back to what was before.
            let first = all.iter().position(|(_, is_new)| *is_new).expect("the rest is new");
            assert!(
                (2..8).contains(&first) && all[first..].iter().all(|(_, is_new)| *is_new),
                "{all:?}"
            );
        }
    }

    #[test]
    fn what_is_being_read_is_read_again() {
        let (log, mut server) = server();
        publish(&log, &mut server);
        server.log_rewritten();
        let mut connection = subscribed(&server, r#","since":"0""#);
        // It is under way, of before.
        while !connection.is_fetching() {
            connection.turn(NOW);
        }
        connection.fetch(NOW);
        rewrite(&log, &server);
        let expected: Vec<_> = (1..=EVENTS).map(|seq| (seq, true)).collect();
        assert_eq!(told(&mut connection, expected.len()), expected);
    }

    #[tokio::test]
    async fn it_is_done_when_the_workers_are() {
        let log = Arc::new(Words::default());
        let hub = Hub::with_log(log.clone(), HubConfig::default());
        (1..=EVENTS).for_each(|seq| hub.publish(log.event(seq)));
        hub.log_rewritten().await;
        assert_eq!((hub.fanned_to_all(), hub.rewrites()), (EVENTS, 1));
        assert!(hub.cached(0, EVENTS).is_none());
        hub.shutdown().await;
        hub.log_rewritten().await;
    }
}
