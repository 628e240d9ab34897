//! What a check found, for people and for programs.

use serde_json::{Value, json};

use super::{Advice, Check, Trial};
use crate::{
    Target,
    config::{Config, ConfigError},
    gateway::terminal::{Align, Cell, Look, Paint, table},
    health::HealthCheck,
};

impl Check {
    /// Everything that was found, for people.
    #[must_use]
    pub fn describe(&self, paint: Paint) -> String {
        let mut text = String::new();
        match &self.config {
            Err(errors) => {
                let mistakes = errors.iter().count();
                errors.iter().for_each(|error| text += &format!("{}\n", error_line(paint, error)));
                let verdict = format!("{mistakes} {}", if mistakes == 1 { "mistake" } else { "mistakes" });
                text += &format!("\n{}: {}\n", self.file.display(), paint.word(Look::Bad, &verdict));
                return text;
            }
            Ok(config) => {
                let (routes, targets) = (config.routes.iter().count(), self.targets().count());
                let good = paint.word(Look::Good, "ok");
                text += &format!("{}: {good}, {routes} routes, {targets} targets\n", self.file.display());
            }
        }
        if !self.advice.is_empty() {
            let label = paint.word(Look::Doubtful, "warning");
            text += "\n";
            self.advice.iter().for_each(|advice| text += &format!("{label}: {advice} [{}]\n", advice.kind().name()));
        }
        let checks: Vec<_> = self.health_checks().map(|(target, check)| check_line(target, check)).collect();
        if !checks.is_empty() {
            text += &format!("\n{}\n", checks.join("\n"));
        }
        if let Some(trials) = &self.trials {
            text += "\n";
            text += &trial_table(paint, trials);
            let failed = trials.iter().filter(|trial| !trial.passed()).count();
            let asked = if trials.iter().any(|trial| trial.key().is_some()) { "trials" } else { "targets" };
            let verdict = match failed {
                0 => paint.word(Look::Good, &format!("all {} {asked} answered", trials.len())),
                failed => paint.word(Look::Bad, &format!("{failed} of {} {asked} failed", trials.len())),
            };
            text += &format!("\n{verdict}\n");
        }
        match &self.shared_state {
            None => {}
            Some(Ok(took)) => {
                text += &format!("shared state: {}, {} ms\n", paint.word(Look::Good, "ok"), took.as_millis());
            }
            Some(Err(why)) => text += &format!("shared state: {}: {why}\n", paint.word(Look::Bad, "failed")),
        }
        text
    }

    /// The same for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let errors: Vec<_> = self.config.as_ref().err().into_iter().flatten().map(error_json).collect();
        let advice: Vec<_> = self.advice.iter().map(advice_json).collect();
        let trials = self.trials.as_ref().map(|trials| trials.iter().map(trial_json).collect::<Vec<_>>());
        json!({
            "file": self.file.display().to_string(),
            "passed": self.passed(),
            "errors": errors,
            "warnings": advice,
            "health_checks": self.health_checks().map(|(target, check)| check_json(target, check)).collect::<Vec<_>>(),
            "online": trials,
            "shared_state": self.shared_state.as_ref().map(|shared| json!({
                "ok": shared.is_ok(),
                "message": shared.as_ref().err().map(ToString::to_string),
            })),
        })
    }

    /// Who will be asked how they are, besides their calls.
    fn health_checks(&self) -> impl Iterator<Item = (&Target, &HealthCheck)> {
        let config = self.config.as_ref().ok();
        let check = move |target: &Target| config?.health_checks.get(target.id().as_str());
        self.targets().filter_map(move |target| Some((target, check(target)?)))
    }

    fn targets(&self) -> impl Iterator<Item = &Target> {
        self.config.iter().flat_map(Config::targets)
    }
}

/// What a target will be asked, how often and when.
fn check_line(target: &Target, check: &HealthCheck) -> String {
    let (asked, interval) = (check.asks(target), check.interval());
    let cost = if asked.is_of_model() { ", which is paid for" } else { "" };
    let when = match check.open_after() {
        Some(failures) => format!("all the time; {failures} failures in a row open its circuit"),
        None if asked.is_of_model() => "while its circuit, or its provider's, is open".to_owned(),
        None => "while its provider cannot be reached".to_owned(),
    };
    format!("health check: {}: {}{cost}, every {interval:?}, {when}", target.id(), asked.name())
}

fn check_json(target: &Target, check: &HealthCheck) -> Value {
    json!({
        "target": target.id().as_str(),
        "kind": check.kind().name(),
        "asked_for": check.asks(target).name(),
        "interval_seconds": check.interval().as_secs_f64(),
        "timeout_seconds": check.timeout().as_secs_f64(),
        "open_after": check.open_after(),
    })
}

fn error_line(paint: Paint, error: &ConfigError) -> String {
    format!("{}: {error}", paint.word(Look::Bad, "error"))
}

fn trial_table(paint: Paint, trials: &[Trial]) -> String {
    let columns = [
        ("target", Align::Left),
        ("asked for", Align::Left),
        ("", Align::Left),
        ("took", Align::Right),
        ("what it said", Align::Left),
    ];
    let rows: Vec<_> = trials
        .iter()
        .map(|trial| {
            let (verdict, said) = match trial.fault() {
                None => (Cell::new(Look::Good, "ok"), String::new()),
                Some(fault) => (Cell::new(Look::Bad, fault.kind().name()), one_line(fault.message())),
            };
            let took = format!("{} ms", trial.latency().as_millis());
            let target = match trial.key() {
                Some((place, count)) => format!("{}, key {place} of {count}", trial.target().id()),
                None => trial.target().id().to_string(),
            };
            vec![target.into(), trial.asked().name().into(), verdict, took.into(), said.into()]
        })
        .collect();
    table(paint, &columns, &rows)
}

/// Providers write pages where a table has a line.
fn one_line(message: &str) -> String {
    const MOST: usize = 160;
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_printable = |character: &char| !character.is_control();
    match line.char_indices().nth(MOST) {
        Some((end, _)) => line[..end].chars().filter(is_printable).chain(['…']).collect(),
        None => line.chars().filter(is_printable).collect(),
    }
}

fn error_json(error: &ConfigError) -> Value {
    json!({
        "line": error.line(),
        "column": error.column(),
        "key": error.key(),
        "message": error.message(),
        "suggestion": error.suggestion(),
    })
}

fn advice_json(advice: &Advice) -> Value {
    json!({
        "kind": advice.kind().name(),
        "route": advice.route(),
        "target": advice.target(),
        "message": advice.message(),
    })
}

fn trial_json(trial: &Trial) -> Value {
    json!({
        "target": trial.target().id().as_str(),
        "provider": trial.target().provider().map(crate::Provider::name),
        "model": trial.target().model(),
        "key": trial.key().map(|(place, _)| place),
        "asked_for": trial.asked().name(),
        "ok": trial.passed(),
        "fault": trial.fault().map(|fault| fault.kind().name()),
        "status": trial.fault().and_then(|fault| fault.status()).map(|status| status.as_u16()),
        "message": trial.fault().map(|fault| fault.message()),
        "latency_ms": trial.latency().as_secs_f64() * 1e3,
    })
}
