//! The stream over real sockets, against a server that does what each test says.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::task::Poll;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use taskwatch_client::protocol::{
    ClientFrame, ClientMessage, Envelope, Heartbeat, Limits, Mode, ServerFrame, ServerMessage,
    Snapshot, Subscribe, Subscribed, VERSION_HEADER, Welcome,
};
use taskwatch_client::{
    Client, ClientBuilder, CloseCode, Cursor, ErrorCode, EventStream, Priority, RepositoryName,
    Status, Task, TaskEvent, Timestamp, TransportChoice, Update, WatchError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

fn at(seq: u64) -> Cursor {
    Cursor::new(format!("c-{seq}"))
}

fn event(seq: u64) -> ServerFrame {
    let repository: RepositoryName = "foo".parse().unwrap();
    let task = Task {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        repository,
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
    Envelope::new(ServerMessage::Task(TaskEvent::created(task, "test"))).cursor(at(seq))
}

struct Server {
    listener: TcpListener,
    port: u16,
}

/// The server's end of one connection.
struct Peer {
    socket: WebSocketStream<TcpStream>,
    path: String,
}

impl Server {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    fn builder(&self, scheme: &str) -> ClientBuilder {
        Client::builder(format!("{scheme}://127.0.0.1:{}", self.port))
            .backoff_initial(Duration::from_millis(1))
            .backoff_cap(Duration::from_millis(1))
    }

    fn client(&self, scheme: &str) -> Client {
        self.builder(scheme).build().unwrap()
    }

    fn watch(&self) -> EventStream {
        self.client("http").subscribe(["foo"]).unwrap()
    }

    async fn accept(&self) -> Peer {
        let (tcp, _) = self.listener.accept().await.unwrap();
        let mut path = String::new();
        #[expect(clippy::result_large_err, reason = "tungstenite's signature")]
        let see = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            assert_eq!(request.headers()[VERSION_HEADER], "1");
            path = request.uri().path().to_owned();
            Ok(response)
        };
        let socket = accept_hdr_async(tcp, see).await.unwrap();
        Peer { socket, path }
    }

    /// Answers one request with these bytes instead of upgrading.
    async fn answer(&self, response: &str) {
        let (mut tcp, _) = self.listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            tcp.read_buf(&mut request).await.unwrap();
        }
        tcp.write_all(response.as_bytes()).await.unwrap();
    }
}

impl Peer {
    async fn read(&mut self) -> Option<ClientFrame> {
        match self.socket.next().await?.ok()? {
            Message::Text(text) => Some(ClientFrame::decode(&text).unwrap()),
            _ => None,
        }
    }

    async fn send(&mut self, frame: &ServerFrame) {
        self.socket.send(Message::text(frame.encode())).await.unwrap();
    }

    /// Acknowledges the next subscription and returns it.
    async fn acks(&mut self, mode: Mode, cursor: u64) -> Subscribe {
        let frame = self.read().await.unwrap();
        let ClientMessage::Subscribe(subscribe) = frame.message else { panic!("{frame:?}") };
        let accepted = subscribe.repositories.clone();
        let head = Some(at(99));
        let data = Subscribed { accepted, denied: vec![], mode, reason: None, head };
        let ack = Envelope::new(ServerMessage::Subscribed(data)).id(frame.id).cursor(at(cursor));
        self.send(&ack).await;
        subscribe
    }

    async fn closes(&mut self, code: CloseCode) {
        let frame = CloseFrame { code: code.code().into(), reason: code.word().into() };
        self.socket.close(Some(frame)).await.unwrap();
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

fn problem(status: &str, code: &str) -> String {
    let body = format!(r#"{{"code":"{code}","title":"no","detail":"because"}}"#);
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn next_seq(events: &mut EventStream) -> Cursor {
    events.next().await.unwrap().unwrap().cursor
}

#[tokio::test]
async fn events_arrive_over_http_and_ws_addresses() {
    for scheme in ["http", "ws"] {
        let server = Server::new().await;
        let mut events = server.client(scheme).subscribe(["foo"]).unwrap();
        let serve = async {
            let mut peer = server.accept().await;
            assert_eq!(peer.path, "/ws");
            peer.acks(Mode::Live, 1).await;
            peer.send(&event(2)).await;
            peer
        };
        let (ready, mut peer) = tokio::join!(events.ready(), serve);
        assert_eq!(ready, Ok(()));
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.cursor.clone(), &*event.task().title), (at(2), "task 2"));
        assert_eq!(events.cursor(), Some(at(2)));
        drop(events);
        // Dropping the stream closes the link politely.
        let last = peer.socket.next().await.unwrap().unwrap();
        let Message::Close(Some(frame)) = last else { panic!("{last:?}") };
        assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1000, "bye"));
    }
}

