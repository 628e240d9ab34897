//! The rows of the table.

use super::{
    Key, Kind, Presence,
    Presence::{Default, Optional, Required},
    Section,
};
use crate::{Dialect, FaultKind, Variant};

const fn key(name: &'static str, kind: Kind, presence: Presence, about: &'static str) -> Key {
    Key { name, kind, presence, about }
}

fn dialects() -> Vec<&'static str> {
    Dialect::ALL.iter().map(|dialect| dialect.name()).collect()
}

fn variants() -> Vec<&'static str> {
    Variant::names().collect()
}

fn faults() -> Vec<&'static str> {
    FaultKind::ALL.iter().map(|kind| kind.name()).collect()
}

pub(super) static ROOT: Section = Section {
    path: "the file",
    about: "What stands at its beginning, before the first table, and the tables that there are.",
    groups: &[&[
        key(
            "listen",
            Kind::Address,
            Default("\"127.0.0.1:8080\""),
            "Where the gateway listens. An address that others can reach needs `[auth]`.",
        ),
        key("auth", Kind::Table(&AUTH), Optional("anyone who reaches it"), "Who may call."),
        key(
            "limits",
            Kind::Table(&LIMITS),
            Optional("the defaults of its keys"),
            "What clients may send, and how slowly.",
        ),
        key("tls", Kind::Table(&TLS), Optional("plain HTTP"), "Serves HTTPS."),
        key("log", Kind::Table(&LOG), Optional("the defaults of its keys"), "What the gateway writes."),
        key(
            "shared_state",
            Kind::Table(&SHARED_STATE),
            Optional("nothing is shared"),
            "What is shared with other replicas, through Redis or Valkey.",
        ),
        key("providers", Kind::Named(&PROVIDER), Required, "Accounts at providers, by names of your choosing."),
        key(
            "defaults",
            Kind::Table(&DEFAULTS),
            Optional("the defaults of its keys"),
            "What holds for every route that does not say otherwise.",
        ),
        key(
            "routes",
            Kind::Named(&ROUTE),
            Required,
            "Which targets serve which model: by the name that clients send; `\"fb-*\"` is a pattern, `\"*\"` matches the rest. \
             The exact name beats a pattern, and a longer pattern a shorter one.",
        ),
    ]],
    one_of: &[],
};

static AUTH: Section = Section {
    path: "[auth]",
    about: "Clients send their key as `Authorization: Bearer`, `x-api-key`, `x-goog-api-key`, `api-key` or `?key=`.",
    groups: &[&[
        key("keys", Kind::Tables(&CLIENT_KEY), Optional("anybody on this machine may ask"), "The keys of clients."),
        key(
            "admin_keys",
            Kind::Tables(&ADMIN_KEY),
            Optional("`keys` do"),
            "The keys for `/metrics`, `/status.json`, the status page and actions on targets.",
        ),
    ]],
    one_of: &[],
};

static CLIENT_KEY: Section = Section {
    path: "[[auth.keys]]",
    about: "A key that clients may use, and what they may with it.",
    groups: &[&[
        key("env", Kind::Text, Optional("–"), "The environment variable that holds the key."),
        key("file", Kind::File, Optional("–"), "The file that holds the key."),
        key(
            "sha256",
            Kind::Text,
            Optional("–"),
            "The SHA-256 of the key, in 64 hexadecimal digits: the key itself is nowhere here.",
        ),
        key("value", Kind::Text, Optional("–"), "The key itself: for tests only, and warned of."),
        key("name", Kind::Text, Optional("`key-1` and so on"), "What logs and metrics call whoever uses it."),
        key("routes", Kind::Texts, Optional("all"), "The routes that it is for: their names, or patterns of names."),
        key("requests_per_minute", Kind::Count, Optional("no limit"), "How many requests a minute it is good for."),
        key("tokens_per_minute", Kind::Count, Optional("no limit"), "How many tokens a minute it is good for."),
        key("max_concurrency", Kind::Count, Optional("no limit"), "How many requests at a time it is good for."),
    ]],
    one_of: &["env", "file", "sha256", "value"],
};

static ADMIN_KEY: Section = Section {
    path: "[[auth.admin_keys]]",
    about: "A key for operators.",
    groups: &[&[
        key("env", Kind::Text, Optional("–"), "The environment variable that holds the key."),
        key("file", Kind::File, Optional("–"), "The file that holds the key."),
        key(
            "sha256",
            Kind::Text,
            Optional("–"),
            "The SHA-256 of the key, in 64 hexadecimal digits: the key itself is nowhere here.",
        ),
        key("value", Kind::Text, Optional("–"), "The key itself: for tests only, and warned of."),
        key("name", Kind::Text, Optional("`admin-key-1` and so on"), "What logs call whoever uses it."),
    ]],
    one_of: &["env", "file", "sha256", "value"],
};

