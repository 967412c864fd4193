//! Who wants to be told of tasks and repositories, as revisions from 2026-07-28 do it: one request whose
//! answer is a stream.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::SubscriptionFilter;
use rmcp::service::SubscriptionContext;
use serde::Deserialize;
use taskwatch_protocol::{Pattern, RepositoryName};
use taskwatch_server::{Changes, ChangesError, ChangesRequest, LogEvent};
use uuid::Uuid;

use super::Asker;
use super::resources::{Named, unavailable};

/// Resources of one subscription; the rest is not accepted.
const MAX_RESOURCES: usize = 100;
/// How long one look at the log waits.
const TURN: Duration = Duration::from_secs(60);

/// A resource that somebody wants to be told of, by the name they gave it.
#[derive(Debug)]
struct Wanted {
    uri: String,
    named: Named,
    /// `None`: there is no such task, or it may not be read.
    repository: Option<RepositoryName>,
}

/// What some events are about.
#[derive(Debug, Default)]
struct Touched {
    repositories: HashSet<RepositoryName>,
    tasks: HashSet<Uuid>,
}

impl FromIterator<LogEvent> for Touched {
    fn from_iter<I: IntoIterator<Item = LogEvent>>(events: I) -> Self {
        #[derive(Deserialize)]
        struct Envelope {
            data: About,
        }
        #[derive(Deserialize)]
        struct About {
            task_id: Uuid,
        }
        let mut touched = Self::default();
        for event in events {
            touched.repositories.insert(event.repository().clone());
            if let Ok(Envelope { data }) = serde_json::from_slice(event.envelope()) {
                touched.tasks.insert(data.task_id);
            }
        }
        touched
    }
}

impl Touched {
    fn holds(&self, named: &Named) -> bool {
        match named {
            Named::Task(id) => self.tasks.contains(id),
            Named::Repository(name) => self.repositories.contains(name),
        }
    }
}

impl Asker {
    /// What is told of: whatever is a name of a task, or of a repository that may be read. Whether
    /// there is such a task is not said here.
    pub(super) fn accepted(&self, requested: &SubscriptionFilter) -> SubscriptionFilter {
        let named = |uri: &&String| match uri.parse() {
            Ok(Named::Task(_)) => true,
            Ok(Named::Repository(name)) => self.caller.principal.may_read(&name),
            Err(()) => false,
        };
        let uris = requested.resource_subscriptions.iter().flatten();
        let uris: Vec<_> = uris.filter(named).take(MAX_RESOURCES).cloned().collect();
        SubscriptionFilter::builder().resource_subscriptions(uris).build()
    }

    /// Tells of changes until the client hangs up, the server stops, or the client may do something
    /// else than before.
    pub(super) async fn tell(&self, context: &SubscriptionContext) -> Result<(), ErrorData> {
        tokio::select! {
            told = self.tell_for_ever(context) => told,
            () = context.cancelled() => Ok(()),
            () = self.mcp.stop.cancelled() => Ok(()),
        }
    }

    async fn tell_for_ever(&self, context: &SubscriptionContext) -> Result<(), ErrorData> {
        let wanted = self.wanted(context).await?;
        // A task may have gone while its client came.
        let missing = wanted.iter().filter(|wanted| wanted.repository.is_none()).collect();
        if !say(context, missing).await {
            return Ok(());
        }
        let named: BTreeSet<_> =
            wanted.iter().filter_map(|wanted| wanted.repository.clone()).collect();
        let mut repositories: Vec<_> = named.into_iter().map(Pattern::Exact).collect();
        let mut types = None;
        if repositories.is_empty() {
            // Nothing will be told. They wait like everybody else, and take one of their places.
            repositories.extend(self.caller.principal.readable().first().cloned());
            types = Some(vec![]);
        }
        if repositories.is_empty() {
            return Ok(());
        }
        let mut since = Some(self.since.clone());
        while self.is_the_same().await {
            let request = ChangesRequest {
                repositories: repositories.clone(),
                since: since.clone(),
                types: types.clone(),
                wait: TURN,
            };
            let touched: Vec<&Wanted> =
                match self.mcp.hub.changes(self.caller.principal.clone(), request).await {
                    Ok(Changes { events, cursor }) => {
                        since = Some(cursor);
                        let touched = Touched::from_iter(events);
                        wanted.iter().filter(|wanted| touched.holds(&wanted.named)).collect()
                    }
                    Err(ChangesError::Reset(_)) => {
                        // Anything may have happened, and more may while it is told.
                        since = Some(self.mcp.service.position());
                        wanted.iter().collect()
                    }
                    Err(ChangesError::AccessChanged) => continue,
                    Err(ChangesError::Restart { .. } | ChangesError::Unauthorized) => break,
                    Err(error) => return Err(ErrorData::internal_error(error.to_string(), None)),
                };
            if !say(context, touched).await {
                break;
            }
        }
        Ok(())
    }

    async fn wanted(&self, context: &SubscriptionContext) -> Result<Vec<Wanted>, ErrorData> {
        let mut all = Vec::new();
        for uri in context.accepted().resource_subscriptions.iter().flatten() {
            let Ok(named) = uri.parse() else { continue };
            let repository = match &named {
                Named::Repository(name) => Some(name.clone()),
                Named::Task(id) => {
                    let task = self.mcp.service.get(&self.caller.principal, *id).await;
                    task.map_err(unavailable)?.map(|task| task.repository)
                }
            };
            all.push(Wanted { uri: uri.clone(), named, repository });
        }
        Ok(all)
    }
}

/// Says that these may have changed; false when nobody listens any more.
async fn say(context: &SubscriptionContext, touched: Vec<&Wanted>) -> bool {
    for wanted in touched {
        if context.sink().notify_resource_updated(&*wanted.uri).await.is_err() {
            return false;
        }
    }
    true
}
