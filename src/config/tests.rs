//! Whole files: what loads and what it means, and what is said of one that does not load.

use std::{path::PathBuf, time::Duration};

use super::*;
use crate::{Ability, FaultKind, FaultKinds, provider::Commit};

/// A file in which everything that exists is used. All of its secrets contain "secret".
const FULL: &str = r#"
listen = "127.0.0.1:8081"

[limits]
max_body = "1MiB"

[providers.openai]
dialect  = "openai-chat"
base_url = "https://api.openai.com/v1"
api_key  = { env = "OPENAI_API_KEY" }
tags     = ["us"]
breaker  = { failures = 7, open = "10s" }

[providers.local]
dialect  = "openai-chat"
base_url = "http://127.0.0.1:9102/v1"
api_key  = { value = "sk-secret-in-the-file" }

[defaults]
failover_on     = ["connect", "timeout"]
commit          = "first_output"
stream_recovery = "terminate"
last_resort     = false
timeout = { first_output = "30s", response = "4m", idle = "20s", total = "8m" }
retry   = { attempts = 3, base_delay = "100ms", max_delay = "3s", max_retry_after = "1s", budget = 0.1 }
breaker = { failures = 6, failure_rate = 0.4, min_calls = 2_0, window = "1m", slow_call = "15s", slow_rate = 0.9,
            open = "6s", max_open = "1m", long_open = "1h", probes = 2 }

[routes."gpt-4o"]
strategy = "ordered"
timeout  = { total = "1m" }
failover_on = []
targets  = [
  { provider = "openai", model = "gpt-4o", tags = ["zdr"], breaker = { open = "20s" },
    capabilities = { context_window = 128000, tools = true, prefill = false, languages = ["en"] } },
  { provider = "local" },
]

[[routes."fb-*".targets]]
provider = "local"
"#;