static SHARED_STATE: Section = Section {
    path: "[shared_state]",
    about: "What the replicas of a fleet share, through a server of Redis (6 or newer) or Valkey: `docs/fleet.md`.",
    groups: &[&[
        key(
            "url",
            Kind::UrlOr(&SHARED_URL),
            Required,
            "The server: `redis://host:6379`, or over TLS `rediss://host:6380`, with `user:password@` before the host and `/1` \
             (the number of a database) behind it where they are needed.",
        ),
        key(
            "prefix",
            Kind::Text,
            Default("\"failover\""),
            "What all keys begin with: fleets with different ones share nothing.",
        ),
        key(
            "timeout",
            Kind::Duration,
            Default("\"25ms\""),
            "How long a request waits for an answer, at most; without one it goes by what this replica knows.",
        ),
        key("circuits", Kind::Flag, Default("true"), "Whether open circuits are shared."),
        key(
            "limits",
            Kind::Flag,
            Default("true"),
            "Whether `requests_per_minute` and `tokens_per_minute` of providers and clients hold for all replicas together.",
        ),
        key("cache", Kind::Flag, Default("true"), "Whether the answers that routes keep are shared."),
    ]],
    one_of: &[],
};

static SHARED_URL: Section = Section {
    path: "url",
    about: "Where the URL comes from, for there may be a password in it.",
    groups: &[&[
        key("env", Kind::Text, Optional("–"), "The environment variable that holds the URL."),
        key("file", Kind::File, Optional("–"), "The file that holds the URL."),
    ]],
    one_of: &["env", "file"],
};

static LIMITS: Section = Section {
    path: "[limits]",
    about: "Bounds on what clients send.",
    groups: &[&[
        key(
            "max_body",
            Kind::Size,
            Default("\"32MiB\""),
            "The longest body of a request; a longer one is a 413 at once.",
        ),
        key("max_headers", Kind::Size, Default("\"64KiB\""), "The most that the headers of a request may be in all."),
        key("max_connections", Kind::Count, Default("10000"), "How many connections there may be at once."),
        key("max_requests", Kind::Count, Default("10000"), "How many requests there may be at once."),
        key(
            "header_timeout",
            Kind::Duration,
            Default("\"75s\""),
            "How long the headers of a request may take to come, and how long a connection may wait for the next request.",
        ),
        key("body_timeout", Kind::Duration, Default("\"60s\""), "How long the body of a request may take to come."),
        key("write_timeout", Kind::Duration, Default("\"60s\""), "How long a client may take none of its answer."),
        key(
            "shutdown_timeout",
            Kind::Duration,
            Optional("for as long as they take"),
            "How long answers are let finish when the gateway is stopped.",
        ),
    ]],
    one_of: &[],
};

static TLS: Section = Section {
    path: "[tls]",
    about: "The certificate with which the gateway serves HTTPS.",
    groups: &[&[
        key("certificate", Kind::File, Required, "The certificate and those between it and its root, in PEM."),
        key("key", Kind::File, Required, "Its private key, in PEM."),
    ]],
    one_of: &[],
};

static LOG: Section = Section {
    path: "[log]",
    about: "How the gateway writes its log; what it writes is the environment variable `RUST_LOG`.",
    groups: &[&[key(
        "format",
        Kind::Choice(|| vec!["human", "json"]),
        Default("\"human\""),
        "For people, or one JSON object a line.",
    )]],
    one_of: &[],
};

