//! The ways over plain HTTP, against a server that answers each request with what the test says.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use taskwatch_client::http::Request;
use taskwatch_client::protocol::{
    Envelope, Heartbeat, Mode, ServerFrame, ServerMessage, Subscribed,
};
use taskwatch_client::{
    Bytes, Client, ClientBuilder, Cursor, ErrorCode, Priority, RequestError, Status, Task,
    TaskEvent, Timestamp, Token, Transport, TransportChoice, Update, Updates, WatchError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How something in between answers an upgrade.
const BLOCKED: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";

fn at(seq: u64) -> Cursor {
    Cursor::new(format!("c-{seq}"))
}

fn event(seq: u64) -> String {
    let task = Task {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        repository: "foo".parse().unwrap(),
        title: format!("task {seq}"),
        description: String::new(),
        status: Status::Pending,
        priority: Priority::Medium,
        assignee: None,
        tags: vec![],
        created_at: Timestamp::from_unix_millis(0),
        updated_at: Timestamp::from_unix_millis(0),
        version: 1,
    };
    let event = ServerMessage::Task(TaskEvent::created(task, "test"));
    ServerFrame::new(event).cursor(at(seq)).encode()
}

fn ping(delivered: u64, seq: u64) -> String {
    let beat = Heartbeat { delivered: Some(delivered), ..Heartbeat::default() };
    Envelope::new(ServerMessage::Ping(beat)).cursor(at(seq)).encode()
}

fn subscribed(mode: Mode, seq: u64) -> String {
    let accepted = vec!["foo".parse().unwrap()];
    let data = Subscribed { accepted, denied: vec![], mode, reason: None, head: Some(at(99)) };
    Envelope::new(ServerMessage::Subscribed(data)).cursor(at(seq)).encode()
}

const REBALANCE: &str = r#"{"type":"close","data":{"code":4201,"word":"rebalance"}}"#;

fn problem(status: &str, code: &str) -> String {
    let body = format!(r#"{{"code":"{code}","detail":"because"}}"#);
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A server, or what stands before it.
struct Server {
    listener: TcpListener,
    port: u16,
}

/// One connection to it.
struct Peer {
    tcp: TcpStream,
    /// The head of the last request, in lower case but for its first line.
    request: String,
}

impl Server {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    fn builder(&self) -> ClientBuilder {
        Client::builder(format!("http://127.0.0.1:{}/team", self.port))
            .backoff_initial(Duration::from_millis(1))
            .backoff_cap(Duration::from_millis(1))
    }

    fn watch(&self, choice: TransportChoice) -> Updates {
        let client = self.builder().transport(choice).build().unwrap();
        client.subscribe(["foo"]).unwrap().updates()
    }

    /// The next connection, with its first request.
    async fn accept(&self) -> Peer {
        let (tcp, _) = self.listener.accept().await.unwrap();
        let mut peer = Peer { tcp, request: String::new() };
        assert!(peer.next().await, "no request");
        peer
    }

    /// Refuses an upgrade.
    async fn blocks(&self) {
        let mut peer = self.accept().await;
        assert!(peer.request.starts_with("GET /team/ws HTTP/1.1\r\n"), "{}", peer.request);
        peer.write(BLOCKED).await;
    }

    /// The next request, for a stream of events that begins.
    async fn streams(&self, query: &str) -> Peer {
        let mut peer = self.accept().await;
        peer.asked("/team/api/v1/events", query, "text/event-stream");
        peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n").await;
        peer.write("Transfer-Encoding: chunked\r\n\r\n").await;
        peer.chunk("retry: 1500\n\n").await;
        peer
    }
}

impl Peer {
    /// Reads a request; false if none comes.
    async fn next(&mut self) -> bool {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.tcp.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return false,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let (line, fields) = head.split_once("\r\n").unwrap();
        self.request = format!("{line}\r\n{}", fields.to_lowercase());
        true
    }

    fn asked(&self, path: &str, query: &str, accept: &str) {
        let request = &self.request;
        assert!(request.starts_with(&format!("GET {path}?{query} HTTP/1.1\r\n")), "{request}");
        for field in ["x-version: 1", &format!("accept: {accept}"), "accept-encoding: identity"] {
            assert!(request.contains(&format!("\r\n{field}\r\n")), "{request}");
        }
    }

    async fn write(&mut self, text: &str) {
        self.tcp.write_all(text.as_bytes()).await.unwrap();
    }

    async fn chunk(&mut self, text: &str) {
        self.write(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }

    /// Sends a frame in a stream of events.
    async fn send(&mut self, frame: impl AsRef<str>) {
        self.chunk(&format!("event: any\ndata: {}\n\n", frame.as_ref())).await;
    }

    async fn ends(&mut self) {
        self.write("0\r\n\r\n").await;
    }

    /// Answers a poll with these frames.
    async fn answers(&mut self, query: &str, frames: &[String]) {
        self.asked("/team/api/v1/changes", query, "application/jsonl");
        let body: String = frames.iter().map(|frame| format!("{frame}\n")).collect();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/jsonl\r\n";
        self.write(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
    }
}

/// Reads up to an update of a kind.
async fn until<T>(updates: &mut Updates, wanted: impl Fn(Update) -> Option<T>) -> T {
    loop {
        let update = updates.next().await.unwrap().unwrap();
        if let Some(found) = wanted(update) {
            return found;
        }
    }
}

fn connected(update: Update) -> Option<(Transport, Option<String>)> {
    match update {
        Update::Connected { transport, fallback, .. } => Some((transport, fallback)),
        _ => None,
    }
}

fn interrupted(update: Update) -> Option<String> {
    match update {
        Update::Interrupted { reason, .. } => Some(reason),
        _ => None,
    }
}

/// The positions of the next events; nothing may happen to the connection meanwhile.
async fn next(updates: &mut Updates, count: usize) -> Vec<Cursor> {
    let mut events = vec![];
    while events.len() < count {
        match updates.next().await.unwrap().unwrap() {
            Update::Event(event) => events.push(event.cursor.clone()),
            Update::Bookmark(_) | Update::CaughtUp { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    events
}

#[tokio::test]
async fn a_blocked_upgrade_is_followed_by_a_stream_of_events_and_that_by_the_next() {
    let server = Server::new().await;
    let mut updates = server.watch(TransportChoice::Auto);
    let serve = async {
        server.blocks().await;
        let mut peer = server.streams("repository=foo").await;
        peer.send(subscribed(Mode::Live, 1)).await;
        peer.send(event(2)).await;
        peer.send(ping(1, 5)).await;
        peer.send(REBALANCE).await;
        peer.ends().await;
        let mut peer = server.streams("repository=foo&since=c-5").await;
        peer.send(subscribed(Mode::Resumed, 5)).await;
        peer.send(event(6)).await;
        // Counted within this answer.
        peer.send(ping(1, 6)).await;
        peer.send(event(7)).await;
        peer
    };
    let watch = async {
        let way = until(&mut updates, connected).await;
        (way, next(&mut updates, 3).await)
    };
    let (_peer, ((transport, fallback), events)) = tokio::join!(serve, watch);
    assert_eq!(transport, Transport::Sse);
    let fallback = fallback.unwrap();
    assert_eq!(fallback, "WebSocket is blocked: the server answered 403: Forbidden");
    assert_eq!(events, [at(2), at(6), at(7)]);
    assert_eq!(updates.cursor(), Some(at(7)));
}

#[tokio::test]
async fn what_worked_is_taken_again_after_a_cut() {
    let server = Server::new().await;
    let mut updates = server.watch(TransportChoice::Auto);
    let serve = async {
        server.blocks().await;
        let mut peer = server.streams("repository=foo").await;
        peer.send(subscribed(Mode::Live, 1)).await;
        peer.send(event(2)).await;
        // In the middle of an event.
        peer.chunk(&format!("data: {}", event(3))).await;
        drop(peer);
        let mut peer = server.streams("repository=foo&since=c-2").await;
        peer.send(subscribed(Mode::Resumed, 2)).await;
        peer.send(event(3)).await;
        // An end without a word is a cut as well.
        peer.ends().await;
        let mut peer = server.streams("repository=foo&since=c-3").await;
        peer.send(subscribed(Mode::Resumed, 3)).await;
        peer.send(ping(0, 4)).await;
        peer
    };
    let watch = async {
        until(&mut updates, connected).await;
        assert_eq!(next(&mut updates, 1).await, [at(2)]);
        let cut = until(&mut updates, interrupted).await;
        assert!(cut.contains("cut"), "{cut}");
        until(&mut updates, connected).await;
        assert_eq!(next(&mut updates, 1).await, [at(3)]);
        let ended = until(&mut updates, interrupted).await;
        assert!(ended.contains("without a word"), "{ended}");
        let replayed = |update| match update {
            Update::CaughtUp { replayed, .. } => Some(replayed),
            _ => None,
        };
        until(&mut updates, replayed).await
    };
    let (_peer, replayed) = tokio::join!(serve, watch);
    assert_eq!(replayed, 0);
}

/// However an upgrade does not come about once somebody was reached.
#[tokio::test]
async fn an_upgrade_that_breaks_off_or_hangs_is_blocked_too() {
    for broken in ["", "220 mail.example ESMTP\r\n", "HTTP/1.1 101 Sure\r\n\r\n", "hangs"] {
        let server = Server::new().await;
        let mut updates = server.watch(TransportChoice::Auto);
        let serve = async {
            let mut upgrade = server.accept().await;
            if broken == "hangs" {
                let peer = server.streams("repository=foo").await;
                drop(upgrade);
                return peer;
            }
            upgrade.write(broken).await;
            drop(upgrade);
            server.streams("repository=foo").await
        };
        let serve = async {
            let mut peer = serve.await;
            peer.send(subscribed(Mode::Live, 1)).await;
            peer
        };
        let (_peer, (transport, fallback)) = tokio::join!(serve, until(&mut updates, connected));
        assert_eq!(transport, Transport::Sse, "{broken:?}");
        assert!(fallback.unwrap().starts_with("WebSocket is blocked: "), "{broken:?}");
    }
}

#[tokio::test]
async fn a_stream_that_is_held_back_is_followed_by_polls_on_one_connection() {
    let server = Server::new().await;
    let mut updates = server.watch(TransportChoice::Auto);
    let serve = async {
        server.blocks().await;
        // The head may come.
        let mut held = server.accept().await;
        held.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
        let mut peer = server.accept().await;
        // Nobody waits for what is not used any more.
        assert!(!held.next().await);
        let first = [subscribed(Mode::Live, 1), ping(0, 1)];
        peer.answers("repository=foo&wait=0", &first).await;
        assert!(peer.next().await);
        let second = [subscribed(Mode::Resumed, 1), event(2), event(3), ping(2, 4)];
        peer.answers("repository=foo&since=c-1&wait=25", &second).await;
        assert!(peer.next().await);
        // Full: it ends without a bookmark.
        let third = [subscribed(Mode::Resumed, 4), event(5)];
        peer.answers("repository=foo&since=c-4&wait=25", &third).await;
        assert!(peer.next().await);
        // The connection was closed meanwhile, which is no outage.
        drop(peer);
        let mut peer = server.accept().await;
        let fourth = [subscribed(Mode::Resumed, 5), event(6), ping(1, 6)];
        peer.answers("repository=foo&since=c-5&wait=25", &fourth).await;
        assert!(peer.next().await);
        peer
    };
    let watch = async {
        let way = until(&mut updates, connected).await;
        (way, next(&mut updates, 4).await)
    };
    let (_peer, ((transport, fallback), events)) = tokio::join!(serve, watch);
    assert_eq!(transport, Transport::LongPoll);
    assert_eq!(
        fallback.unwrap(),
        "WebSocket is blocked: the server answered 403: Forbidden; \
         server-sent events are held back: nothing came in 2s"
    );
    assert_eq!(events, [at(2), at(3), at(5), at(6)]);
}

/// Something in between may answer at once what the server would wait for.
#[tokio::test]
async fn polls_that_bring_nothing_do_not_follow_each_other_at_once() {
    let server = Server::new().await;
    let mut updates = server.watch(TransportChoice::LongPoll);
    let serve = async {
        let mut peer = server.accept().await;
        peer.answers("repository=foo&wait=0", &[subscribed(Mode::Live, 1), ping(0, 1)]).await;
        assert!(peer.next().await);
        #[expect(clippy::disallowed_methods, reason = "a busy machine only makes it longer")]
        let begin = Instant::now();
        for _ in 0..2 {
            let nothing = [subscribed(Mode::Resumed, 1), ping(0, 1)];
            peer.answers("repository=foo&since=c-1&wait=25", &nothing).await;
            assert!(peer.next().await);
        }
        begin.elapsed()
    };
    let watch = async { while updates.next().await.unwrap().is_ok() {} };
    tokio::select! {
        took = serve => assert!(took >= Duration::from_millis(1_500), "{took:?}"),
        () = watch => panic!("it has ended"),
    }
}

#[tokio::test]
async fn whoever_refuses_events_by_name_may_let_polls_pass() {
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>log in";
    let empty = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    for answer in [BLOCKED, page, empty] {
        let server = Server::new().await;
        let mut updates = server.watch(TransportChoice::Auto);
        let serve = async {
            server.blocks().await;
            server.accept().await.write(answer).await;
            let mut peer = server.accept().await;
            peer.answers("repository=foo&wait=0", &[subscribed(Mode::Live, 1), ping(0, 1)]).await;
            peer
        };
        let (_peer, (transport, _)) = tokio::join!(serve, until(&mut updates, connected));
        assert_eq!(transport, Transport::LongPoll, "{answer:?}");
    }
}

#[tokio::test]
async fn the_own_refusal_of_a_request_is_final_and_that_of_a_gateway_is_waited_out() {
    let server = Server::new().await;
    let mut updates = server.watch(TransportChoice::Auto);
    let gateway = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
    let serve = async {
        server.blocks().await;
        server.accept().await.write(gateway).await;
        // Nothing worked, so nothing is remembered.
        server.blocks().await;
        server.accept().await.write(&problem("503 Busy", "unavailable")).await;
        server.blocks().await;
        server.accept().await.write(&problem("403 Forbidden", "host")).await;
    };
    let watch = async {
        let reasons =
            [until(&mut updates, interrupted).await, until(&mut updates, interrupted).await];
        loop {
            if let Err(error) = updates.next().await.unwrap() {
                return (reasons, error);
            }
        }
    };
    let ((), ([gateway, busy], error)) = tokio::join!(serve, watch);
    assert!(gateway.contains("502") && busy.contains("503: because"), "{gateway}, {busy}");
    assert!(
        matches!(&error, WatchError::Rejected { status: 403, code: Some(ErrorCode::Host), .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_way_that_is_not_served_ends_no_stream_that_did_not_ask_for_it() {
    let server = Server::new().await;
    let mut updates = server.watch(TransportChoice::Auto);
    let refusals = [("404 Not Found", "not_found"), ("414 URI Too Long", "too_large")];
    let serve = async {
        for (status, code) in refusals {
            server.blocks().await;
            server.accept().await.write(&problem(status, code)).await;
        }
        // WebSocket is asked for again.
        server.blocks().await;
        let mut peer = server.streams("repository=foo").await;
        peer.send(subscribed(Mode::Live, 1)).await;
        peer
    };
    let watch = async {
        for (status, _) in refusals {
            let reason = until(&mut updates, interrupted).await;
            assert!(reason.contains(&status[..3]) && reason.contains("WebSocket"), "{reason}");
        }
        until(&mut updates, connected).await
    };
    let (_peer, (transport, _)) = tokio::join!(serve, watch);
    assert_eq!(transport, Transport::Sse);

    // To who chose it, it says what there is to say.
    let mut updates = server.watch(TransportChoice::Sse);
    let serve = async {
        server.accept().await.write(&problem("404 Not Found", "not_found")).await;
    };
    let watch = async {
        loop {
            if let Err(error) = updates.next().await.unwrap() {
                return error;
            }
        }
    };
    let ((), error) = tokio::join!(serve, watch);
    assert!(matches!(error, WatchError::Rejected { status: 404, .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_is_out_of_reach_is_no_reason_for_another_way() {
    let server = Server::new().await;
    let client = server.builder().max_elapsed(Some(Duration::from_millis(20))).build().unwrap();
    drop(server);
    let mut updates = client.subscribe(["foo"]).unwrap().updates();
    let reason = until(&mut updates, interrupted).await;
    assert!(reason.starts_with("cannot connect to ") && !reason.contains("WebSocket"), "{reason}");
}

#[tokio::test]
async fn the_provider_is_asked_for_each_request() {
    let server = Server::new().await;
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let provider = move || {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Ok(Token::new(format!("token-{number}")).unwrap()) }
    };
    let client = server.builder().token(provider).transport(TransportChoice::LongPoll);
    let mut updates = client.build().unwrap().subscribe(["foo"]).unwrap().updates();
    let serve = async {
        let mut peer = server.accept().await;
        for number in 1..=3 {
            let token = format!("\r\nauthorization: bearer token-{number}\r\n");
            assert!(peer.request.contains(&token), "{}", peer.request);
            let (since, wait, mode) = match number {
                1 => ("", 0, Mode::Live),
                _ => (&*format!("&since=c-{}", number - 1), 25, Mode::Resumed),
            };
            let query = format!("repository=foo{since}&wait={wait}");
            let frames = [subscribed(mode, number - 1), event(number), ping(1, number)];
            peer.answers(&query, &frames).await;
            assert!(peer.next().await);
        }
        // It is refused, once; then another is asked for.
        peer.write(&problem("401 Unauthorized", "unauthorized")).await;
        let mut peer = server.accept().await;
        assert!(peer.request.contains("token-5\r\n"), "{}", peer.request);
        let frames = [subscribed(Mode::Resumed, 3), ping(0, 4)];
        peer.answers("repository=foo&since=c-3&wait=0", &frames).await;
        peer
    };
    let watch = async {
        until(&mut updates, connected).await;
        assert_eq!(next(&mut updates, 3).await, [at(1), at(2), at(3)]);
        let refused = until(&mut updates, interrupted).await;
        assert!(refused.contains("401"), "{refused}");
        until(&mut updates, connected).await;
    };
    tokio::join!(serve, watch);
    assert_eq!(asked.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn what_is_not_a_frame_breaks_the_connection_and_is_not_kept() {
    let server = Server::new().await;
    let mut updates = server.watch(TransportChoice::Sse);
    let serve = async {
        for garbage in [&b"data: \xff\n\n"[..], &vec![b':'; 1_048_577], b"data: {}\n\n"] {
            let mut peer = server.streams("repository=foo").await;
            peer.write(&format!("{:x}\r\n", garbage.len())).await;
            peer.tcp.write_all(garbage).await.unwrap();
            // It hangs up.
            while peer.tcp.read_u8().await.is_ok() {}
        }
        let mut peer = server.streams("repository=foo").await;
        peer.send(subscribed(Mode::Live, 1)).await;
        peer
    };
    let watch = async {
        let mut reasons = vec![];
        for _ in 0..3 {
            reasons.push(until(&mut updates, interrupted).await);
        }
        (reasons, until(&mut updates, connected).await)
    };
    let (_peer, (reasons, way)) = tokio::join!(serve, watch);
    for (reason, part) in reasons.iter().zip(["not UTF-8", "too long", "could not be read"]) {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(way, (Transport::Sse, None));
}

fn creation() -> Request<Bytes> {
    Request::post("/api/v1/tasks?dry=no")
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", "once")
        .body(Bytes::from("{}"))
        .unwrap()
}

#[tokio::test]
async fn a_request_goes_below_the_prefix_and_brings_back_the_whole_answer() {
    let server = Server::new().await;
    let client = server.builder().bearer("an-example-token").build().unwrap();
    let serve = async {
        let mut peer = server.accept().await;
        let request = &peer.request;
        assert!(request.starts_with("POST /team/api/v1/tasks?dry=no HTTP/1.1\r\n"), "{request}");
        for field in [
            &format!("host: 127.0.0.1:{}", server.port),
            "authorization: bearer an-example-token",
            "content-type: application/json",
            "idempotency-key: once",
            "x-version: 1",
            "content-length: 2",
        ] {
            assert!(request.contains(&format!("\r\n{field}\r\n")), "{request}");
        }
        assert_eq!(peer.tcp.read_u16().await.unwrap(), u16::from_be_bytes(*b"{}"));
        peer.write("HTTP/1.1 201 Created\r\nETag: \"v1\"\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        peer.chunk("{\"version\"").await;
        peer.chunk(":1}").await;
        peer.ends().await;
    };
    let ((), answer) = tokio::join!(serve, client.request(creation()));
    let answer = answer.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["etag"]),
        (201, &"\"v1\"".parse().unwrap())
    );
    assert_eq!(answer.body(), "{\"version\":1}");
}

#[tokio::test]
async fn a_refused_token_is_asked_for_once_more() {
    for second in ["HTTP/1.1 204 No Content\r\n\r\n", &problem("401 Unauthorized", "unauthorized")]
    {
        let server = Server::new().await;
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let provider = move || {
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            async move { Ok(Token::new(format!("token-{number}")).unwrap()) }
        };
        let client = server.builder().token(provider).build().unwrap();
        let serve = async {
            let mut peer = server.accept().await;
            assert!(peer.request.contains("token-1\r\n"), "{}", peer.request);
            peer.write(&problem("401 Unauthorized", "unauthorized")).await;
            let mut peer = server.accept().await;
            assert!(peer.request.contains("token-2\r\n"), "{}", peer.request);
            peer.write(second).await;
        };
        let ((), answer) = tokio::join!(serve, client.request(creation()));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        match answer {
            Ok(answer) => assert_eq!(answer.status(), 204),
            Err(error) => {
                assert!(matches!(error, RequestError::Refused { status: 401, .. }), "{error}");
                assert!(second.contains("401"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_says_its_word_and_whoever_answers_in_between_has_none() {
    let page = "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n";
    for (answer, expected) in [
        (problem("412 Precondition Failed", "version_conflict"), (412, Some("version_conflict"))),
        (page.to_owned(), (302, None)),
    ] {
        let server = Server::new().await;
        let client = server.builder().build().unwrap();
        let serve = async {
            let mut peer = server.accept().await;
            assert!(!peer.request.contains("authorization"), "{}", peer.request);
            peer.write(&answer).await;
        };
        let ((), refused) = tokio::join!(serve, client.request(creation()));
        let Err(RequestError::Refused { status, code, detail, .. }) = refused else {
            panic!("{refused:?}");
        };
        let code = code.as_ref().map(ErrorCode::as_str);
        assert_eq!((status, code), expected);
        assert_eq!(detail, if code.is_some() { "because" } else { "Found" });
    }
}

#[tokio::test]
async fn what_was_not_sent_is_told_from_what_was_not_answered() {
    for cut in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nless"] {
        let server = Server::new().await;
        let client = server.builder().build().unwrap();
        let serve = async { server.accept().await.write(cut).await };
        let ((), answer) = tokio::join!(serve, client.request(creation()));
        assert!(matches!(answer, Err(RequestError::Cut { .. })), "{cut:?}: {answer:?}");
    }
    let server = Server::new().await;
    let client = server.builder().build().unwrap();
    drop(server);
    let answer = client.request(creation()).await;
    assert!(matches!(answer, Err(RequestError::Unreachable { .. })), "{answer:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_not_kept() {
    let server = Server::new().await;
    let client = server.builder().build().unwrap();
    let serve = async {
        let mut peer = server.accept().await;
        peer.write("HTTP/1.1 200 OK\r\n\r\n").await;
        let piece = vec![b' '; 1 << 20];
        // Until the client hangs up.
        while peer.tcp.write_all(&piece).await.is_ok() {}
    };
    let ((), answer) = tokio::join!(serve, client.request(creation()));
    assert_eq!(answer.unwrap_err(), RequestError::TooLarge { limit: 32 << 20 });
}