fn environment(name: &str) -> Option<String> {
    match name {
        "OPENAI_API_KEY" => Some("sk-secret-of-openai".into()),
        "AZURE_API_KEY" => Some("secret-of-azure".into()),
        "EMPTY" => Some(String::new()),
        "TWO_LINES" => Some("sk-secret\nsk-secret".into()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Config, ConfigErrors> {
    Config::from_toml(text, Path::new("gateway.toml"), &environment)
}

fn errors(text: &str) -> Vec<String> {
    let errors = read(text).map(|_| ()).expect_err(text);
    let shown: Vec<_> = errors.to_string().lines().map(|line| line.replace("gateway.toml:", "")).collect();
    assert!(!format!("{errors}{errors:?}").contains("secret"), "{errors}");
    assert_eq!(shown.len(), errors.iter().count());
    shown
}

/// The errors of a file that is good but for these lines: at its root, in its provider, and in its route.
fn errors_in(root: &str, provider: &str, route: &str) -> Vec<String> {
    errors(&format!(
        "{root}\n[providers.p]\ndialect = 'openai-chat'\nbase_url = 'http://h'\n{provider}\n\
         [routes.'*']\n{route}\n{}",
        if route.contains("targets") { "" } else { "targets = [{ provider = 'p' }]" }
    ))
}

fn minimal(rest: &str) -> String {
    format!(
        "[providers.p]\ndialect='openai-chat'\nbase_url='http://h'\n[routes.'*']\ntargets=[{{provider='p'}}]\n{rest}"
    )
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn what_is_left_out_is_as_designed() {
    let config = read(&minimal("")).unwrap();
    assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.max_body, 32 * 1024 * 1024);
    assert!(config.warnings.is_empty());
    let route = config.routes.find("anything").unwrap();
    let moves_on = "connect connection_lost rate_limited quota_exhausted overloaded unavailable timeout \
                    stream_interrupted malformed_response auth_failed permission_denied not_found \
                    context_length_exceeded unsupported refused";
    let policy = Policy {
        choice: Choice::default(),
        failover_on: moves_on.split_whitespace().map(|name| FaultKind::from_name(name).unwrap()).collect(),
        ramp: false,
        last_resort: true,
        commit: Commit::FirstOutput,
        meter_streams: false,
        stream_recovery: StreamRecovery::Terminate,
        timeout: TimeoutSettings { first_output: s(60), response: s(300), idle: s(60), total: s(600) },
        retry: RetrySettings {
            attempts: 2,
            base_delay: Duration::from_millis(250),
            max_delay: s(5),
            max_retry_after: s(2),
            budget: 0.2,
        },
        keep_alive: None,
        cache: None,
    };
    assert_eq!(route.policy, policy);
    let breaker = CircuitSettings {
        failures: 5,
        failure_rate: 0.5,
        min_calls: 10,
        window: s(30),
        slow_call: s(30),
        slow_rate: 1.0,
        open: s(5),
        max_open: s(30),
        long_open: s(600),
        probes: 1,
        ..CircuitSettings::default()
    };
    assert_eq!(config.default_breaker, breaker);
    assert_eq!(config.breakers, [("p/*".to_owned(), breaker)].into());
    assert_eq!(config.provider_breakers, [("p".to_owned(), breaker)].into());
    assert_eq!(route.route.targets()[0].provider().unwrap().credentials().header(), None);
}

#[test]
fn everything_that_is_written_is_read() {
    let config = read(FULL).unwrap();
    assert_eq!((config.listen.port(), config.max_body), (8081, 1 << 20));
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].starts_with("gateway.toml:17:22: providers.local.api_key.value: "));

    let defaults = &config.routes.find("fb-x").unwrap().policy;
    assert_eq!(defaults.failover_on, [FaultKind::Connect, FaultKind::Timeout].into_iter().collect());
    assert!(!defaults.last_resort);
    let TimeoutSettings { first_output, response, idle, total } = defaults.timeout;
    assert_eq!([first_output, response, idle, total], [s(30), s(240), s(20), s(480)]);
    assert_eq!((defaults.retry.attempts, defaults.retry.budget), (3, 0.1));
    assert_eq!(defaults.retry.base_delay, Duration::from_millis(100));
    assert_eq!((defaults.retry.max_delay, defaults.retry.max_retry_after), (s(3), s(1)));

    let found = config.routes.find("gpt-4o").unwrap();
    assert_eq!(found.route.name(), "gpt-4o");
    assert_eq!(found.policy.failover_on, FaultKinds::NONE);
    assert_eq!(found.policy.timeout, TimeoutSettings { total: s(60), ..defaults.timeout });
    assert_eq!(found.policy.retry, defaults.retry);
    let [openai, local] = found.route.targets() else { panic!("two targets") };
    assert_eq!((openai.id().as_str(), local.id().as_str()), ("openai/gpt-4o", "local/*"));
    assert!(openai.tags().iter().map(|tag| &**tag).eq(["us", "zdr"]));
    assert_eq!(openai.capabilities().context_window(), Some(128_000));
    assert!(!openai.capabilities().is_unrestricted() && local.capabilities().is_unrestricted());
    let (_, key) = openai.provider().unwrap().credentials().header().unwrap();
    assert_eq!(key, "Bearer sk-secret-of-openai");
    assert!(config.routes.find("gpt-4").is_none());
    assert!(config.routes.iter().map(|route| route.route.name()).eq(["gpt-4o", "fb-*"]));
}

#[test]
fn a_breaker_inherits_from_the_provider_and_that_from_the_defaults() {
    let config = read(FULL).unwrap();
    let defaults = config.default_breaker;
    assert_eq!((defaults.failures, defaults.failure_rate, defaults.slow_rate), (6, 0.4, 0.9));
    assert_eq!((defaults.min_calls, defaults.probes), (20, 2));
    assert_eq!([defaults.window, defaults.slow_call, defaults.open], [s(60), s(15), s(6)]);
    assert_eq!([defaults.max_open, defaults.long_open], [s(60), s(3600)]);
    assert_eq!(config.provider_breakers["openai"], CircuitSettings { failures: 7, open: s(10), ..defaults });
    assert_eq!(config.breakers["openai/gpt-4o"], CircuitSettings { failures: 7, open: s(20), ..defaults });
    assert_eq!(config.breakers["local/*"], defaults);
}

#[test]
fn a_gateway_between_two_servers_loads() {
    let config = read(
        r#"
        listen = "127.0.0.1:9300"

        [providers.primary]
        dialect  = "openai-chat"
        base_url = "http://127.0.0.1:9101/v1"
        api_key  = { value = "sk-upstream-primary" }

        [providers.fallback]
        dialect  = "openai-chat"
        base_url = "http://127.0.0.1:9102/v1"
        api_key  = { value = "sk-upstream-fallback" }

        [defaults]
        retry   = { attempts = 1 }
        breaker = { failures = 1000000, failure_rate = 1.0, min_calls = 1000000 }

        [routes."*"]
        targets = [{ provider = "primary" }, { provider = "fallback" }]
        "#,
    )
    .unwrap();
    assert_eq!(config.routes.find("gpt-4o").unwrap().policy.retry.attempts, 1);
    assert_eq!(config.breakers["fallback/*"].failures, 1_000_000);
    assert_eq!(config.warnings.len(), 2);
}

#[test]
fn the_example_of_the_documentation_loads() {
    let example = include_str!("mod.rs").lines().skip_while(|line| *line != "//! ```toml").skip(1);
    let example: Vec<_> = example.take_while(|line| *line != "//! ```").map(|line| &line["//!".len()..]).collect();
    let config = read(&example.join("\n")).unwrap();
    assert_eq!(config.breakers["standby/*"].failures, 2);
}

#[test]
fn the_values_of_the_design_are_the_defaults() {
    let designed = r#"
        listen = "127.0.0.1:8080"
        [limits]
        max_body = "32MiB"
        [providers.openai]
        dialect  = "openai-chat"
        base_url = "https://api.openai.com/v1"
        api_key  = { env = "OPENAI_API_KEY" }
        tags     = ["us"]
        [defaults]
        failover_on     = ["connect", "connection_lost", "rate_limited", "quota_exhausted", "overloaded", "unavailable",
                           "timeout", "stream_interrupted", "malformed_response", "auth_failed", "permission_denied",
                           "not_found", "context_length_exceeded", "unsupported", "refused"]
        commit          = "first_output"
        stream_recovery = "terminate"
        last_resort     = true
        meter_streams   = false
        timeout = { first_output = "60s", response = "5m", idle = "60s", total = "10m" }
        retry   = { attempts = 2, base_delay = "250ms", max_delay = "5s", max_retry_after = "2s", budget = 0.2 }
        breaker = { failures = 5, failure_rate = 0.5, min_calls = 10, window = "30s", slow_call = "30s",
                    slow_rate = 1.0, open = "5s", max_open = "30s", long_open = "10m", probes = 1 }
        [routes."gpt-4o"]
        strategy = "ordered"
        targets  = [
          { provider = "openai", model = "gpt-4o" },
          { provider = "openai", model = "gpt-4.1", weight = 1, tags = ["zdr"],
            capabilities = { context_window = 200000, tools = true, prefill = false } },
        ]
    "#;
    let config = read(designed).unwrap();
    assert_eq!((config.listen, config.max_body), (DEFAULT_LISTEN, DEFAULT_MAX_BODY));
    assert_eq!(config.default_breaker, CircuitSettings::default());
    assert_eq!(config.routes.find("gpt-4o").unwrap().policy, Policy::default());
}

#[test]
fn ten_mistakes_are_ten_errors() {
    let text = r#"listen = "0.0.0.0:80"
colour = "red"

[providers.openai]
dialect = "openai-chta"
base_url = "api.openai.com"
api_key = { env = "NO_SUCH_KEY" }

[defaults]
failover_on = ["connect", "time_out"]
retry = { attempts = 0, base_delay = "1m" }
breaker = { failurs = 3 }

[routes."gpt-4o"]
targets = [{ provider = "openai" }, { provider = "opnai", model = "gpt-4o" }]
strategy = "cots"
"#;
    let expected = [
        "1:10: listen: is not a loopback address: without `keys` under [auth], anyone who reaches it could use the \
         providers' keys",
        "2:1: colour: unknown key",
        "5:11: providers.openai.dialect: unknown value; expected \"openai-chat\" or \"openai-responses\" or \
         \"anthropic-messages\" or \"gemini\"; did you mean `openai-chat`?",
        "6:12: providers.openai.base_url: the base URL cannot be used: it does not begin with http:// or https:// \
         and a host",
        "7:19: providers.openai.api_key.env: the environment variable NO_SUCH_KEY is not set",
        "10:27: defaults.failover_on[1]: unknown fault kind \"time_out\"; did you mean `timeout`?",
        "11:22: defaults.retry.attempts: must be at least 1",
        "11:25: defaults.retry.base_delay: base_delay (60s) is longer than max_delay (5s)",
        "12:13: defaults.breaker.failurs: unknown key; did you mean `failures`?",
        "15:50: routes.\"gpt-4o\".targets[1].provider: unknown provider \"opnai\"; did you mean `openai`?",
        "16:12: routes.\"gpt-4o\".strategy: unknown value; expected \"ordered\" or \"weighted\" or \"latency\" or \"cost\" or \
         \"adaptive\" or \"race\"; did you mean `cost`?",
    ];
    assert_eq!(errors(text), expected);
    let found = read(text).unwrap_err();
    let last = found.iter().last().unwrap();
    assert_eq!((last.file(), last.line(), last.column()), (Path::new("gateway.toml"), Some(16), Some(12)));
    assert_eq!(
        (last.key(), last.message(), last.suggestion()),
        (
            "routes.\"gpt-4o\".strategy",
            "unknown value; expected \"ordered\" or \"weighted\" or \"latency\" or \"cost\" or \"adaptive\" or \"race\"",
            Some("cost")
        )
    );
}

#[test]
fn a_file_needs_providers_and_routes() {
    assert_eq!(errors(""), ["1:1: providers: is missing", "1:1: routes: is missing"]);
    assert_eq!(
        errors("[providers]\n[routes]"),
        ["1:2: providers: there is no provider", "2:2: routes: there is no route"]
    );
    assert_eq!(
        errors("[providers.p]\n[routes.a]\n[routes.'b']\ntargets = []"),
        [
            "1:12: providers.p.dialect: is missing",
            "1:12: providers.p.base_url: is missing",
            "2:9: routes.a.targets: is missing",
            "4:11: routes.'b'.targets: a route needs at least one target",
        ]
    );
}

#[test]
fn a_route_commits_and_meters_as_the_defaults_say_or_as_it_says_itself() {
    let of = |defaults: &str, route: &str| {
        let text = minimal(&format!("{route}\n[defaults]\n{defaults}"));
        let config = read(&text).unwrap();
        let policy = &config.routes.find("any").unwrap().policy;
        (policy.commit, policy.meter_streams)
    };
    assert_eq!(of("commit = 'complete'\nmeter_streams = true", ""), (Commit::Complete, true));
    assert_eq!(
        of("commit = 'complete'\nmeter_streams = true", "commit = 'first_output'\nmeter_streams = false"),
        (Commit::FirstOutput, false)
    );
}

#[test]
fn what_is_known_of_a_model_gives_way_to_what_the_file_says_key_by_key() {
    let target = |rest: &str| {
        let text = minimal("").replace("'p'}", &format!("'p', model = 'gpt-4o-2024-08-06'{rest} }}"));
        let config = read(&text.replace("http://h", "https://api.openai.com/v1")).unwrap();
        config.routes.find("any").unwrap().route.targets()[0].clone()
    };
    let known = target("");
    assert_eq!(
        (known.capabilities().context_window(), known.capabilities().max_output_tokens()),
        (Some(128_000), Some(16_384))
    );
    assert!(!known.capabilities().offers(Ability::Reasoning) && known.capabilities().offers(Ability::Tools));
    assert_eq!(known.price().map(|price| price.output()), Some(10.0));
    let said = target(
        ", capabilities = { context_window = 64000, reasoning = true, tools = false }, price = { input = 1, output = 2 }",
    );
    assert_eq!(
        (said.capabilities().context_window(), said.capabilities().max_output_tokens()),
        (Some(64_000), Some(16_384))
    );
    assert!(said.capabilities().offers(Ability::Reasoning) && !said.capabilities().offers(Ability::Tools));
    assert!(!said.capabilities().offers(Ability::AudioInput), "of that nothing was said");
    let price = *said.price().unwrap();
    assert_eq!((price.input(), price.cached_input()), (1.0, 1.0), "a price is one whole");
}

#[test]
fn a_target_has_the_price_that_is_written() {
    let price = "{ input = 3, output = 15.0, cached_input = 0.3, cache_write_input = 3.75 }";
    let config = read(&minimal("").replace("'p'}", &format!("'p', price = {price} }}"))).unwrap();
    let price = *config.routes.find("any").unwrap().route.targets()[0].price().unwrap();
    let told = (price.input(), price.output(), price.cached_input(), price.cache_write_input());
    assert_eq!(told, (3.0, 15.0, 0.3, 3.75));
    for (price, wrong) in [
        ("{ input = 3 }", "output"),
        ("{ input = -1, output = 1 }", "input: must be a number"),
        ("{ input = 1, output = inf }", "output: must be a number"),
        ("{ input = '1', output = 1 }", "input: expected a number"),
        ("{ input = 1, output = 1, cached = 1 }", "cached"),
    ] {
        let errors = errors_in("", "", &format!("targets = [{{ provider = 'p', price = {price} }}]"));
        assert!(errors.len() == 1 && errors[0].contains(wrong), "{errors:?}");
    }
}

#[test]
fn a_name_with_a_dot_wants_quotes() {
    let text =
        "[providers.p]\ndialect = 'gemini'\nbase_url = 'http://h'\n[routes.gpt-4.1]\ntargets = [{ provider = 'p' }]";
    let errors = Config::from_toml(text, Path::new("t.toml"), &|_| None).unwrap_err();
    let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["t.toml:4:9: routes.gpt-4: a name with a dot stands in quotes: [routes.\"gpt-4.1\"]"]);
}

