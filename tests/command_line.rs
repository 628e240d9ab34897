//! The command as people and scripts run it: the built binary, against simulated providers.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    time::timeout,
};
use tower_failover::{
    gateway::check::AdviceKind,
    simulated::{SimulatedFault, SimulatedProvider},
};

const GATEWAY: &str = env!("CARGO_BIN_EXE_failover-gateway");
const KEYS: [(&str, &str); 2] = [("OPENAI_API_KEY", "sk-hush-openai"), ("ANTHROPIC_API_KEY", "sk-hush-anthropic")];

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("failover-gateway-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn with(self, text: &str) -> Self {
        std::fs::write(self.0.join("gateway.toml"), text).unwrap();
        self
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn command(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(GATEWAY);
    command.args(arguments).current_dir(&folder.0).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("RUST_LOG").env_remove("NO_COLOR").envs(KEYS);
    command
}

/// Runs it to its end. No key is in anything that it says, nor a colour: nobody sees any.
async fn run(folder: &Folder, arguments: &[&str]) -> (i32, String, String) {
    let output = timeout(Duration::from_secs(60), command(folder, arguments).output()).await;
    let Output { status, stdout, stderr } = output.expect("it does not end").unwrap();
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    for text in [&out, &err] {
        assert!(!text.contains("hush"), "{arguments:?} tells a key: {text}");
        assert!(!text.contains('\u{1b}'), "{arguments:?} prints colours: {text}");
    }
    (status.code().unwrap(), out, err)
}

async fn json(folder: &Folder, arguments: &[&str]) -> (i32, Value) {
    let (code, out, err) = run(folder, arguments).await;
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out} {err}")))
}

/// Two providers that want their keys, named as in the documentation.
async fn providers() -> (SimulatedProvider, SimulatedProvider) {
    let start = async |name: &str, key: &str| SimulatedProvider::builder(name).require_key(key).start().await.unwrap();
    (start("openai", KEYS[0].1).await, start("anthropic", KEYS[1].1).await)
}

/// The text with the documentation's addresses replaced by those of the simulated providers.
fn addressed(text: &str, (openai, anthropic): &(SimulatedProvider, SimulatedProvider)) -> String {
    let anthropic = anthropic.base_url();
    text.replace("https://api.openai.com/v1", &openai.base_url())
        .replace("https://api.anthropic.com", anthropic.trim_end_matches("/v1"))
}

const CONFIG: &str = r#"
[providers.openai]
dialect = "openai-chat"
base_url = "https://api.openai.com/v1"
api_key = { env = "OPENAI_API_KEY" }
[providers.anthropic]
dialect = "anthropic-messages"
base_url = "https://api.anthropic.com"
api_key = { env = "ANTHROPIC_API_KEY" }
[defaults]
retry = { attempts = 1 }
timeout = { first_output = "500ms", response = "500ms" }
breaker = { open = "200ms", max_open = "200ms" }
[routes.chat]
targets = [{ provider = "openai", model = "gpt-4o" }, { provider = "anthropic", model = "claude-sonnet-4-5" }]
[routes."*"]
targets = [{ provider = "openai" }, { provider = "anthropic" }]
"#;

// --- help

#[tokio::test]
async fn the_help_shows_commands_that_can_be_given() {
    let folder = Folder::new();
    for arguments in [&["--help"][..], &["check", "--help"], &["drill", "--help"], &["explain", "--help"]] {
        let (code, help, _) = run(&folder, arguments).await;
        assert_eq!(code, 0);
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{arguments:?}: {help}");
        let examples: Vec<_> = help.lines().filter_map(|line| line.strip_prefix("  failover-gateway")).collect();
        assert!(examples.len() > 1, "{help}");
        for example in examples {
            // What a shell does with it is not ours.
            let words = example.split(['|', '>']).next().unwrap().split_whitespace();
            let words: Vec<_> = words.chain(["--help"]).collect();
            let (code, _, err) = run(&folder, &words).await;
            assert_eq!(code, 0, "failover-gateway{example}: {err}");
        }
    }
    for name in ["RUST_LOG", "NO_COLOR"] {
        assert!(run(&folder, &["--help"]).await.1.contains(name));
    }
    let (code, version, _) = run(&folder, &["--version"]).await;
    assert_eq!((code, version.trim()), (0, concat!("failover-gateway ", env!("CARGO_PKG_VERSION"))));
    for wrong in
        [&["chekc"][..], &["drill", "--fault", "explode"], &["drill", "--slo", "101"], &["drill", "--requests", "0"]]
    {
        assert_eq!(run(&folder, wrong).await.0, 2, "{wrong:?}");
    }
}

