//! Lists, held against what a few lines over all tasks in memory say.

use taskwatch_protocol::RepositoryName;

use super::*;
use crate::change::Operation;

const REPOSITORIES: [&str; 5] = ["acme/api", "acme/web", "acme-x", "b", "b/c"];
const TEXTS: [&str; 4] = ["", "Fix the ÄRGER", "ärger", "straße"];

/// A task, and the number of its last event.
type Known = (Task, Seq);

fn any_task() -> impl Strategy<Value = NewTask> {
    let pick = |n: usize| 0..n;
    (pick(5), pick(4), pick(4), pick(3), pick(3), pick(3), pick(4)).prop_map(
        |(repository, title, status, priority, assignee, tag, description)| NewTask {
            repository: REPOSITORIES[repository].parse().unwrap(),
            title: format!("A {}", TEXTS[title]),
            description: TEXTS[description].into(),
            status: Status::KNOWN[status].clone(),
            priority: Priority::KNOWN[priority].clone(),
            assignee: [None, Some("ann".into()), Some("bob".into())][assignee].clone(),
            tags: [vec![], vec!["x".into()], vec!["x".into(), "y".into()]][tag].clone(),
        },
    )
}

fn any_params() -> impl Strategy<Value = ListParams> {
    let maybe = |values: &[&'static str]| {
        let values = prop::sample::select(values.to_vec()).prop_map(str::to_owned);
        prop::option::weighted(0.3, values)
    };
    let many = |values: &[&'static str]| {
        let values = prop::sample::select(values.to_vec()).prop_map(str::to_owned);
        prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(values, 1..3)]
    };
    let since = prop::option::weighted(0.3, 0..12_i64).prop_map(|since| {
        since.map(|offset| Timestamp::from_unix_millis(START + offset).to_string())
    });
    let filters = (
        maybe(&["*", "acme/*", "acme/api", "acme/api/*", "b", "b/*", "zzz"]),
        many(&["pending", "in_progress", "completed", "cancelled"]),
        many(&["low", "medium", "high"]),
        many(&["ann", "bob", "eve"]),
        many(&["x", "y", "z"]),
        maybe(&["ärger", "ÄRG", "A ", "strasse", "ẞ"]),
    );
    let order = prop::sample::select(crate::list::Sort::ALL.map(|(word, _)| word).to_vec());
    (filters, since, order, 1..4_u64).prop_map(|(filters, changed_since, sort, limit)| {
        let (repository, status, priority, assignee, tag, text) = filters;
        let (sort, limit) = (Some(sort.to_owned()), Some(limit));
        ListParams {
            repository,
            status,
            priority,
            assignee,
            tag,
            text,
            changed_since,
            sort,
            limit,
            page: None,
        }
    })
}

fn principals() -> impl Strategy<Value = Principal> {
    let narrow =
        prop::collection::vec(prop::sample::select(vec!["acme/*", "acme/web", "b", "b/*"]), 0..3);
    prop_oneof![
        1 => Just(Principal::anonymous()),
        1 => narrow.prop_map(|patterns| {
            Principal::new("ann").reading(patterns.iter().map(|text| text.parse().unwrap()))
        }),
    ]
}

/// Whether a task belongs on a list, in other words than those of the code.
fn belongs(task: &Task, params: &ListParams, principal: &Principal) -> bool {
    let holds = |pattern: &Option<String>, name: &RepositoryName| match pattern.as_deref() {
        None | Some("*") => true,
        Some(pattern) => pattern
            .strip_suffix('*')
            .map_or(name.as_str() == pattern, |prefix| name.as_str().starts_with(prefix)),
    };
    let one_of = |wanted: &Vec<String>, is: &[&str]| {
        wanted.is_empty() || wanted.iter().any(|word| is.contains(&word.as_str()))
    };
    let tags: Vec<_> = task.tags.iter().map(String::as_str).collect();
    let text = format!("{}\u{0}{}", task.title, task.description).to_lowercase();
    principal.may_read(&task.repository)
        && holds(&params.repository, &task.repository)
        && one_of(&params.status, &[task.status.as_str()])
        && one_of(&params.priority, &[task.priority.as_str()])
        && one_of(&params.assignee, &[task.assignee.as_deref().unwrap_or("")])
        && one_of(&params.tag, &tags)
        && params.text.as_ref().is_none_or(|wanted| text.contains(&wanted.to_lowercase()))
        && params
            .changed_since
            .as_ref()
            .is_none_or(|since| task.updated_at >= since.parse().unwrap())
}

