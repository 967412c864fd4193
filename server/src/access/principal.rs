//! Who makes a request, and what they may do.

use std::fmt;
use std::sync::{Arc, LazyLock};

use axum::extract::FromRequestParts;
use http::request::Parts;
use taskwatch_protocol::{Pattern, RepositoryName, Timestamp};

use crate::Problem;

/// Somebody whom an [`Authenticator`](crate::Authenticator) knows. A clone is cheap.
///
/// Nothing is allowed that was not granted: a new principal may read and write nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    grant: Arc<Grant>,
    expires: Option<Timestamp>,
}

/// What stays the same when a token is renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    /// `None`: nobody in particular.
    subject: Option<Arc<str>>,
    read: Vec<Pattern>,
    write: Vec<Pattern>,
    metrics: bool,
    operate: bool,
}

/// A subject stands in events and in logs.
const MAX_SUBJECT_BYTES: usize = 128;

/// Whether a name that came from elsewhere may be a subject.
pub(super) fn check_subject(subject: &str) -> Result<(), &'static str> {
    if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES {
        return Err("a name has 1 to 128 bytes");
    }
    let printable = |c: char| c == ' ' || !(c.is_control() || c.is_whitespace());
    if !subject.chars().all(printable) {
        return Err("a name has no control characters and no white space but blanks");
    }
    Ok(())
}

impl Principal {
    /// Somebody with a name, which goes into the events of what they change and into logs.
    #[must_use]
    pub fn new(subject: impl Into<Arc<str>>) -> Self {
        let subject = Some(subject.into());
        let grant = Grant { subject, read: vec![], write: vec![], metrics: false, operate: false };
        Self { grant: Arc::new(grant), expires: None }
    }

    /// Nobody in particular, who may do everything.
    #[must_use]
    pub fn anonymous() -> Self {
        static ALL: LazyLock<Arc<Grant>> = LazyLock::new(|| {
            let all = || vec![Pattern::All];
            let (read, write) = (all(), all());
            Arc::new(Grant { subject: None, read, write, metrics: true, operate: true })
        });
        Self { grant: ALL.clone(), expires: None }
    }

    /// May read these repositories.
    #[must_use]
    pub fn reading(mut self, patterns: impl IntoIterator<Item = Pattern>) -> Self {
        Arc::make_mut(&mut self.grant).read = patterns.into_iter().collect();
        self
    }

    /// May change the tasks of these repositories. It does not follow that they may be read.
    #[must_use]
    pub fn writing(mut self, patterns: impl IntoIterator<Item = Pattern>) -> Self {
        Arc::make_mut(&mut self.grant).write = patterns.into_iter().collect();
        self
    }

    /// May read how the server is doing.
    #[must_use]
    pub fn with_metrics(mut self, may: bool) -> Self {
        Arc::make_mut(&mut self.grant).metrics = may;
        self
    }

    /// May see who is connected, and purge tasks.
    #[must_use]
    pub fn with_operate(mut self, may: bool) -> Self {
        Arc::make_mut(&mut self.grant).operate = may;
        self
    }

    /// Is this until then; `None` is for ever.
    #[must_use]
    pub fn expiring(mut self, at: Option<Timestamp>) -> Self {
        self.expires = at;
        self
    }

    /// The name, unless it is nobody in particular.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.grant.subject.as_deref()
    }

    /// Whether it is nobody in particular.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.grant.subject.is_none()
    }

    /// Whether tasks and events of this repository may be seen.
    #[must_use]
    pub fn may_read(&self, repository: &RepositoryName) -> bool {
        self.grant.read.iter().any(|pattern| pattern.matches(repository))
    }

    /// Whether tasks of this repository may be changed.
    #[must_use]
    pub fn may_write(&self, repository: &RepositoryName) -> bool {
        self.grant.write.iter().any(|pattern| pattern.matches(repository))
    }

    /// Whether it may be seen how the server is doing.
    #[must_use]
    pub fn may_read_metrics(&self) -> bool {
        self.grant.metrics
    }

    /// Whether it may be seen who is connected, and whether tasks may be purged.
    #[must_use]
    pub fn may_operate(&self) -> bool {
        self.grant.operate
    }

    /// The repositories that may be read.
    #[must_use]
    pub fn readable(&self) -> &[Pattern] {
        &self.grant.read
    }

    /// The repositories whose tasks may be changed.
    #[must_use]
    pub fn writable(&self) -> &[Pattern] {
        &self.grant.write
    }

    /// When it stops being this.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// Whether the other is the same, and may do the same.
    pub(crate) fn may_the_same_as(&self, other: &Self) -> bool {
        self.grant == other.grant
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Grant { subject, read, write, metrics, operate } = &*self.grant;
        f.debug_struct("Principal")
            .field("subject", subject)
            .field("read", read)
            .field("write", write)
            .field("metrics", metrics)
            .field("operate", operate)
            .field("expires", &self.expires)
            .finish()
    }
}

/// Who makes the request, as [`authenticate`](crate::authenticate) found out.
///
/// A route without that middleware in front of it answers nobody: 401.
impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(|| super::AuthError::Missing.into())
    }
}