#[tokio::test]
async fn a_cut_in_mid_stream_is_survived_without_loss_or_repetition() {
    let server = Server::new().await;
    let mut events = server.watch();
    let serve = async {
        let mut peer = server.accept().await;
        assert_eq!(peer.acks(Mode::Live, 1).await.since, None);
        peer.send(&event(2)).await;
        drop(peer);
        let mut peer = server.accept().await;
        assert_eq!(peer.acks(Mode::Resumed, 2).await.since, Some(at(2)));
        for seq in [2, 3] {
            peer.send(&event(seq)).await;
        }
        peer
    };
    let watch = async { (next_seq(&mut events).await, next_seq(&mut events).await) };
    let (_peer, cursors) = tokio::join!(serve, watch);
    assert_eq!(cursors, (at(2), at(3)));
}

#[tokio::test]
async fn a_lost_frame_is_noticed_at_the_next_ping() {
    let server = Server::new().await;
    let mut events = server.watch();
    let serve = async {
        let mut peer = server.accept().await;
        peer.acks(Mode::Live, 1).await;
        peer.send(&event(3)).await;
        let beat = ServerMessage::Ping(Heartbeat { delivered: Some(2), ..Heartbeat::default() });
        peer.send(&Envelope::new(beat).cursor(at(3))).await;
        let mut peer = server.accept().await;
        assert_eq!(peer.acks(Mode::Resumed, 1).await.since, Some(at(1)));
        for seq in [2, 3, 4] {
            peer.send(&event(seq)).await;
        }
        peer
    };
    let watch = async {
        [next_seq(&mut events).await, next_seq(&mut events).await, next_seq(&mut events).await]
    };
    let (_peer, cursors) = tokio::join!(serve, watch);
    assert_eq!(cursors, [at(3), at(2), at(4)]);
}

#[tokio::test]
async fn a_saved_position_is_where_another_stream_goes_on() {
    let server = Server::new().await;
    let mut events = server.watch().since(at(7));
    assert_eq!(events.cursor(), Some(at(7)));
    let serve = async {
        let mut peer = server.accept().await;
        assert_eq!(peer.acks(Mode::Resumed, 7).await.since, Some(at(7)));
        peer.send(&event(8)).await;
        peer
    };
    let (_peer, event) = tokio::join!(serve, events.next());
    assert!(event.unwrap().unwrap().replayed);
}

#[tokio::test]
async fn what_is_added_before_the_first_poll_and_while_live_is_subscribed() {
    let server = Server::new().await;
    let mut events = server.watch();
    events.add(["bar"]).unwrap();
    assert!(events.add(["no name"]).is_err() && events.remove(["*bar"]).is_err());
    let serve = async {
        let mut peer = server.accept().await;
        let first = peer.acks(Mode::Live, 1).await;
        assert_eq!(first.repositories.len(), 2);
        peer
    };
    let (ready, mut peer) = tokio::join!(events.ready(), serve);
    ready.unwrap();
    events.add(["baz"]).unwrap();
    let more = peer.acks(Mode::Live, 1).await;
    assert_eq!(more.repositories, ["baz".parse().unwrap()]);
    events.remove(["baz"]).unwrap();
    let frame = peer.read().await.unwrap();
    assert!(matches!(frame.message, ClientMessage::Unsubscribe(_)));
}