/// All of it, in order.
fn expected(tasks: &[Known], params: &ListParams, principal: &Principal) -> Vec<Task> {
    let rank = |task: &Task| match task.priority {
        Priority::High => 3,
        Priority::Medium => 2,
        _ => 1,
    };
    let sort = params.sort.as_deref().unwrap();
    let key = |task: &Task| match sort.trim_start_matches('-') {
        "created_at" => task.created_at.unix_millis(),
        "updated_at" => task.updated_at.unix_millis(),
        _ => rank(task),
    };
    let tasks = tasks.iter().map(|(task, _)| task);
    let mut listed: Vec<_> =
        tasks.filter(|task| belongs(task, params, principal)).cloned().collect();
    listed.sort_by_key(|task| (key(task), task.id));
    if sort.starts_with('-') {
        listed.reverse();
    }
    listed
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

impl Bench {
    fn list(&self, params: &ListParams, principal: &Principal) -> TaskPage {
        let query = params.clone().into_query(principal.clone()).unwrap();
        run(self.store.list(query)).unwrap()
    }

    /// All pages, with something done between them.
    fn pages(
        &mut self,
        params: &ListParams,
        principal: &Principal,
        mut between: impl FnMut(&mut Self),
    ) -> Vec<Task> {
        let (mut all, mut params, mut first) = (Vec::new(), params.clone(), None);
        loop {
            let page = self.list(&params, principal);
            assert_eq!(*first.get_or_insert(page.cursor.clone()), page.cursor);
            assert!(page.tasks.len() as u64 <= params.limit.unwrap());
            all.extend(page.tasks);
            params.page = page.next;
            if params.page.is_none() {
                return all;
            }
            between(self);
        }
    }

    /// Makes the tasks, a few of them at each time, and changes some.
    fn with_tasks(tasks: Vec<NewTask>, patched: &[usize]) -> (Self, Vec<Known>) {
        let mut bench = Self::new();
        let mut known = Vec::new();
        for (at, task) in (0..).zip(tasks) {
            bench.set_clock(at / 2);
            let create = Operation::Create { task }.into_change();
            let made = bench.make(vec![create]).remove(0).unwrap();
            known.push((Task::clone(&made.task), bench.store.head()));
        }
        for &which in patched {
            let Some((id, before)) = known.get(which).map(|(task, _)| (task.id, task.clone()))
            else {
                continue;
            };
            bench.set_clock(8);
            let change = retitle(id, &format!("{} again", before.title), None);
            let changed = bench.make(vec![change]).remove(0).unwrap();
            known[which] = (Task::clone(&changed.task), bench.store.head());
        }
        (bench, known)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn all_pages_together_are_what_memory_says(
        tasks in prop::collection::vec(any_task(), 0..12),
        patched in prop::collection::vec(0..12_usize, 0..4),
        lists in prop::collection::vec((any_params(), principals()), 12),
    ) {
        let (mut bench, known) = Bench::with_tasks(tasks, &patched);
        for (params, principal) in lists {
            let listed = bench.pages(&params, &principal, |_| ());
            prop_assert_eq!(listed, expected(&known, &params, &principal), "{:?}", params);
        }
    }

    #[test]
    fn no_task_comes_twice_while_others_change_them(
        tasks in prop::collection::vec(any_task(), 4..12),
        params in any_params(),
        touched in prop::collection::vec(0..12_usize, 12),
        new in any_task(),
    ) {
        let (mut bench, known) = Bench::with_tasks(tasks, &[]);
        let before = expected(&known, &params, &Principal::anonymous());
        let (mut touched, mut changed) = (touched.into_iter(), Vec::new());
        let listed = bench.pages(&params, &Principal::anonymous(), |bench| {
            // Not for ever: where new tasks come last, so many more pages follow.
            let Some(which) = touched.next() else { return };
            bench.set_clock(100);
            bench.make(vec![Operation::Create { task: new.clone() }.into_change()]);
            if let Some((task, _)) = known.get(which) {
                bench.make(vec![retitle(task.id, &Uuid::now_v7().to_string(), None)]);
                changed.push(task.id);
            }
        });
        let mut ids: Vec<_> = listed.iter().map(|task| task.id).collect();
        // Whatever nobody has touched in the meantime is there, once.
        for task in before.iter().filter(|task| !changed.contains(&task.id)) {
            prop_assert!(ids.contains(&task.id), "{} is missing", task.id);
        }
        ids.sort();
        prop_assert!(ids.windows(2).all(|two| two[0] != two[1]), "{:?}", ids);
    }
}

#[test]
fn a_list_looks_at_so_many_rows_and_says_where_it_goes_on() {
    let mut bench = Bench::new();
    // One task in thousands has the tag, and no index knows of tags.
    let sql = "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 24999) \
               INSERT INTO task SELECT printf('00000000-0000-7000-8000-%012x', n), 0, 'acme/api', \
               'One', 'pending', 'low', NULL, CASE n % 12000 WHEN 11999 THEN '[\"rare\"]' ELSE '[]' END, \
               n, n, 1, '', NULL FROM n";
    bench.writer.conn.execute_batch(sql).unwrap();
    for sort in ["created_at", "-updated_at", "priority"] {
        let params = ListParams {
            tag: vec!["rare".into()],
            sort: Some(sort.into()),
            limit: Some(100),
            ..ListParams::default()
        };
        let mut pages = 0;
        let listed = bench.pages(&params, &Principal::anonymous(), |_| pages += 1);
        assert_eq!((listed.len(), pages), (2, 2), "{sort}");
    }
    // Few rows are of one person, so they are found at once.
    bench
        .writer
        .conn
        .execute("UPDATE task SET assignee = 'ana' WHERE created_at = 24999", [])
        .unwrap();
    let params = ListParams {
        assignee: vec!["ana".into()],
        sort: Some("priority".into()),
        limit: Some(1),
        ..ListParams::default()
    };
    let page = bench.list(&params, &Principal::anonymous());
    assert_eq!((page.tasks.len(), page.next), (1, None));
}

#[test]
fn what_changes_while_a_list_is_read_is_left_out_only_where_it_moves() {
    let tasks = (0..3).map(|_| new_task("acme/api")).collect();
    for (sort, all) in
        [("created_at", true), ("-created_at", true), ("updated_at", false), ("-priority", false)]
    {
        let (mut bench, known) = Bench::with_tasks(Clone::clone(&tasks), &[]);
        let params =
            ListParams { sort: Some(sort.into()), limit: Some(1), ..ListParams::default() };
        let page = bench.list(&params, &Principal::anonymous());
        let other = known.iter().find(|(task, _)| task.id != page.tasks[0].id).unwrap().0.id;
        bench.make(vec![retitle(other, "Two", None)]);
        let params = ListParams { page: page.next, ..params };
        let rest = bench.pages(&params, &Principal::anonymous(), |_| ());
        assert_eq!(rest.iter().any(|task| task.id == other), all, "{sort}");
        assert_eq!(rest.len(), if all { 2 } else { 1 }, "{sort}");
    }
}

/// Where each page of a list goes on.
fn places(bench: &Bench, mut params: ListParams, principal: &Principal) -> (usize, Vec<String>) {
    let (mut listed, mut places) = (0, Vec::new());
    loop {
        let page = bench.list(&params, principal);
        listed += page.tasks.len();
        let Some(place) = page.next else { return (listed, places) };
        places.push(place.clone());
        params.page = Some(place);
    }
}

#[test]
fn where_a_list_goes_on_names_no_task_that_may_not_be_read() {
    let ann = Principal::new("ann").reading(["acme/*".parse().unwrap()]);
    let task = |n: usize| NewTask {
        status: if n < 8 { Status::Pending } else { Status::Completed },
        ..new_task(if n.is_multiple_of(2) || n > 7 { "acme/api" } else { "secret" })
    };
    // By the status, which fewer tasks have than there are in what may be read.
    let (bench, known) = Bench::with_tasks((0..16).map(task).collect(), &[]);
    let secret =
        known.iter().map(|(task, _)| task).filter(|task| task.repository.as_str() == "secret");
    let secret: Vec<_> = secret.map(|task| task.id.simple().to_string()).collect();
    assert_eq!(secret.len(), 4);
    for (sort, _) in crate::list::Sort::ALL {
        let params = ListParams {
            status: vec!["pending".into()],
            sort: Some(sort.into()),
            limit: Some(1),
            ..ListParams::default()
        };
        let (listed, places) = places(&bench, params, &ann);
        assert_eq!((listed, places.len()), (4, 3), "{sort}");
        let named = |place: &String| secret.iter().any(|id| place.contains(id));
        assert!(!places.iter().any(named), "{sort}: {places:?}");
    }

    // In an order, where there is much of both.
    let bench = Bench::new();
    let sql = "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 34999) \
               INSERT INTO task SELECT printf('%08x-0000-7000-8000-%012x', n, \
                   CASE WHEN n BETWEEN 9999 AND 22000 THEN 2748 ELSE 7 END), 0, \
               CASE WHEN n BETWEEN 9999 AND 22000 THEN 'secret' ELSE 'acme/api' END, \
               'One', 'pending', 'low', NULL, '[]', n, n, 1, '', NULL FROM n";
    bench.writer.conn.execute_batch(sql).unwrap();
    for (sort, _) in crate::list::Sort::ALL {
        let params =
            ListParams { sort: Some(sort.into()), limit: Some(1000), ..ListParams::default() };
        let (listed, places) = places(&bench, params, &ann);
        assert_eq!(listed, 35_000 - 12_002, "{sort}");
        assert!(!places.iter().any(|place| place.ends_with("abc")), "{sort}: {places:?}");
    }
}
