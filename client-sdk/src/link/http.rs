//! A connection that is a series of requests over plain HTTP: an answer of server-sent events that is
//! followed by the next, or one poll after the other.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use taskwatch_protocol::{ClientFrame, CloseCode};
use tokio::time::{Sleep, sleep, sleep_until, timeout};

use super::Received;
use super::decoder::{Decoder, Fault, Form};
use super::series::{Meaning, Series};
use crate::dial::{Connection, DialError, Dialer, EVENTS, LINES, Refusal};
use crate::transport::{Route, Transport};

/// A stream of events begins at once. One whose first byte takes longer is held back by something in
/// between.
const FIRST_BYTE_LIMIT: Duration = Duration::from_secs(2);
/// How long the server may wait for something to tell a poll. The first is answered at once: behind
/// something that holds answers back it would seem as if nobody were there.
const WAIT: Duration = Duration::from_secs(25);
/// From one request to the next, if the answer to the first has brought no event.
const PACE: Duration = Duration::from_secs(1);

type Ask = http::Request<Full<Bytes>>;
type Asking = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

pub(crate) struct Requests {
    dialer: Dialer,
    route: Route,
    series: Series,
    state: State,
    /// Until the next request may be made, unless the last was worth it.
    pace: Option<Pin<Box<Sleep>>>,
}

enum State {
    /// Nothing is asked, on a connection that may still be good.
    Resting(Option<Connection>),
    Asking(Asking),
    Reading(Box<Answer>),
}

/// An answer that has begun.
struct Answer {
    connection: Connection,
    body: Incoming,
    /// The body was read to its end, so the connection is good for another request.
    is_over: bool,
    /// What was read of it and not looked at.
    rest: Bytes,
    decoder: Decoder,
}

enum Failure {
    /// Something in between does not let the answer through.
    Blocked(String),
    Dial(DialError),
}

/// What one request is made of.
struct Request {
    dialer: Dialer,
    connection: Option<Connection>,
    transport: Transport,
    query: String,
    pace: Option<Pin<Box<Sleep>>>,
    /// Whether there is another way, should this one be blocked.
    has_fallback: bool,
}

impl Requests {
    pub(crate) fn new(dialer: Dialer, route: Route, connection: Connection) -> Self {
        let state = State::Resting(Some(connection));
        Self { dialer, route, series: Series::default(), state, pace: None }
    }

    /// Takes a subscription into the next request.
    pub(super) fn ask(&mut self, frame: &ClientFrame) {
        self.series.ask(frame);
    }

    pub(super) async fn next(&mut self) -> Received {
        loop {
            match &mut self.state {
                State::Resting(connection) => {
                    let connection = connection.take();
                    let request = self.request(connection);
                    self.state = State::Asking(Box::pin(request.send()));
                }
                State::Asking(asking) => match asking.await {
                    Ok(answer) => self.state = State::Reading(Box::new(answer)),
                    Err(failure) => return self.failed(failure),
                },
                State::Reading(answer) => {
                    let mut rest = &*answer.rest;
                    let frame = answer.decoder.next(&mut rest);
                    answer.rest = answer.rest.slice_ref(rest);
                    let meaning = match frame {
                        Ok(Some(text)) => self.series.frame(text),
                        Ok(None) => match answer.read().await {
                            Ok(true) => Meaning::Alive,
                            Ok(false) if !answer.decoder.is_between_frames() => {
                                Meaning::Lost("the answer ended within a frame")
                            }
                            Ok(false) => self.series.end(self.route.transport == Transport::Sse),
                            Err(problem) => return Received::Lost(problem),
                        },
                        Err(Fault::TooBig) => {
                            let reason = "a frame is too long".to_owned();
                            return Received::Broken(CloseCode::TooBig, reason);
                        }
                        Err(Fault::NotUtf8) => {
                            let reason = "a frame is not UTF-8".to_owned();
                            return Received::Broken(CloseCode::Utf8, reason);
                        }
                    };
                    match meaning {
                        Meaning::Frame(text) => return Received::Text(text.into()),
                        Meaning::Alive => return Received::Alive,
                        Meaning::Closed(code, reason) => return Received::Closed(code, reason),
                        Meaning::Lost(reason) => return Received::Lost(reason.to_owned()),
                        Meaning::Next => self.rest(),
                    }
                }
            }
        }
    }

    /// The answer is done with. Its connection is good for another if it was read to its end.
    fn rest(&mut self) {
        let connection = match std::mem::replace(&mut self.state, State::Resting(None)) {
            State::Reading(answer) if answer.is_over => Some(answer.connection),
            _ => None,
        };
        self.state = State::Resting(connection);
    }