#[tokio::test]
async fn every_shell_gets_completions_that_know_each_command() {
    let folder = Folder::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, script, _) = run(&folder, &["completions", shell]).await;
        assert_eq!(code, 0);
        for word in ["serve", "check", "drill", "explain", "completions", "online", "every"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    let script = run(&folder, &["completions", "bash"]).await.1;
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).await.unwrap();
    assert!(bash.wait().await.unwrap().success(), "bash cannot read it");
}

// --- explain

const ASKED: &str = r#"{"model": "chat", "max_tokens": 20000, "seed": 1,
    "messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    ]}]}"#;

#[tokio::test]
async fn a_request_is_explained_target_by_target_and_nobody_is_asked() {
    let providers = providers().await;
    let three = r#"targets = [
        { provider = "openai", model = "gpt-4o-2024-08-06" },
        { provider = "openai", model = "our-deployment", capabilities = { image_input = false } },
        { provider = "anthropic", model = "claude-sonnet-4-5", tags = ["eu"], price = { input = 3, output = 15 } },
    ]"#;
    let one = r#"targets = [{ provider = "openai", model = "gpt-4o" }, { provider = "anthropic", model = "claude-sonnet-4-5" }]"#;
    let config = addressed(&CONFIG.replace(one, three), &providers);
    // The simulated providers are not where the makers' own conditions are known to hold.
    let config = config.replace("dialect = \"openai-chat\"", "dialect = \"openai-chat\"\nvariant = \"openai\"");
    let folder = Folder::new().with(&config);
    std::fs::write(folder.0.join("request.json"), ASKED).unwrap();
    let explain = ["explain", "request.json", "--config", "gateway.toml"];
    let (code, out, err) = run(&folder, &explain).await;
    assert_eq!(code, 0, "{err}");
    for said in [
        "Request: openai-chat (guessed), model \"chat\"",
        "at most 20,000 of output, image_input",
        "lacks max_output_tokens (20000 asked for, 16384 offered)",
        "lacks image_input",
        "translated to anthropic-messages; not told: seed",
        "1 of 3 targets would be asked",
    ] {
        assert!(out.contains(said), "{said:?} is not in: {out}");
    }
    let (code, report) = json(&folder, &[&explain[..], &["--json"]].concat()).await;
    assert_eq!((code, &report["sent"], &report["route"]), (0, &Value::Bool(true), &"chat".into()));
    let [first, second, third] = &report["targets"].as_array().unwrap()[..] else { panic!("{report:#}") };
    assert_eq!((&first["verdict"], &first["known_model"]), (&"refuse".into(), &"gpt-4o".into()));
    assert_eq!(first["unmet"][0]["need"], "max_output_tokens");
    assert_eq!((&second["verdict"], &second["unmet"][0]["need"]), (&"refuse".into(), &"image_input".into()));
    assert_eq!(
        (&third["verdict"], &third["turn"], &third["losses"]),
        (&"try".into(), &1.into(), &serde_json::json!(["seed"]))
    );
    assert!((third["most_output_cost_usd"].as_f64().unwrap() - 0.3).abs() < 1e-9, "20,000 tokens at 15 USD a million");

    // Whom the tags leave out.
    let (code, out, _) = run(&folder, &[&explain[..], &["--tags", "us"]].concat()).await;
    assert!(code == 1 && out.contains("lacks tag \"us\"") && out.contains("400 no_capable_target"), "{out}");
    assert_eq!((providers.0.request_count(), providers.1.request_count()), (0, 0));
}

