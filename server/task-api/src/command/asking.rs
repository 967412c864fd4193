//! One request to a server that may be in trouble: in time, and with words for what is in the way.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use reqwest::{Method, Response};
use serde_json::Value;
use taskwatch_protocol::escape::Visible;

use crate::remote::{Remote, RemoteError, chain};

const CONNECT: Duration = Duration::from_secs(5);

/// Why a command has come to nothing, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The settings do not go together.
    #[error(transparent)]
    Settings(#[from] RemoteError),
    /// What was asked for needs a word that was not given.
    #[error("{0}")]
    Usage(String),
    /// The server, or what is between, is the reason.
    #[error("{0}")]
    Server(String),
    /// Nobody took the output.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Asks, and returns the JSON of an answer that is none of refusal. `patience` is for the answer.
pub(super) async fn ask(
    remote: &Remote,
    method: Method,
    path: &str,
    query: Option<&str>,
    patience: Duration,
) -> Result<Value, Failure> {
    let client = remote.client(CONNECT, patience)?;
    let mut url = remote.at(path)?;
    url.set_query(query);
    let server = Server { url: remote.url.clone(), host: url.host_str().unwrap_or("").to_owned() };
    let mut request = client.request(method, url).timeout(CONNECT + patience);
    let token = remote.token()?;
    let header = token.header().map_err(Failure::Usage)?;
    let has_token = header.is_some();
    if let Some(header) = header {
        request = request.header(AUTHORIZATION, header);
    }
    let response = request.send().await.map_err(|error| server.unreachable(&error))?;
    let status = response.status();
    let is_ours = is_json(&response);
    let body = response.bytes().await.map_err(|error| server.unreachable(&error))?;
    let body: Option<Value> = is_ours.then(|| serde_json::from_slice(&body).ok()).flatten();
    match body {
        Some(body) if status.is_success() => Ok(body),
        body => Err(server.refused(status, body.as_ref(), has_token)),
    }
}

fn is_json(response: &Response) -> bool {
    let media_type = response.headers().get("content-type").map(|value| value.as_bytes());
    media_type.is_some_and(|value| {
        value.starts_with(b"application/json") || value.starts_with(b"application/problem+json")
    })
}

/// The server in words.
struct Server {
    url: String,
    host: String,
}

impl Server {
    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let Self { url, host } = self;
        let reason = chain(error);
        let reason = Visible(reason.rsplit(": ").next().unwrap_or_default());
        let text = match Trouble::of(error) {
            Trouble::Name => format!(
                "the name {host} is not known: {reason}\ncorrect --url, or the names that this \
                 machine knows"
            ),
            Trouble::Tls => format!(
                "TLS with {url} failed: {reason}\nname the certificate of its authority with \
                 --cacert, and the server as the certificate does; a server without TLS is http://"
            ),
            Trouble::Connect => format!(
                "there is no connection to {url}: {reason}\nis it running? `listening on` in its \
                 log says where; on another machine, look whether a firewall is between"
            ),
            Trouble::Silence => format!(
                "{url} does not answer in time\nit is stuck or overloaded, or a firewall swallows \
                 what is sent: look at its log, its processor time and its disk"
            ),
            Trouble::Answer => format!(
                "what answers at {url} is not a taskwatchd, or it broke off: {reason}\ncorrect \
                 --url: with https:// where the server speaks TLS"
            ),
        };
        Failure::Server(text)
    }

    fn refused(&self, status: StatusCode, problem: Option<&Value>, has_token: bool) -> Failure {
        let url = &self.url;
        let word = |name: &str| problem.and_then(|problem| problem[name].as_str());
        let (Some(code), Some(detail)) = (word("code"), word("detail")) else {
            return Failure::Server(format!(
                "what answers at {url} is not a taskwatchd, or one that is older than this: {status}\n\
                 correct --url"
            ));
        };
        let advice = match (status, code) {
            (StatusCode::UNAUTHORIZED, _) if has_token => "give a token that is good: --token-file",
            (StatusCode::UNAUTHORIZED, _) => {
                "give a token with --token-file, or in the variable TASKWATCH_TOKEN"
            }
            (_, "forbidden") => "make a token that may: taskwatchd token new --operate",
            (_, "host") => "name the server as it knows itself: --allow-host says how",
            (StatusCode::NOT_FOUND, _) => "is it an older taskwatchd, or the URL of another thing?",
            (StatusCode::SERVICE_UNAVAILABLE, _) => "try again, and look at its log",
            _ => "see its log",
        };
        Failure::Server(format!("{url} refused: {}\n{advice}", Visible(detail)))
    }
}

