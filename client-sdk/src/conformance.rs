//! Connections as the driver makes and reads them, without a stream behind: for test suites of the
//! WebSocket protocol.

use std::error::Error;

use taskwatch_protocol::CloseCode;
use tokio_tungstenite::tungstenite::Message;

use crate::dial::Dialer;
use crate::link::Received;

fn dialer(url: &str) -> Result<Dialer, Box<dyn Error>> {
    Ok(Dialer::new(url.parse()?, None, None, None))
}

/// Sends back every message, of up to `max_message` bytes, until the peer closes or breaks the
/// protocol.
pub async fn echo(url: &str, max_message: usize) -> Result<(), Box<dyn Error>> {
    let mut dialer = dialer(url)?;
    dialer.max_message = max_message;
    let mut link = dialer.dial().await.map_err(|problem| format!("{problem:?}"))?;
    loop {
        match link.next().await {
            Received::Message(message @ (Message::Text(_) | Message::Binary(_))) => {
                // The next read says what is wrong with the connection.
                let _ = link.send(message).await;
            }
            Received::Message(_) => {}
            Received::Broken(code, _) => {
                link.close(code).await;
                return Ok(());
            }
            Received::Closed(..) | Received::Lost(_) => {
                link.part().await;
                return Ok(());
            }
        }
    }
}

/// Takes one text, such as the number of cases, and says goodbye.
pub async fn ask(url: &str) -> Result<String, Box<dyn Error>> {
    let mut link = dialer(url)?.dial().await.map_err(|problem| format!("{problem:?}"))?;
    loop {
        match link.next().await {
            Received::Message(Message::Text(text)) => {
                link.close(CloseCode::Bye).await;
                return Ok(text.to_string());
            }
            Received::Message(_) => {}
            end => return Err(format!("{url} ended without an answer: {end:?}").into()),
        }
    }
}
