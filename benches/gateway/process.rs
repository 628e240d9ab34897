//! The processes, where they run, and what the kernel knows of them.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The argument before a role.
pub(crate) const ROLE: &str = "--role";

/// Which CPU each process runs on.
#[derive(Clone, Copy)]
pub(crate) struct Placement {
    pub(crate) cores: usize,
    pub(crate) is_pinned: bool,
}

impl Placement {
    /// Moves this process to CPU 1, if it can be done; what it starts stays there unless told otherwise.
    pub(crate) fn choose() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let succeeds = |arguments: &[&str]| {
            let mut command = Command::new("taskset");
            let status = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        let this = std::process::id().to_string();
        let is_pinned =
            cfg!(target_os = "linux") && cores > 1 && succeeds(&["-c", "0", "true"]) && succeeds(&["-cp", "1", &this]);
        Placement { cores, is_pinned }
    }

    pub(crate) fn measured(self) -> Option<&'static str> {
        self.is_pinned.then_some("0")
    }

    pub(crate) fn others(self) -> Option<&'static str> {
        self.is_pinned.then_some("1")
    }
}

/// This program in another role. It ends with this value, and with this process.
pub(crate) struct Process {
    child: Child,
    pub(crate) addresses: Vec<SocketAddr>,
    /// How it was started, without folders.
    pub(crate) command: String,
}

impl Process {
    pub(crate) fn start(role: &str, arguments: &[SocketAddr], cpu: Option<&str>) -> Self {
        let program = std::env::current_exe().unwrap();
        // A proxy has two sockets for each stream, and many systems allow 1024 unless they are asked for more.
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 8192 2>/dev/null; exec \"$0\" \"$@\""]);
        if let Some(cpu) = cpu {
            command.args(["taskset", "-c", cpu]);
        }
        command.arg(&program);
        command.args([ROLE, role]).args(arguments.iter().map(SocketAddr::to_string));
        // The gateway's log is written, as always, and read by nobody.
        let log = if role == "gateway" { Stdio::null() } else { Stdio::inherit() };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addresses: Vec<_> = line.split_whitespace().map(|address| address.parse().unwrap()).collect();
        assert!(!addresses.is_empty(), "{role} did not start");
        Process { child, addresses, command: shown(&command) }
    }

    /// What all of its threads have used. Nothing where there is no `/proc`.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        self.exact_cpu_time().filter(|time| !time.is_zero()).or_else(|| self.coarse_cpu_time())
    }

    /// To the nanosecond, on kernels that count so.
    fn exact_cpu_time(&self) -> Option<Duration> {
        let mut sum = 0;
        for thread in fs::read_dir(self.proc("task")).ok()? {
            let statistics = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            sum += statistics.split_whitespace().next()?.parse::<u64>().ok()?;
        }
        Some(Duration::from_nanos(sum))
    }

    /// In ticks, of which every Linux has 100 a second here.
    fn coarse_cpu_time(&self) -> Option<Duration> {
        let statistics = fs::read_to_string(self.proc("stat")).ok()?;
        // The program's name, in parentheses, may have blanks. User and system time are fields 14 and 15.
        let fields = statistics.rsplit_once(')')?.1.split_whitespace().skip(11).take(2);
        Some(Duration::from_millis(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10))
    }

    /// Resident memory. Nothing where there is no `/proc`.
    pub(crate) fn resident_mib(&self) -> Option<f64> {
        let status = fs::read_to_string(self.proc("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn shown(command: &Command) -> String {
    // Without the shell and its script.
    let words = command.get_args().skip(2);
    let words = words.map(|word| {
        let path = PathBuf::from(word);
        path.file_name().unwrap_or(word).to_string_lossy().into_owned()
    });
    words.collect::<Vec<_>>().join(" ")
}
