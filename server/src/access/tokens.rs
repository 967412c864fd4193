//! Tokens that the operator has made, kept in a file as their hashes.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use taskwatch_protocol::{Pattern, Timestamp};
use tokio::sync::watch;

use super::principal::check_subject;
use super::reloading::{FileError, Reloading, warn_if_others_may};
use super::{AuthError, AuthFuture, Authenticator, Principal, Token};
use crate::clock::now;

/// What tokens made here begin with, so that those who find one know what it is.
const PREFIX: &str = "tw_";

/// Knows the tokens of a file. It has no token in it, only hashes, one to a line:
///
/// ```json
/// {"id":"ana","sha256":"9f86d0…","read":["github.com/acme/*"],"write":[],"metrics":false,"expires":"2027-01-01T00:00:00Z"}
/// ```
///
/// `id` is the subject, and `sha256` the hash of the token's text, in hex. Without `expires` the
/// token is good until its line is gone; what else is left out is not granted. A field that is not
/// known is an error, so that a misspelled `expires` does not grant for ever. Two lines may have
/// one `id`: that is how a token is replaced. Empty lines and lines that begin with `#` are skipped.
///
/// The file is read again within a second of a change, also if another file is renamed to it, and
/// live connections are checked again. While it cannot be read or has a bad line, what it said
/// before stays in force, and an error is logged.
#[derive(Clone, Debug)]
pub struct TokensFile {
    tokens: Arc<Reloading<Tokens>>,
}

/// What a new token is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenGrant {
    /// Whose it is: the subject.
    pub id: String,
    /// Repositories that may be read.
    pub read: Vec<Pattern>,
    /// Repositories whose tasks may be changed.
    pub write: Vec<Pattern>,
    /// Whether it may be read how the server is doing.
    pub metrics: bool,
    /// Whether it may be seen who is connected, and whether tasks may be purged.
    pub operate: bool,
    /// Until when it is good.
    pub expires: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    sha256: String,
    #[serde(default)]
    read: Vec<Pattern>,
    #[serde(default)]
    write: Vec<Pattern>,
    #[serde(default)]
    metrics: bool,
    /// Left out where it is not granted: older servers do not know the field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    operate: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
}

type Hash = [u8; 32];
type Tokens = HashMap<Hash, Principal>;

impl TokensFile {
    /// Reads the file, and looks at it every half second from now on. The caller waits for the
    /// disk.
    ///
    /// # Errors
    /// If it cannot be read, or has a line that cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FileError> {
        let path = path.into();
        let named = path.clone();
        let tokens = Reloading::open([path.clone()], move |files| parse(&named, &files[0]))?;
        warn_if_others_may(0o022, &path);
        Ok(Self { tokens })
    }

    /// Makes a token, and adds its line at the end of the file, which is made if there is none.
    /// The token is nowhere but in the answer.
    ///
    /// # Errors
    /// If the file has a line that cannot be used, or cannot be written.
    pub fn add(path: &Path, grant: TokenGrant) -> Result<Token, FileError> {
        check_subject(&grant.id)
            .map_err(|problem| FileError::new(path, format!("id: {problem}")))?;
        let failed = |error: io::Error| FileError::new(path, format!("cannot be written: {error}"));
        let before = match fs::read(path) {
            Ok(before) => before,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(FileError::new(path, format!("cannot be read: {error}"))),
        };
        parse(path, &before)?;

        let secret: [u8; 32] = rand::random();
        let token = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(secret));
        let TokenGrant { id, read, write, metrics, operate, expires } = grant;
        let sha256 = hash(&token).iter().map(|byte| format!("{byte:02x}")).collect();
        let line = Line { id, sha256, read, write, metrics, operate, expires };
        let line = serde_json::to_string(&line);
        let line = line.map_err(|error| failed(error.into()))?;
        let unfinished = before.last().is_some_and(|&byte| byte != b'\n');
        let added = format!("{}{line}\n", if unfinished { "\n" } else { "" });
        // In one write, so that neither the server nor a second writer sees half a line.
        let open = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let mut file = open.map_err(failed)?;
        file.write_all(added.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(Token::new(token))
    }

    fn identify(&self, token: Option<&Token>) -> Result<Principal, AuthError> {
        let token = token.ok_or(AuthError::Missing)?;
        let tokens = self.tokens.current();
        let unknown = || AuthError::Invalid("it is not in the tokens file".to_owned());
        let principal = tokens.get(&hash(token.expose())).ok_or_else(unknown)?;
        let has_run_out = principal.expires().is_some_and(|expires| expires <= now().wall);
        if has_run_out { Err(AuthError::Expired) } else { Ok(principal.clone()) }
    }
}

