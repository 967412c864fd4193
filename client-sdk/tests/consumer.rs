//! How a program tests its own consumer of events: one that is right, and one with a mistake that only
//! a gap brings to light. Both go through the same check.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use taskwatch_client::protocol::FieldChange;
use taskwatch_client::testing::{TestHub, task};
use taskwatch_client::{
    CloseCode, OnGap, RepositoryName, Snapshot, Status, Task, TaskChange, Update,
};

/// How many tasks are open in each repository. The program that is tested.
#[derive(Debug, Default, PartialEq)]
struct OpenTasks(BTreeMap<RepositoryName, i64>);

impl OpenTasks {
    fn of(tasks: &[Task]) -> Self {
        let mut open = Self::default();
        for task in tasks {
            open.add(task, is_open(&task.status));
        }
        open
    }

    fn add(&mut self, task: &Task, difference: i64) {
        let open = self.0.entry(task.repository.clone()).or_default();
        *open += difference;
        if *open == 0 {
            self.0.remove(&task.repository);
        }
    }

    /// A change counts from what was before to what is now.
    fn count(&mut self, change: &TaskChange) {
        match change {
            TaskChange::Created { task } => self.add(task, is_open(&task.status)),
            TaskChange::Deleted { previous } => self.add(previous, -is_open(&previous.status)),
            TaskChange::Updated { task, changes } => {
                if let Some(FieldChange { from: Some(from), .. }) = changes.get("status") {
                    let before = Status::from(from.as_str().unwrap());
                    self.add(task, is_open(&task.status) - is_open(&before));
                }
            }
        }
    }

    fn replace(&mut self, state: &Snapshot) {
        *self = Self::of(&state.tasks);
    }
}

fn is_open(status: &Status) -> i64 {
    i64::from(matches!(status, Status::Pending | Status::InProgress))
}

/// What is done with an update.
trait Consumer: Default + Send + 'static {
    fn take(&mut self, update: Update);
    fn open(&self) -> &OpenTasks;
}

/// Every state that comes stands in place of all that was known.
#[derive(Default)]
struct Right(OpenTasks);

impl Consumer for Right {
    fn take(&mut self, update: Update) {
        match update {
            Update::Event(event) => self.0.count(&event.change),
            Update::Snapshot(state) => self.0.replace(&state),
            _ => {}
        }
    }

    fn open(&self) -> &OpenTasks {
        &self.0
    }
}

/// The state comes once, it thinks, and then there are events. That is so until there is a gap.
#[derive(Default)]
struct Wrong {
    open: OpenTasks,
    has_state: bool,
}

impl Consumer for Wrong {
    fn take(&mut self, update: Update) {
        match update {
            Update::Event(event) => self.open.count(&event.change),
            Update::Snapshot(state) if !self.has_state => {
                self.open.replace(&state);
                self.has_state = true;
            }
            _ => {}
        }
    }

    fn open(&self) -> &OpenTasks {
        &self.open
    }
}

/// Lets a consumer follow a hub while tasks change and something goes wrong. Tells what it has counted
/// in the end, if that is not what is there.
async fn check<C: Consumer>(fault: fn(&TestHub)) -> Result<(), String> {
    let hub = TestHub::new();
    let [plants, dishes, letter] = ["plants", "dishes", "letter"].map(|title| task("home", title));
    for task in [&plants, &dishes] {
        hub.create(task.clone());
    }
    let client = hub.client().build().unwrap();
    let events = client.subscribe(["*"]).unwrap().snapshot().on_gap(OnGap::Snapshot);
    let consumer = Arc::new(Mutex::new(C::default()));
    let mut updates = events.updates();
    let follows = Arc::clone(&consumer);
    tokio::spawn(async move {
        while let Some(update) = updates.next().await {
            follows.lock().unwrap().take(update.unwrap());
        }
    });
    hub.settled(1).await;

    // What the consumer has not been sent when it happens, and what comes later.
    hub.update(plants.id, |task| task.status = Status::Completed);
    hub.create(letter.clone());
    hub.create(task("office", "slides"));
    fault(&hub);
    hub.delete(dishes.id);
    hub.settled(1).await;
    hub.update(letter.id, |task| task.status = Status::InProgress);
    hub.create(task("office", "report"));
    hub.settled(1).await;

    let (counted, there) = (consumer.lock().unwrap(), OpenTasks::of(&hub.tasks()));
    if *counted.open() == there {
        Ok(())
    } else {
        Err(format!("{:?}, not {there:?}", counted.open()))
    }
}

/// What the SDK hides.
const HIDDEN: [fn(&TestHub); 8] = [
    |_| {},
    TestHub::cut,
    |hub| hub.cut_after(1),
    |hub| hub.lose(1),
    |hub| hub.delay(Duration::from_secs(2)),
    |hub| hub.drain(Duration::from_secs(3)),
    |hub| hub.close(CloseCode::Rebalance),
    |hub| {
        hub.half_open();
        hub.heal();
    },
];

/// What nobody can hide.
const GAPS: [fn(&TestHub); 2] = [TestHub::expire, TestHub::new_incarnation];

#[tokio::test(start_paused = true)]
async fn the_right_one_counts_right_whatever_happens() {
    for fault in HIDDEN.into_iter().chain(GAPS) {
        assert_eq!(check::<Right>(fault).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_wrong_one_counts_right_until_there_is_a_gap() {
    for fault in HIDDEN {
        assert_eq!(check::<Wrong>(fault).await, Ok(()));
    }
    for fault in GAPS {
        check::<Wrong>(fault).await.unwrap_err();
    }
}
