//! What the server keeps of a task's past.

use serde_json::Value;
use taskwatch_client::http::Request;
use taskwatch_client::protocol::{ServerFrame, ServerMessage};
use taskwatch_client::{Bytes, Client};
use uuid::Uuid;

use super::Moment;
use super::entry::Change;

/// Changes that are asked for at once: as many as a server gives.
const PAGE: usize = 1_000;
/// Pages that are read of one task, so that no server keeps the board busy for ever.
const PAGES: usize = 10;

/// Asks what happened to a task. What went wrong is told in words, since the board goes on without.
pub(super) async fn fetch(client: Client, id: Uuid, now: Moment) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    let mut next = None;
    for _ in 0..PAGES {
        let body = ask(&client, id, next.as_deref()).await?;
        let page: Value = serde_json::from_slice(&body).map_err(|_| no_history())?;
        changes.extend(page_changes(&page, &now).ok_or_else(no_history)?);
        match page["next"].as_str() {
            Some(page) => next = Some(page.to_owned()),
            None => return Ok(changes),
        }
    }
    Err(format!("there are more than {} changes", PAGE * PAGES))
}

async fn ask(client: &Client, id: Uuid, page: Option<&str>) -> Result<Bytes, String> {
    let mut path = format!("/api/v1/tasks/{id}/events?limit={PAGE}");
    if let Some(page) = page {
        path.push_str("&page=");
        path.push_str(page);
    }
    let request = Request::get(path).body(Bytes::new()).map_err(|_| no_history())?;
    let answer = client.request(request).await.map_err(|error| error.to_string())?;
    Ok(answer.into_body())
}

/// The changes of a page; those that a newer server knows are left out.
fn page_changes(page: &Value, now: &Moment) -> Option<Vec<Change>> {
    let frames = page["events"].as_array()?;
    let change = |frame: &Value| {
        let frame = ServerFrame::decode(&frame.to_string()).ok()?;
        match frame.message {
            ServerMessage::Task(event) => Some(Change::new(&event, frame.timestamp, false, now)),
            _ => None,
        }
    };
    Some(frames.iter().filter_map(change).collect())
}

fn no_history() -> String {
    "the server's answer is no history".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::board::story;

    #[test]
    fn a_page_is_what_changes_it_holds() {
        let page = json!({"events": [
            story::created_frame("Water the plants"),
            {"type": "task.watered", "data": {}},
        ], "next": null});
        let changes = page_changes(&page, &story::moment(0)).unwrap();
        let texts: Vec<_> = changes.iter().map(|change| (&*change.title, &*change.by)).collect();
        assert_eq!(texts, [("Water the plants", "ana")]);
        assert_eq!(page_changes(&json!({"tasks": []}), &story::moment(0)), None);
    }
}
