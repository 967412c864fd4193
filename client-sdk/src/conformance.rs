//! Connections as the driver makes and reads them, without a stream behind: for test suites of the
//! WebSocket protocol.

use std::error::Error;

use taskwatch_protocol::CloseCode;
use tokio_tungstenite::tungstenite::Message;

use crate::Transport;
use crate::address::Address;
use crate::dial::Dialer;
use crate::link::{Link, Received, WebSocket};
use crate::transport::Route;

fn dialer(url: &str) -> Result<Dialer, Box<dyn Error>> {
    Ok(Dialer::new(Address::of(url.parse()?)?, None, None, None))
}

async fn dial(dialer: &Dialer) -> Result<Box<WebSocket>, Box<dyn Error>> {
    match dialer.dial(Route::only(Transport::WebSocket)).await {
        Ok((_, Link::WebSocket(socket))) => Ok(socket),
        Ok((_, Link::Http(_))) => Err("that was another way".into()),
        Err(problem) => Err(format!("{problem:?}").into()),
    }
}

/// Sends back every message, of up to `max_message` bytes, until the peer closes or breaks the
/// protocol.
pub async fn echo(url: &str, max_message: usize) -> Result<(), Box<dyn Error>> {
    let mut dialer = dialer(url)?;
    dialer.max_message = max_message;
    let mut link = dial(&dialer).await?;
    loop {
        match link.next().await {
            // The next read says what is wrong with the connection.
            Received::Text(text) => drop(link.send(Message::text(text.into_string())).await),
            Received::Binary(bytes) => drop(link.send(Message::Binary(bytes)).await),
            Received::Alive | Received::Rerouted(_) => {}
            Received::Broken(code, _) => {
                link.close(code).await;
                return Ok(());
            }
            Received::Closed(..) | Received::Lost(_) | Received::Refused(_) => {
                link.part().await;
                return Ok(());
            }
        }
    }
}

/// Takes one text, such as the number of cases, and says goodbye.
pub async fn ask(url: &str) -> Result<String, Box<dyn Error>> {
    let mut link = dial(&dialer(url)?).await?;
    loop {
        match link.next().await {
            Received::Text(text) => {
                link.close(CloseCode::Bye).await;
                return Ok(text.into());
            }
            Received::Binary(_) | Received::Alive => {}
            end => return Err(format!("{url} ended without an answer: {end:?}").into()),
        }
    }
}
