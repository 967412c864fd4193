//! Takes the steps.

use std::time::{Duration, Instant, SystemTime};

use taskwatch_protocol::{
    Auth, ClientFrame, ClientMessage, ErrorCode, PROTOCOL_VERSION, Pattern, ServerMessage,
    Subscribe, Subscribed, Timestamp, Welcome,
};

use super::report::{Report, Stop};
use super::talk::{STEP_LIMIT, ask, date_of, fault_of, next, welcome, within};
use super::{CLOCK_TOLERANCE, Check, Fact, Fault, Finding, Outcome};
use crate::dial::{DialError, Dialer, Refusal, TlsFault};
use crate::link::Link;
use crate::transport::{Route, Transport};

/// Questions, of which the fastest counts.
const PINGS: usize = 5;

/// A way to a server while it is gone.
pub(super) struct Examination<'a, F> {
    dialer: &'a Dialer,
    repositories: Vec<Pattern>,
    report: Report<F>,
    /// How far the server's clock is ahead, as far as that is known.
    ahead_ms: Option<i64>,
}

impl<'a, F: FnMut(Finding)> Examination<'a, F> {
    pub(super) fn new(dialer: &'a Dialer, repositories: Vec<Pattern>, tell: F) -> Self {
        Self { dialer, repositories, report: Report::new(tell), ahead_ms: None }
    }

    pub(super) async fn run(mut self) {
        // Where the way ends early, the clock may be the reason.
        if self.network().await.is_ok() {
            let _ = self.protocol().await;
        }
        if let Some(ahead_ms) = self.ahead_ms {
            let is_off = u128::from(ahead_ms.unsigned_abs()) > CLOCK_TOLERANCE.as_millis();
            self.report.add(
                Check::Clock,
                match is_off {
                    true => Outcome::Warning(Fault::Clock { ahead_ms }),
                    false => Outcome::Good(Fact::Clock { ahead_ms }),
                },
            );
        }
        self.report.end();
    }

    /// Up to whoever answers a request.
    async fn network(&mut self) -> Result<(), Stop> {
        let dialer = self.dialer;
        let (host, port) = dialer.nearest();
        let (host, to) = (host.to_string(), format!("{host}:{port}"));
        let is_proxy = dialer.proxy().is_some();
        match within(dialer.look_up()).await {
            Ok(Ok(addresses)) => self.report.good(Check::Name, Fact::Addresses { host, addresses }),
            Ok(Err(problem)) => {
                let fault = Fault::Unresolved { host, is_proxy, reason: problem.to_string() };
                return Err(self.report.failed(Check::Name, fault));
            }
            Err(fault) => return Err(self.report.failed(Check::Name, fault)),
        }
        let begin = clock();
        match within(dialer.reach()).await {
            Ok(Ok(to)) => {
                let took = begin.elapsed();
                self.report.good(Check::Tcp, Fact::Connected { to, took });
            }
            other => {
                let problem = match other {
                    Ok(Err(problem)) => problem,
                    _ => std::io::ErrorKind::TimedOut.into(),
                };
                let (kind, reason) = (problem.kind(), problem.to_string());
                let fault = Fault::Unreachable { to, is_proxy, kind, reason };
                return Err(self.report.failed(Check::Tcp, fault));
            }
        }
        let io = within(dialer.tunnel()).await.unwrap_or_else(|_| {
            Err(DialError::Failed(format!("nothing came within {STEP_LIMIT:?}")))
        });
        let io = match (io, dialer.proxy()) {
            (Ok(io), Some(proxy)) => {
                self.report.good(Check::Proxy, Fact::Proxied { proxy });
                io
            }
            (Ok(io), None) => {
                self.report.good(Check::Proxy, Fact::Direct);
                io
            }
            (Err(error), proxy) => {
                let fault = match (error, proxy) {
                    (DialError::Failed(reason), Some(proxy)) => Fault::Proxy { proxy, reason },
                    (error, _) => fault_of(error),
                };
                return Err(self.report.failed(Check::Proxy, fault));
            }
        };
        if dialer.is_encrypted() {
            let fault = match within(dialer.handshake(io)).await {
                Ok(Ok((version, runs_out))) => {
                    let lasts = runs_out.map(|at| Duration::from_secs(at).saturating_sub(today()));
                    self.report.good(Check::Tls, Fact::Encrypted { version, lasts });
                    None
                }
                Ok(Err(TlsFault::Certificate(reason))) => Some(Fault::Certificate { reason }),
                Ok(Err(TlsFault::Plain)) => Some(Fault::NoTls),
                Ok(Err(TlsFault::Other(reason))) => Some(Fault::Handshake { reason }),
                Err(fault) => Some(fault),
            };
            if let Some(fault) = fault {
                return Err(self.report.failed(Check::Tls, fault));
            }
        } else {
            drop(io);
        }
        self.server().await
    }

