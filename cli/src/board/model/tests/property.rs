//! Random stories: nothing confuses the board, and it shows what is there.

use proptest::prelude::*;

use super::*;

/// A step of a random story.
#[derive(Clone, Debug)]
enum Step {
    Key(KeyEvent),
    Change { task: usize, draw: u8 },
    Link(u8),
    Snapshot,
    Time(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let keys = "hjklgG/?q zacme".chars().map(KeyCode::Char);
    let codes: Vec<KeyCode> = keys
        .chain([
            KeyCode::Enter,
            KeyCode::Esc,
            KeyCode::Backspace,
            KeyCode::PageUp,
            KeyCode::PageDown,
            KeyCode::Home,
            KeyCode::End,
            KeyCode::Left,
            KeyCode::Right,
        ])
        .collect();
    let key = prop::sample::select(codes).prop_map(|code| KeyEvent::new(code, KeyModifiers::NONE));
    prop_oneof![
        4 => key.prop_map(Step::Key),
        6 => (0..12_usize, any::<u8>()).prop_map(|(task, draw)| Step::Change { task, draw }),
        1 => any::<u8>().prop_map(Step::Link),
        1 => Just(Step::Snapshot),
        1 => (0..5_000_u64).prop_map(Step::Time),
    ]
}

/// The server's side of a story: its tasks, by their numbers.
#[derive(Default)]
struct World {
    tasks: HashMap<usize, Task>,
    made: u32,
    millis: u64,
}

impl World {
    fn change(&mut self, number: usize, draw: u8) -> Update {
        self.millis += 1;
        let statuses = ["pending", "in_progress", "completed", "cancelled", "on_hold", "a\u{9b}b"];
        let status = statuses[usize::from(draw / 4) % statuses.len()];
        match self.tasks.get(&number).cloned() {
            Some(task) if draw.is_multiple_of(4) => {
                self.tasks.remove(&number);
                deleted(&task, self.millis)
            }
            Some(task) => {
                let update = changed(&task, self.millis, |task| task.status = status.into());
                let Update::Event(event) = &update else { panic!("{update:?}") };
                self.tasks.insert(number, event.task().clone());
                update
            }
            None => {
                self.made += 1;
                let new = task(self.made, &format!("Acme {}", self.made), status, 0);
                self.tasks.insert(number, new.clone());
                created(&new, self.millis)
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_confuses_the_board(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::default();
        let mut model = present(&[]);
        for step in steps {
            let selected = model.selected;
            match step {
                Step::Key(key) => _ = model.key(key),
                Step::Change { task, draw } => {
                    let update = world.change(task, draw);
                    let id = match &update {
                        Update::Event(event) => event.task_id,
                        other => panic!("{other:?}"),
                    };
                    model.update(update, &moment(world.millis));
                    if selected.is_some_and(|selected| selected != id) {
                        prop_assert_eq!(model.selected, selected);
                    }
                }
                Step::Link(draw) => {
                    let update = match draw % 4 {
                        0 => interrupted(u64::from(draw) * 20),
                        1 => connected(true),
                        2 => Update::CaughtUp { replayed: 3, away: Duration::from_secs(1) },
                        _ => Update::Parked,
                    };
                    model.update(update, &moment(world.millis));
                    prop_assert_eq!(model.selected, selected);
                }
                Step::Snapshot => {
                    let tasks: Vec<_> = world.tasks.values().cloned().collect();
                    model.update(snapshot(&tasks), &moment(world.millis));
                    prop_assert_eq!(model.selected, selected, "the same tasks as before");
                }
                Step::Time(millis) => {
                    world.millis += millis;
                    model.expire(&moment(world.millis));
                }
            }
            check(&model, &world)?;
        }
    }
}

/// What must hold whatever happened.
fn check(model: &Model, world: &World) -> Result<(), TestCaseError> {
    prop_assert_eq!(model.tasks.len(), world.tasks.len());
    let total: usize = model.columns.iter().map(|column| column.total).sum();
    prop_assert_eq!(total, world.tasks.len());
    for column in model.columns.iter() {
        for (_, id) in &column.places {
            prop_assert_eq!(&model.tasks.get(*id).unwrap().status, &column.status);
        }
        if model.columns.filter().is_empty() {
            prop_assert_eq!(column.total, column.places.len());
        }
    }
    let focused = model.columns.get(model.focused()).unwrap();
    if let Some(task) = model.selected_task() {
        prop_assert!(focused.row(&task).is_some(), "what is selected is shown, where the keys are");
    } else {
        prop_assert_eq!(model.selected, None);
    }
    if let Some(due) = model.due(&moment(world.millis)) {
        let marks = model.marks.values().any(|mark| mark.until <= moment(world.millis).elapsed);
        prop_assert!(marks || due > moment(world.millis).elapsed || model.notice().is_some());
    }
    Ok(())
}
