//! What metrics are called, and what they carry: the one table of them, and of spans and events.

/// A metric of [`Metrics`](super::Metrics). Its name and labels stay as they are.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The upper ends of a histogram's buckets.
    pub buckets: &'static [f64],
    /// What it says.
    pub description: &'static str,
}

/// What a metric does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It says how things are now.
    Gauge,
    /// It counts by size.
    Histogram,
}

impl MetricKind {
    /// Its name in Prometheus.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

macro_rules! metrics {
    ($( $constant:ident $name:literal $kind:ident [$($label:literal),*] [$($bucket:literal),*] $description:literal; )*) => {
        $( pub(crate) const $constant: Metric = Metric {
            name: $name,
            kind: MetricKind::$kind,
            labels: &[$($label),*],
            buckets: &[$($bucket),*],
            description: $description,
        }; )*

        impl Metric {
            /// All of them.
            pub const ALL: &'static [Metric] = &[ $( $constant, )* ];
        }
    };
}

metrics! {
    REQUESTS "failover_requests_total" Counter ["route", "outcome"] []
        "Requests that are over, by how they ended: answered, rejected, failed, interrupted or cancelled.";
    REQUEST_DURATION "failover_request_duration_seconds" Histogram ["route"]
        [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0]
        "How long requests took until the end of their answers, those that failed included.";
    REQUESTS_IN_FLIGHT "failover_requests_in_flight" Gauge ["route"] []
        "Requests that are being answered now.";
    STREAMS_OPEN "failover_streams_open" Gauge ["route"] []
        "Streams of events that are open now.";
    ATTEMPTS "failover_attempts_total" Counter ["target", "outcome"] []
        "Tries that are over, by how they ended: answered, cancelled, refused, or the kind of the fault.";
    TIME_TO_FIRST_TOKEN "failover_time_to_first_token_seconds" Histogram ["target"]
        [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 60.0]
        "From the beginning of a try until its first output; of an answer in one piece, until all of it.";
    FAILOVERS "failover_failovers_total" Counter ["from", "to", "kind"] []
        "How often a target failed or was refused and the next one was tried, by the kind of the fault.";
    RETRIES "failover_retries_total" Counter ["target"] []
        "How often the same target was tried again.";
    HEDGES "failover_hedges_total" Counter ["target"] []
        "How often a target was tried beside one that was slow.";
    REFUSALS "failover_refusals_total" Counter ["target", "reason"] []
        "How often a target was not tried: circuit_open, unmet (it cannot or may not serve the request), limit_reached, other.";
    STREAM_INTERRUPTIONS "failover_stream_interruptions_total" Counter ["target", "kind"] []
        "Answers that broke off after they had begun, by the kind of the fault.";
    RECOVERIES "failover_recoveries_total" Counter ["target"] []
        "Answers of others that a target went on with after they had broken off.";
    CIRCUIT_STATE "failover_circuit_state" Gauge ["target"] []
        "What the target's circuit does with calls, or its provider's, if that is more closed to them: 0 closed, 1 half-open, 2 open.";
    HEALTH_CHECKS "failover_health_checks_total" Counter ["target", "outcome"] []
        "How often a target was asked how it is, besides its calls: answered, or the kind of the fault. No other metric counts these.";
    TOKENS "failover_tokens_total" Counter ["target", "kind"] []
        "Tokens, as providers count them or estimated: input (all of it), cached_input, cache_write_input, output (all of it), reasoning.";
    COST "failover_cost_usd" Histogram ["route", "target"] [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0]
        "What tries cost in US dollars, losers of hedges and broken answers included, where the target has a price; _sum is the spend.";
    CACHE "failover_cache_requests_total" Counter ["route", "outcome"] []
        "What the route's cache did with requests, where it has one: hit, stale (given because nobody had a better answer), collapsed (the answer to another one at the same time), miss, request (the client wanted a new answer), bypass.";
    RATE_LIMIT_HEADROOM "failover_rate_limit_headroom_ratio" Gauge ["provider"] []
        "The share that is left of what the provider has least left of, requests or tokens, as it said last, of whichever model: 0 to 1.";
    TARGET_INFO "failover_target_info" Gauge ["target", "provider", "model", "dialect"] []
        "Always 1: what a target is.";
    ROUTE_TARGET_INFO "failover_route_target_info" Gauge ["route", "target", "position"] []
        "Always 1: which targets serve a route; position 0 is the first.";
    ROUTE_TOKENS "failover_route_tokens_total" Counter ["route", "kind"] []
        "The gateway's: tokens of all tries of a route's requests, by the kinds of failover_tokens_total.";
    CLIENT_TOKENS "failover_client_tokens_total" Counter ["client", "kind"] []
        "The gateway's: the same by client, as its key is called in the configuration.";
    CLIENT_REQUESTS "failover_client_requests_total" Counter ["client"] []
        "The gateway's: requests of a client that were let in.";
    TARGET_COST "failover_target_cost_usd_total" Counter ["target"] []
        "The gateway's: what all tries of a target cost in US dollars, where it has a price.";
    ROUTE_COST "failover_route_cost_usd_total" Counter ["route"] []
        "The gateway's: the same by route.";
    CLIENT_COST "failover_client_cost_usd_total" Counter ["client"] []
        "The gateway's: the same by client.";
    TARGET_WASTED "failover_target_wasted_cost_usd_total" Counter ["target"] []
        "The gateway's: how much of that was for tries that came to nothing: they failed, lost a hedge, or their answer broke off.";
    ROUTE_WASTED "failover_route_wasted_cost_usd_total" Counter ["route"] []
        "The gateway's: the same by route.";
    CLIENT_WASTED "failover_client_wasted_cost_usd_total" Counter ["client"] []
        "The gateway's: the same by client.";
    ROUTE_SAVED "failover_route_saved_cost_usd_total" Counter ["route"] []
        "The gateway's: what answers had cost that a route's cache gave again.";
    CLIENT_SAVED "failover_client_saved_cost_usd_total" Counter ["client"] []
        "The gateway's: the same by client.";
    CONFIG_RELOADS "failover_config_reloads_total" Counter ["outcome"] []
        "The gateway's: changes of the configuration, by what became of them: applied or refused.";
    SHARED_STATE_UP "failover_shared_state_up" Gauge [] []
        "Whether what replicas share can be had: 1, or 0 while each goes by what it knows itself. Only where something is shared.";
    SHARED_STATE_QUESTIONS "failover_shared_state_questions_total" Counter ["outcome"] []
        "Questions to what replicas share: answered, late, failed, or skipped while it does not answer. Only where something is shared.";
    BUILD_INFO "failover_build_info" Gauge ["version"] []
        "Always 1: which version runs.";
}

/// A span or an event, for people.
#[cfg(test)]
pub(super) struct Told {
    pub(super) name: &'static str,
    pub(super) level: &'static str,
    pub(super) fields: &'static [&'static str],
    pub(super) description: &'static str,
}

