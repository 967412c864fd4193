//! Questions to a server, and what comes back.

use std::time::Duration;

use http::HeaderMap;
use http::header::DATE;
use taskwatch_protocol::{
    ClientFrame, ClientMessage, ServerFrame, ServerMessage, Timestamp, Welcome,
};
use tokio::time::timeout;

use super::Fault;
use crate::WatchError;
use crate::dial::{DialError, Refusal};
use crate::link::{Link, Received};

/// For one step.
pub(super) const STEP_LIMIT: Duration = Duration::from_secs(5);

/// What a future brings, if it comes in time.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> Result<T, Fault> {
    timeout(STEP_LIMIT, future).await.map_err(|_| Fault::Silent { within: STEP_LIMIT })
}

pub(super) async fn welcome(link: &mut Link) -> Result<Welcome, Fault> {
    match within(next(link)).await??.message {
        ServerMessage::Welcome(welcome) => Ok(welcome),
        _ => Err(Fault::Lost { reason: "the first frame is not `welcome`".to_owned() }),
    }
}

/// Says something, and waits for the answer to it.
pub(super) async fn ask(link: &mut Link, message: ClientMessage) -> Result<ServerFrame, Fault> {
    let id = "doctor".to_owned();
    let frame = ClientFrame::new(message).id(id.clone());
    within(async {
        link.send(&frame).await.map_err(|reason| Fault::Lost { reason })?;
        loop {
            let answer = next(link).await?;
            if answer.id.as_ref() == Some(&id) {
                return Ok(answer);
            }
        }
    })
    .await?
}

pub(super) async fn next(link: &mut Link) -> Result<ServerFrame, Fault> {
    let lost = |reason: String| Err(Fault::Lost { reason });
    loop {
        return match link.next().await {
            Received::Text(text) => ServerFrame::decode(&text)
                .or_else(|problem| lost(format!("a frame could not be read: {problem}"))),
            Received::Alive => continue,
            Received::Refused(error) => Err(fault_of(error)),
            Received::Closed(code, _) => lost(format!("the server closed the connection: {code}")),
            Received::Broken(_, reason) | Received::Lost(reason) => lost(reason),
            Received::Binary(_) | Received::Rerouted(_) => lost("no frame came".to_owned()),
        };
    }
}

/// What went wrong, as a finding has it.
pub(super) fn fault_of(error: DialError) -> Fault {
    match error {
        DialError::Failed(reason) => Fault::Lost { reason },
        DialError::Refused(Refusal { status: 401, detail, .. }) => Fault::TokenRefused { detail },
        DialError::Refused(Refusal { status, code, detail, .. }) => {
            Fault::Refused { status, code, detail }
        }
        DialError::Final(WatchError::Token { reason }) => Fault::TokenUnavailable { reason },
        DialError::Final(WatchError::Certificate { reason }) => Fault::Certificate { reason },
        DialError::Final(WatchError::Proxy { proxy }) => Fault::ProxyPassword { proxy },
        DialError::Final(other) => Fault::Lost { reason: other.to_string() },
    }
}

/// When an answer was written, in Unix milliseconds. The header has whole seconds: the middle of one is
/// the best guess.
pub(super) fn date_of(headers: &HeaderMap) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date: Vec<_> = headers.get(DATE)?.to_str().ok()?.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = date[..] else { return None };
    let month = MONTHS.iter().position(|it| *it == month)? + 1;
    let date: Timestamp = format!("{year}-{month:02}-{day}T{time}Z").parse().ok()?;
    Some(date.unix_millis() + 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_the_middle_of_its_second() {
        let read = |date: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, date.parse().unwrap());
            date_of(&headers)
        };
        assert_eq!(read("Thu, 01 Jan 1970 00:00:01 GMT"), Some(1_500));
        assert_eq!(read("Sun, 22 Nov 2026 10:00:00 GMT"), Some(1_795_341_600_500));
        for odd in ["", "now", "Sun, 22 Now 2026 10:00:00 GMT", "Sun, 99 Nov 2026 10:00:00 GMT"] {
            assert_eq!(read(odd), None, "{odd}");
        }
        assert_eq!(date_of(&HeaderMap::new()), None);
    }
}
