//! What Linux tells about this process.

use std::fs;

use rustix::io::Errno;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// One look at this process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ProcessStats {
    /// Seconds of processor time, of the program and of the kernel for it.
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) open_files: u64,
    /// How many may be open; `None` is without limit.
    pub(super) max_files: Option<u64>,
    /// When it began, in seconds since 1970.
    pub(super) start_seconds: f64,
}

/// `/proc/self/stat`, as far as it is of use: in ticks of the clock, and in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    /// Since the machine was started.
    start_ticks: u64,
    resident_pages: u64,
}

/// Whether this process can open none any more: then nothing else is known of it either.
pub(super) fn is_out_of_files() -> bool {
    let error = fs::File::open("/proc/self/stat").err();
    let errno = error.as_ref().and_then(Errno::from_io_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

impl ProcessStats {
    /// Looks; `None` where there is no `/proc` such as Linux has it.
    pub(super) fn read() -> Option<Self> {
        let stat = Stat::parse(&fs::read_to_string("/proc/self/stat").ok()?)?;
        let boot = boot_seconds(&fs::read_to_string("/proc/stat").ok()?)?;
        // Without the one that looks.
        let open_files = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        Some(Self {
            cpu_seconds: seconds(stat.cpu_ticks),
            resident_bytes: stat.resident_pages * page_size() as u64,
            open_files: open_files as u64,
            max_files: getrlimit(Resource::Nofile).current,
            start_seconds: boot as f64 + seconds(stat.start_ticks),
        })
    }
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is a name in parentheses, and may hold any character.
        let (_, behind_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = behind_name.split_whitespace().collect();
        // Counted from 1 in proc(5); the first one here is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the machine was started.
fn boot_seconds(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_what_separates_fields() {
        let text = "42 (a b) R) S 1 42 42 0 -1 4194560 100 0 3 0 250 50 0 0 20 0 5 0 7000 9000000 \
                    1234 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0\n";
        let expected = Stat { cpu_ticks: 300, start_ticks: 7_000, resident_pages: 1_234 };
        assert_eq!(Stat::parse(text), Some(expected));
        for broken in
            ["", "42 (a", "42 (a) S 1", "42 (a) S x x x x x x x x x x x x x x x x x x x x x"]
        {
            assert_eq!(Stat::parse(broken), None, "{broken}");
        }
        assert_eq!(boot_seconds("cpu 1 2\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000));
        assert_eq!(boot_seconds("cpu 1 2\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_seen() {
        let before = ProcessStats::read().unwrap();
        let opened: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let process = ProcessStats::read().unwrap();
        // Other tests open and close files meanwhile.
        assert!(process.open_files >= opened.len() as u64);
        assert!(process.max_files.is_none_or(|most| most >= process.open_files));
        assert!(process.resident_bytes > 100_000, "{process:?}");
        assert!(process.cpu_seconds >= before.cpu_seconds);
        assert_eq!(process.start_seconds, before.start_seconds);
        let now = jiff::Timestamp::now().as_second() as f64;
        assert!((now - 86_400.0..=now + 2.0).contains(&process.start_seconds), "{process:?}");
    }
}
