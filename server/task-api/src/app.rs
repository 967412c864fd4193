//! Puts store, hub and routes together, and takes them apart again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use taskwatch_server::{FileError, Hub, HubConfig};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::listener::{self, Door, Peer};
use crate::mcp::Mcp;
use crate::rest;
use crate::service::TaskService;
use crate::settings::{InvalidSettings, Settings};
use crate::store::{OpenError, Store};

/// How long requests in flight may take when the server stops.
const FINISH: Duration = Duration::from_secs(10);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings do not go together.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// A file that says who may do what cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The address is taken, or not one of this machine.
    #[error("cannot listen on {addr}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The store's thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Signals cannot be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(io::Error),
}

/// A running server.
#[derive(Debug)]
pub struct App {
    addr: SocketAddr,
    scheme: &'static str,
    /// Somebody else keeps the socket open: who comes while this server ends is the next one's.
    handed_over: bool,
    door: Door,
    hub: Hub,
    store: Store,
    /// Ends what listens over MCP.
    stop: CancellationToken,
    handle: Handle<Peer>,
    server: JoinHandle<io::Result<()>>,
}

impl Settings {
    /// Whether a server could start with these settings, as far as can be told without starting it.
    ///
    /// # Errors
    /// If they do not go together, or name a file that cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn check(&self) -> Result<(), StartError> {
        self.access()?;
        self.auth.authenticator()?;
        self.tls.open()?;
        self.data_dir()?;
        Ok(())
    }

    /// What is allowed and still unwise.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        let is_open =
            self.auth.asks() && self.tls.tls_cert.is_none() && !self.listen.ip().is_loopback();
        is_open.then_some(
            "tokens come in without TLS, for anybody on the way to read: give --tls-cert and \
             --tls-key, or listen on 127.0.0.1 behind a proxy that has TLS",
        )
    }
}

impl App {
    /// Opens the store, starts the hub and listens. When this returns, requests are answered.
    ///
    /// # Errors
    /// If the settings do not go together, or what they name cannot be used.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        Self::open(None, settings).await
    }

    /// The same on a socket that somebody else opened, and keeps open for the next server. What is asked of
    /// an address is asked of the socket's.
    ///
    /// # Errors
    /// Also if the settings name another address than the socket has.
    pub async fn start_on(
        socket: std::net::TcpListener,
        mut settings: Settings,
    ) -> Result<Self, StartError> {
        let unusable = |source| StartError::Listen { addr: settings.listen, source };
        socket.set_nonblocking(true).map_err(unusable)?;
        let socket = TcpListener::from_std(socket).map_err(unusable)?;
        settings.listen_on(socket.local_addr().map_err(unusable)?)?;
        Self::open(Some(socket), settings).await
    }

    async fn open(handed: Option<TcpListener>, settings: Settings) -> Result<Self, StartError> {
        let access = settings.access()?;
        let authenticator = settings.auth.authenticator()?;
        let tls = settings.tls.open()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        if let Some(warning) = settings.warning() {
            tracing::warn!("{warning}");
        }
        let addr = settings.listen;
        let unusable = |source| StartError::Listen { addr, source };
        let handed_over = handed.is_some();
        // The port first: a second server on it then leaves the first one's store alone.
        let socket = match handed {
            Some(socket) => socket,
            None => TcpListener::bind(addr).await.map_err(unusable)?,
        };
        let addr = socket.local_addr().map_err(unusable)?;

        let (dir, retention) = (settings.data_dir()?, settings.retention());
        let spool_dir = Some(dir.clone());
        // Opening may replay a journal, and waits for the disk.
        let open = tokio::task::spawn_blocking(move || Store::open(&dir, retention));
        let (store, writer) = open.await.map_err(|error| StartError::Thread(stopped(error)))??;

        let config = HubConfig {
            access: access.clone(),
            authenticator: authenticator.clone(),
            spool_dir,
            ..settings.limits.hub(HubConfig::default())
        };
        let hub = Hub::with_log(Arc::new(store.clone()), config);
        let publisher = hub.clone();
        writer.start(move |event| publisher.publish(event)).map_err(StartError::Thread)?;
        let journal = store.clone();
        tokio::spawn(async move { journal.keep_journal_short().await });

        let body = settings.limits.body();
        let service = TaskService::new(store.clone());
        let stop = CancellationToken::new();
        let mcp = Mcp::new(service.clone(), hub.clone(), authenticator.clone(), stop.clone());
        let router = rest::router(service, hub.clone(), Arc::new(access), authenticator, body, mcp);
        let handle = Handle::new();
        let http = settings.limits.http(settings.trusted_proxy);
        let door = Door::new(&http);
        let incoming = door.incoming(socket);
        let server = tokio::spawn(listener::serve(incoming, tls, router, handle.clone(), http));
        Ok(Self { addr, scheme, handed_over, door, hub, store, stop, handle, server })
    }

    /// The address the server listens on, with the port it was given.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address as a URL: `https://` with TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// Sends the subscribers away, finishes the requests in flight, and closes the store.
    ///
    /// Until the subscribers are gone, who comes is told that the server is stopping; on a socket that was
    /// handed over they wait there for the next server instead.
    pub async fn shutdown(self) {
        if self.handed_over {
            self.door.close().await;
        }
        self.hub.shutdown().await;
        self.stop.cancel();
        // hyper would close those whose first request it has not read.
        self.door.close().await;
        self.handle.graceful_shutdown(Some(FINISH));
        match self.server.await.unwrap_or_else(|error| Err(stopped(error))) {
            Ok(()) => {}
            Err(error) => tracing::error!(%error, "the listener had failed"),
        }
        // Changes that were taken are made and published, also those of callers who are gone.
        self.store.close().await;
    }
}

fn stopped(error: JoinError) -> io::Error {
    io::Error::other(error)
}