impl Authenticator for TokensFile {
    fn authenticate<'a>(&'a self, token: Option<&'a Token>) -> AuthFuture<'a> {
        Box::pin(std::future::ready(self.identify(token)))
    }

    fn changes(&self) -> Option<watch::Receiver<()>> {
        Some(self.tokens.changes())
    }
}

/// Nobody can find a token by trying hashes, so how long a look-up takes tells nothing.
fn hash(token: &str) -> Hash {
    Sha256::digest(token).into()
}

fn parse(path: &Path, file: &[u8]) -> Result<Tokens, FileError> {
    let mut tokens = Tokens::new();
    for (number, line) in file.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let wrong = |problem: String| {
            let number = number + 1;
            let advice = "correct the line, or begin it with # to leave it out";
            FileError::new(path, format!("line {number}: {problem}; {advice}"))
        };
        let (hash, principal) = entry(line).map_err(wrong)?;
        if tokens.insert(hash, principal).is_some() {
            return Err(wrong("an earlier line has the same sha256".to_owned()));
        }
    }
    Ok(tokens)
}

fn entry(line: &[u8]) -> Result<(Hash, Principal), String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        let problem = error.to_string();
        // It was given one line and does not know which.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let bare = problem.strip_suffix(&place).unwrap_or(&problem);
        format!("{bare} (column {})", error.column())
    })?;
    check_subject(&line.id).map_err(|problem| format!("id: {problem}"))?;
    let hash = from_hex(&line.sha256).ok_or("sha256 is 64 hex digits: the hash of the token")?;
    let principal = Principal::new(line.id)
        .reading(line.read)
        .writing(line.write)
        .with_metrics(line.metrics)
        .with_operate(line.operate)
        .expiring(line.expires);
    Ok((hash, principal))
}

