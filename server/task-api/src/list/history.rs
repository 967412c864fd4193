//! Which part of a task's history somebody wants.

use taskwatch_protocol::Seq;
use url::form_urlencoded;

use super::params::{InvalidQuery, limit, not_a_page, number, once};

/// A page of a history that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HistoryPage {
    /// The number of the event it begins behind.
    pub(crate) after: Seq,
    pub(crate) limit: usize,
}

const PREFIX: &str = "h1-";

impl HistoryPage {
    /// From the query of a URL.
    pub(crate) fn from_query(query: &str) -> Result<Self, InvalidQuery> {
        let (mut events, mut page) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "limit" => once(&name, &mut events, number(&value)?)?,
                "page" => once(&name, &mut page, value)?,
                other => return Err(InvalidQuery::unknown(other)),
            }
        }
        let after = page.map(|page| Self::position(&page).ok_or_else(not_a_page)).transpose()?;
        Ok(Self { after: after.unwrap_or(0), limit: limit(events)? })
    }

    /// The `page` behind an event.
    pub(crate) fn token(last: Seq) -> String {
        format!("{PREFIX}{last}")
    }

    fn position(token: &str) -> Option<Seq> {
        let last = token.strip_prefix(PREFIX)?.parse().ok()?;
        // What SQLite can hold, too.
        (Self::token(last) == token && i64::try_from(last).is_ok()).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_how_many_events_behind_which() {
        let read = |query| HistoryPage::from_query(query).ok().map(|page| (page.after, page.limit));
        for (query, page) in [
            ("", Some((0, 100))),
            ("limit=7&page=h1-42", Some((42, 7))),
            ("page=h1-9223372036854775807", Some((i64::MAX as u64, 100))),
            ("page=h1-9223372036854775808", None),
            ("page=h1-042", None),
            ("page=h1-", None),
            ("page=42", None),
            ("limit=0", None),
            ("limit=1001", None),
            ("limit=1&limit=1", None),
            ("since=42", None),
        ] {
            assert_eq!(read(query), page, "{query}");
        }
    }
}
