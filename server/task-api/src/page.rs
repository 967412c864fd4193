//! The page at `/`: files that stand in the program, and nothing of what is in the store. So it asks
//! nobody who they are; what it then reads over the API does.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use crate::rest::conditions::has_tag;
use crate::rest::header;

/// What the page may do: run and show what came from here, and talk to here. It makes no markup out
/// of text, and a browser that knows trusted types holds it to that.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    // Kept, but asked for each time: a new server has a new page.
    (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
];

/// A file of the page.
#[derive(Clone, Copy, Debug)]
struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($path:literal: $name:literal, $type:literal;)*) => {
        [$(File { path: $path, content_type: $type, text: include_str!(concat!("../page/", $name)) }),*]
    };
}

const FILES: &[File] = &files! {
    "/": "index.html", "text/html; charset=utf-8";
    "/page/style.css": "style.css", "text/css; charset=utf-8";
    "/page/app.js": "app.js", "text/javascript; charset=utf-8";
    "/page/state.js": "state.js", "text/javascript; charset=utf-8";
    "/page/words.js": "words.js", "text/javascript; charset=utf-8";
    "/page/board.js": "board.js", "text/javascript; charset=utf-8";
    "/page/task.js": "task.js", "text/javascript; charset=utf-8";
    "/page/api.js": "api.js", "text/javascript; charset=utf-8";
    "/taskwatch.js": "taskwatch.js", "text/javascript; charset=utf-8";
};

/// The routes of all files.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        let tag = file.tag();
        let answer = move |headers: HeaderMap| async move { file.answer(&tag, &headers) };
        router.route(file.path, get(answer))
    })
}

impl File {
    /// A strong tag: the same for the same bytes, whichever server has them.
    fn tag(&self) -> String {
        let hash = Sha256::digest(self.text);
        let hex: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\"{hex}\"")
    }

    fn answer(&self, tag: &str, headers: &HeaderMap) -> Response {
        let tagged = [(ETAG, header(tag))];
        if has_tag(headers, tag) {
            return (StatusCode::NOT_MODIFIED, HEADERS, tagged).into_response();
        }
        let content_type = [(CONTENT_TYPE, HeaderValue::from_static(self.content_type))];
        (HEADERS, tagged, content_type, self.text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::http::header::IF_NONE_MATCH;

    use super::*;

    fn answer(file: &File, if_none_match: Option<&str>) -> Response {
        let tags = if_none_match.map(|tag| (IF_NONE_MATCH, tag.parse().unwrap()));
        file.answer(&file.tag(), &tags.into_iter().collect())
    }

    #[test]
    fn a_file_comes_with_what_keeps_it_safe() {
        for file in FILES {
            let answer = answer(file, None);
            assert_eq!(answer.status(), StatusCode::OK);
            let header = |name: &str| answer.headers()[name].to_str().unwrap();
            assert_eq!(header("content-type"), file.content_type);
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert_eq!(header("referrer-policy"), "no-referrer");
            assert_eq!(header("cross-origin-opener-policy"), "same-origin");
            assert_eq!(header("cache-control"), "no-cache");
            let policy = header("content-security-policy");
            let rules: Vec<_> = policy.split(';').map(str::trim).collect();
            for rule in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
                assert!(rules.contains(&rule), "{policy}");
            }
            assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        }
    }

    #[test]
    fn who_has_a_file_is_not_sent_it_again() {
        let tags: BTreeSet<_> = FILES.iter().map(File::tag).collect();
        assert_eq!(tags.len(), FILES.len());
        for file in FILES {
            let (tag, other) = (file.tag(), "\"0000000000000000\"");
            let weak = format!("{other}, W/{tag}");
            for known in [tag.as_str(), &weak, "*"] {
                let answer = answer(file, Some(known));
                assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{known}");
                assert_eq!(answer.headers()[ETAG], tag);
                assert!(answer.headers().contains_key(CONTENT_SECURITY_POLICY));
            }
            assert_eq!(answer(file, Some(other)).status(), StatusCode::OK);
        }
    }

    #[test]
    fn it_stays_small() {
        let bytes: usize = FILES.iter().map(|file| file.text.len()).sum();
        assert!(bytes < 40 * 1024, "{bytes} bytes");
    }

    /// What stands between these two, wherever they stand.
    fn between<'a>(text: &'a str, before: &str, after: &str) -> BTreeSet<&'a str> {
        text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
    }

    #[test]
    fn what_a_file_refers_to_is_there() {
        let paths: BTreeSet<_> = FILES.iter().map(|file| file.path).collect();
        let mut referred = BTreeSet::from(["/".to_owned()]);
        for file in FILES {
            let mut links = between(file.text, "\nimport ", ";")
                .into_iter()
                .filter_map(|import| {
                    between(import, "\"", "\"").into_iter().find(|name| name.contains('/'))
                })
                .collect::<BTreeSet<_>>();
            if file.path == "/" {
                links = between(file.text, "href=\"", "\"");
                links.append(&mut between(file.text, "src=\"", "\""));
                links.retain(|link| !link.starts_with("data:"));
            }
            for link in links {
                let link =
                    link.strip_prefix("./").map_or(link.to_owned(), |name| format!("/page/{name}"));
                assert!(paths.contains(link.as_str()), "{}: {link}", file.path);
                referred.insert(link);
            }
        }
        let unused: Vec<_> = paths.iter().filter(|path| !referred.contains(**path)).collect();
        assert!(unused.is_empty(), "{unused:?}");
    }

    #[test]
    fn the_policy_has_nothing_to_forbid() {
        let html = FILES[0].text;
        assert!(!html.contains("<style") && !html.contains(" style="));
        assert!(html.split("<script").skip(1).all(|script| script.contains("></script>")));
        let words: Vec<_> = html.split([' ', '\n', '<']).collect();
        assert!(!words.iter().any(|word| word.starts_with("on") && word.contains('=')));
        for file in FILES {
            for hole in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!file.text.contains(hole), "{}: {hole}", file.path);
            }
        }
    }
}
