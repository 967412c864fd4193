//! What a supervisor, such as systemd, hands over and is told.

use std::net::TcpListener;

use taskwatch_tests::{Daemon, RawClient, Rest, binary, taskwatchd_on, within};
use tokio::net::UnixDatagram;
use tokio::process::Command;

/// The next message that says this.
async fn until(told: &UnixDatagram, text: &str) -> String {
    let mut message = vec![0; 1024];
    loop {
        let bytes = within(text, told.recv(&mut message)).await.unwrap();
        let message = std::str::from_utf8(&message[..bytes]).unwrap();
        if message.lines().any(|line| line == text) {
            return message.to_owned();
        }
    }
}

#[tokio::test]
async fn it_is_told_that_the_server_is_ready_and_alive_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let told = UnixDatagram::bind(&path).unwrap();
    let mut command = Command::new(binary("taskwatchd"));
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(dir.path().join("data"));
    command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "20000");
    let mut daemon = Daemon::spawn(command).await;
    let ready = until(&told, "READY=1").await;
    assert!(ready.contains(&format!("STATUS=serving {}\n", daemon.url())), "{ready}");
    for _ in 0..3 {
        until(&told, "WATCHDOG=1").await;
    }
    daemon.signal("TERM");
    until(&told, "STOPPING=1").await;
    assert!(daemon.wait().await.success());
}

#[tokio::test]
async fn who_comes_between_two_servers_on_one_socket_is_served_by_the_second() {
    let data = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut daemon = Daemon::start_on(&socket, data.path(), &[]).await;
    assert_eq!(daemon.addr(), socket.local_addr().unwrap().to_string());
    let url = daemon.url().to_owned();
    daemon.signal("TERM");
    assert!(daemon.wait().await.success());
    let early = tokio::spawn({
        let url = url.clone();
        async move { RawClient::subscribed(&url, &["foo"]).await }
    });
    let _daemon = Daemon::start_on(&socket, data.path(), &[]).await;
    let mut client = within("an early client", early).await.unwrap();
    Rest::new(&url).create("foo", "in the second").await;
    assert_eq!(client.next_event().await["data"]["task"]["title"], "in the second");
}

#[tokio::test]
async fn a_socket_and_another_address_do_not_go_together() {
    let data = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = taskwatchd_on(&socket, data.path()).args(["--listen", "127.0.0.1:1"]).output();
    let refused = within("its end", refused).await.unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("was handed over, and --listen says 127.0.0.1:1"), "{said}");
}