/// What is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Name,
    Tls,
    Connect,
    Silence,
    Answer,
}

impl Trouble {
    fn of(error: &reqwest::Error) -> Self {
        if causes(error).any(is_of_tls) {
            Self::Tls
        } else if causes(error).any(|cause| cause.to_string() == "dns error") {
            Self::Name
        } else if error.is_connect() {
            Self::Connect
        } else if error.is_timeout() {
            Self::Silence
        } else {
            Self::Answer
        }
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| error.source())
}

/// An error of TLS comes inside of others of I/O, which do not name what is in them as their source.
fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || inside.is_some_and(|inside| is_of_tls(inside))
}

/// A question to who sits at the terminal, or nothing if nobody does.
pub(super) fn confirmed(question: impl fmt::Display) -> io::Result<Option<bool>> {
    use std::io::{BufRead, IsTerminal, Write};
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut stderr = io::stderr();
    write!(stderr, "{question} [yes/no] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(Some(answer.trim() == "yes"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn asked(url: &str) -> String {
        let remote = Remote { url: url.to_owned(), token_file: None, cacert: None };
        let patience = Duration::from_millis(200);
        ask(&remote, Method::GET, "x", None, patience).await.unwrap_err().to_string()
    }

    /// Somebody who answers each connection with this, or takes it and says nothing.
    async fn peer(answer: Option<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut held = vec![];
            while let Ok((mut socket, _)) = listener.accept().await {
                if let Some(answer) = answer {
                    let _ = socket.read(&mut [0; 1024]).await;
                    let _ = socket.write_all(answer.as_bytes()).await;
                } else {
                    held.push(socket);
                }
            }
        });
        addr.to_string()
    }

    #[tokio::test]
    async fn what_is_in_the_way_is_said_with_what_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let html = peer(Some("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")).await;
        let noise = peer(Some("220 mail.example.com ESMTP\r\n")).await;
        let silent = peer(None).await;
        for (url, expected) in [
            (format!("http://{nobody}"), "is it running?"),
            (format!("http://{html}"), "is not a taskwatchd"),
            (format!("http://{noise}"), "is not a taskwatchd"),
            (format!("https://{noise}"), "TLS with"),
            (format!("http://{silent}"), "does not answer in time"),
            ("http://nobody.invalid".to_owned(), "the name nobody.invalid is not known"),
        ] {
            let text = asked(&url).await;
            assert!(text.contains(expected) && text.contains('\n'), "{url}: {text}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_what_to_do_and_nothing_of_it_drives_the_terminal() {
        let server = Server { url: "http://a".to_owned(), host: "a".to_owned() };
        let said = |status: u16, code: &str, has_token| {
            let problem = json!({"code": code, "detail": "no \u{1b}[2J"});
            let status = StatusCode::from_u16(status).unwrap();
            server.refused(status, Some(&problem), has_token).to_string()
        };
        for (status, code, has_token, expected) in [
            (401, "unauthorized", false, "TASKWATCH_TOKEN"),
            (401, "unauthorized", true, "that is good"),
            (403, "forbidden", true, "--operate"),
            (403, "host", true, "--allow-host"),
            (503, "unavailable", true, "try again"),
        ] {
            let text = said(status, code, has_token);
            assert!(text.contains(expected) && !text.contains('\u{1b}'), "{text}");
        }
    }
}
