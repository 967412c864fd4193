//! The readers that are no programs of their own.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use taskwatch_client::protocol::{ServerFrame, ServerMessage};
use taskwatch_client::{Client, EventStream};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use super::server::SUBSCRIBE;
use crate::process::Processes;
use crate::{Failure, print};

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Reader {
    /// The least that reads the same: tokio-tungstenite as it comes, and the frames parsed
    Tungstenite,
    /// The stream of the SDK
    Sdk,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum)]
    reader: Reader,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    events: usize,
    /// Opens so many streams of the SDK, and prints the bytes of each when it has its events
    #[arg(long)]
    streams: Option<usize>,
}

/// Each on one thread.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let address = format!("127.0.0.1:{}", args.port);
    let events = args.events;
    runtime.block_on(async {
        match (args.reader, args.streams) {
            (Reader::Tungstenite, _) => tungstenite(&address, events).await,
            // As a task, as a program would have it.
            (Reader::Sdk, None) => tokio::spawn(sdk(address, events)).await?,
            (Reader::Sdk, Some(streams)) => idle(&address, streams, events).await,
        }
    })
}

async fn tungstenite(address: &str, events: usize) -> Result<(), Failure> {
    let tcp = TcpStream::connect(address).await?;
    let (mut socket, _) = client_async(format!("ws://{address}/ws"), tcp).await?;
    socket.send(SUBSCRIBE.into()).await?;
    let mut read = 0;
    while read < events {
        let Message::Text(text) = socket.next().await.ok_or("the server has left")?? else {
            continue;
        };
        let frame = ServerFrame::decode(&text).map_err(|error| error.message)?;
        read += usize::from(matches!(frame.message, ServerMessage::Task(_)));
    }
    Ok(())
}

async fn sdk(address: String, events: usize) -> Result<(), Failure> {
    let mut stream = Client::builder(format!("http://{address}")).build()?.subscribe(["*"])?;
    read(&mut stream, events).await
}

async fn read(stream: &mut EventStream, events: usize) -> Result<(), Failure> {
    for _ in 0..events {
        stream.next().await.ok_or("the stream has ended")??;
    }
    Ok(())
}

async fn idle(address: &str, streams: usize, events: usize) -> Result<(), Failure> {
    let client = Client::builder(format!("http://{address}")).build()?;
    let mut held = Vec::with_capacity(streams);
    let before = Processes::own().resident();
    for _ in 0..streams {
        let mut stream = client.subscribe(["*"])?;
        stream.ready().await?;
        read(&mut stream, events).await?;
        held.push(stream);
    }
    // Also the last of the replies and bookmarks has come.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let grown = Processes::own().resident().saturating_sub(before);
    print(&(grown / streams.max(1) as u64).to_string());
    Ok(())
}
