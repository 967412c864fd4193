//! Whoever runs the server sees who is behind, and can have a task forgotten.

mod purge;

use std::time::Duration;

use serde_json::{Value, json};
use taskwatch_server::{ConnectionInfo, ConnectionState, ConnectionTransport, HubConfig};
use taskwatch_tests::{Daemon, Grant, RawClient, Rest, TokensFile, binary, within};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{Bare, Embedded};

/// What a command of `taskwatchd` said: its code, stdout and stderr.
async fn taskwatchd(args: &[&str], token: Option<&str>) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary("taskwatchd"));
    command.args(args).env_remove("TASKWATCH_URL").env_remove("TASKWATCH_TOKEN");
    command.envs(token.map(|token| ("TASKWATCH_TOKEN", token))).kill_on_drop(true);
    command.stdin(std::process::Stdio::null());
    let output = within("the end of taskwatchd", command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The connections of a hub when they are as they should be.
async fn when(server: &Embedded, is_so: impl Fn(&[ConnectionInfo]) -> bool) -> Vec<ConnectionInfo> {
    let found = async {
        loop {
            let all = server.hub.connections();
            if is_so(&all) {
                return all;
            }
            tokio::task::yield_now().await;
        }
    };
    within("connections as they should be", found).await
}

#[tokio::test]
async fn a_slow_reader_is_seen_behind_and_a_live_one_level_and_both_in_the_end() {
    const EVENTS: usize = 3_000;
    let config = HubConfig {
        queue_events: 16,
        write_timeout: Duration::from_secs(600),
        silence: Duration::from_secs(600),
        ..HubConfig::default()
    };
    let server = Embedded::start(config).await;
    let mut live = RawClient::try_connect(
        &server.url,
        "/ws?repo=foo&repo=bar/*",
        &[("X-Version", "1"), ("User-Agent", "live/1")],
    )
    .await
    .unwrap();
    let welcome = live.until("welcome").await;
    live.until("subscribed").await;
    let mut slow = Bare::connect_narrow(server.addr(), "/ws?repo=foo").await;
    while !slow.next_text().await.unwrap().contains(r#""type":"subscribed""#) {}

    let all = when(&server, |all| all.iter().all(|one| one.state == ConnectionState::Live)).await;
    assert_eq!(all.len(), 2);
    for one in &all {
        assert_eq!((one.behind, one.behind_for, one.delivered, one.queued), (0, None, 0, 0));
        assert_eq!(
            (one.transport, one.client),
            (ConnectionTransport::WebSocket, one.peer.map(|it| it.ip()))
        );
        assert!(one.principal.is_anonymous());
    }

    let title = "x".repeat(1_000);
    for _ in 0..EVENTS {
        server.created("foo", &title);
    }
    for _ in 0..EVENTS {
        live.next_event().await;
    }
    let all = when(&server, |all| {
        let live = all.iter().find(|one| one.user_agent.as_deref() == Some("live/1")).unwrap();
        let slow = all.iter().find(|one| one.user_agent.is_none()).unwrap();
        live.behind == 0 && slow.state == ConnectionState::CatchingUp
    })
    .await;
    let (live, slow_one) = match &all[..] {
        [one, other] if one.user_agent.is_some() => (one, other),
        [other, one] => (one, other),
        _ => panic!("{all:?}"),
    };
    assert_eq!(welcome["data"]["connection_id"], live.id.to_string());
    assert_eq!((live.state, live.delivered), (ConnectionState::Live, EVENTS as u64));
    assert_eq!(live.patterns.iter().map(ToString::to_string).collect::<Vec<_>>(), ["foo", "bar/*"]);
    assert_eq!(live.position, server.hub.position());
    assert!(slow_one.behind > 0 && slow_one.behind_for.is_some(), "{slow_one:?}");
    assert_eq!(slow_one.delivered + slow_one.behind, EVENTS as u64);
    assert_ne!(slow_one.position, server.hub.position());

    let mut read = 0;
    while read < EVENTS {
        read += usize::from(slow.next_text().await.unwrap().contains("task.created"));
    }
    when(&server, |all| all.iter().all(|one| one.behind == 0 && one.queued == 0)).await;
}

fn office(dir: &TempDir) -> TokensFile {
    let grants = [
        Grant::new("ana", "token-of-ana").reading(&["*"]).writing(&["*"]).with_metrics(),
        Grant::new("ben", "token-of-ben").reading(&["*"]),
        Grant::new("op", "token-of-op").with_operate(),
    ];
    TokensFile::new(dir.path(), &grants)
}

async fn open(dir: &TempDir) -> Daemon {
    let tokens = office(dir);
    let args = ["--tokens", tokens.path()];
    Daemon::start_with(&dir.path().join("data"), "127.0.0.1:0", &args).await
}

#[tokio::test]
async fn status_tells_by_principal_who_is_behind() {
    let dir = TempDir::new().unwrap();
    let server = open(&dir).await;
    let ana = Rest::new(server.url()).token("token-of-ana");
    let live = async |token: &str| {
        let token = format!("Bearer {token}");
        let headers = [("X-Version", "1"), ("Authorization", &*token)];
        let mut client =
            RawClient::try_connect(server.url(), "/ws?repo=none", &headers).await.unwrap();
        client.until("subscribed").await;
        client
    };
    let _live =
        [live("token-of-ana").await, live("token-of-ana").await, live("token-of-ben").await];
    let slow = Bare::connect_narrow_as("token-of-ben", server.addr(), "/ws?repo=foo").await;
    // It is behind for ten seconds, then it is given up.
    let task = json!({"op": "create", "task": {"repository": "foo", "title": "x", "description": "x".repeat(20_000)}});
    let batch = json!({"operations": vec![task; 10]});
    let url = server.url();
    let lagging = async {
        loop {
            let made =
                ana.request("POST", "/api/v1/tasks:batch").json(&batch).send().await.unwrap();
            assert_eq!(made.status(), 200);
            let args = ["status", "--url", url, "-o", "json", "--by", "connection"];
            let (code, stdout, stderr) = taskwatchd(&args, Some("token-of-op")).await;
            assert_eq!((code, &*stderr), (Some(0), ""));
            let all: Value = serde_json::from_str(&stdout).unwrap();
            if all["connections"][0]["state"] == "catching_up" {
                return all;
            }
        }
    };
    let all = within("somebody is behind", lagging).await;
    drop(slow);
    assert_eq!(all["total"], 4);
    let sums = all["principals"].as_array().unwrap();
    let (ben, ana) = (&sums[0], &sums[1]);
    assert_eq!((&ben["principal"], &ana["principal"]), (&json!("ben"), &json!("ana")));
    assert_eq!(
        (&ben["connections"], &ben["catching_up"], &ben["subscriptions"]),
        (&json!(2), &json!(1), &json!(2))
    );
    assert!(ben["behind"].as_u64().unwrap() > 0);
    assert_eq!((&ana["connections"], &ana["behind"]), (&json!(2), &json!(0)));
    let worst = &all["connections"][0];
    assert_eq!((&worst["principal"], &worst["patterns"]), (&json!("ben"), &json!(["foo"])));
    assert_eq!(worst["behind"], ben["behind"]);
    assert!(worst["peer"].as_str().unwrap().starts_with("127.0.0.1:"));

    let (code, table, _) = taskwatchd(&["status", "--url", url], Some("token-of-op")).await;
    assert_eq!(code, Some(0));
    assert!(
        table.starts_with("taskwatchd ")
            && table.contains("\nPRINCIPAL")
            && table.contains("\nana"),
        "{table}"
    );
}

#[tokio::test]
async fn who_may_not_operate_sees_nobody_and_purges_nothing() {
    let dir = TempDir::new().unwrap();
    let server = open(&dir).await;
    let ana = Rest::new(server.url()).token("token-of-ana");
    let task = ana.create("foo", "stays").await;
    let purge = format!("/api/v1/tasks/{}/purge", task.id);
    for (token, status) in [(None, 401), (Some("token-of-ana"), 403), (Some("token-of-op"), 200)] {
        let rest = Rest::new(server.url());
        let rest = token.into_iter().fold(rest, |rest, token| rest.token(token));
        for (method, path) in [("GET", "/api/v1/connections"), ("POST", &*purge)] {
            let answer = rest.request(method, path).send().await.unwrap();
            assert_eq!(answer.status(), status, "{method} {token:?}");
        }
        let there = ana.request("GET", &format!("/api/v1/tasks/{}", task.id)).send().await.unwrap();
        assert_eq!(there.status(), if status == 200 { 404 } else { 200 });
    }
    let (code, _, said) =
        taskwatchd(&["status", "--url", server.url()], Some("token-of-ana")).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("--operate"), "{said}");
    let id = task.id.to_string();
    let (code, _, said) =
        taskwatchd(&["purge", "--url", server.url(), "--task", &id], Some("token-of-op")).await;
    assert_eq!(code, Some(2), "nobody can be asked");
    assert!(said.contains("--yes"), "{said}");
}
