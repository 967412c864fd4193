//! How requests were answered.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{Method, StatusCode};

/// Methods by name; any other is the last.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
/// The first status, and how many there may be.
const FIRST: u16 = 100;
const STATUSES: usize = 500;

/// Counts answers by method and status: a place for each, so that counting is one addition.
#[derive(Debug)]
pub(crate) struct Requests(Box<[AtomicU64]>);

/// How often a request of this method had an answer of this status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestCount {
    pub(super) method: &'static str,
    pub(super) code: u16,
    pub(super) count: u64,
}

/// A method's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind(usize);

impl From<&Method> for Kind {
    fn from(method: &Method) -> Self {
        let known = METHODS.iter().position(|name| *name == method.as_str());
        Self(known.unwrap_or(METHODS.len() - 1))
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self((0..METHODS.len() * STATUSES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Requests {
    /// A request was answered.
    pub(crate) fn answered(&self, Kind(method): Kind, status: StatusCode) {
        let status = usize::from(status.as_u16().saturating_sub(FIRST));
        if let Some(count) = self.0.get(method * STATUSES + status).filter(|_| status < STATUSES) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What there was so far.
    pub(super) fn counts(&self) -> Vec<RequestCount> {
        let methods = METHODS.into_iter().zip(self.0.chunks(STATUSES));
        let counts = methods.flat_map(|(method, counts)| {
            (FIRST..).zip(counts).map(move |(code, count)| RequestCount {
                method,
                code,
                count: count.load(Ordering::Relaxed),
            })
        });
        counts.filter(|counted| counted.count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_method_and_status() {
        let requests = Requests::default();
        let answered = |method: &[u8], status: u16| {
            let method = Method::from_bytes(method).unwrap();
            requests.answered(Kind::from(&method), StatusCode::from_u16(status).unwrap());
        };
        for (method, status) in [
            (&b"GET"[..], 200),
            (b"GET", 200),
            (b"GET", 101),
            (b"POST", 599),
            (b"POST", 600),
            (b"PROPFIND", 405),
            (b"get", 405),
            (b"other", 999),
        ] {
            answered(method, status);
        }
        let counts: Vec<_> =
            requests.counts().iter().map(|it| (it.method, it.code, it.count)).collect();
        let expected = [("GET", 101, 1), ("GET", 200, 2), ("POST", 599, 1), ("other", 405, 2)];
        assert_eq!(counts, expected);
    }
}
