//! Which events are shown, of those that came. Pure.

use serde_json::Value;
use taskwatch_client::protocol::{Changes, EventKind, Status, Task, TaskChange, TaskEvent};

/// What a task must be like. A list that is empty asks for nothing; of a list that is not, one is
/// enough.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Kinds of events.
    pub(crate) kinds: Vec<EventKind>,
    pub(crate) statuses: Vec<Status>,
    pub(crate) assignees: Vec<String>,
    pub(crate) tags: Vec<String>,
    /// Texts, in small letters, in the title or the description.
    pub(crate) texts: Vec<String>,
}

impl Filter {
    /// Whether everything is shown.
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.asks_nothing_of_tasks()
    }

    fn asks_nothing_of_tasks(&self) -> bool {
        let Self { kinds: _, statuses, assignees, tags, texts } = self;
        statuses.is_empty() && assignees.is_empty() && tags.is_empty() && texts.is_empty()
    }

    /// Whether the task, or the state it left, is like that. Who waits for a task to be done must
    /// see it go.
    pub(crate) fn shows(&self, event: &TaskEvent) -> bool {
        if !self.kinds.is_empty() && !self.kinds.contains(&event.kind()) {
            return false;
        }
        if self.asks_nothing_of_tasks() || self.shows_task(event.task()) {
            return true;
        }
        match &event.change {
            TaskChange::Updated { task, changes } => self.fits(&State::before(task, changes)),
            _ => false,
        }
    }

    /// Whether a task is like that.
    pub(crate) fn shows_task(&self, task: &Task) -> bool {
        self.fits(&State::of(task))
    }

    fn fits(&self, state: &State<'_>) -> bool {
        let State { status, assignee, tags, title, description } = state;
        let has_text = |text: &String| {
            [title, description].into_iter().any(|known| known.is_none_or(|it| contains(it, text)))
        };
        one_of(&self.statuses, status.as_ref(), |wanted, is| wanted.as_str() == *is)
            && one_of(&self.assignees, assignee.as_ref(), |wanted, is| wanted == is)
            && one_of(&self.tags, tags.as_ref(), |wanted, are| are.contains(&wanted.as_str()))
            && (self.texts.is_empty() || self.texts.iter().any(has_text))
    }
}

/// What is known of a task at one time. What is not known is taken to fit: a line too many costs
/// less than one that is missing.
struct State<'a> {
    status: Option<&'a str>,
    /// The name of nobody is empty.
    assignee: Option<&'a str>,
    tags: Option<Vec<&'a str>>,
    title: Option<&'a str>,
    description: Option<&'a str>,
}

impl<'a> State<'a> {
    fn of(task: &'a Task) -> Self {
        Self {
            status: Some(task.status.as_str()),
            assignee: Some(task.assignee.as_deref().unwrap_or_default()),
            tags: Some(task.tags.iter().map(String::as_str).collect()),
            title: Some(&task.title),
            description: Some(&task.description),
        }
    }

    /// Before an update that led to `task`. The server leaves out values that are long.
    fn before(task: &'a Task, changes: &'a Changes) -> Self {
        let mut state = Self::of(task);
        for (field, change) in changes.iter() {
            let was = change.from.as_ref();
            let text = || was.map(|was| was.as_str().unwrap_or_default());
            match field {
                "status" => state.status = text(),
                "assignee" => state.assignee = text(),
                "title" => state.title = text(),
                "description" => state.description = text(),
                "tags" => {
                    let texts = |was: &'a Value| was.as_array().into_iter().flatten();
                    state.tags = was.map(|was| texts(was).filter_map(Value::as_str).collect());
                }
                _ => {}
            }
        }
        state
    }
}

fn one_of<W, T>(wanted: &[W], known: Option<&T>, is: impl Fn(&W, &T) -> bool) -> bool {
    wanted.is_empty() || known.is_none_or(|known| wanted.iter().any(|wanted| is(wanted, known)))
}

