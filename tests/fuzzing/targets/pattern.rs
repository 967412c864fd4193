//! Names of repositories and patterns over them.

use taskwatch_protocol::{Pattern, RepositoryName};

/// Two patterns and names, a line each.
pub(crate) fn pattern(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let mut pattern = || {
        let text = lines.next().unwrap_or_default();
        let parsed = parsed(text);
        parsed.map(|pattern| (text, pattern))
    };
    let (a, b) = (pattern(), pattern());
    let mut names: Vec<String> = lines.map(str::to_owned).collect();
    for (text, _) in a.iter().chain(&b) {
        let stem = text.trim_end_matches('*');
        names.extend([stem.to_owned(), format!("{stem}a"), format!("{stem}/a")]);
    }
    let names: Vec<RepositoryName> = names.iter().filter_map(|text| name(text)).collect();
    for (text, pattern) in a.iter().chain(&b) {
        for name in &names {
            assert_eq!(pattern.matches(name), matches(text, name), "{text} {name}");
        }
    }
    let (Some((a_text, a)), Some((b_text, b))) = (a, b) else { return };
    let both = a.intersection(&b);
    assert_eq!(both, b.intersection(&a), "{a} {b}");
    for name in &names {
        let expected = matches(a_text, name) && matches(b_text, name);
        assert_eq!(both.is_some_and(|both| both.matches(name)), expected, "{a} {b} {name}");
        // What lies within another matches nothing else.
        assert!(!a.contains(&b) || !matches(b_text, name) || matches(a_text, name));
    }
    let within = match a_text.strip_suffix('*') {
        Some(stem) => b_text.starts_with(stem),
        None => a_text == b_text,
    };
    assert_eq!(a.contains(&b), within, "{a} {b}");
    assert!(a.contains(&a));
}

fn parsed(text: &str) -> Option<Pattern> {
    let parsed = text.parse::<Pattern>();
    let is_pattern = match text.strip_suffix('*') {
        Some("") => true,
        Some(stem) => stem.ends_with('/') && is_name(stem),
        None => is_name(text),
    };
    assert_eq!(parsed.is_ok(), is_pattern, "{text:?}");
    complains(&parsed);
    let pattern = parsed.ok()?;
    assert_eq!(pattern.to_string(), text);
    let json = serde_json::to_string(&pattern).expect("JSON");
    assert_eq!(serde_json::from_str::<Pattern>(&json).expect("a pattern"), pattern);
    Some(pattern)
}

fn name(text: &str) -> Option<RepositoryName> {
    let parsed = text.parse::<RepositoryName>();
    assert_eq!(parsed.is_ok(), is_name(text), "{text:?}");
    complains(&parsed);
    let name = parsed.ok()?;
    assert_eq!(name.as_str(), text);
    Some(name)
}

/// A refusal may be shown as it is.
fn complains<T>(parsed: &Result<T, taskwatch_protocol::InvalidName>) {
    let complaint = parsed.as_ref().err().map(ToString::to_string).unwrap_or_default();
    assert!(complaint.len() < 128 && !complaint.contains(super::is_hazard), "{complaint:?}");
}

fn is_name(text: &str) -> bool {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/@:+~";
    (1..=255).contains(&text.len())
        && text.bytes().all(|byte| ALPHABET.as_bytes().contains(&byte))
        && !"._-/@:+~".contains(&text[..1])
}

fn matches(pattern: &str, name: &RepositoryName) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => name.as_str().starts_with(stem),
        None => name.as_str() == pattern,
    }
}
