//! An HTTP proxy that wants a user and a password, and knows one way.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::within;

/// Carries whoever asks for a tunnel, to wherever, to one target.
#[derive(Debug)]
pub struct TunnelProxy {
    addr: String,
    requests: Arc<watch::Sender<Vec<String>>>,
    task: JoinHandle<()>,
}

impl TunnelProxy {
    /// In front of `target`, `ADDR`, on a free port. Who does not show `authorization`, the value of
    /// `Proxy-Authorization`, is answered 407; with `answer`, a status line, nobody is carried.
    pub async fn start(target: &str, authorization: &str, answer: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(watch::Sender::new(vec![]));
        let seen = Arc::clone(&requests);
        let (target, authorization) = (target.to_owned(), authorization.to_owned());
        let task = tokio::spawn(async move {
            let mut tunnels = tokio::task::JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let (target, authorization) = (target.clone(), authorization.clone());
                let seen = Arc::clone(&seen);
                tunnels.spawn(async move {
                    // Whoever goes away in between is no matter.
                    let _ = serve(client, &target, &authorization, answer, &seen).await;
                });
            }
        });
        Self { addr, requests, task }
    }

    /// `ADDR`
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// The first lines of what was asked so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.requests.borrow().clone()
    }

    /// Waits until so many requests have come.
    ///
    /// # Panics
    /// If they do not.
    pub async fn asked(&self, count: usize) {
        let mut requests = self.requests.subscribe();
        within("a request to the proxy", requests.wait_for(|all| all.len() >= count))
            .await
            .unwrap();
    }
}

impl Drop for TunnelProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    target: &str,
    authorization: &str,
    answer: Option<&str>,
    seen: &watch::Sender<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(client.read_u8().await?));
    }
    let first = head.lines().next().unwrap_or_default().to_owned();
    let is_connect = first.starts_with("CONNECT ");
    seen.send_modify(|all| all.push(first));
    let shown = head.lines().filter_map(|line| line.split_once(": "));
    let shown = shown.filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"));
    let is_known = shown.map(|(_, value)| value).eq([authorization]);
    let status = match answer {
        _ if !is_connect => "405 Method Not Allowed",
        _ if !is_known => "407 Proxy Authentication Required",
        Some(status) => status,
        None => {
            let mut server = TcpStream::connect(target).await?;
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
            return Ok(());
        }
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    client.write_all(answer.as_bytes()).await
}
