//! What the kernel says of a process and its children: time and memory.

use std::collections::HashMap;
use std::fs;
use std::ops::Sub;
use std::path::Path;

/// Ticks in a second of the times in `/proc`, on every platform Linux has.
const TICKS: f64 = 100.0;

/// Seconds on a core.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn all(self) -> f64 {
        self.user + self.system
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
    }
}

/// A process with those it has started.
#[derive(Debug)]
pub(crate) struct Processes(Vec<u32>);

impl Processes {
    /// The process `root` and all below it, as they are now; none at all for `None`.
    pub(crate) fn below(root: Option<u32>) -> Self {
        let mut all: Vec<u32> = root.into_iter().collect();
        if all.is_empty() {
            return Self(all);
        }
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some(stat) = stat(pid) {
                children.entry(stat.parent).or_default().push(pid);
            }
        }
        let mut at = 0;
        while let Some(pid) = all.get(at) {
            all.extend(children.remove(pid).unwrap_or_default());
            at += 1;
        }
        Self(all)
    }

    /// This process.
    pub(crate) fn own() -> Self {
        Self(vec![std::process::id()])
    }

    pub(crate) fn cpu(&self) -> Cpu {
        let all = self.0.iter().filter_map(|pid| stat(*pid));
        all.fold(Cpu::default(), |sum, stat| Cpu {
            user: sum.user + stat.cpu.user,
            system: sum.system + stat.cpu.system,
        })
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let of = |pid: &u32| resident(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?);
        self.0.iter().filter_map(of).sum()
    }
}

/// What the processes took that this one has started, and which have ended.
pub(crate) fn ended_children() -> Cpu {
    stat(std::process::id()).map(|stat| stat.ended_children).unwrap_or_default()
}

/// Seconds that the cores of the machine have worked, for whom ever.
pub(crate) fn machine() -> f64 {
    fs::read_to_string("/proc/stat").ok().and_then(|text| busy(&text)).unwrap_or(0.0)
}

/// user, nice, system, idle, iowait, irq, softirq: all but the fourth and fifth.
fn busy(stat: &str) -> Option<f64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Vec<f64> = fields.take(7).filter_map(|field| field.parse().ok()).collect();
    Some((ticks.iter().sum::<f64>() - ticks.iter().skip(3).take(2).sum::<f64>()) / TICKS)
}

/// The syncs in what strace has written so far.
pub(crate) fn syncs(trace: Option<&Path>) -> u64 {
    trace.and_then(|trace| fs::read_to_string(trace).ok()).map_or(0, |text| count_syncs(&text))
}

/// One that was going on when another thread did something has two lines, the second of which only
/// names it.
fn count_syncs(trace: &str) -> u64 {
    trace.lines().filter(|line| line.contains("sync(")).count() as u64
}

struct Stat {
    parent: u32,
    cpu: Cpu,
    ended_children: Cpu,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name of the program, in brackets, may hold anything, brackets too.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let mut times = fields.skip(9).map_while(|field| Some(field.parse::<f64>().ok()? / TICKS));
    let mut cpu = || Some(Cpu { user: times.next()?, system: times.next()? });
    Some(Stat { parent, cpu: cpu()?, ended_children: cpu()? })
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read_behind_any_name() {
        let stat =
            parse_stat("77 (a) b) c) S 5 77 77 0 -1 4194304 1 2 3 4 250 130 9 9 20 0 1").unwrap();
        assert_eq!((stat.parent, stat.cpu), (5, Cpu { user: 2.5, system: 1.3 }));
        assert_eq!(stat.ended_children, Cpu { user: 0.09, system: 0.09 });
    }

    #[test]
    fn a_machine_that_waits_does_not_work() {
        assert_eq!(busy("cpu  100 20 30 4000 500 6 7 8 0 0\ncpu0 1"), Some(1.63));
    }

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    12 kB\n"), Some(12 * 1024));
        assert!(Processes::own().resident() > 0);
    }

    #[test]
    fn a_sync_is_counted_once_however_many_lines_it_has() {
        let trace = "7 fdatasync(12) = 0\n8 fsync(9 <unfinished ...>\n7 fdatasync(12) = 0\n\
                     8 <... fsync resumed>) = 0\n7 +++ exited with 0 +++\n";
        assert_eq!(count_syncs(trace), 3);
    }

    #[test]
    fn children_belong_to_their_parent() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let all = Processes::below(Some(std::process::id()));
        assert!(all.0.contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
