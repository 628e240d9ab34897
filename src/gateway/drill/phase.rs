//! What clients saw in one phase, in numbers.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::load::Answer;

/// A part of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// All is well.
    Before,
    /// The primary is away.
    During,
    /// It is back.
    After,
}

impl Phase {
    /// Its name: `"before"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Before => "before",
            Phase::During => "during",
            Phase::After => "after",
        }
    }
}

/// What clients saw in one phase.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PhaseReport {
    /// Which one.
    pub phase: Phase,
    /// How many requests there were.
    pub requests: usize,
    /// How many were answered, wholly.
    pub answered: usize,
    /// How many were answered by another target than the primary.
    pub failed_over: usize,
    /// How many answers broke off after they had begun.
    pub broken: usize,
    /// Half of the answers took no longer.
    pub p50: Option<Duration>,
    /// 99 of a hundred answers took no longer.
    pub p99: Option<Duration>,
    /// Half of the streams said something within that time.
    pub first_output_p50: Option<Duration>,
    /// 99 of a hundred streams did.
    pub first_output_p99: Option<Duration>,
    /// How many answers are whose, by `provider/model`.
    pub answered_by: BTreeMap<String, usize>,
    /// How many requests failed of what.
    pub failures: BTreeMap<String, usize>,
}

impl PhaseReport {
    pub(super) fn of(phase: Phase, answers: &[Answer], primary: &str) -> Self {
        let whole = || answers.iter().filter(|answer| answer.failure.is_none());
        let mut latencies: Vec<_> = whole().map(|answer| answer.latency).collect();
        let mut first_outputs: Vec<_> = whole().filter_map(|answer| answer.first_output).collect();
        latencies.sort_unstable();
        first_outputs.sort_unstable();
        let (mut answered_by, mut failures) = (BTreeMap::new(), BTreeMap::new());
        for answer in answers {
            let counted = match &answer.failure {
                None => answered_by.entry(answer.target.clone().unwrap_or_else(|| "unknown".into())).or_default(),
                Some(failure) => failures.entry(failure.clone()).or_default(),
            };
            *counted += 1_usize;
        }
        let answered = whole().count();
        PhaseReport {
            phase,
            requests: answers.len(),
            answered,
            failed_over: answered - answered_by.get(primary).copied().unwrap_or_default(),
            broken: answers.iter().filter(|answer| answer.broke).count(),
            p50: quantile(&latencies, 0.5),
            p99: quantile(&latencies, 0.99),
            first_output_p50: quantile(&first_outputs, 0.5),
            first_output_p99: quantile(&first_outputs, 0.99),
            answered_by,
            failures,
        }
    }

    /// How many of a hundred requests were answered; none of none were.
    #[must_use]
    pub fn success_percent(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { 100.0 * self.answered as f64 / self.requests as f64 }
    }

    pub(super) fn to_json(&self) -> Value {
        let milliseconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64() * 1e3);
        json!({
            "requests": self.requests,
            "answered": self.answered,
            "success_percent": self.success_percent(),
            "failed_over": self.failed_over,
            "broken": self.broken,
            "p50_ms": milliseconds(self.p50),
            "p99_ms": milliseconds(self.p99),
            "first_token_p50_ms": milliseconds(self.first_output_p50),
            "first_token_p99_ms": milliseconds(self.first_output_p99),
            "answered_by": self.answered_by,
            "failures": self.failures,
        })
    }
}

/// The smallest of the sorted values that this share of them does not exceed.
fn quantile(sorted: &[Duration], share: f64) -> Option<Duration> {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn answer(target: &str, latency: u64, failure: Option<&str>) -> Answer {
        Answer {
            failure: failure.map(str::to_owned),
            broke: failure == Some("cut"),
            target: Some(target.to_owned()),
            latency: Duration::from_millis(latency),
            first_output: None,
            ended: Instant::now(),
        }
    }

    #[test]
    fn answers_are_counted_by_who_gave_them() {
        let answers =
            [answer("a/m", 10, None), answer("b/m", 20, None), answer("b/m", 5, Some("cut")), answer("b/m", 30, None)];
        let report = PhaseReport::of(Phase::During, &answers, "a/m");
        assert_eq!((report.requests, report.answered, report.failed_over, report.broken), (4, 3, 2, 1));
        assert_eq!(report.success_percent(), 75.0);
        assert_eq!((report.p50, report.p99), (Some(Duration::from_millis(20)), Some(Duration::from_millis(30))));
        assert_eq!(report.failures, BTreeMap::from([("cut".to_owned(), 1)]));
        assert_eq!(report.answered_by["b/m"], 2);
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(quantile(&values, 0.5), Some(Duration::from_millis(100)));
        assert_eq!(quantile(&values, 0.99), Some(Duration::from_millis(198)));
        assert_eq!(quantile(&values[..1], 0.99), Some(Duration::from_millis(1)));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
