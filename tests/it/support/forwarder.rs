//! A network that can be cut: a TCP forwarder between a client and a server.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The state of the cable.
#[derive(Clone, Debug)]
struct Cable {
    /// Goes up with each cut: whoever was connected before is not any more.
    cuts: u64,
    /// Where new connections go; `None` while the cable is out.
    target: Option<String>,
}

/// Forwards to one server until it is cut.
#[derive(Debug)]
pub(crate) struct Forwarder {
    cable: Arc<watch::Sender<Cable>>,
    url: String,
    target: String,
    task: JoinHandle<()>,
}

impl Forwarder {
    /// In front of the server at `ADDR`.
    pub(crate) async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cable = Cable { cuts: 0, target: Some(target.to_owned()) };
        let cable = Arc::new(watch::Sender::new(cable));
        let task = tokio::spawn(accept(listener, Arc::clone(&cable)));
        Self { cable, url, target: target.to_owned(), task }
    }

    /// Where clients connect to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Ends every connection; new ones get through.
    pub(crate) fn cut(&self) {
        self.cable.send_modify(|cable| cable.cuts += 1);
    }

    /// Ends every connection; new ones do not get through.
    pub(crate) fn unplug(&self) {
        self.cable.send_modify(|cable| {
            cable.cuts += 1;
            cable.target = None;
        });
    }

    /// Lets connections through again.
    pub(crate) fn plug(&self) {
        self.cable.send_modify(|cable| cable.target = Some(self.target.clone()));
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.unplug();
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, cable: Arc<watch::Sender<Cable>>) {
    while let Ok((client, _)) = listener.accept().await {
        let state = cable.borrow().clone();
        let Some(target) = state.target else { continue };
        let mut changed = cable.subscribe();
        tokio::spawn(async move {
            let mut client = client;
            let Ok(mut server) = TcpStream::connect(target).await else { return };
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                _ = changed.wait_for(|now| now.cuts != state.cuts) => {}
            }
        });
    }
}
