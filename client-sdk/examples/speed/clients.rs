//! The readers that are measured, each in a process of its own.

use std::fs;

use futures_util::{SinkExt, StreamExt};
use taskwatch_client::protocol::{ServerFrame, ServerMessage};
use taskwatch_client::{Client, EventStream};
use tokio::runtime::{Builder, Runtime};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The least that reads the same: tokio-tungstenite as it comes, and the frames parsed.
pub(crate) fn bare(url: &str, events: usize) {
    one_thread().block_on(async {
        let address = url.strip_prefix("http://").unwrap();
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut socket, _) = client_async(format!("ws://{address}/ws"), tcp).await.unwrap();
        let subscribe = r#"{"type":"subscribe","id":"1","data":{"repositories":["*"]}}"#;
        socket.send(subscribe.into()).await.unwrap();
        let mut read = 0;
        while read < events {
            let Message::Text(text) = socket.next().await.unwrap().unwrap() else { continue };
            let frame = ServerFrame::decode(&text).unwrap();
            read += usize::from(matches!(frame.message, ServerMessage::Task(_)));
        }
    });
}

/// The stream of the SDK.
pub(crate) fn sdk(url: &str, events: usize, threads: usize) {
    let runtime = match threads {
        1 => one_thread(),
        _ => Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap(),
    };
    let client = Client::builder(url).build().unwrap();
    let reading = async move {
        let mut stream = client.subscribe(["*"]).unwrap();
        read(&mut stream, events).await;
    };
    // As a task, as a program would have it: `block_on` runs on a thread of its own.
    runtime.block_on(async { tokio::spawn(reading).await.unwrap() });
}

async fn read(stream: &mut EventStream, events: usize) {
    for _ in 0..events {
        stream.next().await.unwrap().unwrap();
    }
}

/// Streams that wait, after so many events each.
pub(crate) fn idle(url: &str, streams: usize, events: usize) {
    one_thread().block_on(async {
        let client = Client::builder(url).build().unwrap();
        let mut held = Vec::with_capacity(streams);
        let before = resident();
        for _ in 0..streams {
            let mut stream = client.subscribe(["*"]).unwrap();
            stream.ready().await.unwrap();
            read(&mut stream, events).await;
            held.push(stream);
        }
        // Also the last of the replies and bookmarks has come.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let each = (resident() - before) / streams;
        println!("{streams} idle streams, {events} events read by each: {each} bytes per stream");
    });
}

/// Bytes of memory this process has.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}