#[tokio::test]
async fn what_cannot_be_explained_is_said() {
    let folder = Folder::new().with(CONFIG);
    let write = |text: &str| std::fs::write(folder.0.join("request.json"), text).unwrap();
    write(r#"{"contents": [{"parts": [{"text": "Hello"}]}]}"#);
    let (code, out, err) = run(&folder, &["explain", "request.json"]).await;
    assert!(code == 1 && out.is_empty() && err.contains("names no model"), "{err}");
    let (code, out, _) = run(&folder, &["explain", "request.json", "--route", "gemini-2.5-flash"]).await;
    assert!(
        code == 0 && out.contains("gemini (guessed), model \"gemini-2.5-flash\"") && out.contains("3 of 3"),
        "{out}"
    );
    let (code, _, err) = run(&folder, &["explain", "request.json", "--config", "gateway.toml", "--route", "x y"]).await;
    assert_eq!(code, 0, "the route of every name serves it: {err}");
    write("[1, 2]");
    let (code, _, err) = run(&folder, &["explain", "request.json"]).await;
    assert!(code == 1 && err.contains("not a JSON object"), "{err}");
    assert_eq!(run(&folder, &["explain", "missing.json"]).await.0, 1);
    assert_eq!(run(&folder, &["explain", "request.json", "--dialect", "klingon"]).await.0, 2);
}

/// Keys from everywhere, none of which is there, and a command that leaves something behind.
const KEYS_ELSEWHERE: &str = r#"
listen = "0.0.0.0:8080"
[auth]
keys = [{ env = "FAILOVER_TEST_A" }, { env = "FAILOVER_TEST_B" }, { file = "client-key" }]
admin_keys = [{ env = "FAILOVER_TEST_C" }, { file = "admin-key" }]
[tls]
certificate = "cert.pem"
key = "key.pem"
[shared_state]
url = { env = "FAILOVER_TEST_REDIS" }
[providers.openai]
dialect = "openai-chat"
base_url = "https://api.openai.com/v1"
api_key = [{ env = "FAILOVER_TEST_D" }, { env = "FAILOVER_TEST_E" }, { file = "key" }, { file = "other-key" }]
[providers.anthropic]
dialect = "anthropic-messages"
base_url = "https://api.anthropic.com"
api_key = { command = ["sh", "-c", "touch was-run; echo sk-key"] }
[routes.chat]
targets = [{ provider = "openai", model = "gpt-4o" }, { provider = "anthropic", model = "claude-sonnet-4-5" }]
"#;

#[tokio::test]
async fn explain_needs_no_key_reads_no_key_file_and_runs_no_command() {
    let folder = Folder::new().with(KEYS_ELSEWHERE);
    std::fs::write(folder.0.join("request.json"), ASKED).unwrap();
    let explain = ["explain", "request.json", "--config", "gateway.toml"];
    let (code, out, err) = run(&folder, &explain).await;
    assert_eq!((code, &*err), (0, ""), "{out}");
    assert!(out.contains("1 of 2 targets would be asked"), "{out}");
    assert!(!folder.0.join("was-run").exists(), "the command was run");
    let from_file = KEYS_ELSEWHERE.replace("{ env = \"FAILOVER_TEST_REDIS\" }", "{ file = \"redis-url\" }");
    let folder = folder.with(&from_file);
    assert_eq!(run(&folder, &explain).await.0, 0);

    // What is wrong with the file itself is said all the same, and `check` looks for every key.
    let wrong =
        KEYS_ELSEWHERE.replace("{ file = \"admin-key\" }", "{ file = \"admin-key\", env = \"FAILOVER_TEST_C\" }");
    let folder = folder.with(&wrong);
    let (code, _, err) = run(&folder, &explain).await;
    assert!(code == 1 && err.lines().count() == 1 && err.contains("needs exactly one of"), "{err}");
    let folder = folder.with(KEYS_ELSEWHERE);
    let (code, out, _) = run(&folder, &["check", "gateway.toml"]).await;
    assert!(code == 1 && out.contains("FAILOVER_TEST_A is not set") && out.contains("\"key\" cannot be read"), "{out}");
    assert!(folder.0.join("was-run").exists());
}

// --- check

#[tokio::test]
async fn a_good_file_passes_and_nobody_is_asked() {
    let providers = providers().await;
    let folder = Folder::new().with(&addressed(CONFIG, &providers));
    let (code, out, _) = run(&folder, &["check", "gateway.toml"]).await;
    assert_eq!(code, 0);
    assert!(out.starts_with("gateway.toml: ok, 2 routes, 4 targets"), "{out}");
    assert!(!out.contains("[unknown_model]"), "both are in the table of models: {out}");
    assert_eq!((providers.0.request_count(), providers.1.request_count()), (0, 0));
    let (code, report) = json(&folder, &["check", "gateway.toml", "--json"]).await;
    assert_eq!((code, &report["passed"], &report["online"]), (0, &Value::Bool(true), &Value::Null));
}

#[tokio::test]
async fn a_model_of_which_nothing_is_known_is_warned_of() {
    let folder = Folder::new().with(&CONFIG.replace("\"gpt-4o\"", "\"our-deployment\""));
    let (code, out, _) = run(&folder, &["check", "gateway.toml"]).await;
    assert_eq!((code, out.matches("[unknown_model]").count()), (0, 1), "{out}");
    assert!(out.contains("openai/our-deployment") && out.contains("not in the table of known models"), "{out}");
}

#[tokio::test]
async fn every_mistake_of_a_bad_file_is_named_at_once() {
    let folder = Folder::new().with(
        "listen = 8080\n[providers.a]\ndialect = \"openai-chatt\"\nbase_url = \"ftp://x\"\napi_key = { env = \"NOT_SET\" }\n\
         [routes.x]\ntargets = [{ provider = \"b\" }]\nretyr = 1\n",
    );
    let (code, out, _) = run(&folder, &["check", "gateway.toml"]).await;
    assert_eq!(code, 1);
    for line in [1, 3, 4, 5, 7, 8] {
        assert!(out.contains(&format!("gateway.toml:{line}:")), "nothing is said of line {line}: {out}");
    }
    assert!(out.contains("6 mistakes"), "{out}");
    let (code, report) = json(&folder, &["check", "gateway.toml", "--json"]).await;
    assert_eq!((code, report["errors"].as_array().unwrap().len(), &report["passed"]), (1, 6, &Value::Bool(false)));
    let (code, out, _) = run(&folder, &["check", "missing.toml", "--online"]).await;
    assert_eq!(code, 1);
    assert!(out.contains("missing.toml: cannot be read"), "{out}");
}

#[tokio::test]
async fn online_every_target_is_asked_once_and_named_if_it_fails() {
    let providers = providers().await;
    let folder = Folder::new().with(&addressed(CONFIG, &providers));
    let online = ["check", "gateway.toml", "--online", "--json"];
    let (code, report) = json(&folder, &online).await;
    assert_eq!(code, 0, "{report:#}");
    let trials = report["online"].as_array().unwrap();
    assert_eq!(trials.len(), 4);
    assert!(
        trials.iter().all(|trial| trial["ok"] == true && trial["latency_ms"].as_f64().unwrap() > 0.0),
        "{trials:?}"
    );
    assert_eq!((providers.0.request_count(), providers.1.request_count()), (2, 2));
    for request in providers.0.received().iter().chain(&providers.1.received()) {
        let body = request.json().unwrap_or_default();
        assert!(body.is_null() || body["max_tokens"] == 16, "{body}");
    }

    for (fault, word) in [("model-not-found", "not_found"), ("quota-exhausted", "quota_exhausted"), ("down", "connect")]
    {
        providers.0.set_fault(fault.parse().unwrap());
        let (code, out, _) = run(&folder, &online[..3]).await;
        assert_eq!(code, 1, "{out}");
        let line = out.lines().find(|line| line.trim_start().starts_with("openai/gpt-4o")).unwrap();
        assert!(line.contains(word), "{fault}: {line}");
        assert!(out.lines().any(|line| line.contains("anthropic/claude-sonnet-4-5") && line.contains(" ok ")), "{out}");
        assert!(out.contains("2 of 4 targets failed"), "{out}");
    }
    providers.0.set_fault(SimulatedFault::Silent);
    let (code, out, _) = run(&folder, &["check", "gateway.toml", "--online", "--timeout", "200ms"]).await;
    assert_eq!(code, 1);
    assert!(out.contains("timeout") && out.contains("no answer within 200ms"), "{out}");
}

#[tokio::test]
async fn online_each_key_of_a_list_is_tried_and_the_bad_one_is_named() {
    let provider = SimulatedProvider::builder("p").require_key("sk-good-0123456789").start().await.unwrap();
    let config = |keys: &str| {
        format!(
            "[providers.p]\ndialect = \"openai-chat\"\nbase_url = \"{}\"\napi_key = [{keys}]\n\
             [routes.chat]\ntargets = [{{ provider = \"p\", model = \"gpt-4o\" }}]\n",
            provider.base_url()
        )
    };
    let (good, bad) = ("{ value = \"sk-good-0123456789\" }", "{ value = \"sk-revoked-0123456789\" }");
    for (keys, place) in [([good, bad], "2"), ([bad, good], "1")] {
        let folder = Folder::new().with(&config(&keys.join(", ")));
        let (code, out, _) = run(&folder, &["check", "gateway.toml", "--online"]).await;
        assert_eq!(code, 1, "one of the two keys is refused: {out}");
        let line = out.lines().find(|line| line.contains("auth_failed")).unwrap();
        assert!(line.contains("p/gpt-4o") && line.contains(&format!("key {place} of 2")), "{line}");
        assert!(out.contains("1 of 2 trials failed") && !out.contains("0123456789"), "{out}");
    }
    assert_eq!(provider.request_count(), 4);
    let folder = Folder::new().with(&config(good));
    let (code, out, _) = run(&folder, &["check", "gateway.toml", "--online"]).await;
    assert!(code == 0 && out.contains("all 1 targets answered"), "{out}");
}

#[tokio::test]
async fn online_each_dialect_is_asked_in_its_own_words() {
    let provider = SimulatedProvider::builder("any").require_key(KEYS[0].1).start().await.unwrap();
    let base = provider.base_url();
    let root = base.trim_end_matches("/v1");
    let mut config = String::new();
    for (name, base) in
        [("openai-chat", &*base), ("openai-responses", &base), ("anthropic-messages", root), ("gemini", root)]
    {
        config += &format!(
            "[providers.{name}]\ndialect = \"{name}\"\nbase_url = \"{base}\"\napi_key = {{ env = \"OPENAI_API_KEY\" }}\n\
             [routes.{name}]\ntargets = [{{ provider = \"{name}\", model = \"model-1\" }}]\n"
        );
    }
    config += "[routes.embeddings]\ntargets = [{ provider = \"openai-chat\", model = \"text-embedding-3-small\" }]\n";
    let (code, report) = json(&Folder::new().with(&config), &["check", "gateway.toml", "--online", "--json"]).await;
    assert_eq!(code, 0, "{report:#}");
    let mut paths: Vec<_> = provider.received().iter().map(|request| request.uri.path().to_owned()).collect();
    paths.sort_unstable();
    let expected = [
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/responses",
        "/v1beta/models/model-1:generateContent",
    ];
    assert_eq!(paths, expected);
    // Everybody else is reached, too, where a model is passed on: by a list of models.
    let config = config.replace(", model = \"model-1\"", "");
    let (_, report) = json(&Folder::new().with(&config), &["check", "gateway.toml", "--online", "--json"]).await;
    let asked: Vec<_> = report["online"].as_array().unwrap().iter().map(|trial| trial["asked_for"].as_str()).collect();
    assert_eq!(asked.iter().filter(|asked| **asked == Some("its list of models")).count(), 4, "{report:#}");
}

#[tokio::test]
async fn online_a_wrong_key_is_told_from_the_others_and_not_shown() {
    let mut providers = providers().await;
    providers.1 = SimulatedProvider::builder("anthropic").require_key("another").start().await.unwrap();
    let folder = Folder::new().with(&addressed(CONFIG, &providers));
    let (code, report) = json(&folder, &["check", "gateway.toml", "--online", "--json"]).await;
    assert_eq!(code, 1);
    let faults: Vec<_> = report["online"].as_array().unwrap().iter().map(|trial| trial["fault"].as_str()).collect();
    assert_eq!(faults, [None, Some("auth_failed"), None, Some("auth_failed")], "{report:#}");
}

// --- drill

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

#[tokio::test]
async fn a_drill_without_a_file_shows_what_a_drill_is() {
    let folder = Folder::new();
    let (code, out, err) = run(&folder, &["drill", "--requests", "40"]).await;
    assert_eq!(code, 0, "{out} {err}");
    assert!(err.contains("simulated"), "{err}");
    for words in ["before", "during", "after", "first token p50", "failed over", "primary/gpt-4o", "SLO 99.9 %", "held"]
    {
        assert!(out.contains(words), "{words:?} is missing: {out}");
    }
}

#[tokio::test]
async fn the_numbers_of_a_drill_add_up() {
    let folder = Folder::new();
    for (fault, expected_failed_over) in [("down", 30.0), ("overloaded", 30.0), ("latency:100ms", 0.0)] {
        let arguments = ["drill", "--requests", "30", "--concurrency", "2", "--fault", fault, "--json"];
        let (code, report) = json(&folder, &arguments).await;
        assert_eq!((code, &report["slo_held"]), (0, &Value::Bool(true)), "{report:#}");
        for phase in ["before", "during", "after"] {
            let numbers = &report["phases"][phase];
            assert!(number(&numbers["requests"]) >= 30.0);
            assert_eq!(numbers["requests"], numbers["answered"]);
            assert_eq!((number(&numbers["success_percent"]), number(&numbers["broken"])), (100.0, 0.0));
            assert!(number(&numbers["p50_ms"]) >= 20.0 && number(&numbers["p99_ms"]) >= number(&numbers["p50_ms"]));
            assert!(number(&numbers["first_token_p50_ms"]) < number(&numbers["p99_ms"]));
            let by: f64 = numbers["answered_by"].as_object().unwrap().values().map(number).sum();
            assert_eq!(by, number(&numbers["answered"]));
        }
        assert_eq!(number(&report["phases"]["before"]["failed_over"]), 0.0);
        assert_eq!(number(&report["phases"]["during"]["failed_over"]), expected_failed_over, "{report:#}");
        // Until the circuit opens, by five failures and by what was under way then, retries included, and some probes.
        let tries = number(&report["primary_tries_while_away"]);
        assert!(if fault.starts_with("latency") { tries == 30.0 } else { (5.0..20.0).contains(&tries) }, "{report:#}");
        assert!(number(&report["primary_back_after_ms"]) < 3000.0);
    }
}

#[tokio::test]
async fn streams_that_are_cut_after_they_began_are_broken_and_miss_the_slo() {
    let folder = Folder::new();
    let arguments = ["drill", "--requests", "8", "--stream", "100", "--fault", "cut:1200", "--json"];
    let (code, report) = json(&folder, &arguments).await;
    let during = &report["phases"]["during"];
    assert_eq!((code, &report["slo_held"]), (1, &Value::Bool(false)), "{report:#}");
    assert!(number(&during["broken"]) >= 1.0, "{during:#}");
    assert_eq!(number(&during["broken"]), number(&during["requests"]) - number(&during["answered"]));
}

#[tokio::test]
async fn a_chain_of_one_misses_its_slo() {
    let providers = providers().await;
    let config =
        addressed(CONFIG, &providers).replace(r#", { provider = "anthropic", model = "claude-sonnet-4-5" }"#, "");
    let folder = Folder::new().with(&config);
    let arguments = ["drill", "--config", "gateway.toml", "--route", "chat", "--requests", "10"];
    let (code, out, err) = run(&folder, &arguments).await;
    assert_eq!(code, 1, "{out}");
    assert!(err.contains("REAL PROVIDERS ARE ASKED") && err.contains("about 30 requests"), "{err}");
    assert!(out.contains("SLO 99.9 % in each phase: MISSED (worst: during 0.00 %)"), "{out}");
    assert!(out.contains("502 connect"), "{out}");
    // Before and after, but not while it was away; and nobody else.
    assert!(providers.0.request_count() >= 10 && providers.1.request_count() == 0);
    let (code, _, err) = run(&folder, &[&arguments[..5], &["--model", "other"]].concat()).await;
    assert_eq!((code, err.contains("not served by the route")), (1, true), "{err}");
}

#[tokio::test]
async fn a_drill_is_repeated_until_it_is_stopped() {
    let folder = Folder::new();
    let arguments = ["drill", "--every", "100ms", "--requests", "2", "--json"];
    let mut child = command(&folder, &arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = timeout(Duration::from_secs(30), lines.next_line()).await.unwrap().unwrap().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["slo_held"], true);
    }
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    assert_eq!(timeout(Duration::from_secs(10), child.wait()).await.unwrap().unwrap().code(), Some(0));
}

// --- the documentation

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// The blocks of that language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let begin = format!("```{language}\n");
    text.split(&*begin).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[tokio::test]
async fn every_command_of_the_guides_does_what_they_say() {
    for name in ["check.md", "drill.md"] {
        let (text, providers) = (document(name), providers().await);
        let folder = Folder::new().with(&addressed(blocks(&text, "toml")[0], &providers));
        let commands: Vec<_> = blocks(&text, "sh").into_iter().flat_map(str::lines).collect();
        assert!(commands.len() >= 3, "{name}");
        for line in commands {
            let arguments: Vec<_> = line.split_whitespace().skip(1).collect();
            if arguments.contains(&"--every") {
                continue; // It does not end: there is a test of its own.
            }
            let (code, out, err) = run(&folder, &arguments).await;
            assert_eq!(code, 0, "{line}: {out} {err}");
        }
    }
}

#[test]
fn the_guide_names_every_warning() {
    let text = document("check.md");
    for kind in AdviceKind::ALL {
        let line = format!("| `{}` | {} |", kind.name(), kind.meaning());
        assert!(text.contains(&line), "docs/check.md lacks this line: {line}");
    }
}
