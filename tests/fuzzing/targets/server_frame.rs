//! What the SDK reads from servers, and what it makes of them.

use std::collections::HashSet;
use std::time::Duration;

use taskwatch_client::simulation::{Choice, Clocks, Incoming, Link, Outgoing, Stream, apply};
use taskwatch_client::{OnGap, Tasks, Update};
use taskwatch_protocol::{
    ClientFrame, CloseCode, CloseReason, Cursor, Pattern, ServerFrame, ServerMessage,
};

const ROOM: usize = 8;
/// What may come of one input beside what waits: news of the connection.
const NEWS: usize = 16;

/// The first line chooses: `c` to go on from a cursor, `s` to begin with the state, `l` or `g` what
/// to do about a gap. Then what happens, a line each: `!CODE REASON` and `?` end the connection,
/// `>MS` is time that passes, `<` the caller reads, `+PATTERN` and `-PATTERN` are its wishes, and
/// anything else is a message of the server.
pub(crate) fn server_frame(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let chosen = lines.next().unwrap_or_default();
    let choice = Choice {
        patterns: vec!["foo".parse().expect("a name"), "acme/*".parse().expect("a pattern")],
        since: chosen.contains('c').then(|| Cursor::new("c1-9f3a0c5d7e214b68-40")),
        snapshot: chosen.contains('s'),
        on_gap: match chosen {
            it if it.contains('l') => OnGap::Live,
            it if it.contains('g') => OnGap::Snapshot,
            _ => OnGap::Error,
        },
        room: ROOM,
    };
    // Where something is missing behind it, the position goes back to where the caller began.
    let cursors = choice.since.iter().map(ToString::to_string).collect();
    let mut caller = Caller {
        on_gap: choice.on_gap,
        with_state: choice.snapshot,
        stream: Stream::new(choice, || 0.5, clocks(Duration::ZERO)),
        now: Duration::ZERO,
        link: None,
        sent: HashSet::new(),
        cursors,
        events_sent: 0,
        events_seen: 0,
        is_over: false,
        tasks: Tasks::default(),
    };
    caller.obey();
    for line in lines.take(256) {
        caller.happens(line);
        caller.obey();
        assert!(caller.stream.waiting() <= ROOM + NEWS, "{} wait", caller.stream.waiting());
    }
    caller.reads();
    // All of it may be read, and the end comes once and last.
    assert_eq!(caller.stream.waiting(), 0);
}

fn clocks(now: Duration) -> Clocks {
    Clocks { steady: now, wall: now }
}

struct Caller {
    stream: Stream,
    on_gap: OnGap,
    with_state: bool,
    now: Duration,
    link: Option<Link>,
    /// Every text of the server.
    sent: HashSet<String>,
    /// Every cursor of theirs, and the caller's own.
    cursors: HashSet<String>,
    events_sent: usize,
    events_seen: usize,
    is_over: bool,
    tasks: Tasks,
}

impl Caller {
    fn happens(&mut self, line: &str) {
        let now = clocks(self.now);
        match line.split_at_checked(1) {
            Some(("!", close)) => {
                let (code, reason) = close.split_once(' ').unwrap_or((close, ""));
                let code = CloseCode::from(code.parse::<u16>().unwrap_or(1006));
                self.incoming(Incoming::Closed(code, CloseReason::parse(reason)));
                self.link = None;
            }
            Some(("?", reason)) => {
                self.incoming(Incoming::Lost(reason.to_owned()));
                self.link = None;
            }
            Some((">", millis)) => {
                self.now += Duration::from_millis(millis.parse::<u16>().unwrap_or_default().into());
                self.stream.tick(clocks(self.now));
            }
            Some(("<", _)) => self.reads(),
            Some(("+", pattern)) => self.stream.add(now, wish(pattern)),
            Some(("-", pattern)) => self.stream.remove(now, wish(pattern)),
            _ => self.text(line),
        }
    }

    fn text(&mut self, text: &str) {
        match ServerFrame::decode(text) {
            Ok(frame) => {
                self.events_sent += usize::from(matches!(frame.message, ServerMessage::Task(_)));
                self.cursors.extend(frame.cursor.iter().map(ToString::to_string));
                super::server_survives(&frame);
            }
            Err(error) => assert!(error.message.len() < super::MAX_COMPLAINT, "{error:?}"),
        }
        if self.stream.reads() {
            self.sent.insert(text.to_owned());
            self.incoming(Incoming::Text(text.to_owned()));
        }
    }

    fn incoming(&mut self, incoming: Incoming) {
        if let Some(link) = self.link {
            self.stream.incoming(clocks(self.now), link, incoming);
        }
    }

    /// Does what the stream wants done on the network; whatever it dials, opens.
    fn obey(&mut self) {
        for _ in 0..4 {
            let outgoing = self.stream.outgoing();
            if outgoing.is_empty() {
                return;
            }
            assert!(outgoing.len() <= NEWS, "{outgoing:?}");
            for action in outgoing {
                match action {
                    Outgoing::Dial(link) => {
                        self.link = Some(link);
                        self.incoming(Incoming::Opened);
                    }
                    Outgoing::Text(text) => {
                        let frame = ClientFrame::decode(&text).expect("a frame that servers take");
                        super::client_survives(&frame);
                    }
                    Outgoing::Drop | Outgoing::Leave => self.link = None,
                }
            }
        }
        panic!("it does not come to rest");
    }

    fn reads(&mut self) {
        while let Some(next) = self.stream.next(clocks(self.now)) {
            assert!(!self.is_over, "after its end comes {next:?}");
            let update = match next {
                Ok(update) => update,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    self.is_over = true;
                    continue;
                }
            };
            self.update(&update);
            apply(&mut self.tasks, update);
        }
    }

    fn update(&mut self, update: &Update) {
        match update {
            Update::Event(event) => {
                self.events_seen += 1;
                assert!(self.events_seen <= self.events_sent, "{event:?} was never sent");
                assert!(self.sent.contains(event.envelope()), "{event:?} was never sent");
                let frame = ServerFrame::decode(event.envelope()).expect("a frame");
                assert_eq!(frame.message, ServerMessage::Task(event.event.clone()));
                assert_eq!(Some(&event.cursor), frame.cursor.as_ref());
                // What follows at once may be behind it already.
                let at = self.stream.cursor().expect("a position");
                assert!(self.cursors.contains(at.as_str()), "{at} was never sent");
            }
            Update::Snapshot(snapshot) => {
                assert!(self.with_state || self.on_gap == OnGap::Snapshot, "{snapshot:?}");
                for envelope in snapshot.envelopes() {
                    ServerFrame::decode(envelope).expect("a frame");
                }
            }
            Update::Gap(gap) => {
                assert!(self.on_gap != OnGap::Error || self.with_state, "{gap:?}");
            }
            Update::Interrupted { retry_in, .. } => {
                assert!(*retry_in <= Duration::from_secs(3_600), "{retry_in:?}");
            }
            _ => {}
        }
    }
}

fn wish(pattern: &str) -> Vec<Pattern> {
    pattern.parse().into_iter().collect()
}