/// Whether a text that is in small letters stands in another, in whichever letters.
fn contains(text: &str, small: &str) -> bool {
    text.to_lowercase().contains(small)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use taskwatch_client::protocol::{ServerFrame, ServerMessage};

    use super::*;

    fn event(kind: &str, fields: Value) -> TaskEvent {
        let id = "0192f0c1-2b3c-7def-8a9b-0c1d2e3f4a5b";
        let mut data =
            json!({"task_id": id, "repository": "foo", "version": 2, "changed_by": "ana"});
        data.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let envelope = json!({"type": format!("task.{kind}"), "data": data}).to_string();
        match ServerFrame::decode(&envelope).unwrap().message {
            ServerMessage::Task(event) => event,
            other => panic!("{other:?}"),
        }
    }

    /// Completed, of ana, with the tag `home`.
    fn task() -> Value {
        json!({
            "id": "0192f0c1-2b3c-7def-8a9b-0c1d2e3f4a5b", "repository": "foo",
            "title": "Water the Plants", "description": "twice", "status": "completed",
            "priority": "high", "assignee": "ana", "tags": ["home"], "version": 2,
            "created_at": "2026-11-22T14:03:22Z", "updated_at": "2026-11-22T14:03:22Z",
        })
    }

    fn updated(changes: Value) -> TaskEvent {
        event("updated", json!({"task": task(), "changes": changes}))
    }

    fn status(word: &str) -> Filter {
        Filter { statuses: vec![word.into()], ..Filter::default() }
    }

    fn grep(text: &str) -> Filter {
        Filter { texts: vec![text.to_owned()], ..Filter::default() }
    }

    #[test]
    fn the_task_or_the_state_it_left_is_enough() {
        let done = updated(json!({"status": {"from": "pending", "to": "completed"}}));
        assert!(status("completed").shows(&done) && status("pending").shows(&done));
        assert!(!status("cancelled").shows(&done));
        let renamed = updated(json!({"title": {"from": "Feed the CAT", "to": "Water the Plants"}}));
        for (text, shown) in [("cat", true), ("plants", true), ("twice", true), ("dog", false)] {
            assert_eq!(grep(text).shows(&renamed), shown, "{text}");
        }
        let tagged = updated(json!({"tags": {"from": ["work"], "to": ["home"]}}));
        for (tag, shown) in [("work", true), ("home", true), ("garden", false)] {
            let filter = Filter { tags: vec![tag.to_owned()], ..Filter::default() };
            assert_eq!(filter.shows(&tagged), shown, "{tag}");
        }
        let taken = updated(json!({"assignee": {"from": null, "to": "ana"}}));
        for (name, shown) in [("", true), ("ana", true), ("ben", false)] {
            let filter = Filter { assignees: vec![name.to_owned()], ..Filter::default() };
            assert_eq!(filter.shows(&taken), shown, "{name}");
        }
    }

    #[test]
    fn all_that_is_asked_must_hold_at_the_same_time() {
        let filter = Filter { assignees: vec!["ana".to_owned()], ..status("pending") };
        let both = json!({
            "status": {"from": "pending", "to": "completed"},
            "assignee": {"from": "ben", "to": "ana"},
        });
        assert!(!filter.shows(&updated(both)));
        let one = json!({"status": {"from": "pending", "to": "completed"}});
        assert!(filter.shows(&updated(one)));
        let either = Filter { statuses: vec!["pending".into(), "completed".into()], ..filter };
        assert!(either.shows(&updated(json!({}))));
    }

    #[test]
    fn what_the_server_left_out_is_shown() {
        let long = updated(json!({"description": {"truncated": true}}));
        assert!(grep("anything").shows(&long));
        assert!(!status("pending").shows(&long));
    }

    #[test]
    fn kinds_and_tasks_that_come_and_go() {
        let created = event("created", json!({"task": task()}));
        let deleted = event("deleted", json!({"previous": task()}));
        assert!(status("completed").shows(&created) && status("completed").shows(&deleted));
        assert!(!status("pending").shows(&created) && !status("pending").shows(&deleted));
        let filter = Filter { kinds: vec![EventKind::Deleted], ..Filter::default() };
        assert!(filter.shows(&deleted) && !filter.shows(&created) && !filter.is_empty());
        assert!(Filter::default().is_empty() && Filter::default().shows(&created));
    }
}
