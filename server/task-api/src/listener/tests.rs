//! The whole server over TLS, and at its limits.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;

use clap::Parser;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{App, Settings, StartError};

struct Server {
    app: App,
    dir: TempDir,
    certificate: CertificateDer<'static>,
}

/// Puts a new certificate and its key into the folder.
fn certificate(dir: &TempDir) -> CertificateDer<'static> {
    let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let CertifiedKey { cert, signing_key } = made;
    fs::write(path(dir, "cert.pem"), cert.pem()).unwrap();
    fs::write(path(dir, "key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

fn path(dir: &TempDir, name: &str) -> PathBuf {
    dir.path().join(name)
}

fn settings(dir: &TempDir, flags: &[&str]) -> Settings {
    let data = path(dir, "data");
    let fixed = ["taskwatchd", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    Settings::parse_from([&fixed, flags].concat())
}

fn tls(dir: &TempDir) -> Settings {
    let (cert, key) = (path(dir, "cert.pem"), path(dir, "key.pem"));
    settings(dir, &["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()])
}

impl Server {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let certificate = certificate(&dir);
        let app = App::start(tls(&dir)).await.unwrap();
        assert!(app.url().starts_with("https://127.0.0.1:"), "{}", app.url());
        Self { app, dir, certificate }
    }

    async fn connect(&self, trusted: &CertificateDer<'static>) -> io::Result<TlsStream<TcpStream>> {
        connect(self.app.addr(), trusted).await
    }
}

/// Connects as one who trusts this certificate and no other.
async fn connect(
    addr: SocketAddr,
    trusted: &CertificateDer<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The status line of an answer.
async fn status(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    request: &str,
) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.unwrap();
    line.trim_end().to_owned()
}

#[tokio::test]
async fn tls_carries_requests_and_websockets() {
    let server = Server::start().await;
    let stream = server.connect(&server.certificate).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let ok = status(stream, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(ok, "HTTP/1.1 200 OK");

    let mut stream = server.connect(&server.certificate).await.unwrap();
    let upgrade = "GET /ws?repo=a HTTP/1.1\r\nhost: localhost\r\nx-version: 1\r\n\
                   connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let has = |seen: &[u8], text: &[u8]| seen.windows(text.len()).any(|window| window == text);
    while !has(&seen, br#""type":"subscribed""#) {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "it ended early");
    }
    assert!(has(&seen, b"HTTP/1.1 101 ") && has(&seen, br#""type":"welcome""#));
    assert!(server.connect(&certificate(&TempDir::new().unwrap())).await.is_err());
    server.app.shutdown().await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_the_next_who_comes() {
    let server = Server::start().await;
    // A certificate without its key changes nothing.
    let before = fs::read(path(&server.dir, "cert.pem")).unwrap();
    fs::write(path(&server.dir, "cert.pem"), "nonsense").unwrap();
    server.connect(&server.certificate).await.unwrap();
    fs::write(path(&server.dir, "cert.pem"), before).unwrap();

    let new = certificate(&server.dir);
    while server.connect(&new).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(server.connect(&server.certificate).await.is_err());
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_is_named() {
    let dir = TempDir::new().unwrap();
    let refused = async |text: &str| {
        let error = App::start(tls(&dir)).await.unwrap_err();
        assert!(matches!(error, StartError::File(_)), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    refused("cert.pem: cannot be read").await;
    certificate(&dir);
    let key = fs::read(path(&dir, "key.pem")).unwrap();
    fs::write(path(&dir, "key.pem"), "").unwrap();
    refused("key.pem: has no private key in PEM").await;
    certificate(&dir);
    fs::write(path(&dir, "key.pem"), key).unwrap();
    refused("key.pem: is not the key of the certificate in").await;
    fs::write(path(&dir, "cert.pem"), "").unwrap();
    refused("cert.pem: has no certificate in PEM").await;
    let alone = ["taskwatchd", "--tls-cert", "cert.pem"];
    let alone = Settings::parse_from(alone);
    assert!(matches!(alone.access(), Err(crate::InvalidSettings::HalfTls)));
}

#[tokio::test]
async fn an_upgrade_over_tls_hands_over_the_stream_itself() {
    use axum::extract::Request;
    use axum::http::{StatusCode, header};
    use hyper_util::rt::TokioIo;
    use hyper_util::server::conn::auto::upgrade::downcast;

    let upgrade = async |mut request: Request| {
        let upgraded = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>().unwrap();
        tokio::spawn(async move {
            type Ours = TokioIo<tokio_rustls::server::TlsStream<TcpStream>>;
            let parts = downcast::<Ours>(upgraded.await.unwrap()).unwrap();
            parts.io.into_inner().write_all(b"raw").await.unwrap();
        });
        let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket")];
        (StatusCode::SWITCHING_PROTOCOLS, headers)
    };
    let router = axum::Router::new().route("/", axum::routing::get(upgrade));
    let server = Server::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let tls = tls(&server.dir);
    let (limits, tls) = (tls.limits.http(vec![]), tls.tls.open().unwrap());
    let incoming = super::Door::new(&limits).incoming(listener);
    tokio::spawn(super::serve(incoming, tls, router, axum_server::Handle::new(), limits));

    let mut stream = connect(addr, &server.certificate).await.unwrap();
    let request =
        b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut reply = vec![0; 512];
    let mut filled = 0;
    while !reply[..filled].ends_with(b"\r\n\r\nraw") {
        let read = stream.read(&mut reply[filled..]).await.unwrap();
        assert_ne!(read, 0, "it ended early");
        filled += read;
    }
}

#[tokio::test]
async fn a_path_and_a_head_have_limits_that_are_told() {
    let dir = TempDir::new().unwrap();
    let app = App::start(settings(&dir, &["--max-headers", "8"])).await.unwrap();
    let ask = async |request: &str| {
        let stream = TcpStream::connect(app.addr()).await.unwrap();
        status(stream, request).await
    };
    let get = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")
    };
    assert_eq!(ask(&get("/healthz", "")).await, "HTTP/1.1 200 OK");
    let long = format!("/healthz?{}", "x".repeat(8 << 10));
    assert_eq!(ask(&get(&long, "")).await, "HTTP/1.1 414 URI Too Long");
    let many = "x: y\r\n".repeat(8);
    let answer = ask(&get("/healthz", &many)).await;
    assert_eq!(answer, "HTTP/1.1 431 Request Header Fields Too Large");
}

async fn upgrade(mut request: axum::extract::Request) -> axum::response::Response {
    use axum::http::{StatusCode, header};
    use axum::response::IntoResponse;

    let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>().unwrap();
    tokio::spawn(async move {
        let _open = upgrade.await.unwrap();
        std::future::pending::<()>().await;
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

#[tokio::test]
async fn who_finds_no_place_is_accepted_when_there_is_one() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let dir = TempDir::new().unwrap();
    let limits = super::HttpLimits { connections: 1, ..settings(&dir, &[]).limits.http(vec![]) };
    let router = axum::Router::new()
        .route("/", axum::routing::get(async || "ok"))
        .route("/upgrade", axum::routing::get(upgrade));
    let incoming = super::Door::new(&limits).incoming(listener);
    tokio::spawn(super::serve(incoming, None, router, axum_server::Handle::new(), limits));

    let silent = TcpStream::connect(addr).await.unwrap();
    let request = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let second = TcpStream::connect(addr).await.unwrap();
    let asked = tokio::spawn(async move { status(second, request).await });
    drop(silent);
    assert_eq!(asked.await.unwrap(), "HTTP/1.1 200 OK");

    // Who no longer speaks HTTP takes no place.
    let mut open = TcpStream::connect(addr).await.unwrap();
    let upgrade = "GET /upgrade HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(status(&mut open, upgrade).await, "HTTP/1.1 101 Switching Protocols");
    let third = TcpStream::connect(addr).await.unwrap();
    assert_eq!(status(third, request).await, "HTTP/1.1 200 OK");
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A socket as a supervisor keeps it, and a server on it.
async fn handed_over(dir: &TempDir, socket: &std::net::TcpListener) -> App {
    let data = path(dir, "data");
    let settings = Settings::parse_from(["taskwatchd", "--data", data.to_str().unwrap()]);
    App::start_on(socket.try_clone().unwrap(), settings).await.unwrap()
}

#[tokio::test]
async fn on_a_socket_that_was_handed_over_who_comes_too_late_is_served_by_the_next_server() {
    let dir = TempDir::new().unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let app = handed_over(&dir, &socket).await;
    assert_eq!(app.addr(), socket.local_addr().unwrap());
    let mut end = std::pin::pin!(app.shutdown());
    let _ = futures_util::poll!(&mut end);
    let while_it_ends = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
    end.await;
    let between = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
    let app = handed_over(&dir, &socket).await;
    for stream in [while_it_ends, between] {
        assert_eq!(status(stream, HEALTH).await, "HTTP/1.1 200 OK");
    }
    app.shutdown().await;
}

#[tokio::test]
async fn whose_request_was_not_read_yet_is_answered_before_the_end() {
    let dir = TempDir::new().unwrap();
    let app = App::start(settings(&dir, &[])).await.unwrap();
    let early = TcpStream::connect(app.addr()).await.unwrap();
    // They are accepted in their order.
    let second = TcpStream::connect(app.addr()).await.unwrap();
    assert_eq!(status(second, HEALTH).await, "HTTP/1.1 200 OK");
    // The server has no turn between the one and the other.
    assert_eq!(early.try_write(HEALTH.as_bytes()).unwrap(), HEALTH.len());
    let mut end = std::pin::pin!(app.shutdown());
    assert_eq!(futures_util::poll!(&mut end), Poll::Pending);
    let (mut early, mut line) = (BufReader::new(early), String::new());
    let (read, ()) = tokio::join!(early.read_line(&mut line), end);
    read.unwrap();
    assert_eq!(line.trim_end(), "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_socket_that_others_reach_is_not_served_to_everybody() {
    let dir = TempDir::new().unwrap();
    let socket = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let data = path(&dir, "data");
    let settings = Settings::parse_from(["taskwatchd", "--data", data.to_str().unwrap()]);
    let refused = App::start_on(socket, settings).await.unwrap_err();
    assert!(
        matches!(refused, StartError::Settings(crate::InvalidSettings::NotPrivate)),
        "{refused}"
    );
}