#[test]
fn keys_and_their_sources() {
    for (key, column, message) in [
        ("{}", 1, ": needs exactly one of `env`, `file`, `command` and `value`"),
        ("{ env = 'A', value = 'sk-secret' }", 1, ": needs exactly one of `env`, `file`, `command` and `value`"),
        ("{ emv = 'A' }", 13, ".emv: unknown key; did you mean `env`?"),
        (
            "'sk-secret'",
            11,
            ": expected where the key comes from: { env = \"…\" }, { file = \"…\" } or { command = [\"…\"] }, found a string",
        ),
        (
            "{ env = 'AZURE_API_KEY', refresh = '1m' }",
            46,
            ".refresh: goes with `command`; a file is read again when it changes",
        ),
        (
            "{ command = [] }",
            23,
            ".command: names no program: the first word is the program, the others are what it is given",
        ),
        ("{ command = ['false'] }", 23, ".command: the command failed: exit status: 1"),
        ("{ command = ['true'] }", 23, ".command: the command printed no key"),
        ("{ command = 'true' }", 23, ".command: expected a list, found a string"),
        ("[]", 11, ": a list of keys needs at least one"),
        ("[{ value = 'a' }, { value = 'b' }, { value = 'a' }]", 46, "[2]: the same key stands in this list before"),
        ("[{ value = 'a' }, { env = 'EMPTY' }]", 37, "[1].env: the environment variable EMPTY is empty"),
        ("{ env = 'sk-secret' }", 19, ".env: is not the name of an environment variable"),
        ("{ env = 'EMPTY' }", 19, ".env: the environment variable EMPTY is empty"),
        ("{ env = 'TWO_LINES' }", 1, ": the key has characters that no HTTP header can carry"),
        ("{ value = '' }", 21, ".value: is empty"),
        ("{ value = 7 }", 21, ".value: expected a string, found an integer"),
    ] {
        let expected = [format!("5:{column}: providers.p.api_key{message}")];
        assert_eq!(errors_in("", &format!("api_key = {key}"), ""), expected);
    }
}

