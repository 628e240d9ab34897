//! What was spent, as it is told: in `/status.json`, and for Prometheus.

use std::{fmt::Write, sync::Arc};

use serde_json::{Value, json};

use super::Live;
use crate::{
    Cost, Usage,
    statistics::{self, Account, Period, Spending},
    telemetry::{Metric, names},
};

type TokenKind = (&'static str, fn(&Usage) -> u64);

const TOKENS: [TokenKind; 5] = [
    ("input", |usage| usage.input),
    ("cached_input", |usage| usage.cached_input),
    ("cache_write_input", |usage| usage.cache_write_input),
    ("output", |usage| usage.output),
    ("reasoning", |usage| usage.reasoning),
];

/// `usage` of a target, a route or a client.
pub(super) fn describe(account: Option<&Account>, window: Period) -> Value {
    let of = |period| account.map_or_else(Spending::default, |account| statistics::read(account, period));
    json!({ "window": describe_one(&of(Some(window))), "total": describe_one(&of(None)) })
}

fn describe_one(spending: &Spending) -> Value {
    json!({
        "requests": spending.requests,
        "attempts": spending.attempts,
        "tokens": describe_tokens(&spending.usage),
        "cost_usd": spending.cost.usd(),
        "estimated_cost_usd": spending.estimated_cost.usd(),
        "wasted": {
            "attempts": spending.wasted_attempts,
            "tokens": describe_tokens(&spending.wasted),
            "cost_usd": spending.wasted_cost.usd(),
        },
        "cache": {
            "hits": spending.cache_hits,
            "stale": spending.cache_stale,
            "collapsed": spending.cache_collapsed,
            "misses": spending.cache_misses,
        },
        "saved": { "tokens": describe_tokens(&spending.saved), "cost_usd": spending.saved_cost.usd() },
    })
}

fn describe_tokens(usage: &Usage) -> Value {
    TOKENS.iter().map(|(kind, of)| ((*kind).to_owned(), of(usage).into())).collect::<serde_json::Map<_, _>>().into()
}

/// The totals as counters. They are no part of what the facade for metrics counts, for that knows whole numbers only.
pub(super) fn render(live: &Live) -> String {
    let statistics = &live.shared.statistics;
    let spending = |account: &Arc<Account>| account.total();
    let targets = live.config.targets();
    let targets = targets.map(|target| (target.id().as_str(), statistics.target_spending(target.id(), None)));
    let targets: Vec<_> = targets.map(|(name, spending)| (name, spending.unwrap_or_default())).collect();
    let routes = live.config.routes.iter().map(|route| route.route.name());
    let routes: Vec<_> = routes.zip(live.accounts.iter().map(spending)).collect();
    let clients: Vec<_> = live.clients().map(|(name, account)| (name, spending(account))).collect();

    let mut text = String::new();
    let mut money = |metric, who: &[(&str, Spending)], of: fn(&Spending) -> Cost| {
        series(&mut text, metric, who.iter().map(|(name, it)| ([*name], of(it).usd())));
    };
    money(&names::TARGET_COST, &targets, |it| it.cost);
    money(&names::ROUTE_COST, &routes, |it| it.cost);
    money(&names::CLIENT_COST, &clients, |it| it.cost);
    money(&names::TARGET_WASTED, &targets, |it| it.wasted_cost);
    money(&names::ROUTE_WASTED, &routes, |it| it.wasted_cost);
    money(&names::CLIENT_WASTED, &clients, |it| it.wasted_cost);
    money(&names::ROUTE_SAVED, &routes, |it| it.saved_cost);
    money(&names::CLIENT_SAVED, &clients, |it| it.saved_cost);
    for (who, metric) in [(&routes, &names::ROUTE_TOKENS), (&clients, &names::CLIENT_TOKENS)] {
        let rows = who
            .iter()
            .flat_map(|(name, it)| TOKENS.iter().map(move |(kind, of)| ([*name, *kind], of(&it.usage) as f64)));
        series(&mut text, metric, rows);
    }
    series(&mut text, &names::CLIENT_REQUESTS, clients.iter().map(|(name, it)| ([*name], it.requests as f64)));
    text
}

/// The series of a counter in Prometheus' text format.
pub(super) fn series<'a, const N: usize>(
    text: &mut String,
    metric: &Metric,
    rows: impl Iterator<Item = ([&'a str; N], f64)>,
) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    let Metric { name, description, .. } = metric;
    // Writing to a text does not fail.
    let _ = write!(text, "# HELP {name} {description}\n# TYPE {name} {}\n", metric.kind.name());
    for (values, value) in rows {
        debug_assert_eq!(metric.labels.len(), N, "{name}");
        let labels = metric.labels.iter().zip(values);
        let labels: Vec<_> = labels.map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
    }
    text.push('\n');
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_label() {
        let mut text = String::new();
        series(&mut text, &names::CLIENT_COST, [(["a\"} 1\nb\\"], 0.000_000_5)].into_iter());
        let line = text.lines().nth(2).unwrap();
        assert_eq!(line, r#"failover_client_cost_usd_total{client="a\"} 1\nb\\"} 0.0000005"#);
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}
