//! Any steps whatever, and what the log tells of them.

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Create,
    Retitle { which: usize, title: u8 },
    Delete { which: usize },
    Clock(i64),
    Commit,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Create),
        6 => (0..6_usize, 0..3_u8).prop_map(|(which, title)| Step::Retitle { which, title }),
        2 => (0..6_usize).prop_map(|which| Step::Delete { which }),
        2 => (-1000..1000_i64).prop_map(Step::Clock),
        4 => Just(Step::Commit),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_log_tells_the_whole_story(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut bench = Bench::new();
        let (mut ids, mut waiting) = (Vec::<Uuid>::new(), Vec::new());
        for step in steps {
            match step {
                Step::Create => {
                    let id = Uuid::now_v7();
                    ids.push(id);
                    waiting.push(Change::Create { id, task: new_task("acme/api") });
                }
                Step::Retitle { which, title } => waiting.extend(
                    ids.get(which).map(|&id| retitle(id, &title.to_string(), None))),
                Step::Delete { which } => waiting.extend(
                    ids.get(which).map(|&id| Change::Delete { id, if_match: None })),
                Step::Clock(offset) => bench.set_clock(offset),
                Step::Commit if waiting.is_empty() => {}
                Step::Commit => drop(bench.make(std::mem::take(&mut waiting))),
                Step::Restart => bench = bench.restart(),
            }
        }
        if !waiting.is_empty() {
            bench.make(waiting);
        }

        let (mut folded, mut versions) = (BTreeMap::new(), HashMap::new());
        let mut last_time = Timestamp::from_unix_millis(0);
        let head = bench.store.head();
        let page = runtime.block_on(bench.store.read(0, head, EVERYTHING)).unwrap();
        prop_assert_eq!(page.events.len() as u64, head);
        for (log, seq) in page.events.iter().zip(1..) {
            let (frame, event) = event(log);
            prop_assert_eq!(log.seq(), seq);
            prop_assert!(frame.timestamp.unwrap() >= last_time);
            last_time = frame.timestamp.unwrap();
            let before = versions.insert(event.task_id, event.version).unwrap_or(0);
            prop_assert_eq!(event.version, before + 1);
            match event.change {
                TaskChange::Created { task } | TaskChange::Updated { task, .. } => {
                    prop_assert_eq!(task.version, event.version);
                    folded.insert(task.id, *task);
                }
                TaskChange::Deleted { previous } => {
                    prop_assert_eq!(folded.remove(&previous.id), Some(*previous));
                }
            }
        }
        let report = verify_store(bench.dir.path()).unwrap();
        prop_assert!(report.is_good(), "{:#?}", report);
        let query = list_of(1000);
        let listed = runtime.block_on(bench.store.list(query)).unwrap();
        prop_assert_eq!(folded.into_values().collect::<Vec<_>>(), listed.tasks);
    }
}
