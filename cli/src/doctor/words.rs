//! What is said about a finding, and what to do about it. Pure.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::time::Duration;

use jiff::SignedDuration;
use taskwatch_client::diagnose::{Check, Fact, Fault, Finding, Outcome};
use taskwatch_client::{ErrorCode, Pattern};

/// What is known without a look at the network.
#[derive(Debug)]
pub(super) struct Place {
    url: String,
    /// The variable that names the proxy, if there is one.
    variable: Option<&'static str>,
}

/// What is said to a person.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) message: String,
    /// What to do about it.
    pub(super) advice: Option<String>,
}

impl Place {
    /// The server at this address, seen with these variables.
    pub(super) fn new(url: &str, env: impl Fn(&str) -> Option<OsString>) -> Self {
        let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let names = match scheme.as_str() {
            "https" | "wss" => ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
            _ => ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
        };
        let is_set = |name: &&str| env(name).is_some_and(|value| !value.is_empty());
        Self { url: url.to_owned(), variable: names.into_iter().find(is_set) }
    }

    /// Where the proxy comes from.
    fn variable(&self) -> &'static str {
        self.variable.unwrap_or("the environment")
    }

    /// The same address with another scheme.
    fn with_scheme(&self, scheme: &str) -> String {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        format!("{scheme}://{rest}")
    }
}

/// What is said of the address, which is one.
pub(super) fn address(place: &Place) -> Told {
    Told { message: place.url.clone(), advice: None }
}

/// What is said of a finding.
pub(super) fn told(finding: &Finding, place: &Place) -> Told {
    match &finding.outcome {
        Outcome::Good(fact) => Told { message: good(fact, place), advice: None },
        Outcome::Warning(fault) | Outcome::Failed(fault) => {
            let (message, advice) =
                (bad(finding.check, fault), advice(finding.check, fault, place));
            Told { message, advice: Some(advice) }
        }
        _ => Told { message: "not checked".to_owned(), advice: None },
    }
}

fn good(fact: &Fact, place: &Place) -> String {
    match fact {
        Fact::Addresses { host, addresses } => {
            let all: Vec<_> = addresses.iter().take(4).map(ToString::to_string).collect();
            match addresses.len() {
                1 if all[0] == *host => format!("{host} is an address"),
                1 => format!("{host} is {}", all[0]),
                many => format!("{host} has {many} addresses: {}", all.join(", ")),
            }
        }
        Fact::Connected { to, took } => format!("connected to {to} in {}", millis(*took)),
        Fact::Direct => "none".to_owned(),
        Fact::Proxied { proxy } => {
            format!("{proxy}, named by {}, lets the connection through", place.variable())
        }
        Fact::Plain => {
            "none: the address says http, so whoever is in between can read all".to_owned()
        }
        Fact::Encrypted { version, lasts } => {
            let days = lasts.map(|lasts| lasts.as_secs() / 86_400);
            let life = days.map_or(String::new(), |days| format!(" and lasts {days} more days"));
            format!("{version}, with a certificate that is trusted{life}")
        }
        Fact::Server => "a task server answers".to_owned(),
        Fact::Upgraded => "WebSocket gets through".to_owned(),
        Fact::Version { protocol, server } => {
            format!("{server}, protocol {protocol} on both sides")
        }
        Fact::NoToken => "none shown, none asked for".to_owned(),
        Fact::Token { subject, expires_in } => {
            let whose = subject.as_ref().map_or(String::new(), |who| format!(" as that of {who}"));
            let life =
                expires_in.map_or(String::new(), |life| format!("; it lasts {}", span(life)));
            format!("taken{whose}{life}")
        }
        Fact::Permitted { repository: Pattern::All } => {
            "all that may be read can be watched".to_owned()
        }
        Fact::Permitted { repository } => format!("{repository} may be watched"),
        Fact::RoundTrip { best } => millis(*best),
        Fact::Streamed { took } => {
            format!("server-sent events come at once: the first in {}", millis(*took))
        }
        Fact::Clock { ahead_ms } => format!("the clocks agree to {} ms", ahead_ms.unsigned_abs()),
        other => format!("{other:?}"),
    }
}

