//! How the two sides agree on a version before the first frame.

/// The major version of this protocol.
pub const PROTOCOL_VERSION: u16 = 1;

/// The request header that names the client's version, such as `X-Version: 1`.
pub const VERSION_HEADER: &str = "X-Version";

/// The subprotocol that names the version for a client that cannot set headers: a browser.
pub const SUBPROTOCOL: &str = "taskwatch.v1";

/// The major version of an `X-Version` value: `1`, `v1`, `1.4` and `1.4.2` all name 1.
///
/// `None` if the text is not a version.
#[must_use]
pub fn major_version(text: &str) -> Option<u16> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts = text.split('.');
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u16>().ok()).flatten()
    };
    let major = number(parts.next()?)?;
    let minor_parts = parts.by_ref().take(2).map(number);
    let all_numbers = minor_parts.into_iter().all(|part| part.is_some());
    (all_numbers && parts.next().is_none()).then_some(major)
}

#[cfg(test)]
mod tests {
    use super::major_version;

    #[test]
    fn versions_are_read_as_the_contract_says() {
        for good in ["1", "v1", "1.0", "v1.2", "1.2.3"] {
            assert_eq!(major_version(good), Some(1), "{good}");
        }
        assert_eq!(major_version("9"), Some(9));
        for bad in ["", "v", "one", "1.", ".1", "1.x", "1.2.3.4", "-1", "+1", " 1", "vv1", "1 "] {
            assert_eq!(major_version(bad), None, "{bad:?}");
        }
    }
}
