//! The real binaries as processes of their own.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::within;

/// The folder that cargo built this program's profile into.
fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let dir = exe.parent().unwrap();
    if dir.ends_with("deps") { dir.parent().unwrap().to_owned() } else { dir.to_owned() }
}

/// Builds what the harness starts, once, in this program's own profile: `cargo test` and
/// `cargo run` build the binaries of other packages only by chance.
fn build() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = std::process::Command::new(cargo);
        // The whole workspace: with a part of it, other features, and so other builds, of what
        // `cargo test --workspace` has just built.
        command.args(["build", "--quiet", "--workspace", "--bins", "--example", "embed"]);
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        command.arg("--target-dir").arg(profile_dir().parent().unwrap());
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(command.status().unwrap().success(), "the binaries do not build");
    });
}

/// The path of a binary of this workspace, built if need be.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    build();
    profile_dir().join(name)
}

/// The path of an example of the server, built if need be.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    build();
    profile_dir().join("examples").join(name)
}

/// The lines of a process's output, as they come. They are read at once, whether anybody asks or
/// not: a process whose pipe is full stops.
#[derive(Debug)]
pub struct LineReader(UnboundedReceiver<String>);

impl LineReader {
    /// Reads a process's output.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn new(output: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (read, lines) = unbounded_channel();
        let mut output = BufReader::new(output).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await
                && read.send(line).is_ok()
            {}
        });
        Self(lines)
    }

    /// The next line; `None` at the end.
    ///
    /// # Panics
    /// If none comes.
    pub async fn next(&mut self) -> Option<String> {
        within("a line of output", self.0.recv()).await
    }

    /// Reads up to a line that contains `text`, and returns it.
    ///
    /// # Panics
    /// If the output ends first.
    pub async fn until(&mut self, text: &str) -> String {
        let mut seen = vec![];
        loop {
            let Some(line) = self.next().await else {
                panic!("{text:?} never came, only {seen:#?}")
            };
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
    }
}

/// `taskwatchd`, or another server that says `listening on http://ADDR` on stderr.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    url: String,
    /// What it says after that.
    pub stderr: LineReader,
}

impl Daemon {
    /// Starts `taskwatchd` on a free port with its data in `data`, and waits until it is ready.
    pub async fn start(data: &Path) -> Self {
        Self::start_with(data, "127.0.0.1:0", &[]).await
    }

    /// The same on a given address, with further arguments.
    pub async fn start_with(data: &Path, listen: &str, args: &[&str]) -> Self {
        let mut command = Command::new(binary("taskwatchd"));
        command.args(["--listen", listen, "--data"]).arg(data).args(args);
        Self::spawn(command).await
    }

    /// The same on a socket that the caller keeps.
    pub async fn start_on(socket: &TcpListener, data: &Path, args: &[&str]) -> Self {
        let mut command = taskwatchd_on(socket, data);
        command.args(args);
        Self::spawn(command).await
    }

    /// Starts any server that says where it listens.
    ///
    /// # Panics
    /// If it ends instead.
    pub async fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut stderr = LineReader::new(child.stderr.take().unwrap());
        let line = stderr.until("listening on ").await;
        let url = line.split_once("listening on ").unwrap().1.to_owned();
        Self { child, url, stderr }
    }

    /// `http://ADDR`
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `ADDR`
    #[must_use]
    pub fn addr(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// The process id.
    ///
    /// # Panics
    /// If the process has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    /// `kill -9`
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the process to end.
    pub async fn wait(&mut self) -> ExitStatus {
        within("the end of the server", self.child.wait()).await.unwrap()
    }
}

/// `taskwatchd` with a socket that the caller keeps, handed over as systemd does it.
///
/// # Panics
/// If there is no further file.
#[must_use]
pub fn taskwatchd_on(socket: &TcpListener, data: &Path) -> Command {
    // The socket is the file behind the standard ones, and is meant for this very process.
    let hand_over = r#"exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", hand_over]).arg(binary("taskwatchd")).arg("--data").arg(data);
    command.stdin(OwnedFd::from(socket.try_clone().unwrap()));
    command
}

/// Sends a signal by its name to a process that this program started.
fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// `taskwatch` with these variables, and no others that mean something to it.
fn taskwatch(env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary("taskwatch"));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    command.env_remove("TASKWATCH_URL").env_remove("TASKWATCH_TOKEN");
    command.envs(env.iter().copied()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What a command of `taskwatch` has left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// All it wrote to stdout.
    pub stdout: String,
    /// All it wrote to stderr.
    pub stderr: String,
}

/// Runs a command of `taskwatch`, such as `list`, up to its end, with these variables and no others that
/// mean something to it.
///
/// # Panics
/// If it does not start, does not end, or writes what is no text.
pub async fn run_taskwatch<A: AsRef<OsStr>>(args: &[A], env: &[(&str, &str)]) -> Ended {
    let command = taskwatch(env).args(args).output();
    let output = within("the end of taskwatch", command).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// `taskwatch`
#[derive(Debug)]
pub struct Watcher {
    child: Child,
    /// Its stdout: events.
    pub stdout: LineReader,
    /// Its stderr: the connection.
    pub stderr: LineReader,
}

impl Watcher {
    /// Starts the watcher, and waits until it is connected.
    pub async fn start<A: AsRef<OsStr>>(url: &str, args: &[A]) -> Self {
        let mut watcher = Self::spawn(url, args);
        watcher.stderr.until("connected to").await;
        watcher
    }

    /// Starts the watcher.
    ///
    /// # Panics
    /// If it does not start.
    pub fn spawn<A: AsRef<OsStr>>(url: &str, args: &[A]) -> Self {
        Self::spawn_with(url, args, &[])
    }

    /// The same with these variables, and no others that mean something to it.
    ///
    /// # Panics
    /// If it does not start.
    pub fn spawn_with<A: AsRef<OsStr>>(url: &str, args: &[A], env: &[(&str, &str)]) -> Self {
        let mut command = taskwatch(env);
        command.args(["--url", url]).args(args);
        let mut child = command.spawn().unwrap();
        let stdout = LineReader::new(child.stdout.take().unwrap());
        let stderr = LineReader::new(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Sends a signal by its name, such as `INT`.
    ///
    /// # Panics
    /// If the process has ended.
    pub fn signal(&self, name: &str) {
        signal(self.child.id().expect("the watcher runs"), name);
    }

    /// Waits for the process to end.
    pub async fn wait(&mut self) -> ExitStatus {
        within("the end of the watcher", self.child.wait()).await.unwrap()
    }
}
