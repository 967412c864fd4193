//! What the client shows to say who it is.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderValue;

/// More than any token has; a file that has more is none.
const MAX_FILE: u64 = 64 * 1024;

/// A secret that names a principal. It is never shown: not by `Debug`, and in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: Arc<str>,
    header: HeaderValue,
}

/// A text that cannot be a token. The text itself is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidToken {
    /// There is nothing.
    #[error("the token is empty")]
    Empty,
    /// It cannot stand in a header.
    #[error("a token has visible ASCII characters only, and no spaces")]
    Character,
}

impl Token {
    /// Checks that the text can be sent.
    ///
    /// # Errors
    /// [`InvalidToken`] if it is empty, or has spaces or characters other than visible ASCII.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, InvalidToken> {
        let text = text.into();
        if text.is_empty() {
            return Err(InvalidToken::Empty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidToken::Character);
        }
        let mut header =
            HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| InvalidToken::Character)?;
        header.set_sensitive(true);
        Ok(Self { text, header })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The value of `Authorization`.
    pub(crate) fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why there is no token now. The text is for people; it must not hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It may be there later: the client backs off and asks again.
    #[error("{0}")]
    Temporary(String),
    /// There will never be one: the stream ends with [`WatchError::Token`](crate::WatchError::Token).
    #[error("{0}")]
    Final(String),
}

impl From<InvalidToken> for TokenError {
    fn from(problem: InvalidToken) -> Self {
        Self::Final(problem.to_string())
    }
}

/// A token that may take its time.
pub type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<Token, TokenError>> + Send + 'a>>;

/// Where tokens come from. It is asked before every connection, before a token runs out, and once
/// more when the server has refused one; so it should remember a token that is still good.
///
/// A [`Token`] provides itself, and so does a function that returns a future:
///
/// ```
/// use taskwatch_client::{Client, Token, TokenError};
///
/// # async fn fetch() -> std::io::Result<String> { Ok("an-example-token".to_owned()) }
/// let client = Client::builder("https://tasks.example").token(|| async {
///     let text = fetch().await.map_err(|problem| TokenError::Temporary(problem.to_string()))?;
///     Ok(Token::new(text)?)
/// });
/// ```
pub trait TokenProvider: Send + Sync + 'static {
    /// A token that is good now.
    ///
    /// A connection that is being made waits for it for up to ten seconds, connecting included; one
    /// that is up goes on meanwhile. The future may be dropped at any time.
    fn token(&self) -> TokenFuture<'_>;
}

impl TokenProvider for Token {
    fn token(&self) -> TokenFuture<'_> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

impl<F, T> TokenProvider for F
where
    F: Fn() -> T + Send + Sync + 'static,
    T: Future<Output = Result<Token, TokenError>> + Send + 'static,
{
    fn token(&self) -> TokenFuture<'_> {
        Box::pin(self())
    }
}

/// The text of a file, read whenever it is asked for.
#[derive(Debug)]
pub(crate) struct TokenFile(pub(crate) PathBuf);

impl TokenProvider for TokenFile {
    fn token(&self) -> TokenFuture<'_> {
        let path = self.0.clone();
        Box::pin(async move {
            let problem = {
                let path = path.display().to_string();
                move |problem: &dyn fmt::Display| {
                    // Somebody may be writing it.
                    TokenError::Temporary(format!("cannot take a token from {path}: {problem}"))
                }
            };
            let reading = tokio::task::spawn_blocking(move || {
                let mut text = String::new();
                std::fs::File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
                std::io::Result::Ok(text)
            });
            let text = match reading.await {
                Ok(Ok(text)) => text,
                Ok(Err(error)) => return Err(problem(&error)),
                Err(error) => return Err(problem(&error)),
            };
            Token::new(text.trim_end_matches(['\r', '\n'])).map_err(|error| problem(&error))
        })
    }
}

/// A provider that can be shared, and shown without what it knows.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<dyn TokenProvider>);

impl Tokens {
    pub(crate) fn new(provider: impl TokenProvider) -> Self {
        Self(Arc::new(provider))
    }

    pub(crate) async fn get(&self) -> Result<Token, TokenError> {
        self.0.token().await
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_a_header_can_hold_and_is_never_shown() {
        let token = Token::new("ana_s3cret~+/=").unwrap();
        assert_eq!(token.header(), "Bearer ana_s3cret~+/=");
        assert!(token.header().is_sensitive());
        for shown in
            [format!("{token:?} {:?}", token.header()), format!("{:?}", Tokens::new(token))]
        {
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        assert_eq!(Token::new(""), Err(InvalidToken::Empty));
        for text in ["a b", "a\r\nHost: b", "tok\u{e9}n", "a\0", "Bearer a"] {
            assert_eq!(Token::new(text), Err(InvalidToken::Character), "{text:?}");
            assert!(!InvalidToken::Character.to_string().contains(text));
        }
    }

    #[tokio::test]
    async fn a_function_provides_what_it_returns() {
        let tokens = Tokens::new(|| async { Ok(Token::new("a")?) });
        assert_eq!(tokens.get().await.unwrap().text(), "a");
        let tokens = Tokens::new(|| async { Ok(Token::new("a b")?) });
        assert!(matches!(tokens.get().await, Err(TokenError::Final(_))));
    }

    #[tokio::test]
    async fn a_file_is_read_each_time_and_its_last_line_may_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let tokens = Tokens::new(TokenFile(path.clone()));
        let Err(TokenError::Temporary(absent)) = tokens.get().await else { panic!("no file") };
        assert!(absent.contains(&path.display().to_string()), "{absent}");
        for (content, text) in [("first\n", "first"), ("second\r\n", "second"), ("third", "third")]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(tokens.get().await.unwrap().text(), text);
        }
        std::fs::write(&path, "two\nlines\n").unwrap();
        assert!(matches!(tokens.get().await, Err(TokenError::Temporary(_))));
    }
}
