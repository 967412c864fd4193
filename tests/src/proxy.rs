//! A network with faults: a TCP proxy between clients and a server.
//!
//! What is to go wrong is plain data, a [`Plan`] for each connection. Connections without a plan are
//! healthy.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::within;

/// What is read at once where no plan says less.
const SEGMENT: usize = 16 << 10;

/// How a connection ends, for both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// An end of the stream, behind what was carried. What still comes is swallowed.
    Cut,
    /// A reset.
    Reset,
}

/// What goes wrong in one direction of one connection. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// When so many bytes were carried, the connection ends.
    pub end: Option<(u64, End)>,
    /// When so many bytes were carried, the rest is held back and nobody is told, until the
    /// network [heals](Proxy::heal).
    pub silent: Option<u64>,
    /// Bytes of one segment, at most.
    pub segment: Option<usize>,
    /// How long each segment takes.
    pub delay: Duration,
    /// How much longer it may take.
    pub jitter: Duration,
}

/// What goes wrong on one connection. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the client sends.
    pub to_server: Faults,
    /// What the server sends.
    pub to_client: Faults,
    /// Decides how long each segment takes.
    pub seed: u64,
}

impl Plan {
    /// Whether another connection is needed in the end.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.to_server.is_fatal() || self.to_client.is_fatal()
    }

    /// Segments, delays and an end, which comes after `longest` bytes at the latest.
    pub fn random(random: &mut StdRng, longest: u64) -> Self {
        let to_server = Faults::random(random, longest / 8);
        let to_client = Faults::random(random, longest);
        Self { to_server, to_client, seed: random.next_u64() }
    }
}

impl Faults {
    /// Whether the connection is of no use in the end.
    fn is_fatal(&self) -> bool {
        self.end.is_some() || self.silent.is_some()
    }

    fn random(random: &mut StdRng, longest: u64) -> Self {
        let end = if random.random() { End::Cut } else { End::Reset };
        Self {
            end: Some((random.random_range(0..=longest), end)),
            silent: None,
            segment: random.random_bool(0.5).then(|| random.random_range(1..400)),
            delay: Duration::ZERO,
            jitter: Duration::from_millis(random.random_range(0..3)),
        }
    }
}

/// What happens next in one direction.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Carry { at_most: usize },
    Hold,
    End(End),
}

/// One direction of a connection.
#[derive(Debug)]
struct Passage {
    faults: Faults,
    carried: u64,
    random: StdRng,
}

impl Passage {
    fn new(faults: Faults, seed: u64) -> Self {
        Self { faults, carried: 0, random: StdRng::seed_from_u64(seed) }
    }

    fn next(&self) -> Next {
        let left = |at: u64| at.saturating_sub(self.carried);
        let end = self.faults.end.map(|(at, end)| (left(at), end));
        let silent = self.faults.silent.map(left);
        if let Some((0, end)) = end {
            return Next::End(end);
        }
        if silent == Some(0) {
            return Next::Hold;
        }
        let segment = self.faults.segment.unwrap_or(SEGMENT) as u64;
        let borders = [end.map(|(left, _)| left), silent].into_iter().flatten();
        let at_most = borders.fold(segment, u64::min);
        Next::Carry { at_most: usize::try_from(at_most).unwrap() }
    }

    fn delay(&mut self) -> Duration {
        self.faults.delay + self.faults.jitter.mul_f64(self.random.random())
    }
}

/// The state of the network, for all connections.
#[derive(Clone, Debug)]
struct Network {
    /// Goes up with each cut: whoever was connected before is not any more.
    cuts: u64,
    /// Goes up when what was held back comes through.
    heals: u64,
    /// Whether new connections get through.
    plugged: bool,
}

/// Bytes carried by one connection.
#[derive(Debug, Default)]
struct Carried {
    to_server: AtomicU64,
    to_client: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    target: String,
    network: watch::Sender<Network>,
    /// For the connections to come.
    plans: Mutex<VecDeque<Plan>>,
    /// For those that came.
    carried: watch::Sender<Vec<Arc<Carried>>>,
}