#[test]
fn numbers_and_times_that_cannot_be() {
    for (setting, at, message) in [
        ("retry.attempts = -1", 18, "must be at least 1"),
        ("retry.attempts = 5000000000", 18, "must be at most 4294967295"),
        ("retry.attempts = '2'", 18, "expected a whole number, found a string"),
        ("retry.budget = 1.5", 16, "must be from 0 to 1"),
        ("retry.budget = nan", 16, "must be from 0 to 1"),
        ("retry.budget = -1", 16, "must be from 0 to 1"),
        ("retry.max_delay = '1ms'", 7, "base_delay (250ms) is longer than max_delay (1ms)"),
        ("timeout.idle = '0s'", 16, "must be longer than 0s"),
        ("timeout.idle = '10'", 16, "is not a duration such as \"250ms\", \"2s\" or \"5m\""),
        ("timeout.idle = 10", 16, "expected a duration such as \"250ms\", \"2s\" or \"5m\", found an integer"),
        ("timeout.idle = '9999y'", 16, "must be at most a year"),
        (
            "timeout.idle = '18446744073709551615s 18446744073709551615ns'",
            16,
            "is not a duration such as \"250ms\", \"2s\" or \"5m\"",
        ),
        ("timeout.idle = '-1s'", 16, "is not a duration such as \"250ms\", \"2s\" or \"5m\""),
        ("last_resort = 'yes'", 15, "expected true or false, found a string"),
        ("timeout = '60s'", 11, "expected a table, found a string"),
        ("failover_on = 'connect'", 15, "expected a list, found a string"),
        ("commit = 'first'", 10, "unknown value; expected \"first_output\" or \"complete\""),
        ("breaker.failures = 3", 1, "stands in [defaults], on a provider or on a target, not on a route"),
    ] {
        let key = if setting.starts_with("breaker") { "breaker" } else { setting.split(" =").next().unwrap() };
        assert_eq!(errors_in("", "", setting), [format!("7:{at}: routes.'*'.{key}: {message}")]);
    }
    for (setting, at, message) in [
        ("failures = 0", 20, "must be at least 1"),
        ("failure_rate = 0", 24, "must be above 0, and at most 1"),
        ("slow_rate = 1.01", 21, "must be from 0 to 1"),
        ("open = '1m'", 9, "open (60s) is longer than max_open (30s)"),
        ("max_open = '1s'", 9, "open (5s) is longer than max_open (1s)"),
        ("open = '1x'", 16, "is not a duration such as \"250ms\", \"2s\" or \"5m\""),
    ] {
        let key = setting.split(" =").next().unwrap();
        let expected = [format!("5:{at}: providers.p.breaker.{key}: {message}")];
        assert_eq!(errors_in("", &format!("breaker.{setting}"), ""), expected);
    }
    assert_eq!(errors_in("limits.max_body = '3 apples'", "", "")[0].split(": ").next(), Some("1:19"));
    assert_eq!(errors_in("listen = 'localhost:80'", "", "")[0].split(": ").nth(1), Some("listen"));
    for listen in ["[::1]:0", "127.8.9.10:1", "[::ffff:127.0.0.1]:9"] {
        assert!(read(&format!("listen = '{listen}'\n{}", minimal(""))).is_ok(), "{listen}");
    }
}

