//! Changes that are made together, and the history of a task.

use super::*;
use crate::idempotency::{Fingerprint, IdempotencyKey};

type Together<'a> = Pin<Box<dyn Future<Output = Result<Vec<Changed>, BatchError>> + 'a>>;

fn together(store: &Store, changes: Vec<Change>, once: Option<Once>) -> Together<'_> {
    let mut waiting: Together<'_> = Box::pin(store.change(anybody(), changes, once));
    assert!(waiting.as_mut().now_or_never().is_none(), "nothing is answered before its commit");
    waiting
}

fn key() -> Option<Once> {
    let key = IdempotencyKey::try_from(&b"k"[..]).unwrap();
    Some(Once::new(&Principal::anonymous(), key, Fingerprint([0; 32])))
}

impl Bench {
    fn batch(
        &mut self,
        changes: Vec<Change>,
        once: Option<Once>,
    ) -> Result<Vec<Changed>, BatchError> {
        let store = self.store.clone();
        let waiting = together(&store, changes, once);
        self.turn();
        waiting.now_or_never().expect("answered")
    }
}

#[tokio::test]
async fn events_of_a_batch_stand_together_and_in_order() {
    let mut bench = Bench::new();
    let id = Uuid::now_v7();
    let batch = vec![
        Change::Create { id, task: new_task("acme/api") },
        retitle(id, "Two", Some(vec![1])),
        retitle(id, "Two", None),
        create("acme/web"),
        retitle(id, "Three", Some(vec![2])),
    ];
    let store = bench.store.clone();
    let before = ask(&store, create("b"));
    let waiting = together(&store, batch, None);
    let after = ask(&store, create("b"));
    bench.turn();
    let changes = waiting.await.unwrap();
    let versions: Vec<_> = changes.iter().map(|changed| changed.task.version).collect();
    assert_eq!(versions, [1, 2, 2, 1, 3]);
    let cursors: Vec<_> = changes.iter().map(|changed| changed.cursor.clone()).collect();
    assert_eq!(cursors, [2, 3, 3, 4, 5].map(|seq| bench.store.cursor(seq)));
    assert_eq!(before.await.unwrap().cursor, bench.store.cursor(1));
    assert_eq!(after.await.unwrap().cursor, bench.store.cursor(6));
    assert_eq!(bench.seqs(), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_batch_is_made_whole_or_not_at_all() {
    let mut bench = Bench::new();
    let trigger = "CREATE TRIGGER broken BEFORE INSERT ON event WHEN NEW.repository = 'bad' \
                   BEGIN SELECT RAISE(ABORT, 'broken'); END";
    bench.writer.conn.execute_batch(trigger).unwrap();
    bench.create(1);
    let long = NewTask { description: "x".repeat(300_000), ..new_task("acme/api") };
    for (last, error) in [
        (retitle(Uuid::now_v7(), "Two", None), ChangeError::NotFound),
        (create("bad"), ChangeError::Internal),
        (Change::Create { id: Uuid::now_v7(), task: long }, ChangeError::TooLarge { bytes: 0 }),
    ] {
        let refused = bench.batch(vec![create("acme/api"), create("acme/web"), last], key());
        let BatchError { index, error: found } = refused.unwrap_err();
        assert_eq!(index, Some(2));
        assert_eq!(std::mem::discriminant(&found), std::mem::discriminant(&error), "{found}");
    }
    assert_eq!((bench.store.head(), bench.seqs()), (1, vec![1]));
    assert_eq!(bench.store.list(list_of(10)).await.unwrap().tasks.len(), 1);
    // The key is free, and the next number is the next.
    assert!(bench.batch(vec![create("acme/api")], key()).is_ok());
    assert_eq!(bench.seqs(), [1, 2]);
}

#[test]
fn a_batch_is_answered_alike_when_it_comes_again() {
    let mut bench = Bench::new();
    let batch = || vec![create("acme/api"), create("acme/web")];
    let first = bench.batch(batch(), key()).unwrap();
    let mut bench = bench.restart();
    assert_eq!(bench.batch(batch(), key()).unwrap(), first);
    assert_eq!((bench.store.head(), bench.seqs()), (2, vec![]));
}

#[test]
fn the_events_of_a_batch_are_bounded_together() {
    let mut bench = Bench::new();
    let task = NewTask { description: "x".repeat(60_000), ..new_task("acme/api") };
    let ids: Vec<_> = (0..100).map(|_| Uuid::now_v7()).collect();
    for id in &ids {
        bench.make(vec![Change::Create { id: *id, task: task.clone() }]).remove(0).unwrap();
    }
    let small = |ids: &[Uuid]| ids.iter().map(|&id| retitle(id, "Two", None)).collect();
    let refused = bench.batch(small(&ids), None).unwrap_err();
    assert_eq!(refused.error, ChangeError::BatchTooLarge);
    assert!(refused.index.is_some_and(|index| index > 60), "{refused:?}");
    assert!(bench.batch(small(&ids[..50]), None).is_ok());
}

#[test]
fn one_commit_does_not_grow_with_the_batches_in_it() {
    let mut bench = Bench::new();
    let store = bench.store.clone();
    let batch = || (0..100).map(|_| create("acme/api")).collect();
    let waiting: Vec<_> = (0..5).map(|_| together(&store, batch(), None)).collect();
    bench.turn();
    assert_eq!(bench.seqs().len(), 300);
    bench.turn();
    assert_eq!(bench.seqs().len(), 500);
    assert!(waiting.into_iter().all(|answer| answer.now_or_never().unwrap().is_ok()));
}

#[tokio::test]
async fn a_task_tells_its_history_in_the_bytes_that_were_sent() {
    let mut bench = Bench::new();
    let id = Uuid::now_v7();
    bench.make(vec![Change::Create { id, task: new_task("acme/api") }, create("acme/api")]);
    bench.make(vec![retitle(id, "Two", None), create("acme/api"), retitle(id, "Three", None)]);
    bench.make(vec![Change::Delete { id, if_match: None }]);
    let sent = |seqs: &[Seq]| -> Vec<String> {
        let published = bench.published.borrow();
        let of = |seq: &Seq| published.iter().find(|event| event.seq() == *seq).unwrap();
        seqs.iter().map(|seq| String::from_utf8(of(seq).envelope().to_vec()).unwrap()).collect()
    };
    let anybody = Principal::anonymous();
    let ann = |pattern: &str| Principal::new("ann").reading([pattern.parse().unwrap()]);
    let history = async |principal: &Principal, after, limit| {
        bench.store.history(principal.clone(), id, after, limit).await.unwrap()
    };
    let whole = History { events: sent(&[1, 3, 5, 6]), next: None };
    assert_eq!(history(&anybody, 0, 4).await, Some(whole.clone()));
    assert_eq!(history(&ann("acme/*"), 0, 100).await, Some(whole));
    assert_eq!(history(&ann("b"), 0, 100).await, None);
    let first = History { events: sent(&[1, 3]), next: Some(3) };
    assert_eq!(history(&anybody, 0, 2).await, Some(first));
    let rest = History { events: sent(&[5, 6]), next: None };
    assert_eq!(history(&anybody, 3, 2).await, Some(rest));
    let nobody = bench.store.history(anybody.clone(), Uuid::now_v7(), 0, 9).await.unwrap();
    assert_eq!(nobody, None);
}

#[tokio::test]
async fn a_history_goes_as_far_back_as_the_log() {
    let mut bench = Bench::keeping(2, DAY);
    let id = Uuid::now_v7();
    bench.make(vec![Change::Create { id, task: new_task("acme/api") }]);
    bench.make(vec![retitle(id, "Two", None)]);
    bench.create(1);
    bench.writer.trim(true);
    let all =
        async |bench: &Bench| bench.store.history(Principal::anonymous(), id, 0, 9).await.unwrap();
    assert_eq!(all(&bench).await.unwrap().events.len(), 1);
    bench.create(2);
    bench.writer.trim(true);
    // The task is there, and what happened to it is no longer known.
    assert_eq!(all(&bench).await, Some(History::default()));
}

#[tokio::test]
async fn a_history_is_found_by_an_index() {
    let bench = Bench::new();
    let plan: String = bench
        .writer
        .conn
        .query_row(
            "EXPLAIN QUERY PLAN SELECT seq, repository, envelope FROM event \
             WHERE task_id = ?1 AND seq > ?2 ORDER BY seq",
            (b"x", 0),
            |row| row.get(3),
        )
        .unwrap();
    assert!(plan.contains("event_by_task (task_id=? AND rowid>?)"), "{plan}");
}
