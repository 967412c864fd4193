//! Cursors as text, and which of them a log takes.

use taskwatch_protocol::{Cursor, Incarnation, Position};
use taskwatch_server::Incarnations;

/// First a log: how many lives it had, after how many events each began, the events of the last
/// one, how many are forgotten. Then a number and the text of a cursor.
pub(crate) fn cursor(input: &[u8]) {
    let mut bytes = input.iter().copied();
    let mut byte = || u64::from(bytes.next().unwrap_or_default());
    let mut log = Log { begins: vec![], head: 0, floor: 0 };
    for _ in 0..=byte() % 6 {
        log.head += match byte() {
            255 => 1 << 40,
            few => few % 32,
        };
        log.begins.push(log.head);
    }
    log.head += byte();
    // Before its first life there was nothing.
    log.floor = byte().clamp(log.begins[0], log.head);
    let (life, number) = (byte(), byte());
    let text = String::from_utf8_lossy(input.get(bytes_used(input)..).unwrap_or_default());

    let lives = (1u64..).zip(&log.begins).map(|(id, begin)| (Incarnation(id), begin + 1));
    let lives = Incarnations::new(lives.collect());
    let made =
        format!("c1-{:016x}-{}", life % 8, log.head.saturating_add(number) - 128.min(log.head));
    for text in [&*text, &made] {
        parsed(text);
        let answer = lives.validate(&Cursor::new(text), log.head, log.floor);
        let answer = answer.map_err(|reason| reason.to_string());
        assert_eq!(answer, log.validate(text).map_err(str::to_owned), "{text} in {log:?}");
    }
    // What the log writes, it takes.
    for seq in [log.floor, log.head, log.floor.midpoint(log.head), number] {
        let written = lives.cursor(seq);
        if (log.floor..=log.head).contains(&seq) {
            assert_eq!(lives.validate(&written, log.head, log.floor), Ok(seq), "{log:?}");
        }
    }
}

/// The bytes before the text.
fn bytes_used(input: &[u8]) -> usize {
    let lives = usize::from(input.first().copied().unwrap_or_default()) % 6 + 1;
    1 + lives + 4
}

/// A cursor has one text, and no other text is one.
fn parsed(text: &str) {
    let parts = parts(text);
    match text.parse::<Position>() {
        Ok(position) => {
            let Position { incarnation: Incarnation(life), seq } = position;
            assert_eq!(Some((life, seq)), parts, "{text}");
            assert_eq!(position.to_cursor().as_str(), text);
            assert_eq!(Position::try_from(&Cursor::new(text)), Ok(position));
        }
        Err(_) => assert_eq!(parts, None, "{text}"),
    }
}

/// Reads it digit by digit.
fn parts(text: &str) -> Option<(u64, u64)> {
    let rest = text.as_bytes().strip_prefix(b"c1-")?;
    let (life, rest) = rest.split_at_checked(16)?;
    let digits = rest.strip_prefix(b"-")?;
    let hex = |digit: &u8| b"0123456789abcdef".iter().position(|it| it == digit);
    let life = life.iter().try_fold(0, |life, digit| Some(life << 4 | hex(digit)? as u64))?;
    if digits.is_empty() || (digits.len() > 1 && digits[0] == b'0') {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    Some((life, number?))
}

/// A log, told by the position before each of its lives.
#[derive(Debug)]
struct Log {
    begins: Vec<u64>,
    head: u64,
    floor: u64,
}

impl Log {
    fn validate(&self, text: &str) -> Result<u64, &'static str> {
        let (life, seq) = parts(text).ok_or("malformed")?;
        let life = usize::try_from(life).map_err(|_| "incarnation")?;
        let begin = life.checked_sub(1).and_then(|life| self.begins.get(life));
        match (begin, self.begins.get(life)) {
            (None, _) => Err("incarnation"),
            (Some(begin), _) if seq < *begin => Err("incarnation"),
            (_, Some(next)) if seq > *next => Err("incarnation"),
            (_, None) if seq > self.head => Err("future"),
            _ if seq < self.floor => Err("expired"),
            _ => Ok(seq),
        }
    }
}
