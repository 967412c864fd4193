//! Names of repositories, and patterns over them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const MAX_BYTES: usize = 255;
/// What a name may hold besides letters and digits. The `-` is last, as in a class of a regex.
const PUNCTUATION: &str = "._/@:+~-";

/// The text is neither a repository's name nor, where one is allowed, a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// Nothing at all.
    #[error("a repository name may not be empty")]
    Empty,
    /// Over 255 bytes.
    #[error("a repository name has at most {MAX_BYTES} bytes")]
    TooLong,
    /// The first character is neither a letter nor a digit.
    #[error("a repository name starts with a letter or a digit")]
    BadStart,
    /// A character outside the alphabet.
    #[error("{0:?} may not stand in a repository name; letters, digits and . _ - / @ : + ~ may")]
    BadCharacter(char),
    /// A `*` that is neither alone nor at the end, behind a `/`.
    #[error("* stands alone, or at the end behind a /, as in github.com/acme/*")]
    MisplacedStar,
}

/// The exact name of a repository, such as `github.com/acme/api`.
///
/// 1 to 255 bytes of ASCII letters, digits and `. _ - / @ : + ~`, starting with a letter or digit.
/// Case matters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(with = "String", extend("pattern" = name_regex(), "maxLength" = MAX_BYTES))
)]
pub struct RepositoryName(Arc<str>);

impl RepositoryName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(name: &str) -> Result<(), InvalidName> {
    let first = *name.as_bytes().first().ok_or(InvalidName::Empty)?;
    if name.len() > MAX_BYTES {
        return Err(InvalidName::TooLong);
    }
    let is_allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || PUNCTUATION.as_bytes().contains(&byte);
    if let Some(bad) = name.bytes().position(|byte| !is_allowed(byte)) {
        // All before it is ASCII, so a character begins here.
        return Err(match name[bad..].chars().next() {
            Some(bad) if !name.contains('*') => InvalidName::BadCharacter(bad),
            _ => InvalidName::MisplacedStar,
        });
    }
    if !first.is_ascii_alphanumeric() {
        return Err(InvalidName::BadStart);
    }
    Ok(())
}

impl FromStr for RepositoryName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        check(name)?;
        Ok(Self(name.into()))
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for RepositoryName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Which repositories somebody wants: one, all below a prefix, or all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(with = "String", extend("pattern" = pattern_regex(), "maxLength" = MAX_BYTES + 1))
)]
pub enum Pattern {
    /// `*`: every repository that the subscriber may read.
    All,
    /// `github.com/acme/*`: every name that starts with the text before the `*`, which ends in
    /// `/`. It crosses further slashes.
    Prefix(Arc<str>),
    /// One repository.
    Exact(RepositoryName),
}

impl Pattern {
    /// Whether events of `repository` are wanted.
    #[must_use]
    pub fn matches(&self, repository: &RepositoryName) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => repository.as_str().starts_with(prefix.as_ref()),
            Self::Exact(name) => name == repository,
        }
    }

    /// The repositories that both match. Two patterns overlap only if one of them lies within the
    /// other, so this is one of the two, or nothing.
    #[must_use]
    pub fn intersection<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        if other.contains(self) { Some(self) } else { self.contains(other).then_some(other) }
    }

    /// Whether every repository that `other` matches is matched here too.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Prefix(prefix), Self::Prefix(longer)) => longer.starts_with(prefix.as_ref()),
            (Self::Exact(_), Self::Prefix(_)) | (_, Self::All) => false,
        }
    }
}

impl FromStr for Pattern {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_suffix('*') {
            Some("") => Ok(Self::All),
            Some(prefix) => {
                check(prefix)?;
                if !prefix.ends_with('/') {
                    return Err(InvalidName::MisplacedStar);
                }
                Ok(Self::Prefix(prefix.into()))
            }
            None => text.parse().map(Self::Exact),
        }
    }
}

