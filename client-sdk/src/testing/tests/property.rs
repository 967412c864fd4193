//! Whatever changes and whatever goes wrong: each event comes once and in order, or a gap is told, and
//! what is held in the end is what the hub holds.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use proptest::prelude::*;
use taskwatch_protocol::Position;
use tokio::time::{sleep, timeout};

use super::*;
use crate::Tasks;

const REPOSITORIES: [&str; 3] = ["a/x", "a/y", "b"];
const WATCHED: [&str; 2] = ["a/*", "b"];

#[derive(Clone, Copy, Debug)]
enum Act {
    Change(u16),
    /// Time passes, in milliseconds.
    Pass(u64),
    /// The caller takes so many updates.
    Take(usize),
    Cut,
    CutAfter(u64),
    Delay(u64),
    HalfOpen,
    Heal,
    Expire,
    Drain(u64),
    NewIncarnation,
    Refuse(u64),
    /// With nothing else that goes wrong before the next count: what a connection has lost is forgotten with
    /// it.
    Lose(u64),
    Close(CloseCode),
    Deny(bool),
    Sleep,
}

fn act() -> impl Strategy<Value = Act> {
    let code = prop_oneof![
        Just(CloseCode::Internal),
        Just(CloseCode::Slow),
        Just(CloseCode::Rebalance),
        Just(CloseCode::InsufficientState),
    ];
    prop_oneof![
        16 => any::<u16>().prop_map(Act::Change),
        4 => (0..60_000_u64).prop_map(Act::Pass),
        4 => (0..9_usize).prop_map(Act::Take),
        2 => Just(Act::Cut),
        2 => (0..12_u64).prop_map(Act::CutAfter),
        1 => (0..20_000_u64).prop_map(Act::Delay),
        1 => Just(Act::HalfOpen),
        2 => Just(Act::Heal),
        1 => Just(Act::Expire),
        1 => (0..20_000_u64).prop_map(Act::Drain),
        1 => Just(Act::NewIncarnation),
        1 => (0..4_u64).prop_map(Act::Refuse),
        1 => (0..4_u64).prop_map(Act::Lose),
        1 => code.prop_map(Act::Close),
        1 => any::<bool>().prop_map(Act::Deny),
        1 => Just(Act::Sleep),
    ]
}

/// In the order of the log, from one of its lives to the next.
type Place = (u64, u64);

fn place(cursor: &Cursor) -> Place {
    let Position { incarnation, seq } = Position::try_from(cursor).unwrap();
    (incarnation.0, seq)
}

/// A hub, and one who follows it.
struct Scene {
    hub: TestHub,
    updates: Updates,
    /// Everything that has happened.
    happened: BTreeMap<Place, TaskEvent>,
    /// What was told of it.
    told: BTreeMap<Place, TaskEvent>,
    /// What was told to be lost: after the first place, up to the second.
    gaps: Vec<(Place, Place)>,
    newest: Place,
    may_come_late: bool,
    tasks: Tasks,
}

impl Scene {
    async fn new(on_gap: OnGap) -> Self {
        let hub = TestHub::new();
        let events = client(&hub).subscribe(WATCHED).unwrap().on_gap(on_gap);
        let events = if on_gap == OnGap::Snapshot { events.snapshot() } else { events };
        let mut updates = events.updates();
        updates.ready().await.unwrap();
        Self {
            hub,
            updates,
            happened: BTreeMap::new(),
            told: BTreeMap::new(),
            gaps: Vec::new(),
            newest: (0, 0),
            may_come_late: false,
            tasks: Tasks::default(),
        }
    }

    /// Makes, changes or deletes a task.
    fn change(&mut self, draw: u16) {
        let tasks = self.hub.tasks();
        let some = tasks.get(usize::from(draw / 8) % tasks.len().max(1)).cloned();
        let event = match (draw % 8, some) {
            (0..=3, Some(before)) => {
                let version = before.version + 1;
                let after = Task { version, title: version.to_string(), ..before.clone() };
                TaskEvent::updated(&before, after, "test")
            }
            (4, Some(task)) => TaskEvent::deleted(task, "test"),
            _ => TaskEvent::created(task(REPOSITORIES[usize::from(draw) % 3], "new"), "test"),
        };
        let cursor = self.hub.publish(event.clone());
        self.happened.insert(place(&cursor), event);
    }