#[cfg(test)]
#[rustfmt::skip]
pub(super) const SPANS: &[Told] = &[
    Told {
        name: "failover.request",
        level: "debug",
        fields: &["otel.kind", "otel.status_code", "request_id", "route", "gen_ai.operation.name", "outcome", "error.type", "target"],
        description: "A request, until its answer's body has ended.",
    },
    Told {
        name: "failover.attempt",
        level: "debug",
        fields: &[
            "otel.kind", "otel.name", "otel.status_code", "attempt", "target", "provider", "last_resort", "gen_ai.operation.name",
            "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.request.stream", "gen_ai.response.model", "outcome", "error.type",
            "http.response.status_code", "provider_code", "latency", "gen_ai.response.time_to_first_chunk",
            "gen_ai.usage.input_tokens", "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.output_tokens", "gen_ai.usage.reasoning.output_tokens", "usage_estimated", "cost_usd",
        ],
        description: "A try of a target, until its answer's body has ended; a part of the request's span, or of the program's own.",
    },
];

#[cfg(test)]
#[rustfmt::skip]
pub(super) const EVENTS: &[Told] = &[
    Told {
        name: "request ended",
        level: "info or debug",
        fields: &[
            "request_id", "route", "target", "provider", "attempts", "failed_attempts", "outcome", "kind",
            "http.response.status_code", "provider_code", "streaming", "latency", "gen_ai.response.time_to_first_chunk",
            "gen_ai.usage.input_tokens", "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.output_tokens", "gen_ai.usage.reasoning.output_tokens", "usage_estimated", "cost_usd", "wasted_usd",
            "cache", "saved_usd", "reason",
        ],
        description: "The summary of a request, once, when its answer's body has ended or broken off or its client has gone away: \
                      at info if it, or any try of it, failed or was given up on, at debug if all went well. Tokens and cost are those of all attempts together.",
    },
    Told {
        name: "attempt ended",
        level: "debug",
        fields: &[
            "attempt", "target", "provider", "outcome", "kind", "http.response.status_code", "provider_code", "latency",
            "latency_delta", "gen_ai.response.time_to_first_chunk", "reason",
        ],
        description: "A try got its answer's beginning, failed, was refused or was given up on.",
    },
    Told {
        name: "attempt spent",
        level: "debug",
        fields: &[
            "target", "provider", "gen_ai.usage.input_tokens", "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.reasoning.output_tokens",
            "usage_estimated", "cost_usd",
        ],
        description: "It is known what a try cost, a loser of a hedge or one whose answer broke off included.",
    },
    Told {
        name: "failover",
        level: "info",
        fields: &["route", "from", "to", "kind", "http.response.status_code", "provider_code", "last_resort", "reason"],
        description: "A target failed or was refused, and the next one is tried.",
    },
    Told {
        name: "failover: the target needs attention",
        level: "error",
        fields: &["route", "from", "to", "kind", "http.response.status_code", "provider_code", "reason"],
        description: "The same, where waiting does not mend it: a rejected key, an empty account, a model that is not there.",
    },
    Told {
        name: "retry",
        level: "info",
        fields: &["target", "kind", "http.response.status_code", "provider_code", "wait", "reason"],
        description: "A target failed, and is tried again after a wait.",
    },
    Told {
        name: "hedge",
        level: "debug",
        fields: &["route", "slow", "beside"],
        description: "A target is slow, and another is tried beside it.",
    },
    Told {
        name: "a stream broke off",
        level: "info",
        fields: &["target", "provider", "kind", "provider_code", "reason"],
        description: "An answer that had begun broke off.",
    },
    Told {
        name: "a stream is gone on with",
        level: "info",
        fields: &["target"],
        description: "Another target completes an answer that broke off.",
    },
    Told {
        name: "circuit changed",
        level: "info",
        fields: &["target", "provider", "state"],
        description: "A circuit of a target or a provider opened, closed or half-opened.",
    },
];

