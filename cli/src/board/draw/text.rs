//! Text in cells: how wide it is, and how it is cut and broken.

use unicode_width::UnicodeWidthStr;

/// How many cells a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// A text in so many cells; what is cut off is replaced by `…`.
pub(super) fn fit(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    if room == 0 {
        return String::new();
    }
    let (start, _) = split(text, room - 1);
    format!("{start}…")
}

/// The longest start that fits, which may end within a word, and the rest.
fn split(text: &str, room: usize) -> (&str, &str) {
    // By the width of what stands before, since some characters take theirs from their neighbours.
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| text[..*end].width() <= room).last().unwrap_or(0);
    text.split_at(end)
}

/// A text in lines of so many cells, broken between words where there are any.
pub(super) fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let gap = usize::from(!line.is_empty());
        if line.width() + gap + word.width() <= room {
            line.extend((gap > 0).then_some(' '));
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        let mut rest = word;
        while rest.width() > room {
            let (start, behind) = match split(rest, room) {
                // Not even one character fits: it is shown in part.
                ("", _) => rest.split_at(rest.chars().next().map_or(0, char::len_utf8)),
                pieces => pieces,
            };
            lines.push(start.to_owned());
            rest = behind;
        }
        line.push_str(rest);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_by_cells() {
        for (text, room, shown) in [
            ("plants", 6, "plants"),
            ("plants", 5, "plan…"),
            ("plants", 1, "…"),
            ("plants", 0, ""),
            ("水をやる", 8, "水をやる"),
            ("水をやる", 7, "水をや…"),
            ("水をやる", 6, "水を…"),
            ("❤\u{fe0f}❤\u{fe0f}", 3, "❤\u{fe0f}…"),
        ] {
            assert_eq!(fit(text, room), shown, "{text} in {room}");
        }
    }

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrap("water the plants", 9), ["water the", "plants"]);
        assert_eq!(wrap("water the  plants", 20), ["water the  plants"]);
        assert_eq!(wrap("unbreakable", 4), ["unbr", "eaka", "ble"]);
        assert_eq!(wrap("水をやる", 1), ["水", "を", "や", "る"]);
        assert_eq!(wrap("", 4), [""]);
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_its_room(text: String, room in 2_usize..40) {
            prop_assert!(fit(&text, room).width() <= room);
            for line in wrap(&text, room) {
                prop_assert!(line.width() <= room, "{line:?}");
            }
            let without = |text: &str| text.replace(' ', "");
            prop_assert_eq!(without(&wrap(&text, room).concat()), without(&text));
        }
    }
}