    async fn act(&mut self, act: Act) {
        let hub = &self.hub;
        match act {
            Act::Change(draw) => self.change(draw),
            Act::Pass(millis) => sleep(Duration::from_millis(millis)).await,
            Act::Take(updates) => self.take(updates).await,
            Act::Cut => hub.cut(),
            Act::CutAfter(frames) => hub.cut_after(frames),
            Act::Delay(millis) => hub.delay(Duration::from_millis(millis)),
            Act::HalfOpen => hub.half_open(),
            Act::Heal => hub.heal(),
            Act::Expire => hub.expire(),
            Act::Drain(millis) => hub.drain(Duration::from_millis(millis)),
            Act::NewIncarnation => hub.new_incarnation(),
            Act::Refuse(attempts) => hub.refuse(attempts),
            Act::Lose(events) => {
                self.may_come_late = true;
                hub.heal();
                hub.lose(events);
                for draw in 0..3 {
                    self.change(draw);
                }
                self.hub.settled(1).await;
                self.hub.heal();
            }
            Act::Close(code) => hub.close(code),
            Act::Deny(true) => hub.deny("b"),
            Act::Deny(false) => hub.allow("b"),
            Act::Sleep => hub.sleep_computer(Duration::from_secs(600)),
        }
    }

    /// Takes so many updates, if there are so many.
    async fn take(&mut self, updates: usize) {
        for _ in 0..updates {
            let next = timeout(Duration::from_millis(1), self.updates.next()).await;
            let Ok(next) = next else { return };
            self.hear(next.unwrap().unwrap());
        }
    }

    fn hear(&mut self, update: Update) {
        match &update {
            Update::Event(event) => {
                let at = place(&event.cursor);
                assert!(at > self.newest || self.may_come_late, "{at:?} after {:?}", self.newest);
                self.newest = self.newest.max(at);
                assert_eq!(self.told.insert(at, event.event.clone()), None, "{at:?} comes twice");
            }
            Update::Gap(gap) => {
                let since = gap.since.as_ref().map_or((0, 0), place);
                let upto = gap.cursor.as_ref().map_or((u64::MAX, 0), place);
                self.gaps.push((since, upto));
            }
            _ => {}
        }
        self.tasks.apply(update);
    }

    /// All is well again, and everything is taken.
    async fn end(&mut self) {
        self.hub.heal();
        self.hub.allow("b");
        self.hub.settled(1).await;
        self.take(usize::MAX).await;
    }
}

fn play(on_gap: OnGap, acts: Vec<Act>) -> Scene {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut scene = Scene::new(on_gap).await;
        for act in acts {
            scene.act(act).await;
        }
        scene.end().await;
        scene
    })
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(act(), 1..60)
}

proptest! {
    #[test]
    fn every_event_comes_once_or_a_gap_is_told(acts in acts()) {
        // What happens while it may not be read is not told.
        let acts = acts.into_iter().filter(|act| !matches!(act, Act::Deny(_))).collect();
        let scene = play(OnGap::Live, acts);
        for (at, event) in &scene.happened {
            match scene.told.get(at) {
                Some(told) => prop_assert_eq!(told, event),
                None => {
                    let is_told = |(since, upto): &(Place, Place)| since < at && at <= upto;
                    prop_assert!(scene.gaps.iter().any(is_told), "{:?} is missing", at);
                }
            }
        }
        prop_assert!(scene.told.len() <= scene.happened.len());
    }

    #[test]
    fn what_is_held_in_the_end_is_what_the_hub_holds(acts in acts()) {
        let scene = play(OnGap::Snapshot, acts);
        let held: Vec<Task> = scene.tasks.iter().map(|task| Task::clone(task)).collect();
        prop_assert_eq!(held, scene.hub.tasks());
    }
}
