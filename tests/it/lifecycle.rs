//! Connections come and go, and so do servers.

use std::process::{Output, Stdio};
use std::sync::Arc;

use taskwatch_server::HubConfig;
use taskwatch_tests::{Daemon, RawClient, Rest, binary, read_log, within};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::support::{Embedded, envelopes, events};

/// Waits until the hub has forgotten every connection.
async fn empty(server: &Embedded) {
    let gone = async {
        while server.hub.stats().connections > 0 {
            tokio::task::yield_now().await;
        }
    };
    within("no connection is left", gone).await;
}

#[tokio::test]
async fn two_hundred_connections_at_once_leave_nothing_behind() {
    let server = Arc::new(Embedded::start(HubConfig::default()).await);
    let mut clients = JoinSet::new();
    for number in 0..200 {
        let server = Arc::clone(&server);
        clients.spawn(async move {
            let own = format!("r{number}");
            let mut client = RawClient::subscribed(&server.url, &["all", &own]).await;
            server.created(&own, "for one");
            while client.next_event().await["data"]["repository"] != own.as_str() {}
            client
        });
    }
    let mut open = clients.join_all().await;
    assert_eq!(server.hub.stats().connections, 200);

    server.created("all", "for everybody");
    for client in &mut open {
        assert_eq!(client.next_event().await["data"]["repository"], "all");
    }
    drop(open);
    empty(&server).await;
}

#[tokio::test]
async fn who_leaves_at_any_point_leaves_nothing_behind() {
    let server = Embedded::start(HubConfig::default()).await;
    for _ in 0..20 {
        drop(RawClient::connect(&server.url, "/ws").await);
        drop(RawClient::connect(&server.url, "/ws?repo=foo").await);
        drop(RawClient::subscribed(&server.url, &["foo"]).await);
        server.created("foo", "traffic");
    }
    empty(&server).await;
    let mut late = RawClient::subscribed(&server.url, &["foo"]).await;
    server.created("foo", "still serving");
    assert_eq!(late.next_event().await["data"]["task"]["title"], "still serving");
}

/// The server ends by this signal while connections are open.
async fn ends_by(signal: &str) {
    let data = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(data.path()).await;
    let mut clients = vec![];
    for path in ["/ws", "/ws?repo=foo", "/ws?repo=*"] {
        let mut client = RawClient::connect(daemon.url(), path).await;
        client.until("welcome").await;
        clients.push(client);
    }
    daemon.signal(signal);
    for client in &mut clients {
        let close = loop {
            if let Err(close) = client.try_next().await {
                break close.unwrap();
            }
        };
        assert_eq!(u16::from(close.code), 1012);
        assert!(close.reason.starts_with("restart retry_after_ms="), "{}", close.reason);
    }
    assert_eq!(daemon.wait().await.code(), Some(0));
    assert_eq!(daemon.stderr.next().await, None, "it has nothing to complain of");
}

#[tokio::test]
async fn sigterm_closes_connections_with_1012_and_ends_well() {
    ends_by("TERM").await;
}

#[tokio::test]
async fn sigint_closes_connections_with_1012_and_ends_well() {
    ends_by("INT").await;
}

/// Runs a server that is expected not to start.
async fn fails(listen: &str, data: &std::path::Path) -> Output {
    let mut command = Command::new(binary("taskwatchd"));
    command.args(["--listen", listen, "--data"]).arg(data);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    within("a server that does not start", command.output()).await.unwrap()
}

fn assert_sentence(output: &Output, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(words.iter().all(|word| stderr.contains(word)), "{words:?} in {stderr}");
}

#[tokio::test]
async fn a_port_in_use_is_said_in_a_sentence() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = Daemon::start(data.path()).await;
    let output = fails(daemon.addr(), other.path()).await;
    assert_sentence(&output, &[daemon.addr(), "--listen"]);
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused_and_the_first_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let mut client = RawClient::subscribed(daemon.url(), &["foo"]).await;
    let output = fails("127.0.0.1:0", data.path()).await;
    assert_sentence(&output, &[data.path().to_str().unwrap(), "--data"]);
    Rest::new(daemon.url()).create("foo", "undisturbed").await;
    assert_eq!(client.next_event().await["data"]["task"]["title"], "undisturbed");
}

#[tokio::test]
async fn a_server_starts_again_on_the_same_port_and_data() {
    let data = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(data.path()).await;
    let addr = daemon.addr().to_owned();
    for round in 0..3 {
        let mut client = RawClient::subscribed(daemon.url(), &["foo"]).await;
        Rest::new(daemon.url()).create("foo", &format!("round {round}")).await;
        let event = events(&mut client, 1).await;
        assert_eq!(event, envelopes(&read_log(data.path())[round..], &["foo"]));
        // A connection is open: its side of the port must not keep the next server from it.
        daemon.signal(if round == 1 { "KILL" } else { "TERM" });
        daemon.wait().await;
        daemon = Daemon::start_with(data.path(), &addr, &[]).await;
    }
    assert_eq!(daemon.addr(), addr);
}

#[tokio::test]
async fn one_connection_too_many_is_told_when_to_come_back() {
    let config = HubConfig { max_connections: 2, ..HubConfig::default() };
    let server = Embedded::start(config).await;
    let first = RawClient::connect(&server.url, "/ws").await;
    let _second = RawClient::connect(&server.url, "/ws").await;
    let ask = || {
        let request = Rest::new(&server.url).request("GET", "/ws").header("X-Version", "1");
        let request = request.header("Connection", "Upgrade").header("Upgrade", "websocket");
        let request = request.header("Sec-WebSocket-Version", "13");
        request.header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==").send()
    };
    let refused = ask().await.unwrap();
    assert_eq!(refused.status(), 503);
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds > 0);
    assert!(refused.text().await.unwrap().contains(r#""code":"unavailable""#));

    drop(first);
    let again = async { while ask().await.unwrap().status() == 503 {} };
    within("room for another", again).await;
}

#[tokio::test]
async fn a_hub_that_shuts_down_refuses_who_comes_late() {
    let server = Embedded::start(HubConfig::default()).await;
    let mut client = RawClient::subscribed(&server.url, &["foo"]).await;
    let (closed, ()) = tokio::join!(client.closed(), server.hub.shutdown());
    assert_eq!(closed, Some(1012));
    let late = RawClient::try_connect(&server.url, "/ws", &[("X-Version", "1")]).await;
    assert!(late.unwrap_err().to_string().contains("503"));
    assert_eq!(server.hub.stats().connections, 0);
}
