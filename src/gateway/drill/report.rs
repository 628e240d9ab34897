//! What a drill found, for people and for programs.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::PhaseReport;
use crate::{
    fault_injection::InjectedFault,
    gateway::terminal::{Align, Cell, Look, Paint, table},
};

/// What a drill found.
#[derive(Clone, Debug)]
pub struct DrillReport {
    pub(super) route: String,
    pub(super) model: String,
    pub(super) primary: String,
    pub(super) fault: InjectedFault,
    pub(super) slo: f64,
    pub(super) concurrency: usize,
    pub(super) streams: u8,
    pub(super) phases: [PhaseReport; 3],
    /// How many tries met the outage.
    pub(super) tries: u64,
    /// Whether the primary answered before the outage.
    pub(super) was_there: bool,
    /// How long its circuit stays open, where that is too long to be waited for.
    pub(super) long_opening: Option<Duration>,
    pub(super) primary_back: Option<Duration>,
    pub(super) took: Duration,
}

impl DrillReport {
    /// Before, during and after.
    #[must_use]
    pub fn phases(&self) -> &[PhaseReport] {
        &self.phases
    }

    /// How many tries were made of the primary while it was away: until its circuit opened, and as probes.
    #[must_use]
    pub fn tries_while_away(&self) -> u64 {
        self.tries
    }

    /// How long after the outage the primary answered again; `None` if it did not while somebody looked.
    #[must_use]
    pub fn primary_back(&self) -> Option<Duration> {
        self.primary_back
    }

    /// Whether in each phase as many requests were answered as are to be.
    #[must_use]
    pub fn slo_held(&self) -> bool {
        self.phases.iter().all(|phase| phase.success_percent() >= self.slo)
    }

    /// The report for people.
    #[must_use]
    pub fn describe(&self, paint: Paint) -> String {
        let mut text = format!(
            "Drill: route {}, {} away ({}), {} at a time, {} % streams, {:.1} s\n\n",
            paint.word(Look::Strong, &format!("{:?}", self.route)),
            paint.word(Look::Strong, &self.primary),
            self.fault,
            self.concurrency,
            self.streams,
            self.took.as_secs_f64(),
        );
        text += &self.table(paint);
        for phase in &self.phases {
            let by: Vec<_> = phase.answered_by.iter().map(|(target, times)| format!("{target} {times}×")).collect();
            let who = if by.is_empty() { "nobody".to_owned() } else { by.join(", ") };
            text += &format!("\n  {:7} answered by {who}", phase.phase.name());
            for (failure, times) in &phase.failures {
                text += &paint.word(Look::Bad, &format!("; failed {times}×: {failure}"));
            }
        }
        text += &format!("\n\n  {}\n", self.sentence());
        let worst = self.phases.iter().min_by(|a, b| a.success_percent().total_cmp(&b.success_percent()));
        let worst = worst.map(|phase| format!("{} {}", phase.phase.name(), percent(phase.success_percent())));
        let verdict = if self.slo_held() { paint.word(Look::Good, "held") } else { paint.word(Look::Bad, "MISSED") };
        text + &format!("  SLO {} % in each phase: {verdict} (worst: {})\n", self.slo, worst.unwrap_or_default())
    }

    /// What became of the primary.
    fn sentence(&self) -> String {
        let tries = if self.tries == 1 { "1 try was".to_owned() } else { format!("{} tries were", self.tries) };
        let away = format!("While it was away, {tries} made of the primary;");
        match (self.primary_back, self.was_there, self.long_opening) {
            (Some(back), ..) => format!("{away} it answered again {} after it was back.", shown(Some(back))),
            (None, false, _) => "The primary did not answer before either: nothing was taken away.".to_owned(),
            (None, true, Some(opening)) => {
                let opening = humantime::format_duration(opening);
                format!("{away} what befell it opens its circuit for {opening} (`long_open`), which nobody waited for.")
            }
            (None, true, None) => format!("{away} it had not answered again when the drill ended."),
        }
    }

    fn table(&self, paint: Paint) -> String {
        let columns = [
            ("", Align::Left),
            ("requests", Align::Right),
            ("success", Align::Right),
            ("p50", Align::Right),
            ("p99", Align::Right),
            ("first token p50", Align::Right),
            ("p99", Align::Right),
            ("failed over", Align::Right),
            ("broken", Align::Right),
        ];
        let rows: Vec<Vec<Cell>> = self
            .phases
            .iter()
            .map(|phase| {
                let success = phase.success_percent();
                let look = if success >= self.slo { Look::Good } else { Look::Bad };
                vec![
                    phase.phase.name().into(),
                    phase.requests.to_string().into(),
                    Cell::new(look, percent(success)),
                    shown(phase.p50).into(),
                    shown(phase.p99).into(),
                    shown(phase.first_output_p50).into(),
                    shown(phase.first_output_p99).into(),
                    phase.failed_over.to_string().into(),
                    Cell::new(if phase.broken > 0 { Look::Bad } else { Look::Plain }, phase.broken.to_string()),
                ]
            })
            .collect();
        table(paint, &columns, &rows)
    }

    /// The report for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let phases: Map<_, _> =
            self.phases.iter().map(|phase| (phase.phase.name().to_owned(), phase.to_json())).collect();
        json!({
            "route": self.route,
            "model": self.model,
            "primary": self.primary,
            "fault": self.fault.to_string(),
            "concurrency": self.concurrency,
            "streams_percent": self.streams,
            "slo_percent": self.slo,
            "slo_held": self.slo_held(),
            "phases": phases,
            "primary_tries_while_away": self.tries,
            "primary_back_after_ms": self.primary_back.map(|back| back.as_secs_f64() * 1e3),
            "took_ms": self.took.as_secs_f64() * 1e3,
        })
    }
}

/// Never more than it was: 99.996 % is not 100.
fn percent(share: f64) -> String {
    format!("{:.2} %", (share * 100.0).floor() / 100.0)
}

fn shown(duration: Option<Duration>) -> String {
    match duration {
        None => "-".to_owned(),
        Some(duration) if duration < Duration::from_millis(10) => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        Some(duration) if duration < Duration::from_secs(10) => format!("{} ms", duration.as_millis()),
        Some(duration) => format!("{:.1} s", duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_rounded_up_to_a_promise_kept() {
        assert_eq!(percent(99.996), "99.99 %");
        assert_eq!(percent(100.0), "100.00 %");
        assert_eq!(shown(Some(Duration::from_micros(1500))), "1.5 ms");
        assert_eq!(shown(Some(Duration::from_millis(12_345))), "12.3 s");
    }
}