#[cfg(test)]
const FIELDS: &[(&str, &str)] = &[
    ("request_id", "The request's id: the client's `x-request-id`, or one that was made for it."),
    ("route", "The route's name, as the configuration has it; `none` where no route fits."),
    (
        "target",
        "The target's id, `provider/model`, or `provider/*` where the client's model passes through. Of a request: who answered, or was tried last.",
    ),
    ("provider", "The provider's name, as the configuration has it."),
    ("from", "The target that failed."),
    ("to", "The target that is tried next."),
    ("slow", "The target that has not answered yet."),
    ("beside", "The target that is tried beside it."),
    ("attempt", "The attempt's number within its request, from 1."),
    ("attempts", "How many tries reached the wire, retries included."),
    ("failed_attempts", "How many of them failed or broke off."),
    ("last_resort", "Whether the target was tried although its circuit is open, because no other was left."),
    (
        "outcome",
        "Of a request: `answered`, `rejected`, `failed`, `interrupted`, `cancelled`. Of an attempt: `answered`, `cancelled`, `refused`, or the fault's kind.",
    ),
    ("kind", "The kind of the fault: see the [fault table](faults.md)."),
    ("error.type", "The same, under OpenTelemetry's name."),
    ("http.response.status_code", "The status that the provider answered with."),
    ("provider_code", "The provider's own code for the fault, cut to 128 bytes."),
    ("reason", "What happened, in words. Left out where they are a provider's words about the request."),
    (
        "latency",
        "Seconds. Of an attempt: until it began to answer, failed or was given up on. Of a request: until the end of its answer.",
    ),
    ("latency_delta", "Seconds that the attempt took longer than the one before it (negative: less)."),
    ("wait", "Seconds until the next try."),
    ("streaming", "Whether the answer was a stream of events."),
    ("state", "`closed`, `half_open` or `open`."),
    ("otel.kind", "`server` for requests, `client` for attempts."),
    ("otel.name", "The attempt's name as OpenTelemetry wants it: operation and model."),
    ("otel.status_code", "`ERROR` where it failed."),
    ("gen_ai.operation.name", "`chat`, `generate_content` (Gemini) or `embeddings`."),
    (
        "gen_ai.provider.name",
        "The provider under OpenTelemetry's name for it (`openai`, `anthropic`, `gcp.gemini`, …), or else as the configuration calls it.",
    ),
    (
        "gen_ai.request.model",
        "The model that the target is asked for; where the client's passes through, what the client sent, cut to 128 bytes.",
    ),
    ("gen_ai.request.stream", "Whether a stream was asked for."),
    (
        "gen_ai.response.model",
        "The model that answered, as its answer names it; read only where the span is listened to.",
    ),
    (
        "gen_ai.response.time_to_first_chunk",
        "Seconds until the first output; of an answer in one piece, until all of it.",
    ),
    ("gen_ai.usage.input_tokens", "Tokens of the request, those from and into the provider's cache included."),
    ("gen_ai.usage.cache_read.input_tokens", "How many of them came from the provider's cache."),
    ("gen_ai.usage.cache_creation.input_tokens", "How many of them were put into it."),
    ("gen_ai.usage.output_tokens", "Tokens of the answer, reasoning included."),
    ("gen_ai.usage.reasoning.output_tokens", "How many of them were reasoning."),
    (
        "usage_estimated",
        "Whether the provider did not tell the tokens (of one of the attempts), and they are estimated.",
    ),
    ("cost_usd", "What it cost in US dollars, where the target has a price."),
    (
        "wasted_usd",
        "How much of that was for tries that came to nothing: they failed, lost a hedge, or their answer broke off.",
    ),
    (
        "cache",
        "What the cache did, where the route has one: `hit`, `stale` (given because nobody had a better answer), `collapsed` (the answer to another request that came at the same time), `miss`, `request` (the client wanted a new answer), `bypass`.",
    ),
    ("saved_usd", "What the answer had cost that the cache gave again."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    /// The tables for people. `UPDATE_DOCS=1 cargo test` writes them.
    #[test]
    fn the_documented_names_are_those_of_the_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/telemetry.md");
        let documented = documented();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &documented).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
        assert!(found == documented, "docs/telemetry.md is not what is told: UPDATE_DOCS=1 cargo test writes it");
    }

    #[test]
    fn every_field_is_explained_and_every_explanation_needed() {
        let mut used: Vec<_> = SPANS.iter().chain(EVENTS).flat_map(|told| told.fields).copied().collect();
        used.sort_unstable();
        used.dedup();
        let mut explained: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
        explained.sort_unstable();
        assert_eq!(used, explained);
    }

    #[test]
    fn metrics_are_named_as_prometheus_wants_them() {
        for metric in Metric::ALL {
            let Metric { name, kind, buckets, .. } = metric;
            assert!(name.starts_with("failover_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
            assert_eq!(buckets.is_empty(), *kind != MetricKind::Histogram, "{name}");
            assert!(buckets.windows(2).all(|pair| pair[0] < pair[1]), "{name}");
        }
    }

    fn documented() -> String {
        let mut text = String::from(include_str!("telemetry.md"));
        for (title, told) in [("Spans", SPANS), ("Events", EVENTS)] {
            let _ = write!(text, "\n## {title}\n\n| name | level | what | fields |\n|---|---|---|---|\n");
            for Told { name, level, fields, description } in told {
                let fields: Vec<_> = fields.iter().map(|field| format!("`{field}`")).collect();
                let _ = writeln!(text, "| `{name}` | {level} | {description} | {} |", fields.join(", "));
            }
        }
        text.push_str("\n## Fields\n\n| field | what |\n|---|---|\n");
        for (name, description) in FIELDS {
            let _ = writeln!(text, "| `{name}` | {description} |");
        }
        text.push_str("\n## Metrics\n\n| name | kind | labels | what |\n|---|---|---|---|\n");
        for Metric { name, kind, labels, description, .. } in Metric::ALL {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(text, "| `{name}` | {} | {} | {description} |", kind.name(), labels.join(", "));
        }
        text.push_str("\n## Buckets\n\n");
        for Metric { name, buckets, .. } in Metric::ALL.iter().filter(|metric| !metric.buckets.is_empty()) {
            let buckets: Vec<_> = buckets.iter().map(f64::to_string).collect();
            let _ = writeln!(text, "- `{name}`: {}", buckets.join(", "));
        }
        text
    }
}
