//! Sockets that never finish a handshake are closed in time, and keep nobody out.

use std::future::pending;
use std::time::{Duration, Instant};

use serde_json::json;
use taskwatch_tests::{Daemon, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::http::Http;
use crate::process::open_files;
use crate::reader::{Reader, Way};
use crate::report::Report;

const REPOSITORY: &str = "stress/handshakes";
const MAX_HEAD: Duration = Duration::from_secs(12);
const MAX_BODY: Duration = Duration::from_secs(32);
/// Longer than a healthy client takes to connect, to subscribe and to have an event.
const HELD_UP: Duration = Duration::from_secs(2);
const HEALTHY: Duration = Duration::from_millis(250);
const SOME: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sockets that never finish
    #[arg(long, default_value_t = 500)]
    sockets: usize,
    /// Also bodies that never come, for which the server waits 30 s
    #[arg(long)]
    bodies: bool,
    /// Also a server with TLS, by this certificate
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<String>,
    /// And its key
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<String>,
}

impl Args {
    pub(crate) fn sized(short: bool) -> Self {
        Self { sockets: 500, bodies: !short, tls_cert: None, tls_key: None }
    }
}

/// Where a socket stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Silent,
    HalfLine,
    HalfHead,
    BytePerSecond,
    SecondHead,
    /// HTTP/2, which is not served.
    Http2,
    Http2Request,
    Body,
    /// The beginning of a TLS handshake.
    HalfHello,
}

impl Kind {
    const HEADS: [Self; 7] = [
        Self::Silent,
        Self::HalfLine,
        Self::HalfHead,
        Self::BytePerSecond,
        Self::SecondHead,
        Self::Http2,
        Self::Http2Request,
    ];

    /// What it sends, and never goes on.
    fn sends(self) -> &'static [u8] {
        match self {
            Self::Silent => b"",
            Self::HalfLine => b"GET /w",
            Self::HalfHead => b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n",
            Self::BytePerSecond => b"GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Version: 1\r\n",
            // Of what opens no file for good, as a first read of the store does.
            Self::SecondHead => b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HT",
            Self::Http2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            // The settings, and GET / of localhost.
            Self::Http2Request => {
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
                  \0\0\x0e\x01\x05\0\0\0\x01\x82\x86\x84\x41\x09localhost"
            }
            Self::HalfHello => b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
            Self::Body => {
                b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\
                 Content-Type: application/json\r\n\r\n{\"repository\":"
            }
        }
    }
}

/// What became of a socket.
#[derive(Debug)]
struct Closed {
    kind: Kind,
    after: Duration,
    answer: Vec<u8>,
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let Args { sockets, bodies, .. } = *args;
    report.title(format_args!("handshakes: {sockets} sockets that never finish theirs"));
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let mut http = Http::connect(daemon.addr()).await.unwrap();
    served(daemon.addr(), &mut http).await;
    let before = settled(&daemon, 0).await;

    let mut unfinished = JoinSet::new();
    for number in 0..sockets {
        let stream = TcpStream::connect(daemon.addr()).await.unwrap();
        unfinished.spawn(never_finish(stream, Kind::HEADS[number % Kind::HEADS.len()]));
    }
    if bodies {
        for _ in 0..SOME {
            let stream = TcpStream::connect(daemon.addr()).await.unwrap();
            unfinished.spawn(never_finish(stream, Kind::Body));
        }
    }

