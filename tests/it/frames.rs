//! What a client may say, and what becomes of the connection if it says something else.

use serde_json::{Value, json};
use taskwatch_server::HubConfig;
use taskwatch_tests::RawClient;

use crate::support::{Bare, Embedded, Opcode, TestLog, frame};

async fn connected() -> (Embedded, RawClient) {
    let server = Embedded::start(HubConfig::default()).await;
    let client = RawClient::connect(&server.url, "/ws").await;
    (server, client)
}

/// The answer to a text must be this error.
async fn refused(client: &mut RawClient, text: &str, code: &str) -> Value {
    client.send_text(text).await;
    let error = client.until("error").await;
    assert_eq!(error["data"]["code"], code, "{error}");
    assert!(error["error"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    error
}

/// The connection still does what it is for.
async fn assert_lives(server: &Embedded, client: &mut RawClient) {
    client.send(json!({"type": "subscribe", "data": {"repositories": ["alive"]}})).await;
    client.until("subscribed").await;
    server.created("alive", "still here");
    assert_eq!(client.next_event().await["data"]["task"]["title"], "still here");
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_and_the_connection_lives() {
    let (server, mut client) = connected().await;
    for text in
        ["hello", "", "[]", "7", r#"{"data":{}}"#, r#"{"type":7}"#, r#"{"type":"subscribe"}"#]
    {
        refused(&mut client, text, "bad_message").await;
    }
    assert_lives(&server, &mut client).await;
}

#[tokio::test]
async fn an_unknown_type_is_an_error_that_names_it() {
    let (server, mut client) = connected().await;
    let error = refused(&mut client, r#"{"type":"dance","id":"d1"}"#, "bad_message").await;
    assert_eq!(error["id"], "d1");
    assert!(error["error"].as_str().unwrap().contains("dance"), "{error}");
    assert_lives(&server, &mut client).await;
}

#[tokio::test]
async fn a_name_that_breaks_the_rules_is_refused() {
    let (server, mut client) = connected().await;
    for name in ["", "a b", "a*", "*/a", "/a", "ü", "a/**", &"a".repeat(256)] {
        let frame = json!({"type": "subscribe", "id": "n", "data": {"repositories": ["ok", name]}});
        let error = refused(&mut client, &frame.to_string(), "invalid_name").await;
        assert_eq!(error["id"], "n");
    }
    assert_lives(&server, &mut client).await;
}

#[tokio::test]
async fn a_message_and_a_connection_hold_128_repositories() {
    let (server, mut client) = connected().await;
    let subscribe = |names: std::ops::Range<u32>| {
        let names: Vec<_> = names.map(|number| format!("r{number}")).collect();
        json!({"type": "subscribe", "data": {"repositories": names}})
    };
    refused(&mut client, &subscribe(0..129).to_string(), "limit_subscriptions").await;
    client.send(subscribe(0..100)).await;
    client.until("subscribed").await;
    refused(&mut client, &subscribe(100..129).to_string(), "limit_subscriptions").await;
    client.send(subscribe(73..127)).await;
    client.until("subscribed").await;
    assert_lives(&server, &mut client).await;
}

#[tokio::test]
async fn a_ping_of_the_protocol_is_answered_though_nothing_else_happens() {
    let hour = std::time::Duration::from_secs(3600);
    let config = HubConfig { heartbeat: hour, silence: hour, ..HubConfig::default() };
    let server = Embedded::start(config).await;
    let mut client = RawClient::subscribed(&server.url, &["foo"]).await;
    for _ in 0..3 {
        client.ping().await;
    }
}

#[tokio::test]
async fn since_belongs_into_the_first_subscription() {
    let (server, mut client) = connected().await;
    let cursor = server.created("foo", "one");
    client.send(json!({"type": "subscribe", "data": {"repositories": ["foo"]}})).await;
    client.until("subscribed").await;
    let second = json!({"type": "subscribe", "data": {"repositories": ["bar"], "since": cursor}});
    refused(&mut client, &second.to_string(), "since_not_first").await;
    assert_lives(&server, &mut client).await;
}

#[tokio::test]
async fn eight_requests_may_wait_and_the_ninth_is_told_to_come_later() {
    let log = TestLog::new();
    log.append("foo", "older than the hub's memory");
    let server = Embedded::with_log(log.clone(), HubConfig::default()).await;
    let held = log.hold().await;
    let mut client = RawClient::connect(&server.url, "/ws").await;
    let before = log_cursor(&log, 0);
    client
        .send(json!({"type": "subscribe", "data": {"repositories": ["foo"], "since": before}}))
        .await;
    client.until("subscribed").await;

    // The connection reads the log, and is not level before it has.
    for number in 0..9 {
        let name = format!("r{number}");
        let id = format!("q{number}");
        client.send(json!({"type": "subscribe", "id": id, "data": {"repositories": [name]}})).await;
    }
    let error = client.next().await;
    assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("q8")));
    assert_eq!(error["data"]["code"], "rate_limited");
    assert_eq!(error["data"]["retryable"], true);

    drop(held);
    assert_eq!(client.next().await["type"], "task.created");
    for number in 0..8 {
        let acknowledged = client.next().await;
        assert_eq!(acknowledged["type"], "subscribed");
        assert_eq!(acknowledged["id"], format!("q{number}"));
    }
}

fn log_cursor(log: &TestLog, seq: u64) -> String {
    taskwatch_server::EventLog::cursor(log, seq).to_string()
}

#[tokio::test]
async fn what_this_server_does_not_offer_it_says() {
    let (server, mut client) = connected().await;
    let frame = json!({"type": "subscribe", "data": {"repositories": ["foo"], "snapshot": true}});
    refused(&mut client, &frame.to_string(), "unsupported").await;
    refused(&mut client, r#"{"type":"auth","data":{"token":"x"}}"#, "unsupported").await;
    assert_lives(&server, &mut client).await;
}

#[tokio::test]
async fn a_ping_is_answered_with_its_id_a_bookmark_and_the_count() {
    let (server, mut client) = connected().await;
    client.send(json!({"type": "subscribe", "data": {"repositories": ["foo"]}})).await;
    client.until("subscribed").await;
    server.created("foo", "one");
    let last = server.created("foo", "two");
    client.next_event().await;
    client.next_event().await;

    client.send(json!({"type": "ping", "id": "p7"})).await;
    let pong = client.next().await;
    assert_eq!((&pong["type"], &pong["id"]), (&json!("pong"), &json!("p7")));
    assert_eq!(pong["data"]["delivered"], 2);
    assert_eq!(pong["cursor"], last.as_str());
}

async fn bare() -> (Embedded, Bare) {
    let server = Embedded::start(HubConfig::default()).await;
    let bare = Bare::connect(server.addr(), "/ws").await;
    (server, bare)
}

#[tokio::test]
async fn a_binary_message_closes_with_1003() {
    let (_server, mut bare) = bare().await;
    bare.send(&frame(Opcode::Binary, b"{}")).await;
    assert_eq!(bare.closed().await, Some(1003));
}

#[tokio::test]
async fn a_message_over_512_kib_closes_with_1009_on_the_wire() {
    let (_server, mut bare) = bare().await;
    let whole = frame(Opcode::Text, &vec![b' '; (512 << 10) + 1]);
    // What the header claims is enough; nobody has to send it all.
    bare.send(&whole[..64]).await;
    assert_eq!(bare.closed().await, Some(1009));
}

#[tokio::test]
async fn a_message_of_512_kib_is_read() {
    let (_server, mut bare) = bare().await;
    let mut text = r#"{"type":"ping","id":"big"}"#.to_owned();
    text.extend(std::iter::repeat_n(' ', (512 << 10) - text.len()));
    bare.send_text(&text).await;
    bare.next_text().await.unwrap();
    assert!(bare.next_text().await.unwrap().contains(r#""id":"big""#));
}

#[tokio::test]
async fn a_length_of_2_to_the_63_closes_the_connection_with_a_code() {
    let (_server, mut bare) = bare().await;
    let mut head = vec![0x81, 0x80 | 127];
    head.extend((1_u64 << 63).to_be_bytes());
    head.extend([1, 2, 3, 4]);
    bare.send(&head).await;
    let code = bare.closed().await;
    assert!(matches!(code, Some(1002 | 1009)), "{code:?}");
}

#[tokio::test]
async fn an_unmasked_frame_closes_with_1002_on_the_wire() {
    let (_server, mut bare) = bare().await;
    bare.send(b"\x81\x02{}").await;
    assert_eq!(bare.closed().await, Some(1002));
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007_on_the_wire() {
    let (_server, mut bare) = bare().await;
    bare.send(&frame(Opcode::Text, b"\xff\xfe")).await;
    assert_eq!(bare.closed().await, Some(1007));
}

#[tokio::test]
async fn a_flood_of_messages_closes_with_4103() {
    let (_server, mut bare) = bare().await;
    bare.send(&frame(Opcode::Text, br#"{"type":"pong"}"#).repeat(1_000)).await;
    assert_eq!(bare.closed().await, Some(4103));
}

#[tokio::test]
async fn a_flood_of_pings_closes_with_4103() {
    let (_server, mut bare) = bare().await;
    bare.send(&frame(Opcode::Ping, b"").repeat(1_000)).await;
    assert_eq!(bare.closed().await, Some(4103));
}

#[tokio::test]
async fn whoever_sends_nothing_readable_is_closed_with_4000() {
    let (_server, mut bare) = bare().await;
    bare.send(&frame(Opcode::Text, b"nonsense").repeat(30)).await;
    let mut errors = 0;
    let code = loop {
        match bare.next().await.unwrap() {
            (Opcode::Text, text) if text.starts_with(br#"{"type":"error""#) => errors += 1,
            (Opcode::Close, reason) => break u16::from_be_bytes([reason[0], reason[1]]),
            _ => {}
        }
    };
    assert_eq!(code, 4000);
    assert!(errors >= 10, "ten are answered, not {errors}");
}

#[tokio::test]
async fn a_close_is_answered() {
    let (server, mut bare) = bare().await;
    bare.send(&frame(Opcode::Close, &1000_u16.to_be_bytes())).await;
    assert_eq!(bare.closed().await, Some(1000));
    assert_eq!(bare.next().await, None);
    drop(server);
}

#[tokio::test]
async fn a_client_that_knows_only_the_original_contract_works() {
    let config =
        HubConfig { heartbeat: std::time::Duration::from_millis(150), ..HubConfig::default() };
    let server = Embedded::start(config).await;
    let mut client = RawClient::connect(&server.url, "/ws").await;
    client.send(json!({"type": "subscribe", "data": {"repositories": ["foo"]}})).await;
    let mut published = false;
    let mut pings = 0;
    loop {
        let frame: Value = serde_json::from_str(&client.try_next().await.unwrap()).unwrap();
        assert!(frame["timestamp"].is_string() && frame["data"].is_object(), "{frame}");
        match frame["type"].as_str().unwrap() {
            "ping" => {
                client.send(json!({"type": "pong"})).await;
                pings += 1;
                if pings == 3 && !published {
                    server.created("bar", "not asked for");
                    server.created("foo", "asked for");
                    published = true;
                }
            }
            "task.created" => {
                assert_eq!(frame["data"]["repository"], "foo");
                assert_eq!(frame["data"]["task"]["title"], "asked for");
                break;
            }
            "error" => panic!("{frame}"),
            // It ignores what it does not know.
            _ => {}
        }
    }
}
