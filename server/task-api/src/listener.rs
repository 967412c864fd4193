//! The listening socket: HTTP/1, with or without TLS, with limits on how many may come and on how
//! slow and how large a request's head may be.

mod room;
#[cfg(test)]
mod tests;
mod tls;

use std::future::{Ready, pending, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::connect_info::Connected;
use axum::http::{Request, StatusCode};
use axum::middleware::AddExtension;
use axum::response::{IntoResponse, Response};
use axum_server::accept::Accept;
use axum_server::{AddrListener, Address, Handle, Server};
use futures_util::future::Either;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::SockRef;
use taskwatch_protocol::ErrorCode;
use taskwatch_server::{Network, Problem};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::task_tracker::TrackedFuture;
use tower_service::Service;

use room::{Place, Room};
pub(crate) use tls::Tls;

/// How long a peer may take none of what it is sent, before the kernel gives it up. A WebSocket is
/// watched more closely than that.
const UNTAKEN: Duration = Duration::from_secs(30);

/// Bytes that the kernel may hold unsent for one connection: what a peer that takes nothing can cost.
const UNSENT: u32 = 64 << 10;

/// How long those who were just accepted have for a request, when the server stops.
const FIRST_WORDS: Duration = Duration::from_secs(2);

const MAX_URI_BYTES: usize = 8 << 10;

/// What a connection may cost before it is a WebSocket.
#[derive(Clone, Debug)]
pub(crate) struct HttpLimits {
    /// Connections that speak HTTP at the same time; the next one waits to be accepted.
    pub(crate) connections: usize,
    /// Of these, from one address; the next one is closed at once.
    pub(crate) connections_per_address: usize,
    /// Many come from the address of a proxy.
    pub(crate) trusted_proxies: Vec<Network>,
    /// For a request's head, the first one and each that follows.
    pub(crate) header_timeout: Duration,
    pub(crate) max_headers: usize,
    pub(crate) max_header_bytes: usize,
}

/// Where connections come in, until it is closed.
#[derive(Debug)]
pub(crate) struct Door {
    room: Arc<Room>,
}

impl Door {
    pub(crate) fn new(limits: &HttpLimits) -> Self {
        Self { room: Room::new(limits) }
    }

    /// What [`serve`] takes.
    pub(crate) fn incoming(&self, listener: TcpListener) -> Incoming {
        Incoming { listener, room: self.room.clone() }
    }

    /// Accepts nobody any more, and waits for the first request of those who were accepted and for the
    /// answers, if it does not take too long. Those who come wait with the kernel as long as somebody has the socket open.
    pub(crate) async fn close(&self) {
        self.room.close();
        if tokio::time::timeout(FIRST_WORDS, self.room.answered_all()).await.is_err() {
            tracing::debug!("some who were accepted have asked for nothing");
        }
    }
}

/// Serves until `handle` says to stop.
///
/// Each connection is handed to hyper as `TokioIo<TcpStream>`, or with TLS around it, without
/// anything of ours, so that an upgraded one can be taken back as what it is.
pub(crate) async fn serve(
    incoming: Incoming,
    tls: Option<Tls>,
    router: Router,
    handle: Handle<Peer>,
    limits: HttpLimits,
) -> io::Result<()> {
    let server = Server::<Peer>::from_listener(incoming)
        .handle(handle)
        .first_request_timeout(limits.header_timeout)
        // After an error, such as too many open files, the loop rests before it accepts again.
        .accept_error_handler(|peer, error| match peer {
            Some(Peer(peer)) => tracing::debug!(%peer, %error, "no connection came about"),
            None => tracing::warn!(%error, "accept failed"),
        });
    match tls {
        None => run(server.acceptor(Plain), router, limits).await,
        Some(tls) => run(server.acceptor(tls), router, limits).await,
    }
}

/// The routes, told where a connection comes from.
type Http = AddExtension<Router, ConnectInfo<SocketAddr>>;

async fn run<A, S>(
    mut server: Server<Peer, A>,
    router: Router,
    limits: HttpLimits,
) -> io::Result<()>
where
    A: Accept<Arrival, Http, Service = Held<Http>, Stream = S> + Clone + Send + Sync + 'static,
    A::Future: Send,
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    // The server's own `http1_only` would refuse upgrades; a builder of this kind does not.
    let mut http = Builder::new(TokioExecutor::new()).http1_only();
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_header_bytes);
    // Nor does it keep HTTP/2 out. No request gets through there, and who makes none in time is closed.
    http.http2().max_concurrent_streams(0);
    *server.http_builder() = http;
    server.serve(router.into_make_service_with_connect_info::<SocketAddr>()).await
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(SocketAddr);

impl Address for Peer {
    type Stream = Arrival;
    type Listener = Incoming;
}

impl Connected<Peer> for SocketAddr {
    fn connect_info(Peer(peer): Peer) -> Self {
        peer
    }
}

/// Takes nobody in while as many speak HTTP as may: they wait with the kernel, and those who are in
/// have only so much time. A WebSocket is no longer one of them; the hub counts those.
#[derive(Debug)]
pub(crate) struct Incoming {
    listener: TcpListener,
    room: Arc<Room>,
}

type Arrival = (TcpStream, Place);

impl AddrListener<Arrival, Peer> for Incoming {
    async fn bind_to(Peer(addr): Peer) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        Ok(Self { listener, room: Room::unlimited() })
    }

    async fn accept_stream(&self) -> io::Result<(Arrival, Peer)> {
        let mut place = self.room.wait().await;
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                // Whoever comes now stays with the kernel.
                () = self.room.closed() => {
                    place.stay_empty();
                    pending().await
                }
                accepted = self.listener.accept() => accepted?,
            };
            if place.give_to(peer.ip()) {
                stream.set_nodelay(true)?;
                // Without this, who takes nothing of an answer would hold its place for ever.
                SockRef::from(&stream).set_tcp_user_timeout(Some(UNTAKEN))?;
                SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT)?;
                return Ok(((stream, place), Peer(peer)));
            }
            tracing::debug!(%peer, "it has as many connections as one address may have");
        }
    }

    fn get_local_addr(&self) -> io::Result<Peer> {
        self.listener.local_addr().map(Peer)
    }
}

/// A connection as it comes.
#[derive(Clone, Copy, Debug)]
struct Plain;

impl<S> Accept<Arrival, S> for Plain {
    type Stream = TcpStream;
    type Service = Held<S>;
    type Future = Ready<io::Result<(TcpStream, Held<S>)>>;

    fn accept(&self, (stream, place): Arrival, service: S) -> Self::Future {
        ready(Ok((stream, Held { service, place: Arc::new(place) })))
    }
}

/// A connection's service, and its place among those who speak HTTP: hyper drops both when the
/// connection ends or becomes a WebSocket.
#[derive(Clone, Debug)]
pub(crate) struct Held<S> {
    service: S,
    place: Arc<Place>,
}

impl<S, B> Service<Request<B>> for Held<S>
where
    S: Service<Request<B>, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = TrackedFuture<Either<S::Future, Ready<Result<Response, S::Error>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    /// hyper takes any URI that the head has room for.
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let bytes = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        let answer = if bytes <= MAX_URI_BYTES {
            Either::Left(self.service.call(request))
        } else {
            let detail = "a path with its query has at most 8 KiB";
            let refused = Problem::new(StatusCode::URI_TOO_LONG, ErrorCode::TooLarge, detail);
            Either::Right(ready(Ok(refused.into_response())))
        };
        self.place.answering(answer)
    }
}
