//! Requests that come again.

use super::*;
use crate::idempotency::{Fingerprint, IdempotencyKey};

const DAY_MS: i64 = 86_400_000;

pub(super) fn key_of(principal: &str, key: &str, request: u8) -> Option<Once> {
    Some(Once {
        principal: principal.into(),
        key: IdempotencyKey::try_from(key.as_bytes()).unwrap(),
        fingerprint: Fingerprint([request; 32]),
    })
}

fn key(key: &str) -> Option<Once> {
    key_of("api", key, 0)
}

impl Bench {
    fn once(&mut self, change: Change, once: Option<Once>) -> Result<Changed, ChangeError> {
        self.make_once(vec![(change, once)]).remove(0)
    }

    fn answers(&self) -> u64 {
        let sql = "SELECT count(*) FROM answer";
        self.writer.conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

#[tokio::test]
async fn one_key_makes_one_change_in_one_commit_in_a_later_one_and_after_a_kill() {
    let mut bench = Bench::new();
    // Each brings an id of its own, as each POST does.
    let ten = (0..10).map(|_| (create("acme/api"), key("k"))).collect();
    let mut answers = bench.make_once(ten);
    answers.push(bench.once(create("acme/api"), key("k")));
    assert_eq!(bench.seqs(), [1]);

    let mut bench = bench.restart();
    bench.create(1);
    answers.push(bench.once(create("acme/api"), key("k")));

    let first = answers[0].clone().unwrap();
    assert!(answers.into_iter().all(|answer| answer.as_ref() == Ok(&first)));
    assert_eq!(bench.seqs(), [2]);
    assert_eq!(bench.store.validate(&first.cursor), Ok(1));
    let page = bench.store.list(list_of(10)).await.unwrap();
    assert_eq!(page.tasks.len(), 2);
}

#[test]
fn what_is_asked_again_is_answered_before_its_conditions_are_looked_at() {
    let mut bench = Bench::new();
    let id = bench.once(create("acme/api"), key("create")).unwrap().task.id;
    let update = || (retitle(id, "Two", Some(vec![1])), key("update"));
    let delete = || (Change::Delete { id, if_match: Some(vec![2]) }, key("delete"));
    let first = bench.make_once(vec![update(), update(), delete(), delete(), update()]);
    assert!(first.iter().all(Result::is_ok), "{first:?}");
    assert_eq!((&first[1], &first[4], &first[3]), (&first[0], &first[0], &first[2]));
    assert_eq!(bench.seqs(), [1, 2, 3]);

    let mut bench = bench.restart();
    assert_eq!(bench.make_once(vec![update(), delete()]), [first[0].clone(), first[2].clone()]);
    assert_eq!(bench.seqs(), [] as [Seq; 0]);
}

#[test]
fn a_key_stands_for_one_request() {
    let mut bench = Bench::new();
    let other = || (create("acme/api"), key_of("api", "k", 1));
    let answers = bench.make_once(vec![(create("acme/api"), key("k")), other()]);
    assert_eq!(answers[1], Err(ChangeError::IdempotencyMismatch));
    let mut bench = bench.restart();
    assert_eq!(bench.make_once(vec![other()]), [Err(ChangeError::IdempotencyMismatch)]);
    assert_eq!(bench.once(create("acme/api"), key("k")), answers[0]);
    assert_eq!((bench.store.head(), bench.answers()), (1, 1));
}

#[test]
fn a_key_is_that_of_its_principal() {
    let mut bench = Bench::new();
    let ask = |principal| (create("acme/api"), key_of(principal, "k", 0));
    let answers = bench.make_once(vec![ask("ann"), ask("bob"), ask("ann")]);
    assert_eq!(answers[0], answers[2]);
    assert_ne!(answers[0], answers[1]);
    assert_eq!(bench.make_once(vec![ask("bob")]), answers[1..2]);
    assert_eq!(bench.seqs(), [1, 2]);
}

#[test]
fn a_refusal_is_not_kept() {
    let mut bench = Bench::new();
    let trigger = "CREATE TRIGGER broken BEFORE INSERT ON event WHEN NEW.repository = 'bad' \
                   BEGIN SELECT RAISE(ABORT, 'broken'); END";
    bench.writer.conn.execute_batch(trigger).unwrap();
    let id = bench.make(vec![create("acme/api")]).remove(0).unwrap().task.id;
    let long = NewTask { description: "x".repeat(300_000), ..new_task("acme/api") };
    let refused = [
        retitle(id, "Two", Some(vec![9])),
        retitle(Uuid::now_v7(), "Two", None),
        Change::Create { id: Uuid::now_v7(), task: long },
        create("bad"),
    ];
    let answers = bench.make_once(refused.map(|change| (change, key("k"))).into());
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert_eq!((bench.answers(), bench.store.head()), (0, 1));

    // The key is free: the same request may succeed now, and so may another.
    let again = vec![
        (retitle(id, "Two", Some(vec![9])), key("k")),
        (retitle(id, "Two", Some(vec![1])), key("k")),
        (create("acme/api"), key_of("api", "k", 1)),
    ];
    let answers = bench.make_once(again);
    assert_eq!(answers[0], Err(ChangeError::VersionConflict { current: 1 }));
    assert_eq!(answers[1].as_ref().unwrap().task.version, 2);
    assert_eq!(answers[2], Err(ChangeError::IdempotencyMismatch));
    assert_eq!((bench.answers(), bench.store.head()), (1, 2));
}

#[test]
fn an_answer_that_cannot_be_kept_undoes_its_change_and_sinks_no_other() {
    let mut bench = Bench::new();
    let trigger = "CREATE TRIGGER broken BEFORE INSERT ON answer WHEN NEW.key = 'bad' \
                   BEGIN SELECT RAISE(ABORT, 'broken'); END";
    bench.writer.conn.execute_batch(trigger).unwrap();
    let answers = bench.make_once(vec![
        (create("acme/api"), key("good")),
        (create("acme/api"), key("bad")),
        (create("acme/api"), key("better")),
    ]);
    assert_eq!(answers[1], Err(ChangeError::Internal));
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert_eq!((bench.seqs(), bench.answers()), (vec![1, 2], 2));
}

#[test]
fn a_commit_that_fails_keeps_no_answer() {
    let mut bench = Bench::new();
    bench.create(1);
    let pages: u32 = bench.writer.conn.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap();
    bench.writer.conn.query_row("PRAGMA max_page_count = 1", [], |_| Ok(())).unwrap();
    let task = NewTask { description: "x".repeat(60_000), ..new_task("acme/api") };
    let large = || (Change::Create { id: Uuid::now_v7(), task: task.clone() }, key("k"));
    let answers = bench.make_once(vec![large(), large()]);
    assert_eq!(answers, [Err(ChangeError::Unavailable), Err(ChangeError::Unavailable)]);
    let enough = format!("PRAGMA max_page_count = {}", pages + 1000);
    bench.writer.conn.query_row(&enough, [], |_| Ok(())).unwrap();
    let answers = bench.make_once(vec![large(), large()]);
    assert!(answers[0].is_ok());
    assert_eq!(answers[0], answers[1]);
    assert_eq!(bench.seqs(), [1, 2]);
}

#[test]
fn that_nothing_changed_is_kept_as_well() {
    let mut bench = Bench::new();
    let id = bench.make(vec![create("acme/api")]).remove(0).unwrap().task.id;
    let same = || (retitle(id, "One", None), key("k"));
    let answer = bench.make_once(vec![same()]);
    assert_eq!(answer[0].as_ref().unwrap().task.version, 1);
    bench.make(vec![retitle(id, "Two", None)]).remove(0).unwrap();
    let mut bench = bench.restart();
    assert_eq!(bench.make_once(vec![same()]), answer);
    assert_eq!(bench.store.head(), 2);
}

#[test]
fn a_key_is_free_after_a_day() {
    let mut bench = Bench::new();
    let first = bench.once(create("acme/api"), key("k"));
    bench.set_clock(DAY_MS);
    assert_eq!(bench.once(create("acme/api"), key("k")), first);
    bench.set_clock(DAY_MS + 1);
    // Not trimmed yet, since changes come in.
    let other = || (create("acme/api"), key_of("api", "k", 1));
    let second = bench.make_once(vec![other()]);
    assert!(second[0].is_ok());
    assert_eq!((bench.answers(), bench.seqs()), (1, vec![1, 2]));
    // Kept for a day from then, and as long as a clock that was set back says so.
    for offset in [0, 2 * DAY_MS + 1] {
        bench.set_clock(offset);
        bench.writer.trim(true);
        assert_eq!(bench.make_once(vec![other()]), second);
    }
}

#[test]
fn old_answers_go_exactly_when_idle() {
    let mut bench = Bench::new();
    for (offset, name) in [(0, "a"), (100, "b"), (200, "c")] {
        bench.set_clock(offset);
        bench.once(create("acme/api"), key(name)).unwrap();
    }
    for (offset, left) in [(0, 3), (1, 2), (100, 2), (101, 1), (201, 0), (202, 0)] {
        bench.set_clock(DAY_MS + offset);
        bench.writer.trim(true);
        assert_eq!(bench.answers(), left, "{offset}");
        bench.writer.trim(false);
        assert_eq!(bench.answers(), left, "{offset}");
    }
}

#[test]
fn old_answers_go_by_the_time_of_the_log() {
    let mut bench = Bench::new();
    bench.once(create("acme/api"), key("k")).unwrap();
    bench.set_clock(DAY_MS + 1);
    bench.create(1);
    bench.set_clock(0);
    bench.writer.trim(true);
    assert_eq!(bench.answers(), 0);
}

#[test]
fn one_turn_deletes_at_most_a_step_of_answers() {
    // No event gets old, so that the next turn hurries for the answers alone.
    let mut bench = Bench::keeping(1_000_000, 9 * DAY);
    for batch in 0..5 {
        let keyed = |n| (create("acme/api"), key(&format!("{batch}-{n}")));
        bench.make_once((0..250).map(keyed).collect());
    }
    bench.set_clock(DAY_MS + 1);
    let mut left = Vec::new();
    // Busy, in full steps alone; then idle, until nothing is old.
    for idle in [false, false, false, true, true] {
        bench.writer.trim(idle);
        left.push((bench.answers(), bench.writer.patience.is_zero()));
    }
    assert_eq!(left, [(750, true), (250, true), (250, false), (0, true), (0, false)]);
}

#[test]
fn a_disk_that_is_full_when_events_are_trimmed_and_answers_are_not_is_survived() {
    let mut bench = Bench::keeping(10, DAY);
    let keyed = |n: u8| (create("acme/api"), key(&n.to_string()));
    bench.make_once((0..20).map(keyed).collect());
    let trigger = "CREATE TABLE ballast (it); CREATE TRIGGER full BEFORE DELETE ON answer \
                   BEGIN INSERT INTO ballast VALUES (zeroblob(1000000)); END";
    bench.writer.conn.execute_batch(trigger).unwrap();
    bench.writer.conn.query_row("PRAGMA max_page_count = 1", [], |_| Ok(())).unwrap();
    bench.set_clock(DAY_MS + 1);
    bench.writer.trim(true);
    assert_eq!((bench.writer.state.floor, bench.answers()), (20, 20));
    bench.writer.conn.execute_batch("DROP TRIGGER full").unwrap();
    bench.writer.trim(true);
    assert_eq!(bench.answers(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    /// A request under one of a few keys: the same title is the same request.
    Ask {
        key: u8,
        title: u8,
    },
    Plain {
        title: u8,
    },
    Commit,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..4_u8, 0..2_u8).prop_map(|(key, title)| Step::Ask { key, title }),
        2 => (0..3_u8).prop_map(|title| Step::Plain { title }),
        3 => Just(Step::Commit),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Against a model that knows who was first. What waits at a restart is lost with its callers,
    /// who ask again.
    #[test]
    fn who_asks_again_is_told_the_same(steps in steps()) {
        let mut bench = Bench::new();
        let id = bench.make(vec![create("acme/api")]).remove(0).unwrap().task.id;
        let (mut kept, mut title, mut head) = (HashMap::<u8, (u8, Changed)>::new(), 9, 1);
        let mut waiting = Vec::new();
        for step in steps.into_iter().chain([Step::Commit]) {
            match step {
                Step::Ask { key, title } => waiting.push((Some(key), title)),
                Step::Plain { title } => waiting.push((None, title)),
                Step::Restart => {
                    waiting.clear();
                    bench = bench.restart();
                }
                Step::Commit if waiting.is_empty() => {}
                Step::Commit => {
                    let asked = waiting.iter().map(|&(name, title)| {
                        let once = name.and_then(|name| key_of("api", &name.to_string(), title));
                        (retitle(id, &title.to_string(), None), once)
                    });
                    let answers = bench.make_once(asked.collect());
                    for ((name, asked), answer) in waiting.drain(..).zip(answers) {
                        match name.and_then(|name| kept.get(&name)) {
                            Some((first, _)) if *first != asked => {
                                prop_assert_eq!(answer, Err(ChangeError::IdempotencyMismatch));
                                continue;
                            }
                            Some((_, first)) => {
                                prop_assert_eq!(answer.as_ref(), Ok(first));
                                continue;
                            }
                            None => {}
                        }
                        if title != asked {
                            (title, head) = (asked, head + 1);
                        }
                        let answer = answer.unwrap();
                        prop_assert_eq!(bench.store.validate(&answer.cursor), Ok(head));
                        prop_assert_eq!(answer.task.version, head);
                        if let Some(name) = name {
                            kept.insert(name, (asked, answer));
                        }
                    }
                    prop_assert_eq!(bench.store.head(), head);
                }
            }
        }
    }
}