#[test]
fn chains_that_cannot_be() {
    let target = |fields: &str| errors_in("", "", &format!("targets = [{{ provider = 'p' }}, {{ {fields} }}]"));
    assert_eq!(target("provider = 'p'"), ["7:32: routes.'*'.targets[1]: the target p/* is listed twice"]);
    assert_eq!(target(""), ["7:32: routes.'*'.targets[1].provider: is missing"]);
    assert_eq!(
        target("provider = 'p', model = '*'"),
        ["7:58: routes.'*'.targets[1].model: leave `model` out to pass on the name that the client sent"]
    );
    assert_eq!(
        target("provider = 'p', model = 'm', capabilities = { tool = true, context_window = 0 }"),
        [
            "7:80: routes.'*'.targets[1].capabilities.tool: unknown key; did you mean `tools`?",
            "7:110: routes.'*'.targets[1].capabilities.context_window: must be at least 1",
        ]
    );
    assert_eq!(
        errors(&minimal(
            "[routes.'a*b']\ntargets=[{provider='p'}]\n[[routes.b.targets]]\nprovider='p'\nbreaker.probes=2"
        )),
        [
            "6:9: routes.'a*b': the `*` of a pattern stands at its end",
            "8:1: routes.b.targets[0]: the target p/* has another `breaker` in another route, and only one circuit",
        ]
    );
    assert_eq!(
        errors_in("", "[providers.\"a/b\"]\ndialect='openai-chat'\nbase_url='http://h'", ""),
        ["5:12: providers.\"a/b\": a provider's name must not be empty, nor have a slash or control characters"]
    );
}