impl From<RepositoryName> for Pattern {
    fn from(name: RepositoryName) -> Self {
        Self::Exact(name)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Exact(name) => f.write_str(name.as_str()),
        }
    }
}

#[cfg(feature = "schema")]
fn name_regex() -> String {
    format!("^[A-Za-z0-9][A-Za-z0-9{PUNCTUATION}]*$")
}

/// All, a name, or a prefix: a name that ends in `/` before its star, which alone may be the
/// 256th byte.
#[cfg(feature = "schema")]
fn pattern_regex() -> String {
    let (name, prefix) = (MAX_BYTES - 1, MAX_BYTES - 2);
    let (first, rest) = ("[A-Za-z0-9]", format!("[A-Za-z0-9{PUNCTUATION}]"));
    format!(r"^(\*|{first}{rest}{{0,{name}}}|{first}{rest}{{0,{prefix}}}/\*)$")
}

/// Serde for types that travel as their text.
macro_rules! serde_as_text {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::text::read(deserializer, str::parse)
            }
        }
    };
}
serde_as_text!(RepositoryName);
serde_as_text!(Pattern);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn names_follow_the_alphabet() {
        for good in
            ["a", "0", "foo", "github.com/acme/api", "a:b@c+d~e_f-g", "Foo", "a/", &"a".repeat(255)]
        {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        let bad = [
            ("", InvalidName::Empty),
            (&*"a".repeat(256), InvalidName::TooLong),
            ("/foo", InvalidName::BadStart),
            ("-foo", InvalidName::BadStart),
            ("fo o", InvalidName::BadCharacter(' ')),
            ("foo\n", InvalidName::BadCharacter('\n')),
            ("fö", InvalidName::BadCharacter('ö')),
            ("a>b", InvalidName::BadCharacter('>')),
            ("a*", InvalidName::MisplacedStar),
        ];
        for (text, error) in bad {
            assert_eq!(text.parse::<RepositoryName>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_star_stands_alone_or_behind_a_slash() {
        for bad in ["**", "a*", "a/**", "*/a", "a/*/b", "/*", ""] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad:?}");
        }
        for good in ["*", "a/*", "github.com/acme/*", "foo"] {
            assert_eq!(good.parse::<Pattern>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn a_prefix_crosses_slashes_and_stops_at_them() {
        let acme: Pattern = "github.com/acme/*".parse().unwrap();
        assert!(acme.matches(&name("github.com/acme/api")));
        assert!(acme.matches(&name("github.com/acme/api/v2")));
        assert!(!acme.matches(&name("github.com/acme")));
        assert!(!acme.matches(&name("github.com/acme-corp/api")));
    }

    #[test]
    fn case_matters() {
        let foo: Pattern = "foo".parse().unwrap();
        assert!(foo.matches(&name("foo")));
        assert!(!foo.matches(&name("Foo")));
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_itself(text in "[a-z0-9./*_-]{0,12}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }

        #[test]
        fn a_prefix_matches_exactly_what_starts_with_it(
            prefix in "[a-c]{1,2}/", repo in "[a-c]{1,2}/?[a-c]{0,2}"
        ) {
            let pattern: Pattern = format!("{prefix}*").parse().unwrap();
            prop_assert_eq!(pattern.matches(&name(&repo)), repo.starts_with(&prefix));
        }

        #[test]
        fn an_intersection_matches_what_both_match(
            a in "(\\*|[ab](/[ab]){0,2}(/\\*)?)",
            b in "(\\*|[ab](/[ab]){0,2}(/\\*)?)",
            repo in "[ab](/[ab]){0,3}",
        ) {
            let (a, b): (Pattern, Pattern) = (a.parse().unwrap(), b.parse().unwrap());
            let repo = name(&repo);
            let both = a.intersection(&b).is_some_and(|both| both.matches(&repo));
            prop_assert_eq!(both, a.matches(&repo) && b.matches(&repo));
            prop_assert!(!a.contains(&b) || !b.matches(&repo) || a.matches(&repo));
        }
    }
}
