//! Encrypted, through a proxy, or not at all: who is trusted, and what is said when nobody is.

use std::time::Duration;

use futures_util::StreamExt;
use taskwatch_client::{Client, ClientBuilder, Update, WatchError};
use taskwatch_server::{AccessPolicy, HubConfig};
use taskwatch_tests::{TunnelProxy, Watcher, within};
use tokio::net::TcpListener;

use crate::support::{Authority, Embedded, TlsFront};

/// `ana:open sesame`, as a proxy is shown it, and as it stands in an address.
const AUTHORIZATION: &str = "Basic YW5hOm9wZW4gc2VzYW1l";
const USER: &str = "ana:open%20sesame";

fn client(url: &str) -> ClientBuilder {
    Client::builder(url)
        .no_proxy()
        .backoff_initial(Duration::from_millis(1))
        .backoff_cap(Duration::from_millis(10))
}

#[tokio::test]
async fn a_private_authority_is_trusted_by_who_names_it() {
    let (server, authority) = (Embedded::start(HubConfig::default()).await, Authority::new("ours"));
    let config = authority.issue(&["localhost", "127.0.0.1"]);
    let front = TlsFront::start(server.addr(), config).await;
    for host in ["localhost", "127.0.0.1"] {
        let client = client(&front.url(host)).cacert(authority.file()).build().unwrap();
        let mut events = client.subscribe(["foo"]).unwrap();
        within("a subscription", events.ready()).await.unwrap();
        let told = server.created("foo", host);
        let event = within("an event", events.next()).await.unwrap().unwrap();
        assert_eq!((&event.cursor, &*event.task().title), (&told, host));
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_ends_the_stream_at_once() {
    let (server, authority) = (Embedded::start(HubConfig::default()).await, Authority::new("ours"));
    let here = ["127.0.0.1"];
    let cases = [
        (Authority::new("another").issue(&here), "nobody who is trusted has issued it"),
        (Authority::new("ours").issue(&here), "nobody who is trusted has issued it"),
        (authority.issue(&["tasks.example"]), "not for 127.0.0.1, but for"),
        (authority.issue_expired(&here), "it has expired"),
    ];
    for (config, why) in cases {
        let front = TlsFront::start(server.addr(), config).await;
        let builder = client(&front.url("127.0.0.1")).cacert(authority.file());
        let mut events = builder.build().unwrap().subscribe(["foo"]).unwrap();
        let end = within("the end", events.next()).await.unwrap().unwrap_err();
        assert!(matches!(end, WatchError::Certificate { .. }), "{end:?}");
        assert!(end.to_string().contains(why), "{end}");
        assert_eq!((events.next().await, front.connections()), (None, 1));
    }
}

#[tokio::test]
async fn a_handshake_that_is_cut_is_tried_again() {
    let (server, authority) = (Embedded::start(HubConfig::default()).await, Authority::new("ours"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let builder = client(&format!("https://127.0.0.1:{port}")).cacert(authority.file());
    let mut updates = builder.build().unwrap().subscribe(["foo"]).unwrap().updates();
    let cut = async {
        for _ in 0..2 {
            drop(listener.accept().await.unwrap());
        }
        // And then it is done.
        let config = authority.issue(&["127.0.0.1"]);
        let front = TlsFront::start(server.addr(), config).await;
        let (mut client, _) = listener.accept().await.unwrap();
        let mut behind = tokio::net::TcpStream::connect(front.addr()).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut behind).await;
    };
    let told = async {
        let mut interrupted = 0;
        loop {
            match updates.next().await.unwrap().unwrap() {
                Update::Interrupted { .. } => interrupted += 1,
                Update::Connected { .. } => return interrupted,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = cut => panic!("the connection ended"),
        interrupted = within("a connection", told) => assert_eq!(interrupted, 2),
    }
}

/// A watcher of `foo` that has only this of the environment's proxies.
fn watcher(url: &str, args: &[&str], proxy: &[(&str, &str)]) -> Watcher {
    Watcher::spawn_with(url, &[&["--repo", "foo"], args].concat(), proxy)
}

#[tokio::test]
async fn the_watcher_prints_what_comes_encrypted_and_says_what_it_does_not_trust() {
    let (server, authority) = (Embedded::start(HubConfig::default()).await, Authority::new("ours"));
    let front = TlsFront::start(server.addr(), authority.issue(&["127.0.0.1"])).await;
    let (url, file) = (front.url("127.0.0.1"), authority.file());
    let cacert = ["--cacert", file.to_str().unwrap(), "--count", "1"];
    let mut watching = watcher(&url, &cacert, &[]);
    watching.stderr.until("connected to").await;
    server.created("foo", "encrypted");
    watching.stdout.until("encrypted").await;
    assert_eq!(watching.wait().await.code(), Some(0));

    let mut refused = watcher(&url, &[], &[]);
    refused.stderr.until("error: the server's certificate is not accepted").await;
    refused.stderr.until("hint: --cacert FILE").await;
    assert_eq!((refused.wait().await.code(), front.connections()), (Some(3), 2));
}

#[tokio::test]
async fn the_watcher_goes_through_the_proxy_of_the_environment() {
    // Nobody but the proxy knows where that is.
    let name = "tasks.example";
    let access = AccessPolicy::private().allow_host(name);
    let server = Embedded::start(HubConfig { access, ..HubConfig::default() }).await;
    let authority = Authority::new("ours");
    let front = TlsFront::start(server.addr(), authority.issue(&[name])).await;
    let encrypted = TunnelProxy::start(&front.addr(), AUTHORIZATION, None).await;
    let plain = TunnelProxy::start(server.addr(), AUTHORIZATION, None).await;
    let by_tls = TunnelProxy::start(server.addr(), AUTHORIZATION, None).await;
    let before_it = TlsFront::start(by_tls.addr(), authority.issue(&["127.0.0.1"])).await;
    let address = |scheme: &str, at: &str| format!("{scheme}://{USER}@{at}");
    let (file, to_443, to_80) = (authority.file(), "tasks.example:443", "tasks.example:80");
    let cacert = ["--cacert", file.to_str().unwrap()];
    for (scheme, args, variable, address, proxy, target) in [
        (
            "https",
            &cacert[..],
            "HTTPS_PROXY",
            address("http", encrypted.addr()),
            &encrypted,
            to_443,
        ),
        ("http", &[], "http_proxy", address("http", plain.addr()), &plain, to_80),
        ("http", &cacert, "ALL_PROXY", address("https", &before_it.addr()), &by_tls, to_80),
    ] {
        let args = [args, &["--count", "1"]].concat();
        let mut watching = watcher(&format!("{scheme}://{name}"), &args, &[(variable, &address)]);
        watching.stderr.until("connected to").await;
        server.created("foo", "through the proxy");
        watching.stdout.until("through the proxy").await;
        assert_eq!(watching.wait().await.code(), Some(0));
        assert_eq!(proxy.requests(), [format!("CONNECT {target} HTTP/1.1")]);
    }

    // Who needs no proxy does not ask it.
    let address = address("http", plain.addr());
    let direct = [("http_proxy", &*address), ("NO_PROXY", "127.0.0.1")];
    let mut watching = watcher(&server.url, &["--count", "1"], &direct);
    watching.stderr.until("connected to").await;
    assert_eq!(plain.requests().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_without_its_password() {
    let server = Embedded::start(HubConfig::default()).await;
    let proxy = TunnelProxy::start(server.addr(), AUTHORIZATION, None).await;
    let address = format!("http://ana:wrong-one@{}", proxy.addr());
    let mut refused = watcher("http://tasks.example", &["-vvv"], &[("ALL_PROXY", &address)]);
    let mut told = vec![];
    while let Some(line) = refused.stderr.next().await {
        told.push(line);
    }
    assert_eq!((refused.wait().await.code(), proxy.requests().len()), (Some(3), 1));
    let told = told.join("\n");
    assert!(told.contains(&format!("error: the proxy http://{} refuses", proxy.addr())), "{told}");
    assert!(told.contains("hint: ") && !told.contains("wrong-one"), "{told}");

    // Whatever else it answers may pass.
    let proxy = TunnelProxy::start(server.addr(), AUTHORIZATION, Some("403 Forbidden")).await;
    let address = format!("http://{USER}@{}", proxy.addr());
    let mut waiting = watcher("http://tasks.example", &[], &[("ALL_PROXY", &address)]);
    waiting.stderr.until("gives no way to tasks.example:80: it answered 403 Forbidden").await;
    proxy.asked(2).await;
}
