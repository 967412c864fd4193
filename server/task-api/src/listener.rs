//! The listening socket: HTTP/1 with limits on how slow and how large a request's head may be.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum_server::accept::NoDelayAcceptor;
use axum_server::{Handle, Server};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;

/// For a request's head, the first one and each that follows.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Serves until `handle` says to stop.
///
/// Each connection is handed to hyper as `TokioIo<TcpStream>` without anything around it, so that
/// an upgraded one can be taken back as the socket it is.
pub(crate) async fn serve(
    listener: tokio::net::TcpListener,
    router: Router,
    handle: Handle<SocketAddr>,
) -> std::io::Result<()> {
    // The server's own `http1_only` would refuse upgrades; a builder of this kind does not.
    let mut http = Builder::new(TokioExecutor::new()).http1_only();
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES);

    let mut server = Server::<SocketAddr>::from_listener(listener)
        .acceptor(NoDelayAcceptor::new())
        .handle(handle)
        .first_request_timeout(HEADER_TIMEOUT)
        // After an error, such as too many open files, the loop rests before it accepts again.
        .accept_error_handler(|peer, error| tracing::warn!(?peer, %error, "accept failed"));
    *server.http_builder() = http;
    server.serve(router.into_make_service_with_connect_info::<SocketAddr>()).await
}