#[test]
fn a_target_of_a_provider_that_is_wrong_is_not_wrong_too() {
    assert_eq!(
        errors_in("", "colour = 1\napi_key = { env = 'A' }", ""),
        [
            "5:1: providers.p.colour: unknown key",
            "6:19: providers.p.api_key.env: the environment variable A is not set",
        ]
    );
}

#[test]
fn a_mistake_in_the_syntax_has_its_place_and_shows_no_line() {
    for (text, at) in [
        ("[providers.p]\napi_key = { value = \"sk-secret }\n", "2:"),
        ("api_key = sk-secret", "1:11:"),
        ("a = 1\na = 2", "2:1:"),
        ("[providers.p", "1:13:"),
        ("\"sk-secret", "1:"),
        ("a.b.c = 'sk-secret' 'sk-secret'", "1:"),
        ("t = [{ a = 1 },\n\n[routes.b]\nx = 1\n", "3:2:"),
    ] {
        let errors = errors(text);
        assert!(errors.len() == 1 && errors[0].starts_with(at), "{errors:?}");
    }
}

#[test]
fn no_form_of_printing_shows_a_secret() {
    let config = read(FULL).unwrap();
    assert!(!format!("{config:?}{config:#?}{:?}", config.warnings).contains("secret"));
}

/// A folder of its own, taken away at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tower-failover-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_key_file_stands_beside_the_configuration() {
    let folder = Folder::new("key-file");
    let provider = "[providers.q]\ndialect='openai-chat'\nbase_url='http://h'\n";
    folder.write("good.key", "sk-secret\r\n");
    folder.write("empty.key", "\n");
    let file = folder.write(
        "gateway.toml",
        minimal(&format!("{provider}api_key={{file='good.key'}}\n[routes.q]\ntargets=[{{provider='q'}}]")),
    );
    let config = Config::load(&file).unwrap();
    let target = &config.routes.find("q").unwrap().route.targets()[0];
    assert_eq!(target.provider().unwrap().credentials().header().unwrap().1, "Bearer sk-secret");

    for (key, message) in
        [("empty.key", "the file \"empty.key\" is empty"), ("no.key", "the file \"no.key\" cannot be read: ")]
    {
        folder.write("gateway.toml", minimal(&format!("{provider}api_key.file='{key}'")));
        let errors = Config::load(&file).unwrap_err();
        let error = errors.iter().next().unwrap();
        assert_eq!((error.line(), error.key()), (Some(9), "providers.q.api_key.file"));
        assert!(error.message().starts_with(message), "{error}");
    }
}