static PROVIDER: Section = Section {
    path: "[providers.NAME]",
    about: "An account at a provider. Its name begins the names of its targets: `openai/gpt-4o`.",
    groups: &[&[
        key("dialect", Kind::Choice(dialects), Required, "The API that it speaks."),
        key(
            "base_url",
            Kind::Url,
            Required,
            "Where it is, as in that provider's SDK; `{model}` in it stands for the target's model.",
        ),
        key(
            "api_key",
            Kind::OneOrMore(&SECRET),
            Optional("none is sent"),
            "Its key. Those of a list are used in turn; one that is rejected, limited or exhausted rests alone.",
        ),
        key(
            "key_header",
            Kind::Choice(|| vec!["authorization", "api-key", "x-api-key", "x-goog-api-key"]),
            Optional("the variant's, or the dialect's"),
            "The header in which it wants its key; in `authorization` as `Bearer`.",
        ),
        key(
            "api_version",
            Kind::Text,
            Optional("none"),
            "The query parameter `api-version` of every request, for Azure.",
        ),
        key("variant", Kind::Choice(variants), Optional("by its host"), "What is particular about the server."),
        key("tags", Kind::Texts, Default("[]"), "What is true of all of its targets: where data is kept, say."),
        key("requests_per_minute", Kind::Count, Optional("no limit"), "How many requests a minute it is sent."),
        key(
            "tokens_per_minute",
            Kind::Count,
            Optional("no limit"),
            "How many tokens a minute it is sent, input and answer.",
        ),
        key("max_concurrency", Kind::Count, Optional("no limit"), "How many requests at a time it is sent."),
        key(
            "breaker",
            Kind::Table(&BREAKER),
            Optional("that of `[defaults]`"),
            "When its circuit opens, and those of its targets.",
        ),
        key(
            "health_check",
            Kind::Table(&HEALTH_CHECK),
            Optional("not asked"),
            "How its targets are asked how they are, besides their calls.",
        ),
    ]],
    one_of: &[],
};

static SECRET: Section = Section {
    path: "api_key",
    about: "Where a key comes from.",
    groups: &[&[
        key("env", Kind::Text, Optional("–"), "The environment variable that holds it."),
        key("file", Kind::File, Optional("–"), "The file that holds it, which is read again when it changes."),
        key("command", Kind::Texts, Optional("–"), "The program that prints it, and the words that it is given."),
        key("refresh", Kind::Duration, Default("\"5m\""), "How often the command is run again."),
        key("value", Kind::Text, Optional("–"), "The key itself: for tests only, and warned of."),
    ]],
    one_of: &["env", "file", "command", "value"],
};

/// What `[defaults]` and a route have in common.
static POLICY: &[Key] = &[
    key(
        "strategy",
        Kind::Choice(|| vec!["ordered", "weighted", "latency", "cost", "adaptive", "race"]),
        Default("\"ordered\""),
        "Which target is tried first; `docs/routing.md` says how each chooses.",
    ),
    key("race", Kind::Count, Default("2"), "How many targets start at once, with `strategy = \"race\"`; at least 2."),
    key("hedge", Kind::Table(&HEDGE), Optional("no hedge"), "Tries another target beside one that is slow."),
    key(
        "failover_on",
        Kind::Choices(faults),
        Default(
            "[\"connect\", \"connection_lost\", \"rate_limited\", \"quota_exhausted\", \"overloaded\", \"unavailable\", \
             \"timeout\", \"stream_interrupted\", \"malformed_response\", \"auth_failed\", \"permission_denied\", \
             \"not_found\", \"context_length_exceeded\", \"unsupported\", \"refused\"]",
        ),
        "The failures that move on to the next target.",
    ),
    key(
        "commit",
        Kind::Choice(|| vec!["first_output", "complete"]),
        Default("\"first_output\""),
        "When a stream is let through: with its first output, or when it is whole.",
    ),
    key(
        "stream_recovery",
        Kind::Choice(|| vec!["terminate", "resume"]),
        Default("\"terminate\""),
        "What becomes of a stream that breaks off: an explicit error, or another target completes it.",
    ),
    key(
        "ramp",
        Kind::Flag,
        Default("false"),
        "Whether a fallback that suddenly gets another target's requests is given them little by little, where there are others.",
    ),
    key(
        "last_resort",
        Kind::Flag,
        Default("true"),
        "Whether, when every circuit is open, the target that recovers soonest is tried all the same.",
    ),
    key(
        "meter_streams",
        Kind::Flag,
        Default("false"),
        "Whether streams are asked for their usage that would tell none; that chunk is taken out again.",
    ),
    key(
        "keep_alive",
        Kind::Duration,
        Optional("off"),
        "How often a client that waits for a stream is sent a comment, so that nothing between closes its connection.",
    ),
    key("cache", Kind::Table(&CACHE), Optional("off"), "Gives answers again to requests that are the same."),
    key("timeout", Kind::Table(&TIMEOUT), Optional("the defaults of its keys"), "How long an answer may take."),
    key(
        "retry",
        Kind::Table(&RETRY),
        Optional("the defaults of its keys"),
        "How often the same target is tried again.",
    ),
];

static DEFAULTS: Section = Section {
    path: "[defaults]",
    about: "The same keys as on a route, and `breaker`.",
    groups: &[
        POLICY,
        &[key(
            "breaker",
            Kind::Table(&BREAKER),
            Optional("the defaults of its keys"),
            "When circuits open, and for how long.",
        )],
    ],
    one_of: &[],
};

