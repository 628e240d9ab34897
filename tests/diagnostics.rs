//! What the command says of a configuration that is wrong, and that it reloads when it is told.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// Ten mistakes, each in a line of its own.
const BAD: &str = r#"listen = "0.0.0.0:8080"
[limits]
max_body = "32 potatoes"
[providers.primary]
dialekt = "openai-chat"
base_url = "api.openai.com/v1"
api_key = { value = "hunter2-is-secret", refresh = "5m" }
[providers.fallback]
dialect = "openai-chta"
base_url = "http://127.0.0.1:9/v1"
[defaults]
retry = { attempts = 0 }
failover_on = ["conect"]
[routes."gpt-4o"]
stratgy = "ordered"
targets = [
  { provider = "primry", model = "gpt-4o" },
]
"#;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tower-failover-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn write(&self, text: &str) -> PathBuf {
        let path = self.0.join("gateway.toml");
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn gateway() -> Command {
    Command::new(env!("CARGO_BIN_EXE_failover-gateway"))
}

fn serve(text: &str, name: &str) -> (Output, String) {
    let folder = Folder::new(name);
    let output = gateway().args(["serve", "--config"]).arg(folder.write(text)).output().unwrap();
    let said = String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap();
    (output, said)
}

#[test]
fn ten_mistakes_are_ten_diagnostics_in_one_run_each_with_its_line_and_key() {
    let (output, said) = serve(BAD, "ten-mistakes");
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = [
        (1, "listen"),
        (3, "limits.max_body"),
        (4, "providers.primary.dialect"),
        (5, "providers.primary.dialekt"),
        (6, "providers.primary.base_url"),
        (7, "providers.primary.api_key.refresh"),
        (9, "providers.fallback.dialect"),
        (12, "defaults.retry.attempts"),
        (13, "defaults.failover_on[0]"),
        (15, "routes.\"gpt-4o\".stratgy"),
        (17, "routes.\"gpt-4o\".targets[0].provider"),
    ];
    let blocks: Vec<_> = said.split("error: ").skip(1).collect();
    assert_eq!(blocks.len(), expected.len(), "{said}");
    for (block, (line, key)) in blocks.iter().zip(expected) {
        assert!(block.starts_with(&format!("{key}: ")), "{key}: {block}");
        assert!(block.contains(&format!("gateway.toml:{line}:")), "{key}: {block}");
        let shown = BAD.lines().nth(line - 1).unwrap();
        assert!(line == 7 || block.contains(shown), "{key}: {block}");
        assert!(block.contains('^'), "{key}: {block}");
    }
    for suggestion in ["dialect", "openai-chat", "connect", "strategy", "primary"] {
        assert!(said.contains(&format!("did you mean `{suggestion}`?")), "{suggestion}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
    assert!(said.contains("api_key = { value = \"*****************\", refresh = \"5m\" }"), "{said}");
}

#[test]
fn what_is_not_toml_shows_no_value() {
    let (output, said) = serve("[providers.p]\napi_key = { value = \"hunter2 }\n", "not-toml");
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("gateway.toml:2:") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = gateway().args(["serve", "--config", "no-such-folder/gateway.toml"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("no-such-folder/gateway.toml") && said.contains("cannot be read"), "{said}");
}

#[cfg(unix)]
#[test]
fn sighup_reloads_what_has_not_changed_too() {
    use std::io::{BufRead, BufReader};
    let folder = Folder::new("sighup");
    let file = folder.write(
        "[providers.p]\ndialect = \"openai-chat\"\nbase_url = \"http://127.0.0.1:9/v1\"\n\
         [routes.\"*\"]\ntargets = [{ provider = \"p\" }]\n",
    );
    let mut child = gateway()
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(file)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("listening on"), "{line}");
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    };
    signal("-HUP");
    line.clear();
    log.read_line(&mut line).unwrap();
    signal("-TERM");
    assert!(line.contains("the configuration has been reloaded"), "{line}");
    assert!(child.wait().unwrap().success());
}