#[tokio::test]
async fn our_own_refusal_ends_the_stream_with_its_words_once() {
    let server = Server::new().await;
    let mut events = server.watch();
    let answer = problem("400 Bad Request", "version_missing");
    let (ready, ()) = tokio::join!(events.ready(), server.answer(&answer));
    let error = ready.unwrap_err();
    assert_eq!(error.to_string(), "the server refused the connection: because (400)");
    assert!(matches!(
        &error,
        WatchError::Rejected { status: 400, code: Some(ErrorCode::VersionMissing), .. }
    ));
    assert_eq!(events.next().await, Some(Err(error)));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn what_stands_in_between_is_waited_out() {
    let server = Server::new().await;
    let client = server.builder("http").transport(TransportChoice::WebSocket).build().unwrap();
    let mut updates = client.subscribe(["foo"]).unwrap().updates();
    let serve = async {
        server.answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
        server.answer("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await;
        server.answer(&problem("426 Upgrade Required", "upgrade_required")).await;
        server.answer("220 mail.example ESMTP\r\n").await;
        let mut peer = server.accept().await;
        peer.acks(Mode::Live, 1).await;
        peer
    };
    let watch = async {
        let mut reasons = Vec::new();
        loop {
            match updates.next().await.unwrap().unwrap() {
                Update::Interrupted { reason, .. } => reasons.push(reason),
                Update::Connected { .. } => return reasons,
                _ => {}
            }
        }
    };
    let (_peer, reasons) = tokio::join!(serve, watch);
    assert_eq!(reasons.len(), 4);
    for (reason, part) in reasons.iter().zip(["404", "502", "426: because", "cannot talk to"]) {
        assert!(reason.contains(part), "{reason}");
    }
}

#[tokio::test]
async fn a_close_code_that_says_stop_is_the_end() {
    let server = Server::new().await;
    let mut events = server.watch();
    let serve = async {
        let mut peer = server.accept().await;
        peer.acks(Mode::Live, 1).await;
        peer.send(&event(2)).await;
        peer.closes(CloseCode::Forbidden).await;
    };
    let watch = async { (events.next().await, events.next().await, events.next().await) };
    let ((), (first, second, third)) = tokio::join!(serve, watch);
    assert!(first.unwrap().is_ok(), "what came before the end is yielded before it");
    let error = second.unwrap().unwrap_err();
    assert!(matches!(error, WatchError::Closed { code: CloseCode::Forbidden, .. }));
    assert_eq!(third, None);
}

#[tokio::test]
async fn a_caller_who_stops_reading_is_parked_and_loses_nothing() {
    const TOTAL: u64 = 3_000;
    let server = Server::new().await;
    let mut events = server.watch();
    let serve = async {
        let mut peer = server.accept().await;
        peer.acks(Mode::Live, 0).await;
        // The socket takes all of it; the client reads no more than its buffer holds.
        for seq in 1..=TOTAL {
            peer.send(&event(seq)).await;
        }
        let leaves = async {
            loop {
                match peer.socket.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => return u16::from(frame.code),
                    Some(Ok(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        assert_eq!(leaves.await, 1000);
    };
    let (ready, ()) = tokio::join!(events.ready(), serve);
    ready.unwrap();
    let serve = async {
        let mut peer = server.accept().await;
        let Some(since) = peer.acks(Mode::Resumed, 0).await.since else { panic!("no since") };
        let since: u64 = since.as_str()[2..].parse().unwrap();
        for seq in since + 1..=TOTAL {
            peer.send(&event(seq)).await;
        }
        (since, peer)
    };
    let watch = async {
        for seq in 1..=TOTAL {
            assert_eq!(next_seq(&mut events).await, at(seq));
        }
    };
    let ((since, _peer), ()) = tokio::join!(serve, watch);
    assert!((1_020..=1_024).contains(&since), "the buffer is bounded: {since}");
}

#[tokio::test]
async fn a_quiet_stream_moves_with_the_bookmarks() {
    let server = Server::new().await;
    let mut events = server.watch().updates();
    let serve = async {
        let mut peer = server.accept().await;
        peer.acks(Mode::Live, 1).await;
        let beat = ServerMessage::Ping(Heartbeat { delivered: Some(0), ..Heartbeat::default() });
        peer.send(&Envelope::new(beat).cursor(at(40))).await;
        assert!(matches!(peer.read().await.unwrap().message, ClientMessage::Pong));
        drop(peer);
        let mut peer = server.accept().await;
        assert_eq!(peer.acks(Mode::Resumed, 40).await.since, Some(at(40)));
        peer
    };
    let watch = async {
        while events.next().await.unwrap().unwrap() != Update::Bookmark(at(40)) {}
        assert_eq!(events.cursor(), Some(at(40)));
    };
    tokio::join!(serve, watch);
}

#[tokio::test]
async fn a_link_that_dies_without_a_word_is_left() {
    let server = Server::new().await;
    let mut events = server.watch();
    let serve = async {
        let mut dead = server.accept().await;
        let limits = Limits { max_message_bytes: 1, max_patterns_per_message: 9, max_patterns: 9 };
        let welcome = Welcome {
            protocol: 1,
            server: String::new(),
            connection_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            heartbeat_ms: 1_000,
            limits,
            token_expires_in_ms: None,
        };
        dead.send(&Envelope::new(ServerMessage::Welcome(welcome))).await;
        dead.acks(Mode::Live, 1).await;
        // It stays open, and nothing comes any more.
        let mut peer = server.accept().await;
        assert_eq!(peer.acks(Mode::Resumed, 1).await.since, Some(at(1)));
        peer.send(&event(2)).await;
        (dead, peer)
    };
    let (_peers, cursor) = tokio::join!(serve, next_seq(&mut events));
    assert_eq!(cursor, at(2));
}

#[tokio::test]
async fn a_snapshot_is_an_update_and_no_event() {
    let server = Server::new().await;
    let client = server.client("ws");
    let mut events = client.subscribe(["foo"]).unwrap().snapshot();
    let mut updates = client.subscribe(["foo"]).unwrap().snapshot().updates();
    let serve = async {
        let mut peers = vec![];
        for _ in 0..2 {
            let mut peer = server.accept().await;
            let ask = peer.read().await.unwrap();
            let ClientMessage::Subscribe(subscribe) = ask.message else { panic!("{ask:?}") };
            assert!(subscribe.snapshot);
            let repositories = subscribe.repositories;
            let answer = Subscribed {
                accepted: repositories.clone(),
                denied: vec![],
                mode: Mode::Snapshot,
                reason: None,
                head: Some(at(5)),
            };
            peer.send(&Envelope::new(ServerMessage::Subscribed(answer)).id(ask.id)).await;
            let part = Snapshot { repositories, tasks: vec![], first: true, last: true };
            peer.send(&Envelope::new(ServerMessage::Snapshot(part)).cursor(at(5))).await;
            peer.send(&event(6)).await;
            peers.push(peer);
        }
        peers
    };
    let watch = async {
        let first = next_seq(&mut events).await;
        let snapshot = loop {
            match updates.next().await.unwrap().unwrap() {
                Update::Snapshot(snapshot) => break snapshot,
                Update::Event(event) => panic!("{event:?}"),
                _ => {}
            }
        };
        assert_eq!(updates.cursor(), Some(at(5)));
        (first, snapshot.cursor)
    };
    let (_peers, cursors) = tokio::join!(serve, watch);
    assert_eq!(cursors, (at(6), at(5)));
}

#[test]
fn a_stream_whose_runtime_has_ended_says_so() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut events =
        Client::builder("ws://127.0.0.1:9").build().unwrap().subscribe(["foo"]).unwrap();
    runtime().block_on(async {
        // Polled once, so that the driver is started here.
        let mut ready = std::pin::pin!(events.ready());
        let polled = std::future::poll_fn(|cx| Poll::Ready(ready.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
    });
    let end = runtime().block_on(events.next());
    assert_eq!(end, Some(Err(WatchError::Aborted)));
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_told_how_and_left() {
    let server = Server::new().await;
    let mut events = server.watch();
    let mut too_long = vec![0x81, 127];
    too_long.extend((2_u64 << 20).to_be_bytes());
    let violations = [
        (&[0xc1, 1, b'x'][..], CloseCode::Protocol),
        (&[0x81, 0x81, 0, 0, 0, 0, b'x'], CloseCode::Protocol),
        (&[0x81, 1, 0xff], CloseCode::Utf8),
        (&[0x82, 1, 0], CloseCode::Binary),
        (&too_long, CloseCode::TooBig),
    ];
    let serve = async {
        let mut mode = Mode::Live;
        for (bytes, code) in violations {
            let mut peer = server.accept().await;
            peer.acks(std::mem::replace(&mut mode, Mode::Resumed), 1).await;
            peer.socket.get_mut().write_all(bytes).await.unwrap();
            let last = loop {
                match peer.socket.next().await.unwrap().unwrap() {
                    // It asks to be told when it has caught up.
                    Message::Text(_) => {}
                    other => break other,
                }
            };
            let Message::Close(Some(frame)) = last else { panic!("{last:?}") };
            assert_eq!((u16::from(frame.code), frame.reason.as_str()), (code.code(), code.word()));
        }
        let mut peer = server.accept().await;
        peer.acks(Mode::Resumed, 1).await;
        peer.send(&event(2)).await;
        peer
    };
    let (_peer, cursor) = tokio::join!(serve, next_seq(&mut events));
    assert_eq!(cursor, at(2));
}