    let (mut closed, mut healthy, mut longest) = (vec![], 0, Duration::ZERO);
    let mut next = interval(HEALTHY);
    while !unfinished.is_empty() {
        next.tick().await;
        longest = longest.max(served(daemon.addr(), &mut http).await);
        healthy += 1;
        while let Some(socket) = unfinished.try_join_next() {
            closed.push(socket.unwrap());
        }
    }
    println!("sockets         number  first closed after s  last  answered");
    for kind in Kind::HEADS.into_iter().chain([Kind::Body]) {
        let of_kind: Vec<_> = closed.iter().filter(|closed| closed.kind == kind).collect();
        let times = of_kind.iter().map(|closed| closed.after);
        let (Some(first), Some(last)) = (times.clone().min(), times.max()) else { continue };
        let answer = String::from_utf8_lossy(&of_kind[0].answer);
        let answer = answer.lines().next().filter(|line| line.starts_with("HTTP/1.1 "));
        let answer = answer.unwrap_or_default();
        let (first, last, number) = (first.as_secs_f64(), last.as_secs_f64(), of_kind.len());
        println!("{:13} {number:8} {first:21.1} {last:5.1}  {answer}", format!("{kind:?}"));
    }
    let last = |body: bool| {
        let of_kind = closed.iter().filter(|closed| (closed.kind == Kind::Body) == body);
        of_kind.map(|closed| closed.after).max().unwrap_or_default()
    };
    report.check(
        last(false) <= MAX_HEAD,
        format_args!("the last head is given up after {:.1?}, at most {MAX_HEAD:?}", last(false)),
    );
    if bodies {
        report.check(
            last(true) <= MAX_BODY,
            format_args!(
                "the last body is given up after {:.1?}, at most {MAX_BODY:?}",
                last(true)
            ),
        );
    }
    report.check(
        healthy >= SOME && longest <= HELD_UP,
        format_args!(
            "{healthy} clients meanwhile connected and had an event, within {longest:.1?}, at most \
             {HELD_UP:?}"
        ),
    );
    let after = settled(&daemon, before).await;
    report.check(
        after <= before,
        format_args!("{after} files are open in the end, {before} in the beginning"),
    );
    if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
        run_tls(cert, key, sockets, report).await;
    }
}

/// The same where TLS comes first.
async fn run_tls(cert: &str, key: &str, sockets: usize, report: &mut Report) {
    report
        .title(format_args!("handshakes: {sockets} sockets that never begin TLS, or never end it"));
    let data = tempfile::tempdir().unwrap();
    let flags = ["--tls-cert", cert, "--tls-key", key];
    let daemon = Daemon::start_with(data.path(), "127.0.0.1:0", &flags).await;
    let addr = daemon.url().trim_start_matches("https://");
    let before = settled(&daemon, 0).await;
    let mut unfinished = JoinSet::new();
    for number in 0..sockets {
        let stream = TcpStream::connect(addr).await.unwrap();
        unfinished.spawn(never_finish(stream, [Kind::Silent, Kind::HalfHello][number % 2]));
    }
    let times = unfinished.join_all().await.into_iter().map(|closed| closed.after);
    let last = times.max().unwrap_or_default();
    report.check(
        last <= MAX_HEAD,
        format_args!("the last is given up after {last:.1?}, at most {MAX_HEAD:?}"),
    );
    let after = settled(&daemon, before).await;
    report.check(
        after <= before,
        format_args!("{after} files are open in the end, {before} in the beginning"),
    );
}

/// Sends what the kind sends, and waits to be closed.
async fn never_finish(stream: TcpStream, kind: Kind) -> Closed {
    let started = Instant::now();
    let (mut reader, mut writer) = stream.into_split();
    let talk = async {
        if kind == Kind::BytePerSecond {
            for byte in kind.sends() {
                sleep(Duration::from_secs(1)).await;
                let _ = writer.write_all(&[*byte]).await;
            }
        } else {
            let _ = writer.write_all(kind.sends()).await;
        }
        pending::<()>().await;
    };
    let mut answer = vec![];
    tokio::select! {
        // At its end, or reset.
        _ = reader.read_to_end(&mut answer) => {}
        () = talk => {}
    }
    Closed { kind, after: started.elapsed(), answer }
}

/// How long a client takes that connects, subscribes, and waits for a change.
async fn served(addr: &str, http: &mut Http) -> Duration {
    let started = Instant::now();
    let reader = Reader::subscribed(Way::Ws, addr, REPOSITORY);
    let mut reader = within("a subscription", reader).await.unwrap();
    let task = json!({ "repository": REPOSITORY, "title": "still served" });
    http.send("POST", "/api/v1/tasks", &task.to_string()).await.unwrap();
    assert_eq!(http.answer().await.unwrap().status, 201);
    within("an event", reader.events(1)).await.unwrap();
    started.elapsed()
}

/// Waits until the server has at most so many files open, or their number rests.
async fn settled(daemon: &Daemon, wanted: usize) -> usize {
    let (mut last, mut same) = (open_files(daemon.pid()), 0);
    while last > wanted && same < SOME {
        sleep(Duration::from_millis(100)).await;
        let now = open_files(daemon.pid());
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}