/// Stands between clients and one server.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    url: String,
    task: JoinHandle<()>,
}

impl Proxy {
    /// In front of the server at `ADDR`, on a free port.
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let network = watch::Sender::new(Network { cuts: 0, heals: 0, plugged: true });
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            network,
            plans: Mutex::default(),
            carried: watch::Sender::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { shared, url, task }
    }

    /// Where clients connect to: `http://ADDR`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Has these happen to the next connections, one to each. Those after them are healthy.
    pub fn plan(&self, plans: impl IntoIterator<Item = Plan>) {
        self.shared.plans.lock().unwrap().extend(plans);
    }

    /// Cuts every connection; new ones get through.
    pub fn cut(&self) {
        self.shared.network.send_modify(|network| network.cuts += 1);
    }

    /// Cuts every connection; new ones do not get through.
    pub fn unplug(&self) {
        self.shared.network.send_modify(|network| {
            network.cuts += 1;
            network.plugged = false;
        });
    }

    /// Lets connections through again.
    pub fn plug(&self) {
        self.shared.network.send_modify(|network| network.plugged = true);
    }

    /// Lets through what silence has held back.
    pub fn heal(&self) {
        self.shared.network.send_modify(|network| network.heals += 1);
    }

    /// The bytes that each connection has carried so far: to the server, and to the client.
    #[must_use]
    pub fn carried(&self) -> Vec<(u64, u64)> {
        let read = |bytes: &AtomicU64| bytes.load(Ordering::SeqCst);
        let carried = self.shared.carried.borrow();
        carried.iter().map(|one| (read(&one.to_server), read(&one.to_client))).collect()
    }

    /// Waits until so many connections have come.
    ///
    /// # Panics
    /// If they do not.
    pub async fn connected(&self, count: usize) {
        let mut carried = self.shared.carried.subscribe();
        let come = carried.wait_for(|all| all.len() >= count);
        within("a connection", come).await.unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections end with it.
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else { continue };
        let network = shared.network.subscribe();
        if network.borrow().plugged {
            let plan = shared.plans.lock().unwrap().pop_front().unwrap_or_default();
            let carried = Arc::<Carried>::default();
            shared.carried.send_modify(|all| all.push(Arc::clone(&carried)));
            connections.spawn(connect(client, shared.target.clone(), plan, carried, network));
        }
    }
}

/// Carries one connection to its end.
async fn connect(
    mut client: TcpStream,
    target: String,
    plan: Plan,
    carried: Arc<Carried>,
    mut network: watch::Receiver<Network>,
) {
    let cuts = network.borrow().cuts;
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let to_server = Passage::new(plan.to_server, plan.seed);
    let to_client = Passage::new(plan.to_client, !plan.seed);
    let healing = (network.clone(), network.clone());
    let ended = {
        let (from_client, for_client) = client.split();
        let (from_server, for_server) = server.split();
        let both = async {
            tokio::try_join!(
                carry(from_client, for_server, to_server, &carried.to_server, healing.0),
                carry(from_server, for_client, to_client, &carried.to_client, healing.1),
            )
        };
        tokio::select! {
            ended = both => ended.err(),
            _ = network.wait_for(|now| now.cuts != cuts) => Some(End::Cut),
        }
    };
    match ended {
        Some(End::Reset) => {
            let _ = client.set_zero_linger();
            let _ = server.set_zero_linger();
        }
        Some(End::Cut) => {
            // To close with something unread would be a reset.
            tokio::join!(swallow(&mut client), swallow(&mut server));
        }
        None => {}
    }
}