#[test]
fn a_file_that_is_no_text() {
    let folder = Folder::new("no-text");
    let file = folder.write("gateway.toml", b"a = 1\nb = '\xff'");
    let error = Config::load(&file).unwrap_err();
    assert_eq!(error.to_string(), format!("{}:2:6: is not UTF-8", file.display()));
    let missing = Config::load(&folder.0.join("missing.toml")).unwrap_err().to_string();
    assert!(missing.contains("missing.toml: cannot be read: "), "{missing}");
}

#[test]
fn no_mutation_of_a_file_panics_or_shows_a_secret() {
    let mut random = fastrand::Rng::with_seed(7);
    let pieces: Vec<&str> = FULL.split_inclusive([' ', '\n', '"', '.', '=']).collect();
    let splices = [
        "\"",
        "'''",
        "[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        "\n",
        "\u{e4}",
        "\u{0}",
        "99999999999999999999",
        "1e999",
        "0x",
        "*",
        "#",
    ];
    for _ in 0..2_000 {
        let mut mutated: Vec<&str> = pieces.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..mutated.len());
            match random.u8(..4) {
                0 => drop(mutated.remove(at)),
                1 => mutated.insert(at, splices[random.usize(..splices.len())]),
                2 => mutated[at] = pieces[random.usize(..pieces.len())],
                _ => mutated.truncate(mutated.len() - random.usize(..mutated.len() / 4)),
            }
        }
        let text = mutated.concat();
        let shown = match read(&text) {
            Ok(config) => format!("{config:?}"),
            Err(errors) => format!("{errors}{errors:?}{}{}", errors.report(false), errors.report(true)),
        };
        // Where a mutation makes a name or a tag of the secret, it is shown.
        let is_still_one = text.matches("sk-secret").count() == 1 && text.contains("value = \"sk-secret-in-the-file\"");
        if is_still_one && !shown.contains("unknown") {
            assert!(!shown.contains("secret"), "{text}\n{shown}");
        }
    }
}