    fn request(&mut self, connection: Option<Connection>) -> Request {
        let pace = self.pace.take().filter(|_| !self.series.was_worth_it());
        let is_first = !self.series.has_begun();
        let mut query = self.series.query();
        let waits = self.route.transport == Transport::Sse || !is_first;
        if self.route.transport == Transport::LongPoll {
            let wait = if is_first { Duration::ZERO } else { WAIT };
            query += &format!("&wait={}", wait.as_secs());
        }
        self.pace = waits.then(|| {
            // From when this one is made.
            match pace.as_ref().filter(|before| !before.is_elapsed()) {
                Some(before) => Box::pin(sleep_until(before.deadline() + PACE)),
                None => Box::pin(sleep(PACE)),
            }
        });
        Request {
            dialer: self.dialer.clone(),
            connection,
            transport: self.route.transport,
            query,
            pace,
            has_fallback: is_first && self.route.has_fallback(),
        }
    }

    fn failed(&mut self, failure: Failure) -> Received {
        let error = match failure {
            // Another way was blocked, perhaps only for a moment, and is tried again.
            Failure::Dial(DialError::Refused(refusal))
                if self.route.reason.is_some() && refusal.is_about_the_way() =>
            {
                DialError::Failed(refusal.to_string())
            }
            Failure::Dial(error) => error,
            Failure::Blocked(why) => match self.route.blocked(&why) {
                Some(route) => {
                    self.route = route.clone();
                    self.state = State::Resting(None);
                    self.pace = None;
                    return Received::Rerouted(route);
                }
                None => DialError::Failed(why),
            },
        };
        // The error is the end, and a future that has ended must not be asked again.
        self.state = State::Asking(Box::pin(std::future::pending()));
        Received::Refused(match error {
            DialError::Failed(why) => DialError::Failed(match &self.route.reason {
                Some(reason) => format!("{why} ({reason})"),
                None => why,
            }),
            other => other,
        })
    }
}

impl Request {
    async fn send(mut self) -> Result<Answer, Failure> {
        if let Some(pace) = self.pace.take() {
            pace.await;
        }
        let request = self.dialer.request(self.transport, &self.query).await;
        let request = request.map_err(Failure::Dial)?;
        let reused = self.connection.take_if(|connection| connection.was_used());
        if let Some(mut connection) = reused
            && let Ok(answer) = connection.exchange(request.clone()).await
        {
            return self.judge(connection, answer).await;
        }
        // What was wrong may be that the peer had closed it meanwhile.
        let connection = self.connect().await?;
        if self.has_fallback && self.transport == Transport::Sse {
            match timeout(FIRST_BYTE_LIMIT, self.first_byte(connection, request)).await {
                Ok(answer) => answer,
                Err(_) => Err(Failure::Blocked(format!("nothing came in {FIRST_BYTE_LIMIT:?}"))),
            }
        } else {
            self.exchange(connection, request).await
        }
    }

    async fn connect(&mut self) -> Result<Connection, Failure> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.dialer.open().await.map_err(Failure::Dial),
        }
    }

    async fn first_byte(&self, connection: Connection, request: Ask) -> Result<Answer, Failure> {
        let mut answer = self.exchange(connection, request).await?;
        match answer.read().await {
            Ok(true) => Ok(answer),
            Ok(false) => Err(Failure::Blocked("the answer was empty".to_owned())),
            Err(problem) => Err(Failure::Dial(DialError::Failed(problem))),
        }
    }

    async fn exchange(&self, mut connection: Connection, request: Ask) -> Result<Answer, Failure> {
        match connection.exchange(request).await {
            Ok(answer) => self.judge(connection, answer).await,
            Err(problem) => Err(Failure::Dial(DialError::Failed(problem.to_string()))),
        }
    }

    /// Whether the answer is what was asked for.
    async fn judge(
        &self,
        connection: Connection,
        answer: Response<Incoming>,
    ) -> Result<Answer, Failure> {
        let (media_type, form) = match self.transport {
            Transport::Sse => (EVENTS, Form::Events),
            _ => (LINES, Form::Lines),
        };
        if answer.status() != StatusCode::OK {
            let refusal = Refusal::of(answer).await;
            return Err(if self.has_fallback && refusal.is_by_another() {
                Failure::Blocked(refusal.to_string())
            } else {
                Failure::Dial(DialError::Refused(refusal))
            });
        }
        if !is_plainly(answer.headers(), media_type) {
            let problem = format!("the answer is not {media_type}");
            return Err(if self.has_fallback {
                Failure::Blocked(problem)
            } else {
                Failure::Dial(DialError::Failed(problem))
            });
        }
        let decoder = Decoder::new(form, self.dialer.max_message);
        let body = answer.into_body();
        Ok(Answer { connection, body, is_over: false, rest: Bytes::new(), decoder })
    }
}

/// Whether this is what a body holds, with nothing around it.
fn is_plainly(headers: &HeaderMap, media_type: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_it = value
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case(media_type));
    is_it && headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity")
}

impl Answer {
    /// Reads on; false at the end.
    async fn read(&mut self) -> Result<bool, String> {
        match self.body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.rest = data;
                }
                Ok(true)
            }
            Some(Err(problem)) => Err(format!("the answer was cut: {problem}")),
            None => {
                self.is_over = true;
                Ok(false)
            }
        }
    }
}