fn bad(check: Check, fault: &Fault) -> String {
    match fault {
        Fault::Unresolved { host, reason, .. } => {
            format!("the name {host} cannot be looked up: {reason}")
        }
        Fault::Unreachable { to, reason, .. } => {
            format!("nobody takes a connection at {to}: {reason}")
        }
        Fault::Proxy { reason, .. } => reason.clone(),
        Fault::ProxyPassword { proxy } => {
            format!("the proxy {proxy} wants a user and a password that it knows (407)")
        }
        Fault::Certificate { reason } => format!("the certificate is not accepted: {reason}"),
        Fault::NoTls => {
            "the address says https, but that port does not speak TLS: it speaks plain HTTP"
                .to_owned()
        }
        Fault::OnlyTls => "the address says http, but that port speaks TLS".to_owned(),
        Fault::Handshake { reason } => format!("TLS does not come about: {reason}"),
        Fault::Stranger { status, by } => {
            format!("{} answers {status}, which no task server would", by_whom(by.as_deref()))
        }
        Fault::NoHttp { reason } => format!("who is there does not speak HTTP: {reason}"),
        Fault::Blocked { status: Some(status), by, reason } => {
            format!("WebSocket is blocked: {} answers {status}: {reason}", by_whom(by.as_deref()))
        }
        Fault::Blocked { reason, .. } => format!("WebSocket is blocked: {reason}"),
        Fault::Refused { status, detail, .. } => format!("the server refuses: {detail} ({status})"),
        Fault::Version { ours, detail } => {
            format!(
                "this client speaks version {ours} of the protocol, and the server does not: {detail}"
            )
        }
        Fault::TokenMissing => "the server wants a token, and there is none".to_owned(),
        Fault::TokenRefused { detail } => format!("the server does not take the token: {detail}"),
        Fault::TokenUnavailable { reason } => format!("there is no token to show: {reason}"),
        Fault::Denied { repository, code } => {
            format!("{repository} does not exist, or may not be read with this token ({code})")
        }
        Fault::Silent { within } if check == Check::Sse => {
            format!("server-sent events are held back: nothing came within {}", span(*within))
        }
        Fault::Silent { within } => format!("no answer within {}", span(*within)),
        Fault::Lost { reason } => reason.clone(),
        Fault::Clock { ahead_ms } => {
            let apart = span(Duration::from_millis(ahead_ms.unsigned_abs()));
            let side = if *ahead_ms > 0 { "ahead of" } else { "behind" };
            format!("the server's clock is {apart} {side} this machine's")
        }
        other => format!("{other:?}"),
    }
}