#[test]
fn a_route_says_whom_to_try_first_and_whom_beside_one_that_is_slow() {
    let policy = |keys: &str| {
        let text = format!(
            "[providers.p]\ndialect='openai-chat'\nbase_url='http://h'\n[routes.'*']\n{keys}\n\
             targets = [{{ provider = 'p' }}, {{ provider = 'p', model = 'm', weight = 0 }}]"
        );
        let config = read(&text).unwrap();
        let route = config.routes.find("x").unwrap();
        assert_eq!(route.route.targets().iter().map(crate::Target::weight).collect::<Vec<_>>(), [1, 0]);
        route.policy.choice
    };
    let hedge = |after, width, budget| Some(HedgeSettings { after, width, budget });
    let eight = Some(Duration::from_secs(8));
    assert_eq!(policy("strategy = 'weighted'").strategy, StrategyName::Weighted);
    for strategy in [StrategyName::Latency, StrategyName::Cost, StrategyName::Adaptive] {
        assert_eq!(policy(&format!("strategy = '{}'", strategy.name())).strategy, strategy);
    }
    assert_eq!((policy("strategy = 'race'").strategy, policy("strategy = 'race'").race), (StrategyName::Race, 2));
    assert_eq!(policy("strategy = 'race'\nrace = 3").race, 3);
    assert_eq!(policy("hedge = { after = '8s' }").hedge, hedge(eight, 2, 0.1));
    assert_eq!(policy("hedge = { after = 'p95', width = 3, budget = 0.5 }").hedge, hedge(None, 3, 0.5));
    for (route, expected) in [
        ("race = 2", "7:1: routes.'*'.race: needs strategy = \"race\""),
        ("strategy = 'race'\nrace = 1", "8:1: routes.'*'.race: must be at least 2: a race of one is none"),
        ("hedge = { width = 3 }", "7:1: routes.'*'.hedge.after: is missing"),
        ("hedge = { after = 'p99' }", "7:19: routes.'*'.hedge.after: is not a duration"),
        ("hedge = { after = '1s', width = 1 }", "7:25: routes.'*'.hedge.width: must be at least 2"),
        ("strategy = 'race'\nhedge = { after = '1s' }", "8:1: routes.'*'.hedge: has no place beside"),
        ("targets = [{ provider = 'p', weight = -1 }]", "7:39: routes.'*'.targets[0].weight: must be from 0"),
    ] {
        let errors = errors_in("", "", route);
        assert!(errors.len() == 1 && errors[0].starts_with(expected), "{route}: {errors:?}");
    }
}

#[test]
fn every_dialect_and_what_is_particular_about_a_server_can_be_said() {
    let config = read(
        "[providers.azure]
         dialect = 'openai-chat'
         base_url = 'https://x.openai.azure.com/openai/deployments/{model}'
         api_version = '2024-10-21'
         api_key = { env = 'OPENAI_API_KEY' }
         [providers.claude]
         dialect = 'anthropic-messages'
         base_url = 'https://api.anthropic.com'
         key_header = 'authorization'
         api_key = { env = 'OPENAI_API_KEY' }
         [providers.local]
         dialect = 'openai-chat'
         base_url = 'http://localhost:11434/v1'
         variant = 'ollama'
         [routes.'*']
         targets = [{ provider = 'azure' }, { provider = 'claude', model = 'c' }, { provider = 'local', model = 'l' }]",
    )
    .unwrap();
    let names = config.routes.iter().flat_map(|route| route.route.targets());
    let providers: Vec<_> = names.filter_map(|target| target.provider()).collect();
    let variants: Vec<_> = providers.iter().map(|provider| provider.variant().name()).collect();
    assert_eq!(variants, ["azure-openai", "compatible", "ollama"]);
    let headers = providers.iter().map(|provider| provider.credentials().header());
    let headers: Vec<_> = headers.map(|header| header.map(|(name, _)| name.to_string())).collect();
    let headers = headers.iter().map(Option::as_deref);
    assert_eq!(headers.collect::<Vec<_>>(), [Some("api-key"), Some("authorization"), None]);
    assert!(errors_in("", "variant = 'olama'", "")[0].ends_with("did you mean `ollama`?"));
}
