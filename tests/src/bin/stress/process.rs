//! What the system says about processes and sockets.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Starts this program anew with as many files as the system allows, if it has fewer. The servers
/// it starts inherit that.
pub(crate) fn raise_file_limit() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut columns = files.split_whitespace();
    if columns.next() != columns.next() {
        let again = r#"ulimit -n "$(ulimit -Hn)" && exec "$0" "$@""#;
        let program = std::env::current_exe().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", again]).arg(program).args(std::env::args_os().skip(1));
        panic!("cannot raise the limit of open files: {}", shell.exec());
    }
}

/// Bytes of a process that are in memory.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Processor time of a process so far, of its threads together.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name before it may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u32>().unwrap();
    // A hundredth of a second each, on every machine that Linux runs on today.
    Duration::from_millis(10) * (ticks(11) + ticks(12))
}

/// Bytes that a process had the system write to disks.
pub(crate) fn written(pid: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
    line.parse().unwrap()
}

/// Bytes of the system's own structures, sockets above all, of all processes.
pub(crate) fn kernel_memory() -> u64 {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = memory.lines().find_map(|line| line.strip_prefix("SUnreclaim:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Files and sockets that a process has open.
pub(crate) fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A connection of a server, as `ss -m` shows it.
#[derive(Debug)]
pub(crate) struct Sending {
    /// The address of the peer.
    pub(crate) peer: String,
    /// Bytes of memory that what is to be sent takes: the larger of `t`, handed to the network
    /// device, and `w`, queued and unacknowledged.
    pub(crate) memory: u64,
}

/// The connections of the server at this port.
pub(crate) async fn sending(port: &str) -> Vec<Sending> {
    let filter = format!("sport = :{port}");
    let args = ["-t", "-m", "-n", "-O", "-H", "state", "established", &filter];
    let output = tokio::process::Command::new("ss").args(args).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| parse_sending(line).expect("a line of ss -m")).collect()
}

/// `0 0 127.0.0.1:8787 127.0.0.1:57986 skmem:(r0,rb131072,t0,tb3939840,f0,w0,o0,bl0,d0)`
fn parse_sending(line: &str) -> Option<Sending> {
    let peer = line.split_whitespace().nth(3)?.to_owned();
    let memory = line.split_once("skmem:(")?.1.split(')').next()?;
    let field = |name: &str| {
        memory.split(',').find_map(|field| field.strip_prefix(name)?.parse::<u64>().ok())
    };
    Some(Sending { peer, memory: field("t")?.max(field("w")?) })
}