fn advice(check: Check, fault: &Fault, place: &Place) -> String {
    match fault {
        Fault::Unresolved { is_proxy: true, .. } => {
            format!("this is the name of the proxy in {}: is it spelt right there?", place.variable())
        }
        Fault::Unresolved { .. } => {
            "is the name in --url spelt right? Some names are known only inside a company's network".to_owned()
        }
        Fault::Unreachable { is_proxy: true, .. } => {
            format!("this is the proxy that {} names: is it there? NO_PROXY names hosts that need none", place.variable())
        }
        Fault::Unreachable { kind: ErrorKind::ConnectionRefused, .. } => {
            "nothing listens there: is the server running, and is the port in --url right? taskwatchd \
             says `listening on` with its port when it starts, by default 8787"
                .to_owned()
        }
        Fault::Unreachable { .. } => {
            "a firewall may swallow the connection, or the server is down: ask who runs it which address \
             and port are open to you"
                .to_owned()
        }
        Fault::Proxy { .. } => format!(
            "the proxy comes from {}. Ask who runs it to allow CONNECT to the server, or name the \
             server's host in NO_PROXY to go around it",
            place.variable()
        ),
        Fault::ProxyPassword { .. } => format!(
            "put them into {}, as in http://USER:PASSWORD@HOST:PORT",
            place.variable()
        ),
        Fault::Certificate { .. } => {
            "an expired one has to be renewed by who runs the server; one of a private authority is trusted \
             with --cacert FILE; and the name in --url has to be one that it is for"
                .to_owned()
        }
        Fault::NoTls => format!(
            "try --url {}, which is not encrypted, or the port on which the server speaks TLS",
            place.with_scheme("http")
        ),
        Fault::OnlyTls => format!("try --url {}", place.with_scheme("https")),
        Fault::Handshake { .. } => {
            "something in between may cut TLS, or the server speaks a version before 1.2".to_owned()
        }
        Fault::Stranger { .. } => {
            "is it the right host and port? If the server lives below a path, such as /team, that belongs \
             into --url. A gateway that answers 502 or 503 has no server behind it"
                .to_owned()
        }
        Fault::NoHttp { .. } => "is it the right port? Something else may listen there".to_owned(),
        Fault::Blocked { .. } => {
            "the watcher goes over plain HTTP by itself if `sse` below is well. To let WebSocket through, a proxy \
             has to pass the headers Upgrade and Connection on, over HTTP/1.1"
                .to_owned()
        }
        Fault::Refused { status: 404, .. } => {
            "it is a task server, but has nothing at this path: does the path in --url belong there?"
                .to_owned()
        }
        Fault::Refused { code: Some(ErrorCode::Host), .. } => {
            "the server does not know the name in --url: start it with --allow-host NAME".to_owned()
        }
        Fault::Refused { code: Some(ErrorCode::RateLimited | ErrorCode::Unavailable), .. } => {
            "the server is busy or restarts: try again in a moment".to_owned()
        }
        Fault::Refused { .. } => "show this to who runs the server".to_owned(),
        Fault::Version { .. } => {
            "update whichever of the two is older; `taskwatch --version` says what this one is".to_owned()
        }
        Fault::TokenMissing => {
            "give one with --token-file FILE, or in the variable TASKWATCH_TOKEN; who runs the server makes it \
             with `taskwatchd token new`"
                .to_owned()
        }
        Fault::TokenRefused { .. } => {
            "has it run out, was it withdrawn, or is it one of another server? Look at the clocks below, and ask \
             who runs the server for a new one"
                .to_owned()
        }
        Fault::TokenUnavailable { .. } => "look at the file that --token-file names".to_owned(),
        Fault::Denied { .. } => {
            "is the name spelt right? If it is, the token needs the right to read it: ask who made the token".to_owned()
        }
        Fault::Silent { .. } if check == Check::Sse => {
            "something in between collects answers before it passes them on. It matters only where WebSocket is \
             blocked, and then events are polled for; nginx needs `proxy_buffering off`"
                .to_owned()
        }
        Fault::Silent { .. } | Fault::Lost { .. } => {
            "the network or the server may be overloaded: try again, and with -vv to see each step".to_owned()
        }
        Fault::Clock { .. } => {
            "let both machines take their time from the network, as `timedatectl` shows and sets it: the life of \
             tokens and times such as --since 10m depend on it"
                .to_owned()
        }
        _ => "show this to who runs the server".to_owned(),
    }
}

/// Who answered.
fn by_whom(name: Option<&str>) -> &str {
    name.unwrap_or("something that does not say its name")
}

/// `0.04 ms`, `12.5 ms`
fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1_000.0;
    if millis < 1.0 { format!("{millis:.2} ms") } else { format!("{millis:.1} ms") }
}

/// `5s`, `1h 2m`: to a tenth of a second below ten.
fn span(time: Duration) -> String {
    if time < Duration::from_secs(10) && time.subsec_millis() != 0 {
        return format!("{:.1} s", time.as_secs_f64());
    }
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    format!("{:#}", SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_the_one_that_counts() {
        let place = |url: &str, set: &[&str]| {
            let set: Vec<String> = set.iter().map(|name| (*name).to_owned()).collect();
            Place::new(url, |name| set.iter().any(|it| it == name).then(|| "http://p".into()))
        };
        assert_eq!(place("http://x", &["HTTPS_PROXY"]).variable, None);
        assert_eq!(place("http://x", &["http_proxy", "ALL_PROXY"]).variable, Some("http_proxy"));
        assert_eq!(place("WSS://x", &["HTTPS_PROXY", "ALL_PROXY"]).variable, Some("HTTPS_PROXY"));
        assert_eq!(place("https://x", &["HTTP_PROXY", "all_proxy"]).variable, Some("all_proxy"));
        let empty = Place::new("http://x", |_| Some(OsString::new()));
        assert_eq!(empty.variable, None);
    }

    #[test]
    fn an_address_is_proposed_whole() {
        let place = Place::new("https://tasks.example:1/team", |_| None);
        let advice = advice(Check::Tls, &Fault::NoTls, &place);
        assert!(advice.contains("--url http://tasks.example:1/team,"), "{advice}");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(span(Duration::from_millis(2_100)), "2.1 s");
        assert_eq!(span(Duration::from_secs(5)), "5s");
        assert_eq!(span(Duration::from_millis(3_600_400)), "1h");
        assert_eq!(millis(Duration::from_micros(1_234)), "1.2 ms");
        assert_eq!(millis(Duration::from_micros(42)), "0.04 ms");
    }
}