    /// Whoever answers: is it a task server?
    async fn server(&mut self) -> Result<(), Stop> {
        let begin = clock();
        let answer = within(self.dialer.greet()).await;
        let took = begin.elapsed();
        let fault = match answer {
            Ok(Ok(answer)) => {
                let date = date_of(answer.headers());
                self.ahead_ms = date.map(|date| ahead(date, took));
                let refusal = Refusal::of(answer).await;
                if refusal.code.as_ref().is_some_and(ErrorCode::is_known) {
                    None
                } else {
                    Some(Fault::Stranger { status: refusal.status, by: refusal.by })
                }
            }
            Ok(Err(DialError::Failed(reason))) => Some(Fault::NoHttp { reason }),
            Ok(Err(error)) => Some(fault_of(error)),
            Err(_) => Some(Fault::NoHttp { reason: format!("nothing came within {STEP_LIMIT:?}") }),
        };
        let is_plain = !self.dialer.is_encrypted();
        if fault.is_some() && is_plain && self.dialer.wants_tls().await {
            self.ahead_ms = None;
            return Err(self.report.failed(Check::Tls, Fault::OnlyTls));
        }
        if is_plain {
            self.report.good(Check::Tls, Fact::Plain);
        }
        match fault {
            None => {
                self.report.good(Check::Server, Fact::Server);
                Ok(())
            }
            Some(fault) => {
                // The clock of somebody else says nothing.
                self.ahead_ms = None;
                Err(self.report.failed(Check::Server, fault))
            }
        }
    }

    /// What the server says.
    async fn protocol(&mut self) -> Result<(), Stop> {
        let token = match self.dialer.has_tokens() {
            true => match within(self.dialer.token()).await {
                Ok(Ok(token)) => Some(token),
                Ok(Err(problem)) => {
                    let fault = Fault::TokenUnavailable { reason: problem.to_string() };
                    return Err(self.report.failed(Check::Token, fault));
                }
                Err(fault) => return Err(self.report.failed(Check::Token, fault)),
            },
            false => None,
        };
        let Some(mut link) = self.upgrade().await? else { return self.over_http().await };
        self.report.good(Check::Upgrade, Fact::Upgraded);
        let welcome = match welcome(&mut link).await {
            Ok(welcome) => welcome,
            Err(fault) => return Err(self.report.failed(Check::Version, fault)),
        };
        let Welcome { protocol, server, token_expires_in_ms, .. } = welcome;
        self.report.good(Check::Version, Fact::Version { protocol, server });
        let fact = match token {
            None => Fact::NoToken,
            Some(token) => {
                let auth = Auth { token: token.text().to_owned() };
                let answer = ask(&mut link, ClientMessage::Auth(auth)).await;
                let subject = match answer.map(|frame| frame.message) {
                    Ok(ServerMessage::Authenticated(answer)) => Some(answer.subject),
                    // It was taken with the upgrade. This only asked whose it is.
                    _ => None,
                };
                let expires_in = token_expires_in_ms.map(Duration::from_millis);
                Fact::Token { subject, expires_in }
            }
        };
        self.report.good(Check::Token, fact);
        let subscribe = ClientMessage::Subscribe(Subscribe::live(self.repositories.clone()));
        match ask(&mut link, subscribe).await.map(|frame| frame.message) {
            Ok(ServerMessage::Subscribed(answer)) => self.permissions(&answer),
            Ok(ServerMessage::Error(error)) => {
                let fault = Fault::Lost { reason: error.message };
                self.report.failed(Check::Permission, fault);
            }
            Ok(_) => {
                let reason = "the answer is not one to a subscription".to_owned();
                self.report.failed(Check::Permission, Fault::Lost { reason });
            }
            Err(fault) => return Err(self.report.failed(Check::Permission, fault)),
        }
        self.round_trip(&mut link).await?;
        match self.stream(vec![Pattern::All]).await {
            Ok((took, _)) => self.report.good(Check::Sse, Fact::Streamed { took }),
            // It is needed only where WebSocket is blocked.
            Err(fault) => self.report.add(Check::Sse, Outcome::Warning(fault)),
        }
        Ok(())
    }