fn from_hex(text: &str) -> Option<Hash> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16)?.try_into().ok()).collect();
    let bytes: Vec<u8> = digits?
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect();
    (text.len() == 64).then(|| bytes.try_into().ok())?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn read(path: &Path) -> Result<TokensFile, FileError> {
        let named = path.to_owned();
        let tokens = Reloading::read([path.to_owned()], move |files| parse(&named, &files[0]))?;
        Ok(TokensFile { tokens: Arc::new(tokens) })
    }

    fn grant(id: &str) -> TokenGrant {
        let patterns = |text: &str| vec![text.parse().unwrap()];
        TokenGrant {
            id: id.to_owned(),
            read: patterns("github.com/acme/*"),
            write: patterns("github.com/acme/api"),
            metrics: true,
            operate: true,
            expires: None,
        }
    }

    fn line(id: &str, token: &str, more: &str) -> String {
        let hex: String = hash(token).iter().map(|byte| format!("{byte:02X}")).collect();
        format!(r#"{{"id":"{id}","sha256":"{hex}"{more}}}"#)
    }

    #[test]
    fn a_token_that_was_made_is_known_and_stands_nowhere() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("tokens");
        let token = TokensFile::add(&path, grant("ana")).unwrap();
        let again = TokensFile::add(&path, grant("ana")).unwrap();
        assert!(token != again && token.expose().starts_with("tw_"));
        assert_eq!(token.expose().len(), 3 + 43);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains(token.expose()), "{text}");

        let tokens = read(&path).unwrap();
        for token in [token, again] {
            let principal = tokens.identify(Some(&token)).unwrap();
            assert_eq!(principal.subject(), Some("ana"));
            assert!(principal.may_read(&"github.com/acme/x".parse().unwrap()));
            assert!(!principal.may_read(&"github.com/other".parse().unwrap()));
            assert!(principal.may_write(&"github.com/acme/api".parse().unwrap()));
            assert!(!principal.may_write(&"github.com/acme/x".parse().unwrap()));
            assert!(principal.may_read_metrics() && principal.may_operate());
        }
        assert_eq!(tokens.identify(None), Err(AuthError::Missing));
        let unknown = tokens.identify(Some(&Token::new("tw_x")));
        assert!(matches!(unknown, Err(AuthError::Invalid(_))), "{unknown:?}");
    }

    #[test]
    fn a_line_that_was_not_ended_is_ended() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, format!("# ours\n\n{}", line("ben", "b", ""))).unwrap();
        let token = TokensFile::add(&path, grant("ana")).unwrap();
        let tokens = read(&path).unwrap();
        assert_eq!(tokens.identify(Some(&token)).unwrap().subject(), Some("ana"));
        assert_eq!(tokens.identify(Some(&Token::new("b"))).unwrap().subject(), Some("ben"));
    }

    #[test]
    fn a_file_that_is_wrong_is_not_added_to() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, "ana\n").unwrap();
        assert!(TokensFile::add(&path, grant("ana")).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "ana\n");
        assert!(TokensFile::add(&dir.path().join("new"), grant("")).is_err());
        assert!(!dir.path().join("new").exists());
        assert!(TokensFile::add(dir.path(), grant("ana")).is_err());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let hex = "0".repeat(64);
        for (bad, why) in [
            ("{", "EOF"),
            ("[]", "invalid length 0"),
            (r#"{"id":"a"}"#, "missing field `sha256`"),
            (&format!(r#"{{"sha256":"{hex}"}}"#), "missing field `id`"),
            (&line("a", "t", r#","expire":"2027-01-01T00:00:00Z""#), "unknown field `expire`"),
            (&line("a", "t", r#","expires":"2027-01-01""#), "RFC 3339"),
            (&line("a", "t", r#","expires":1"#), "invalid type"),
            (&line("a", "t", r#","read":["a*"]"#), "* stands alone"),
            (&line("a", "t", r#","read":"a""#), "invalid type"),
            (&line("a", "t", r#","write":["a b"]"#), "may not stand in a repository name"),
            (&line("a", "t", r#","metrics":"yes""#), "invalid type"),
            (&line("a", "t", r#","operate":1"#), "invalid type"),
            (&line("", "t", ""), "id: "),
            (&line("a\\u001b", "t", ""), "id: "),
            (r#"{"id":"a","sha256":"00"}"#, "64 hex digits"),
            (&format!(r#"{{"id":"a","sha256":"{hex}0"}}"#), "64 hex digits"),
            (&format!(r#"{{"id":"a","sha256":"x{}"}}"#, &hex[1..]), "64 hex digits"),
            (&line("a", "good", ""), "an earlier line has the same sha256"),
        ] {
            let file = format!("{}\n# a comment\n{bad}\n", line("good", "good", ""));
            let error = parse(Path::new("tokens"), file.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("tokens: line 3: "), "{bad}: {error}");
            assert!(error.contains(why) && error.contains("correct the line"), "{bad}: {error}");
            assert!(!error.contains("at line"), "{bad}: {error}");
        }
        assert!(parse(Path::new("tokens"), b"\xff").is_err());
        assert!(parse(Path::new("tokens"), b"").unwrap().is_empty());
    }

    #[test]
    fn a_token_runs_out() {
        let file = [
            line("past", "p", r#","expires":"2020-01-01T00:00:00Z""#),
            line("future", "f", r#","expires":"9999-01-01T00:00:00Z""#),
            line("never", "n", r#","expires":null"#),
        ];
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, file.join("\n")).unwrap();
        let tokens = read(&path).unwrap();
        let identify = |token: &str| tokens.identify(Some(&Token::new(token)));
        assert_eq!(identify("p"), Err(AuthError::Expired));
        assert!(identify("f").unwrap().expires().is_some());
        assert_eq!(identify("n").unwrap().expires(), None);
    }

    #[test]
    fn a_changed_file_changes_who_is_known() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("tokens");
        let ana = line("ana", "a", "");
        fs::write(&path, format!("{ana}\n")).unwrap();
        let tokens = read(&path).unwrap();
        let changes = tokens.changes().unwrap();
        let known = |token: &str| tokens.identify(Some(&Token::new(token))).is_ok();

        let ben = line("ben", "b", "");
        let (half, rest) = ben.split_at(30);
        fs::write(&path, format!("{ana}\n{half}")).unwrap();
        tokens.tokens.reload();
        assert!(known("a") && !known("b") && !changes.has_changed().unwrap());
        fs::write(&path, format!("{ana}\n{half}{rest}")).unwrap();
        tokens.tokens.reload();
        assert!(known("a") && known("b") && changes.has_changed().unwrap());

        let changes = tokens.changes().unwrap();
        fs::write(&path, format!("# moved\n{ben}\n{ana}\n")).unwrap();
        tokens.tokens.reload();
        assert!(!changes.has_changed().unwrap(), "nobody may do anything else than before");
        fs::write(&path, format!("{ben}\n#{ana}\n")).unwrap();
        tokens.tokens.reload();
        assert!(!known("a") && known("b") && changes.has_changed().unwrap());
    }
}
