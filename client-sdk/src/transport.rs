//! Which way the next connection takes: WebSocket, or plain HTTP where something in between lets no
//! WebSocket through. Plain data: nobody is dialled here.

use std::fmt;
use std::time::{Duration, Instant};

/// WebSocket is tried again after so long,
const TRY_AGAIN: Duration = Duration::from_secs(9 * 60);
/// and up to so much later, so that many clients do not try at the same time.
pub(crate) const TRY_AGAIN_SPREAD: Duration = Duration::from_secs(2 * 60);

/// The way on which events come from the server. The events are the same on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// One connection for both directions.
    WebSocket,
    /// An answer over plain HTTP that does not end for about ten minutes.
    Sse,
    /// One HTTP request after the other, each answered when something has happened.
    LongPoll,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebSocket => "WebSocket",
            Self::Sse => "server-sent events",
            Self::LongPoll => "long polling",
        })
    }
}

/// Which [`Transport`] is taken; see [`ClientBuilder::transport`](crate::ClientBuilder::transport).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportChoice {
    /// WebSocket. Where something in between lets none through, server-sent events; where those are
    /// held back, long polling.
    #[default]
    Auto,
    /// WebSocket and nothing else.
    WebSocket,
    /// Server-sent events and nothing else.
    Sse,
    /// Long polling and nothing else.
    LongPoll,
}

/// The way of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) transport: Transport,
    /// Whether another way is taken where this one is blocked.
    falls_back: bool,
    /// Why it is not WebSocket, unless that was chosen.
    pub(crate) reason: Option<String>,
}

impl Route {
    pub(crate) fn only(transport: Transport) -> Self {
        Self { transport, falls_back: false, reason: None }
    }

    /// The way to take where this one is blocked; `None` if there is none.
    pub(crate) fn blocked(&self, why: &str) -> Option<Self> {
        let (transport, reason) = match self.transport {
            _ if !self.falls_back => return None,
            Transport::WebSocket => (Transport::Sse, format!("WebSocket is blocked: {why}")),
            Transport::Sse => {
                let before = self.reason.as_ref().map(|reason| format!("{reason}; "));
                let before = before.unwrap_or_default();
                (Transport::LongPoll, format!("{before}{} are held back: {why}", Transport::Sse))
            }
            Transport::LongPoll => return None,
        };
        Some(Self { transport, falls_back: true, reason: Some(reason) })
    }

    pub(crate) fn has_fallback(&self) -> bool {
        self.falls_back && self.transport != Transport::LongPoll
    }
}

/// Knows the ways of one stream.
#[derive(Debug)]
pub(crate) struct Routes {
    choice: TransportChoice,
    /// What worked while WebSocket was blocked, and until when it is taken first.
    found: Option<(Route, Instant)>,
    /// For the next attempt, since the last one was opened and stayed mute.
    suspected: Option<Route>,
}

impl Routes {
    pub(crate) fn new(choice: TransportChoice) -> Self {
        Self { choice, found: None, suspected: None }
    }

    /// The way of the next attempt.
    pub(crate) fn next(&mut self, now: Instant) -> Route {
        let transport = match self.choice {
            TransportChoice::Auto => {
                let found = self.found.as_ref().filter(|(_, until)| now < *until);
                let known = self.suspected.take().or_else(|| found.map(|(route, _)| route.clone()));
                let first = Route { falls_back: true, ..Route::only(Transport::WebSocket) };
                return known.unwrap_or(first);
            }
            TransportChoice::WebSocket => Transport::WebSocket,
            TransportChoice::Sse => Transport::Sse,
            TransportChoice::LongPoll => Transport::LongPoll,
        };
        Route::only(transport)
    }

    /// A subscription was acknowledged on this way. It is remembered, so that another connection does
    /// not begin with an attempt that is blocked.
    pub(crate) fn worked(&mut self, now: Instant, route: &Route, spread: Duration) {
        if route.transport == Transport::WebSocket {
            self.found = None;
        } else if route.falls_back {
            let known = self.found.take().filter(|(_, until)| now < *until);
            let until = known.map_or(now + TRY_AGAIN + spread, |(_, until)| until);
            self.found = Some((route.clone(), until));
        }
    }