static ROUTE: Section = Section {
    path: "[routes.\"MODEL\"]",
    about: "What is left out is as `[defaults]` says.",
    groups: &[&[key("targets", Kind::Tables(&TARGET), Required, "Who may serve it, the preferred one first.")], POLICY],
    one_of: &[],
};

static TARGET: Section = Section {
    path: "[[routes.\"MODEL\".targets]]",
    about: "One model of one provider. A target is in a route once.",
    groups: &[&[
        key("provider", Kind::Text, Required, "The name of one of the providers."),
        key("model", Kind::Text, Optional("the name that the client sent"), "The model, as that provider calls it."),
        key(
            "weight",
            Kind::CountOrNone,
            Default("1"),
            "Its share, with `strategy = \"weighted\"`; 0 is for a fallback only.",
        ),
        key("tags", Kind::Texts, Default("[]"), "What is true of it, besides what is true of its provider."),
        key(
            "capabilities",
            Kind::Table(&CAPABILITIES),
            Optional("what the table of models says"),
            "What it can and cannot do. Each key comes before what the table says.",
        ),
        key(
            "price",
            Kind::Table(&PRICE),
            Optional("that of the table of models"),
            "What it costs, in US dollars per million tokens.",
        ),
        key(
            "breaker",
            Kind::Table(&BREAKER),
            Optional("its provider's"),
            "When its circuit opens, in every route that it is in.",
        ),
        key(
            "health_check",
            Kind::Table(&HEALTH_CHECK),
            Optional("its provider's"),
            "How it is asked how it is, besides its calls.",
        ),
    ]],
    one_of: &[],
};

static CAPABILITIES: Section = Section {
    path: "capabilities",
    about: "What a target can do. A request that needs more is not sent to it. What is not said here is as the \
        table of models (docs/models.md) has it; a model that is not in it is taken as capable of everything.",
    groups: &[&[
        key("context_window", Kind::Count, Optional("as known"), "How many tokens input and answer may have together."),
        key("max_output_tokens", Kind::Count, Optional("as known"), "How many tokens an answer may have."),
        key("streaming", Kind::Flag, Optional("as known"), "Whether it streams."),
        key("tools", Kind::Flag, Optional("as known"), "Whether it calls tools."),
        key("parallel_tools", Kind::Flag, Optional("as known"), "Whether it calls several tools at once."),
        key("structured_output", Kind::Flag, Optional("as known"), "Whether it answers in a schema that is given."),
        key("image_input", Kind::Flag, Optional("as known"), "Whether it sees images."),
        key("audio_input", Kind::Flag, Optional("as known"), "Whether it hears audio."),
        key("document_input", Kind::Flag, Optional("as known"), "Whether it reads documents."),
        key("reasoning", Kind::Flag, Optional("as known"), "Whether it reasons."),
        key("prefill", Kind::Flag, Optional("as known"), "Whether it goes on with an answer that was begun for it."),
        key("languages", Kind::Texts, Optional("any"), "The languages that it is good in."),
    ]],
    one_of: &[],
};

static PRICE: Section = Section {
    path: "price",
    about: "What a target costs, in US dollars per million tokens.",
    groups: &[&[
        key("input", Kind::Amount, Required, "Of the input."),
        key("output", Kind::Amount, Required, "Of the answer."),
        key(
            "cached_input",
            Kind::Amount,
            Optional("that of the input"),
            "Of input that the provider had in its cache.",
        ),
        key(
            "cache_write_input",
            Kind::Amount,
            Optional("that of the input"),
            "Of input that the provider puts into its cache.",
        ),
    ]],
    one_of: &[],
};

static TIMEOUT: Section = Section {
    path: "timeout",
    about: "How long an answer may take. What is late is a failure, and moves on.",
    groups: &[&[
        key("first_output", Kind::Duration, Default("\"60s\""), "Until the first output of a stream."),
        key(
            "response",
            Kind::Duration,
            Default("\"5m\""),
            "Until the whole of an answer that is no stream, or with `commit = \"complete\"`.",
        ),
        key("idle", Kind::Duration, Default("\"60s\""), "From one sign of progress in a stream to the next."),
        key("total", Kind::Duration, Default("\"10m\""), "For all of a request, whatever is tried for it."),
    ]],
    one_of: &[],
};

