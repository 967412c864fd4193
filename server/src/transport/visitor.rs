//! Who asks for a connection, and whether there is room for one more of theirs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use http::header::{RETRY_AFTER, USER_AGENT};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use taskwatch_protocol::{ErrorCode, Subscribe};
use tracing::Span;
use uuid::Uuid;

use crate::access::{client_address, identify};
use crate::clock::Now;
use crate::hub::{About, ConnectionTransport, NotAdmitted, Over, Place};
use crate::session::{Delivery, Session, Terms};
use crate::{Hub, Principal, Problem, Token};

/// Where a connection comes from, as far as that is known.
pub(super) struct Peer {
    /// The other end of the socket; a proxy, perhaps.
    socket: Option<SocketAddr>,
    /// Whom it counts for.
    address: Option<IpAddr>,
    /// What it calls itself.
    agent: Option<Arc<str>>,
}

impl Peer {
    pub(super) fn of(hub: &Hub, request: &Parts) -> Self {
        let socket = request.extensions.get().map(|ConnectInfo(socket)| *socket);
        let agent = request.headers.get(USER_AGENT).filter(|agent| !agent.is_empty());
        let agent = agent.map(|agent| hub.agent(&String::from_utf8_lossy(agent.as_bytes())));
        Self { socket, address: client_address(&hub.config().access, request), agent }
    }

    /// A place for a connection of theirs.
    pub(super) fn enter(
        &self,
        hub: &Hub,
        principal: &Principal,
        over: Over,
    ) -> Result<Place, Problem> {
        hub.admit(principal, self.address, over).map_err(Problem::from)
    }

    pub(super) fn span(&self, connection_id: Uuid, principal: &Principal) -> Span {
        // A client behind a proxy is another than the peer.
        let client = self.address.filter(|address| {
            self.socket.is_some_and(|socket| socket.ip().to_canonical() != *address)
        });
        tracing::info_span!(
            "connection",
            id = %connection_id,
            peer = self.socket.map(tracing::field::display),
            client = client.map(tracing::field::display),
            principal = principal.subject(),
        )
    }
}

/// Who is at the other end, how that is known, and their place.
pub(crate) struct Visitor {
    pub(super) principal: Principal,
    known: Known,
    /// How often access had changed before the principal was found out.
    access_changes: u64,
    place: Place,
    about: Box<About>,
}

/// A connection that has begun, for whoever brings its wire.
pub(crate) struct Begun {
    pub(crate) place: Place,
    pub(crate) about: Box<About>,
    pub(crate) session: Session,
    pub(crate) delivery: Delivery,
}

/// How it is known who it is.
enum Known {
    /// The authenticator said so, of this token or of none.
    By(Option<Token>),
    /// Who called said so, and has to find it out anew when it may have changed.
    Elsewhere,
}

impl Visitor {
    /// Finds out who it is, and takes a place for them.
    pub(super) async fn admit(
        hub: &Hub,
        peer: &Peer,
        token: Result<Option<Token>, Problem>,
        over: Over,
    ) -> Result<Self, Problem> {
        let access_changes = hub.access_changes();
        let known = async {
            let token = token?;
            let principal = identify(&*hub.config().authenticator, token.as_ref()).await?;
            Ok::<_, Problem>((token, principal))
        };
        let unknown = |refused| {
            hub.counters().refused("unauthorized");
            refused
        };
        let (token, principal) = known.await.map_err(unknown)?;
        let place = peer.enter(hub, &principal, over)?;
        let about = Box::new(About {
            peer: peer.socket,
            client: peer.address,
            agent: peer.agent.clone(),
            ..About::new(over.into())
        });
        Ok(Self { principal, known: Known::By(token), access_changes, place, about })
    }

    /// Somebody whom the caller knows.
    pub(crate) fn known_elsewhere(hub: &Hub, principal: Principal) -> Result<Self, NotAdmitted> {
        let place = hub.admit(&principal, None, Over::Poll)?;
        let access_changes = hub.access_changes();
        let about = Box::new(About::new(ConnectionTransport::Call));
        Ok(Self { principal, known: Known::Elsewhere, access_changes, place, about })
    }

    /// The id of the connection.
    pub(super) fn id(&self) -> Uuid {
        self.about.id
    }

    /// Begins a session that asks for this first. Who has no terms can talk back.
    pub(crate) fn begin(
        self,
        hub: &Hub,
        terms: Option<Terms>,
        subscriptions: Vec<Subscribe>,
        now: Now,
    ) -> Begun {
        let Self { principal, known, access_changes, place, about } = self;
        let (member, position) = hub.enter(principal, access_changes);
        let selection = member.selection().clone();
        let (token, is_elsewhere) = match known {
            Known::By(token) => (token, false),
            Known::Elsewhere => (None, true),
        };
        let phase = rand::random();
        let mut session = Session::new(hub.rules(), selection, token, position, phase, now);
        if is_elsewhere {
            session.known_elsewhere();
        }
        if let Some(terms) = terms {
            session.listen(terms, now.instant);
        }
        for subscription in subscriptions {
            session.request(subscription);
        }
        let delivery = Delivery::new(hub.clone(), member, place.reads());
        Begun { place, about, session, delivery }
    }
}

impl From<NotAdmitted> for Problem {
    fn from(reason: NotAdmitted) -> Self {
        let (status, code) = match reason {
            NotAdmitted::Full | NotAdmitted::Stopping | NotAdmitted::TooFast => {
                (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable)
            }
            NotAdmitted::Principal(_) | NotAdmitted::Address(_) => {
                (StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited)
            }
        };
        Self::new(status, code, reason.to_string())
            .header(RETRY_AFTER, HeaderValue::from_static("5"))
    }
}