    /// This way was open, and nothing came. It may be one that lets no frames through.
    pub(crate) fn mute(&mut self, route: &Route) {
        self.suspected = route.blocked("nothing came");
    }

    /// When WebSocket is tried again; `None` if it is not to be, or nothing is known against it.
    pub(crate) fn try_again(&self) -> Option<Instant> {
        self.found.as_ref().map(|(_, until)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any beginning will do")]
        Instant::now()
    }

    #[test]
    fn it_goes_from_websocket_over_sse_to_long_polling_and_says_why() {
        let mut routes = Routes::new(TransportChoice::Auto);
        let first = routes.next(start());
        assert_eq!((first.transport, first.reason.as_deref()), (Transport::WebSocket, None));
        let second = first.blocked("426").unwrap();
        assert_eq!(second.transport, Transport::Sse);
        assert_eq!(second.reason.as_deref(), Some("WebSocket is blocked: 426"));
        let third = second.blocked("2 s").unwrap();
        assert_eq!(third.transport, Transport::LongPoll);
        let reason = "WebSocket is blocked: 426; server-sent events are held back: 2 s";
        assert_eq!(third.reason.as_deref(), Some(reason));
        assert_eq!(third.blocked("502"), None);
        assert!(first.has_fallback() && second.has_fallback() && !third.has_fallback());
        // Nothing worked, so nothing is remembered.
        assert_eq!(routes.next(start()), first);
        assert_eq!(routes.try_again(), None);
    }

    #[test]
    fn what_worked_is_taken_until_websocket_is_tried_again() {
        let start = start();
        let mut routes = Routes::new(TransportChoice::Auto);
        let first = routes.next(start);
        let sse = first.blocked("426").unwrap();
        routes.worked(start, &sse, MINUTE);
        assert_eq!(routes.try_again(), Some(start + 10 * MINUTE));
        assert_eq!(routes.next(start + 9 * MINUTE), sse);
        // A further connection does not put it off.
        routes.worked(start + 9 * MINUTE, &sse, MINUTE);
        assert_eq!(routes.try_again(), Some(start + 10 * MINUTE));
        assert_eq!(routes.next(start + 10 * MINUTE), first);
        // It is still blocked,
        routes.worked(start + 10 * MINUTE, &sse, Duration::ZERO);
        assert_eq!(routes.try_again(), Some(start + 19 * MINUTE));
        // or no longer.
        routes.worked(start + 19 * MINUTE, &first, MINUTE);
        assert_eq!((routes.try_again(), routes.next(start)), (None, first));
    }

    #[test]
    fn a_way_that_stays_mute_is_left_for_one_attempt() {
        let mut routes = Routes::new(TransportChoice::Auto);
        let first = routes.next(start());
        routes.mute(&first);
        let second = routes.next(start());
        assert_eq!(second.transport, Transport::Sse);
        // It did not work either.
        assert_eq!(routes.next(start()), first);
        routes.worked(start(), &second, MINUTE);
        routes.mute(&second);
        let third = routes.next(start());
        assert_eq!(third.transport, Transport::LongPoll);
        routes.worked(start(), &third, MINUTE);
        assert_eq!(routes.next(start()), third);
    }

    #[test]
    fn a_choice_is_final() {
        for (choice, transport) in [
            (TransportChoice::WebSocket, Transport::WebSocket),
            (TransportChoice::Sse, Transport::Sse),
            (TransportChoice::LongPoll, Transport::LongPoll),
        ] {
            let mut routes = Routes::new(choice);
            let route = routes.next(start());
            assert_eq!(route, Route::only(transport));
            assert_eq!((route.blocked("426"), route.has_fallback()), (None, false));
            routes.worked(start(), &route, MINUTE);
            routes.mute(&route);
            assert_eq!((routes.next(start()), routes.try_again()), (route, None));
        }
    }
}
