//! The gateway as its users run it: the built program, with a file and signals.

// Each test binary uses its part, and what fails here fails the test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// A folder of a test's own, which is gone with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tower-failover-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.0.join(name)).unwrap()).into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running program, killed when it is dropped.
pub struct Program {
    pub address: SocketAddr,
    pub folder: Folder,
    child: Child,
}

impl Program {
    /// Starts it in a folder with this configuration, and waits until it listens. What it says goes to `stdout` and `stderr`
    /// in that folder.
    pub async fn start(folder: Folder, config: &str, arguments: &[&str], log: &str) -> Program {
        folder.write("gateway.toml", config);
        let output = |name| File::create(folder.path().join(name)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_failover-gateway"))
            .args(["serve", "--config", "gateway.toml", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .current_dir(folder.path())
            .env("RUST_LOG", log)
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut program = Program { address: ([127, 0, 0, 1], 0).into(), folder, child };
        let began = Instant::now();
        loop {
            let said = program.folder.read("stdout");
            let url = said.split_once("listening on http").and_then(|(_, url)| url.split_once('\n'));
            if let Some((url, _)) = url {
                program.address = url.trim_start_matches('s').trim_start_matches("://").trim().parse().unwrap();
                return program;
            }
            assert!(program.child.try_wait().unwrap().is_none(), "it ended: {}", program.folder.read("stderr"));
            assert!(began.elapsed() < Duration::from_secs(30), "it does not listen: {said}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends it a signal, such as "TERM".
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, and says how long that took.
    pub async fn ended(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, began.elapsed());
            }
            assert!(began.elapsed() < within, "it does not end: {}", self.folder.read("stderr"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// All that it said.
    pub fn output(&self) -> String {
        self.folder.read("stdout") + &self.folder.read("stderr")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
