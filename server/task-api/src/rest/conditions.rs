//! Versions as entity tags, and the conditions that requests put on them (RFC 9110, section 13).

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use taskwatch_protocol::Task;

use crate::change::IfMatch;

/// The tag of a task as it is.
pub(super) fn etag(task: &Task) -> HeaderValue {
    super::header(&tag(task.version))
}

fn tag(version: u64) -> String {
    format!("\"v{version}\"")
}

/// `If-Match`: the versions a change may start from. `*` is any; a tag that this server never
/// gave, or a weak one, is none.
pub(crate) fn if_match(headers: &HeaderMap) -> IfMatch {
    let mut versions = Vec::new();
    for given in tags(headers, &IF_MATCH) {
        if given == "*" {
            return None;
        }
        let version = given.strip_prefix("\"v").and_then(|tag| tag.strip_suffix('"'));
        let number = version.and_then(|version| version.parse::<u64>().ok());
        versions.extend(number.filter(|&number| given == tag(number)));
    }
    headers.contains_key(IF_MATCH).then_some(versions)
}

/// `If-None-Match`: whether the reader has this version already. A weak tag is as good.
pub(super) fn has(headers: &HeaderMap, version: u64) -> bool {
    has_tag(headers, &tag(version))
}

/// The same for whatever has a tag.
pub(crate) fn has_tag(headers: &HeaderMap, tag: &str) -> bool {
    tags(headers, &IF_NONE_MATCH)
        .any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}

fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or_default());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_one_that_was_given() {
        for (tags, versions) in [
            ("\"v7\"", Some(vec![7])),
            ("\"v7\", \"v18446744073709551615\"", Some(vec![7, u64::MAX])),
            ("\"v6\", *", None),
            ("\"v007\"", Some(vec![])),
            ("\"v+7\", \"v 7\", W/\"v7\", \"7\", v7, \"v\"", Some(vec![])),
            ("", Some(vec![])),
        ] {
            let headers = HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_static(tags))]);
            assert_eq!(if_match(&headers), versions, "{tags}");
        }
        assert_eq!(if_match(&HeaderMap::new()), None);
    }

    #[test]
    fn a_reader_has_a_version_by_either_kind_of_tag() {
        for (tags, has_it) in [
            ("\"v7\"", true),
            ("W/\"v7\"", true),
            ("\"v6\", W/\"v7\"", true),
            ("*", true),
            ("\"v6\"", false),
            ("v7", false),
            ("\"W/v7\"", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(tags))]);
            assert_eq!(has(&headers, 7), has_it, "{tags}");
        }
        assert!(!has(&HeaderMap::new(), 7));
    }
}
