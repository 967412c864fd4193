//! The parameters of a list, as REST and MCP bring them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};
use taskwatch_protocol::{Priority, Status};
use taskwatch_server::Principal;
use url::form_urlencoded;

use super::{Filter, ListQuery, Place, Sort};

pub(crate) const DEFAULT_LIMIT: u64 = 100;
pub(crate) const MAX_LIMIT: u64 = 1000;
/// Characters of a value that tasks are compared with.
pub(crate) const MAX_VALUE_CHARS: usize = 255;
/// Values of one parameter, at most.
pub(crate) const MAX_VALUES: usize = 32;

/// A repository's name, or a pattern of names.
pub(crate) const PATTERN: &str = "^([*]|[A-Za-z0-9][A-Za-z0-9._/@:+~-]*(/[*])?)$";

/// What is asked for, before it was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ListParams {
    #[serde(alias = "repo")]
    pub(crate) repository: Option<String>,
    pub(crate) status: Vec<String>,
    pub(crate) priority: Vec<String>,
    pub(crate) assignee: Vec<String>,
    pub(crate) tag: Vec<String>,
    pub(crate) text: Option<String>,
    pub(crate) changed_since: Option<String>,
    pub(crate) sort: Option<String>,
    pub(crate) limit: Option<u64>,
    pub(crate) page: Option<String>,
}

/// A parameter that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{parameter} {problem}")]
pub(crate) struct InvalidQuery {
    parameter: String,
    problem: String,
}

impl InvalidQuery {
    fn new(parameter: &str, problem: impl Into<String>) -> Self {
        let parameter = parameter.chars().take(64).flat_map(char::escape_debug).collect();
        Self { parameter, problem: problem.into() }
    }

    pub(super) fn unknown(parameter: &str) -> Self {
        Self::new(parameter, "is no parameter here")
    }

    /// Whether it is a repository's name that breaks the rules of names.
    pub(crate) fn is_name(&self) -> bool {
        self.parameter == "repository"
    }
}

impl ListParams {
    /// From the query of a URL.
    pub(crate) fn from_query(query: &str) -> Result<Self, InvalidQuery> {
        let mut params = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "repository" | "repo" => once(&name, &mut params.repository, value)?,
                "status" => params.status.push(value),
                "priority" => params.priority.push(value),
                "assignee" => params.assignee.push(value),
                "tag" => params.tag.push(value),
                "text" => once(&name, &mut params.text, value)?,
                "changed_since" => once(&name, &mut params.changed_since, value)?,
                "sort" => once(&name, &mut params.sort, value)?,
                "limit" => once(&name, &mut params.limit, number(&value)?)?,
                "page" => once(&name, &mut params.page, value)?,
                other => return Err(InvalidQuery::unknown(other)),
            }
        }
        Ok(params)
    }

    /// The list that somebody asks for.
    pub(crate) fn into_query(self, principal: Principal) -> Result<ListQuery, InvalidQuery> {
        let repository = self.repository.map(|pattern| {
            pattern.parse().map_err(|problem| InvalidQuery::new("repository", format!("{problem}")))
        });
        let changed_since = self.changed_since.map(|time| {
            time.parse()
                .map_err(|problem| InvalidQuery::new("changed_since", format!("is {problem}")))
        });
        let filter = Filter {
            repository: repository.transpose()?,
            status: known("status", values("status", self.status)?, Status::KNOWN)?,
            priority: known("priority", values("priority", self.priority)?, Priority::KNOWN)?,
            assignee: values("assignee", self.assignee)?,
            tag: values("tag", self.tag)?,
            text: self.text.map(|text| value("text", &text).map(str::to_lowercase)).transpose()?,
            changed_since: changed_since.transpose()?,
        };
        let sort = self.sort.map_or(Ok(Sort::default()), |word| {
            let mut all = Sort::ALL.into_iter();
            let words = || Sort::ALL.map(|(word, _)| word).join(", ");
            let found = all.find_map(|(known, sort)| (known == word).then_some(sort));
            found.ok_or_else(|| InvalidQuery::new("sort", format!("is one of {}", words())))
        })?;
        let page = self.page.map(|text| text.parse().ok().filter(|page: &Place| page.sort == sort));
        let page = page.map(|page| page.ok_or_else(not_a_page));
        let limit = limit(self.limit)?;
        Ok(ListQuery { filter, sort, limit, page: page.transpose()?, principal })
    }
}