/// Carries one direction up to the end of its stream; `Err` if the connection is to end.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut passage: Passage,
    carried: &AtomicU64,
    mut network: watch::Receiver<Network>,
) -> Result<(), End> {
    let mut buffer = vec![0; SEGMENT];
    loop {
        let at_most = match passage.next() {
            Next::Carry { at_most } => at_most.min(SEGMENT),
            Next::End(end) => return Err(end),
            Next::Hold => {
                let heals = network.borrow().heals;
                let _ = network.wait_for(|now| now.heals != heals).await;
                passage.faults.silent = None;
                continue;
            }
        };
        // An error is a reset by that side, which the other one is to see.
        let read = from.read(&mut buffer[..at_most]).await.map_err(|_| End::Reset)?;
        if read == 0 {
            let _ = to.shutdown().await;
            return Ok(());
        }
        let delay = passage.delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // Before it is written: who has read it finds it counted.
        passage.carried += read as u64;
        carried.store(passage.carried, Ordering::SeqCst);
        to.write_all(&buffer[..read]).await.map_err(|_| End::Reset)?;
    }
}

/// Says that nothing more comes, and takes what does until the other side has ended too.
async fn swallow(stream: &mut TcpStream) {
    let _ = stream.shutdown().await;
    let mut buffer = vec![0; SEGMENT];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_ends_where_something_happens() {
        let faults = Faults {
            end: Some((10, End::Reset)),
            silent: Some(6),
            segment: Some(4),
            ..Faults::default()
        };
        let mut passage = Passage::new(faults, 1);
        let mut seen = vec![];
        loop {
            let next = passage.next();
            match next {
                Next::Carry { at_most } => passage.carried += at_most as u64,
                Next::Hold => passage.faults.silent = None,
                Next::End(_) => {}
            }
            let ended = matches!(next, Next::End(_));
            seen.push(next);
            if ended {
                break;
            }
        }
        let carry = |at_most| Next::Carry { at_most };
        assert_eq!(seen, [carry(4), carry(2), Next::Hold, carry(4), Next::End(End::Reset)]);
    }

    /// An echo behind the proxy, and a client in front of it.
    async fn echo(plan: Plan) -> (Proxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(&listener.local_addr().unwrap().to_string()).await;
        proxy.plan([plan]);
        let client = TcpStream::connect(proxy.url().trim_start_matches("http://")).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let (mut from, mut to) = server.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });
        (proxy, client)
    }

    #[tokio::test]
    async fn a_connection_ends_at_its_byte() {
        for (end, kind) in
            [(End::Cut, None), (End::Reset, Some(std::io::ErrorKind::ConnectionReset))]
        {
            let to_client = Faults { end: Some((3, end)), ..Faults::default() };
            let (proxy, mut client) = echo(Plan { to_client, ..Plan::default() }).await;
            client.write_all(b"abcdef").await.unwrap();
            let mut got = vec![];
            let ended = client.read_to_end(&mut got).await;
            assert_eq!(ended.err().map(|error| error.kind()), kind);
            assert_eq!(got, b"abc");
            assert_eq!(proxy.carried(), [(6, 3)]);
        }
    }

    #[tokio::test]
    async fn silence_lasts_until_the_network_heals() {
        let to_server = Faults { silent: Some(2), segment: Some(1), ..Faults::default() };
        let (proxy, mut client) = echo(Plan { to_server, ..Plan::default() }).await;
        client.write_all(b"abcdef").await.unwrap();
        let mut got = [0; 6];
        client.read_exact(&mut got[..2]).await.unwrap();
        assert_eq!(proxy.carried(), [(2, 2)]);
        proxy.heal();
        client.read_exact(&mut got[2..]).await.unwrap();
        assert_eq!(got, *b"abcdef");
        proxy.unplug();
        assert_eq!(client.read(&mut got).await.unwrap(), 0);
    }

    #[test]
    fn a_seed_is_a_plan() {
        let plan = |seed| Plan::random(&mut StdRng::seed_from_u64(seed), 5_000);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }
}