    /// A WebSocket, or none since something in between blocks it.
    async fn upgrade(&mut self) -> Result<Option<Link>, Stop> {
        let route = Route::only(Transport::WebSocket);
        let blocked = match within(self.dialer.dial(route)).await {
            Ok(Ok((_, link))) => return Ok(Some(link)),
            Ok(Err(DialError::Refused(refusal))) if !refusal.is_block() => {
                let (check, fault) = self.refused(refusal);
                return Err(self.report.failed(check, fault));
            }
            Ok(Err(DialError::Refused(Refusal { status, detail, by, .. }))) => {
                Fault::Blocked { status: Some(status), by, reason: detail }
            }
            Ok(Err(DialError::Failed(reason))) => Fault::Blocked { status: None, by: None, reason },
            Ok(Err(error)) => fault_of(error),
            Err(_) => {
                let reason = format!("there was no answer within {STEP_LIMIT:?}");
                Fault::Blocked { status: None, by: None, reason }
            }
        };
        self.report.failed(Check::Upgrade, blocked);
        Ok(None)
    }

    /// What a refusal of the server is about.
    fn refused(&self, Refusal { status, code, detail, .. }: Refusal) -> (Check, Fault) {
        match code {
            Some(ErrorCode::Version | ErrorCode::VersionMissing) => {
                (Check::Version, Fault::Version { ours: PROTOCOL_VERSION, detail })
            }
            _ if status == 401 && !self.dialer.has_tokens() => (Check::Token, Fault::TokenMissing),
            _ if status == 401 => (Check::Token, Fault::TokenRefused { detail }),
            code => (Check::Upgrade, Fault::Refused { status, code, detail }),
        }
    }

    /// What can be known without a WebSocket.
    async fn over_http(&mut self) -> Result<(), Stop> {
        match self.stream(self.repositories.clone()).await {
            Ok((took, answer)) => {
                self.report.good(
                    Check::Token,
                    match self.dialer.has_tokens() {
                        true => Fact::Token { subject: None, expires_in: None },
                        false => Fact::NoToken,
                    },
                );
                self.permissions(&answer);
                self.report.good(Check::Sse, Fact::Streamed { took });
                Ok(())
            }
            Err(fault) if fault.is_refusal() => Err(self.report.failed(Check::Token, fault)),
            Err(fault) => Err(self.report.failed(Check::Sse, fault)),
        }
    }

    fn permissions(&mut self, answer: &Subscribed) {
        for repository in std::mem::take(&mut self.repositories) {
            let mut denied = answer.denied.iter();
            let code = denied.find(|it| it.repository == repository).map(|it| it.code.clone());
            if answer.accepted.contains(&repository) {
                self.report.good(Check::Permission, Fact::Permitted { repository });
            } else {
                let code = code.unwrap_or(ErrorCode::NotFound);
                self.report.failed(Check::Permission, Fault::Denied { repository, code });
            }
        }
    }

    /// Asks several times. The fastest answer says most about the clock, too.
    async fn round_trip(&mut self, link: &mut Link) -> Result<(), Stop> {
        let mut best: Option<Duration> = None;
        for _ in 0..PINGS {
            let begin = clock();
            let frame = match ask(link, ClientMessage::Ping).await {
                Ok(frame) => frame,
                Err(fault) => return Err(self.report.failed(Check::RoundTrip, fault)),
            };
            let took = begin.elapsed();
            if best.is_none_or(|best| took < best) {
                best = Some(took);
                let sent = frame.timestamp.map(Timestamp::unix_millis);
                self.ahead_ms = sent.map(|sent| ahead(sent, took)).or(self.ahead_ms);
            }
        }
        let best = best.unwrap_or_default();
        self.report.good(Check::RoundTrip, Fact::RoundTrip { best });
        Ok(())
    }

    /// How long the first server-sent event takes, and what it says.
    async fn stream(&self, repositories: Vec<Pattern>) -> Result<(Duration, Subscribed), Fault> {
        let begin = clock();
        let answer = async {
            let dialled = self.dialer.dial(Route::only(Transport::Sse)).await;
            let (_, mut link) = dialled.map_err(fault_of)?;
            let subscribe = ClientMessage::Subscribe(Subscribe::live(repositories));
            let sent = link.send(&ClientFrame::new(subscribe)).await;
            sent.map_err(|reason| Fault::Lost { reason })?;
            loop {
                if let ServerMessage::Subscribed(answer) = next(&mut link).await?.message {
                    return Ok(answer);
                }
            }
        };
        let answer = within(answer).await??;
        Ok((begin.elapsed(), answer))
    }
}

/// How far a clock is ahead that showed this time, in Unix milliseconds, in the middle of a question and
/// its answer.
fn ahead(shown: i64, took: Duration) -> i64 {
    let middle = today().saturating_sub(took / 2);
    shown - i64::try_from(middle.as_millis()).unwrap_or(i64::MAX)
}

/// What this machine's clock shows: the time since 1970.
fn today() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "it is what is looked at")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn clock() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "how long it takes is what is looked at")]
    Instant::now()
}
