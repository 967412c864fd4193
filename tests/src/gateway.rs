//! Something between clients and a server that knows HTTP, but no WebSocket, or that holds answers back
//! until they are complete.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of a request for an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrades {
    /// It passes.
    Pass,
    /// It is answered with a page that says no.
    Refuse,
    /// It passes as a request for nothing but its path.
    Strip,
    /// The connection is reset.
    Reset,
    /// It is never answered.
    Hang,
}

/// What it does to those who come.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// To who wants a WebSocket.
    pub upgrades: Upgrades,
    /// Whether it keeps a stream of events until it is complete.
    pub holds_streams: bool,
}

/// Stands between clients and one server.
#[derive(Debug)]
pub struct Gateway {
    addr: String,
    requests: Arc<watch::Sender<Vec<String>>>,
    habits: Arc<watch::Sender<Habits>>,
    task: JoinHandle<()>,
}

impl Gateway {
    /// In front of the server at `ADDR`, on a free port.
    pub async fn start(target: &str, habits: Habits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(watch::Sender::new(vec![]));
        let habits = Arc::new(watch::Sender::new(habits));
        let (seen, present) = (Arc::clone(&requests), Arc::clone(&habits));
        let target = target.to_owned();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                let Ok((client, _)) = listener.accept().await else { continue };
                let (target, seen) = (target.clone(), Arc::clone(&seen));
                let habits = *present.borrow();
                connections.spawn(async move {
                    // Whoever goes away in between is no matter.
                    let _ = serve(client, &target, habits, &seen).await;
                });
            }
        });
        Self { addr, requests, habits, task }
    }

    /// `ADDR`
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Where clients connect to: `http://ADDR`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Takes other habits, for the connections to come.
    pub fn set(&self, habits: Habits) {
        self.habits.send_replace(habits);
    }

    /// How many connections began with a request for this path.
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        let is_it = |first: &&String| first.starts_with(&format!("GET {path}"));
        self.requests.borrow().iter().filter(is_it).count()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The connections end with it.
        self.task.abort();
    }
}

/// Looks at the first request, and carries the connection as its habits have it.
async fn serve(
    mut client: TcpStream,
    target: &str,
    Habits { upgrades, holds_streams }: Habits,
    seen: &watch::Sender<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(client.read_u8().await?));
    }
    seen.send_modify(|all| all.push(head.lines().next().unwrap_or_default().to_owned()));
    let is_upgrade = head.to_ascii_lowercase().contains("\r\nupgrade: websocket\r\n");
    match upgrades {
        _ if !is_upgrade => {}
        Upgrades::Pass => {}
        Upgrades::Refuse => {
            let page = "<h1>The policy of this network</h1>";
            let head = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nConnection: close";
            let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{page}", page.len());
            return client.write_all(answer.as_bytes()).await;
        }
        Upgrades::Strip => {
            let stays = |line: &&str| {
                let line = line.to_ascii_lowercase();
                !line.starts_with("upgrade:") && !line.starts_with("connection:")
            };
            head = head.split_inclusive("\r\n").filter(stays).collect();
        }
        Upgrades::Reset => return client.set_zero_linger(),
        Upgrades::Hang => return swallow(&mut client).await,
    }
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    server.write_all(head.as_bytes()).await?;
    if holds_streams && head.starts_with("GET /api/v1/events") {
        let mut held = vec![];
        tokio::select! {
            read = server.read_to_end(&mut held) => drop(read?),
            left = swallow(&mut client) => return left,
        }
        return client.write_all(&held).await;
    }
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Reads until the peer leaves.
async fn swallow(peer: &mut TcpStream) -> std::io::Result<()> {
    let mut scrap = [0; 1024];
    while peer.read(&mut scrap).await? > 0 {}
    Ok(())
}