static CACHE: Section = Section {
    path: "cache",
    about: "Answers that are kept, to be given again: see [cache.md](cache.md). A model that samples would answer in other words each time.",
    groups: &[&[
        key(
            "ttl",
            Kind::DurationOrNone,
            Default("\"10m\""),
            "How long an answer is given again; `\"0s\"` turns off what `[defaults]` turned on.",
        ),
        key(
            "max_size",
            Kind::Size,
            Default("\"256MiB\""),
            "How much memory answers take. All routes share one store, of the largest size that any of them says.",
        ),
        key("max_entry", Kind::Size, Default("\"4MiB\""), "The longest answer that is kept; at most `max_size`."),
        key(
            "stale_if_error",
            Kind::DurationOrNone,
            Default("\"0s\""),
            "How much longer an answer is kept, to be given, and marked, where no target can answer.",
        ),
        key(
            "tool_calls",
            Kind::Flag,
            Default("false"),
            "Whether answers are kept that call tools: the same request does the same thing again.",
        ),
    ]],
    one_of: &[],
};

static RETRY: Section = Section {
    path: "retry",
    about: "Tries of the same target, before the next one is asked.",
    groups: &[&[
        key(
            "attempts",
            Kind::Count,
            Default("2"),
            "How often a target is tried, the first time included: 1 means no retry.",
        ),
        key(
            "base_delay",
            Kind::DurationOrNone,
            Default("\"250ms\""),
            "The longest pause before the first retry; it doubles with each that follows.",
        ),
        key("max_delay", Kind::DurationOrNone, Default("\"5s\""), "What the pause never exceeds."),
        key(
            "max_retry_after",
            Kind::DurationOrNone,
            Default("\"2s\""),
            "The longest `Retry-After` that is waited for; a longer one moves on.",
        ),
        key("budget", Kind::Share, Default("0.2"), "Retries as a share of all requests."),
    ]],
    one_of: &[],
};

static BREAKER: Section = Section {
    path: "breaker",
    about: "When a circuit opens, so that a target or provider is not asked for a while; in `[defaults]`, on a provider or on a target.",
    groups: &[&[
        key("failures", Kind::Count, Default("5"), "Opens after so many failures without a success between them."),
        key("failure_rate", Kind::PositiveShare, Default("0.5"), "Opens when this share of the window's calls failed."),
        key("min_calls", Kind::Count, Default("10"), "Shares are not looked at below so many calls in the window."),
        key("window", Kind::Duration, Default("\"30s\""), "How far back shares look."),
        key("slow_call", Kind::Duration, Default("\"30s\""), "A call that takes so long to begin to answer is slow."),
        key("slow_rate", Kind::PositiveShare, Default("1.0"), "Opens when this share of the window's calls was slow."),
        key(
            "open",
            Kind::Duration,
            Default("\"5s\""),
            "How long it is open the first time; doubles each time that it opens again.",
        ),
        key("max_open", Kind::Duration, Default("\"30s\""), "The most that doubling leads to."),
        key(
            "long_open",
            Kind::Duration,
            Default("\"10m\""),
            "How long it is open after a failure that waiting does not mend: a rejected key, an unknown model. A changed key ends it.",
        ),
        key("probes", Kind::Count, Default("1"), "How many calls at once find out whether the target has recovered."),
    ]],
    one_of: &[],
};

static HEALTH_CHECK: Section = Section {
    path: "health_check",
    about: "Asks a target how it is while its circuit is open, so that an outage may end sooner; on a provider or on a target, off by \
        default. docs/health.md says what each kind shows.",
    groups: &[&[
        key(
            "kind",
            Kind::Choice(|| vec!["model", "completion", "none"]),
            Default("\"model\""),
            "What is asked: what the provider says of the model, or a few words of the model; `none` takes the provider's back.",
        ),
        key("interval", Kind::Duration, Default("\"30s\""), "How often, give or take a sixth; at least a second."),
        key("timeout", Kind::Duration, Default("\"5s\""), "How long an answer may take."),
        key(
            "open_after",
            Kind::Count,
            Optional("never"),
            "Asks all the time, and opens a closed circuit after so many failures in a row.",
        ),
    ]],
    one_of: &[],
};

static HEDGE: Section = Section {
    path: "hedge",
    about: "Another target beside one that is slow: the first output wins, the others are cancelled.",
    groups: &[&[
        key(
            "after",
            Kind::DurationOr("p95"),
            Required,
            "How long a target is waited for alone; `\"p95\"` is its own 95th percentile.",
        ),
        key("width", Kind::Count, Default("2"), "How many targets are tried at a time; at least 2."),
        key("budget", Kind::Share, Default("0.1"), "Hedges as a share of all requests."),
    ]],
    one_of: &[],
};
