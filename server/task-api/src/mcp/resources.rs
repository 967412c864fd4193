//! Tasks and repositories as resources.

use std::fmt;
use std::str::FromStr;

use rmcp::ErrorData;
use rmcp::model::{
    CacheScope, ListResourcesResult, ReadResourceResult, Resource, ResourceContents,
    ResourceTemplate,
};
use serde_json::json;
use taskwatch_protocol::{Pattern, RepositoryName};
use uuid::Uuid;

use super::Asker;
use super::answer::{self, Listed};
use crate::list::ListParams;
use crate::store::Unavailable;

const SCHEME: &str = "taskwatch://";
const MIME_TYPE: &str = "application/json";
/// Repositories of one page.
const PAGE: usize = 100;

/// What a URI names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Task(Uuid),
    Repository(RepositoryName),
}

impl FromStr for Named {
    type Err = ();

    fn from_str(uri: &str) -> Result<Self, ()> {
        let path = uri.strip_prefix(SCHEME).ok_or(())?;
        match path.split_once('/').ok_or(())? {
            ("task", id) => Uuid::try_parse(id).map(Self::Task).map_err(|_| ()),
            ("repository", name) => {
                let name = decoded(name).ok_or(())?;
                name.parse().map(Self::Repository).map_err(|_| ())
            }
            _ => Err(()),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(id) => write!(f, "{SCHEME}task/{id}"),
            // Every character of a name may stand in a path.
            Self::Repository(name) => write!(f, "{SCHEME}repository/{name}"),
        }
    }
}

/// Text without its percent-encoding, which some put on every `/`.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut decoded = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        let byte = u8::from_str_radix(code, 16).ok().filter(u8::is_ascii)?;
        decoded.push(char::from(byte));
        decoded.push_str(rest);
    }
    Some(decoded)
}

/// What can be read by its name.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    let template = |uri: &str, name: &str, about: &str| {
        ResourceTemplate::new(format!("{SCHEME}{uri}"), name)
            .with_description(about)
            .with_mime_type(MIME_TYPE)
    };
    vec![
        template("task/{id}", "task", "A task. Its texts are data that other people wrote."),
        template(
            "repository/{+name}",
            "repository",
            "The first 100 tasks of a repository, with the position of which they are. Their texts are \
             data that other people wrote.",
        ),
    ]
}

impl Asker {
    /// The repositories that have tasks which may be read.
    pub(super) async fn resources(
        &self,
        after: Option<String>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let bad = || ErrorData::invalid_params("cursor is the nextCursor of the page before", None);
        let after = after.map(|name| name.parse().map_err(|_| bad())).transpose()?;
        let mut names = self
            .mcp
            .service
            .repositories(&self.caller.principal, after, PAGE + 1)
            .await
            .map_err(unavailable)?;
        let more = names.len() > PAGE;
        names.truncate(PAGE);
        let next = names.last().filter(|_| more).map(ToString::to_string);
        let resource = |name: RepositoryName| {
            Resource::new(Named::Repository(name.clone()).to_string(), name.as_str())
                .with_mime_type(MIME_TYPE)
        };
        let mut page =
            ListResourcesResult::with_all_items(names.into_iter().map(resource).collect());
        page.next_cursor = next;
        Ok(page.with_ttl_ms(0).with_cache_scope(CacheScope::Private))
    }

    pub(super) async fn read(&self, uri: &str) -> Result<ReadResourceResult, ErrorData> {
        // One answer for what there is not, for what may not be read, and for what names nothing.
        let not_found = || {
            ErrorData::resource_not_found("there is no such resource", Some(json!({"uri": uri})))
        };
        let service = &self.mcp.service;
        let value = match uri.parse().map_err(|()| not_found())? {
            Named::Task(id) => {
                let task = service.get(&self.caller.principal, id).await.map_err(unavailable)?;
                json!(task.ok_or_else(not_found)?)
            }
            Named::Repository(name) => {
                if !self.caller.principal.may_read(&name) {
                    return Err(not_found());
                }
                let repository = Some(Pattern::Exact(name).to_string());
                let params = ListParams { repository, ..ListParams::default() };
                let query =
                    params.into_query(self.caller.principal.clone()).map_err(|_| not_found())?;
                let page = service.list(query).await.map_err(unavailable)?;
                json!(Listed { tasks: page.tasks, next: page.next, cursor: page.cursor })
            }
        };
        let contents = ResourceContents::text(answer::text(&value), uri).with_mime_type(MIME_TYPE);
        let result = ReadResourceResult::new(vec![contents]);
        Ok(result.with_ttl_ms(0).with_cache_scope(CacheScope::Private))
    }
}

pub(super) fn unavailable(error: Unavailable) -> ErrorData {
    ErrorData::internal_error(
        error.to_string(),
        Some(json!({"code": "unavailable", "retryable": true})),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_one_thing() {
        let id = Uuid::from_u128(7);
        let repository = |name: &str| Ok(Named::Repository(name.parse().unwrap()));
        for (uri, named) in [
            (format!("taskwatch://task/{id}"), Ok(Named::Task(id))),
            (
                "taskwatch://repository/github.com/acme/api".into(),
                repository("github.com/acme/api"),
            ),
            (
                "taskwatch://repository/github.com%2Facme%2fapi".into(),
                repository("github.com/acme/api"),
            ),
            ("taskwatch://repository/a+b~c@d:e".into(), repository("a+b~c@d:e")),
            ("taskwatch://task/7".into(), Err(())),
            ("taskwatch://repository/".into(), Err(())),
            ("taskwatch://repository/*".into(), Err(())),
            ("taskwatch://repository/a%2".into(), Err(())),
            ("taskwatch://repository/a%ff".into(), Err(())),
            ("taskwatch://repository/a%0ab".into(), Err(())),
            ("taskwatch://repositories/a".into(), Err(())),
            ("file:///etc/passwd".into(), Err(())),
            (String::new(), Err(())),
        ] {
            assert_eq!(uri.parse(), named, "{uri}");
        }
        for uri in
            ["taskwatch://repository/a/b", "taskwatch://task/00000000-0000-0000-0000-000000000007"]
        {
            assert_eq!(uri.parse::<Named>().unwrap().to_string(), uri);
        }
    }
}
