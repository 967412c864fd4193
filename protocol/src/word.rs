//! Enums whose variants are words on the wire, and that keep a word they do not know.

/// Declares an enum of wire words. A word that is not listed is kept as `Other`, so that an old
/// reader survives a new writer. A `closed` list is one of which a server refuses the rest; only
/// the schema differs.
macro_rules! words {
    (
        $(#[doc = $about:literal])+
        pub $openness:ident enum $name:ident {
            $( $(#[doc = $meaning:literal])+ $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[doc = $meaning])+ $variant, )+
            /// A word this version does not know, kept as it came.
            Other(Box<str>),
        }

        impl $name {
            /// Every word this version knows.
            pub const KNOWN: &'static [Self] = &[$( Self::$variant, )+];

            /// The word on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $word, )+
                    Self::Other(word) => word,
                }
            }

            /// False for a word this version does not know.
            #[must_use]
            pub fn is_known(&self) -> bool {
                !matches!(self, Self::Other(_))
            }

            /// The words this version knows and no others: what a server accepts that refuses
            /// the rest.
            #[cfg(feature = "schema")]
            #[must_use]
            pub fn known_words_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                crate::schema::known_words(
                    concat!($($about),+),
                    &[$( ($word, concat!($($meaning),+)), )+],
                )
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn schema_id() -> std::borrow::Cow<'static, str> {
                concat!(module_path!(), "::", stringify!($name)).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                crate::schema::$openness(Self::known_words_schema(generator))
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $( $word => Self::$variant, )+
                    other => Self::Other(other.into()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let known = |word: &str| Ok::<_, std::convert::Infallible>(Self::from(word));
                crate::text::read(deserializer, known)
            }
        }
    };
}

pub(crate) use words;