/// How many a page has at most, out of what was asked for.
pub(super) fn limit(given: Option<u64>) -> Result<usize, InvalidQuery> {
    let given = given.unwrap_or(DEFAULT_LIMIT);
    let fits = (1..=MAX_LIMIT).contains(&given).then_some(given);
    fits.and_then(|given| usize::try_from(given).ok()).ok_or_else(not_a_limit)
}

pub(super) fn number(value: &str) -> Result<u64, InvalidQuery> {
    value.parse().map_err(|_| not_a_limit())
}

fn not_a_limit() -> InvalidQuery {
    InvalidQuery::new("limit", format!("is a number from 1 to {MAX_LIMIT}"))
}

pub(super) fn not_a_page() -> InvalidQuery {
    let problem = "is the `next` of the page before, unchanged and in the same order";
    InvalidQuery::new("page", problem)
}

/// A parameter that is there once at most.
pub(super) fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), InvalidQuery> {
    match place.replace(value) {
        Some(_) => Err(InvalidQuery::new(name, "is given twice")),
        None => Ok(()),
    }
}

/// The different values of a parameter that may be repeated.
fn values(name: &str, mut given: Vec<String>) -> Result<Vec<String>, InvalidQuery> {
    if given.len() > MAX_VALUES {
        return Err(InvalidQuery::new(name, format!("has at most {MAX_VALUES} values")));
    }
    given.sort();
    given.dedup();
    given.iter().try_for_each(|given| value(name, given).map(drop))?;
    Ok(given)
}

fn value<'a>(name: &str, value: &'a str) -> Result<&'a str, InvalidQuery> {
    if value.is_empty() || value.chars().count() > MAX_VALUE_CHARS {
        return Err(InvalidQuery::new(name, format!("has 1 to {MAX_VALUE_CHARS} characters")));
    }
    Ok(value)
}

fn known<W: Clone + ToString>(
    name: &str,
    given: Vec<String>,
    words: &[W],
) -> Result<Vec<W>, InvalidQuery> {
    let find = |given: &String| words.iter().find(|word| word.to_string() == *given).cloned();
    let all: Option<Vec<W>> = given.iter().map(find).collect();
    all.ok_or_else(|| {
        let words: Vec<_> = words.iter().map(W::to_string).collect();
        InvalidQuery::new(name, format!("is one of {}", words.join(", ")))
    })
}

impl JsonSchema for ListParams {
    fn schema_name() -> Cow<'static, str> {
        "ListParams".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let values = |items: Value, description: &str| {
            json!({
                "type": "array", "items": items, "maxItems": MAX_VALUES, "description": description,
            })
        };
        let words = |words: Vec<String>| json!({"type": "string", "enum": words});
        let statuses = words(Status::KNOWN.iter().map(ToString::to_string).collect());
        let priorities = words(Priority::KNOWN.iter().map(ToString::to_string).collect());
        let value = json!({"type": "string", "minLength": 1, "maxLength": MAX_VALUE_CHARS});
        json_schema!({
            "type": "object", "additionalProperties": false,
            "description": "Which tasks, and in which order.",
            "properties": {
                "repository": {
                    "type": "string", "minLength": 1, "maxLength": 256, "pattern": PATTERN,
                    "description": "A name such as github.com/acme/api, all names below a prefix as \
                                    in github.com/acme/*, or *.",
                },
                "status": values(statuses, "Any of these."),
                "priority": values(priorities, "Any of these."),
                "assignee": values(value.clone(), "Any of these."),
                "tag": values(value, "With any of these tags."),
                "text": {
                    "type": "string", "minLength": 1, "maxLength": MAX_VALUE_CHARS,
                    "description": "What stands in the title or the description, in upper or lower case.",
                },
                "changed_since": {
                    "type": "string", "format": "date-time",
                    "description": "Changed at that time, or later.",
                },
                "sort": {
                    "type": "string", "enum": Sort::ALL.map(|(word, _)| word), "default": "created_at",
                    "description": "The order; with - in front, the other way round.",
                },
                "limit": {
                    "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT,
                    "description": "Tasks on a page, at most.",
                },
                "page": {
                    "type": "string",
                    "description": "The `next` of the page before; everything else stays the same.",
                },
            },
        })
    }
}
