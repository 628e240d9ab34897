//! What is to be seen in what happened.

use std::fmt::Write;

use crate::{
    plot::{Axis, Mark, Panel, Plot, Tone},
    simulation::{Log, SETTLED},
};

/// How many calls reach the primary in a second of its outage, when the first half minute is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probes {
    pub(crate) mean: f64,
    pub(crate) peak: u32,
}

impl Log {
    fn down(&self) -> usize {
        self.plan.goes_down().as_secs() as usize
    }

    fn back(&self) -> usize {
        self.plan.returns().as_secs() as usize
    }

    fn upstream(&self, second: usize) -> u32 {
        self.reached.iter().map(|reached| reached[second]).sum()
    }

    fn amplified(&self, seconds: std::ops::Range<usize>) -> f64 {
        let asked: u32 = self.asked[seconds.clone()].iter().sum();
        f64::from(seconds.map(|second| self.upstream(second)).sum::<u32>()) / f64::from(asked)
    }

    /// What reaches providers by what clients ask, of the whole run.
    pub(crate) fn amplification(&self) -> f64 {
        self.amplified(SETTLED.as_secs() as usize..self.asked.len())
    }

    /// The same of the minute in which it is worst.
    pub(crate) fn worst_minute(&self) -> f64 {
        let starts = SETTLED.as_secs() as usize..self.asked.len() - 60;
        starts.map(|start| self.amplified(start..start + 60)).fold(0.0, f64::max)
    }

    /// Requests of clients in a second, while all is well.
    pub(crate) fn usual(&self) -> f64 {
        let seconds = &self.asked[SETTLED.as_secs() as usize..self.down()];
        f64::from(seconds.iter().sum::<u32>()) / seconds.len() as f64
    }

    pub(crate) fn probes(&self) -> Probes {
        // The first openings are short, and soon over.
        let seconds = &self.reached[0][self.back() - 120..self.back()];
        let mean = f64::from(seconds.iter().sum::<u32>()) / seconds.len() as f64;
        Probes { mean, peak: seconds.iter().copied().max().unwrap() }
    }

    /// When the primary has all of its traffic again: for three seconds nine of ten requests reach it.
    pub(crate) fn seconds_until_back(&self) -> Option<usize> {
        let all = |second: usize| {
            let [reached, asked] = [&self.reached[0], &self.asked].map(|it| it[second..second + 3].iter().sum::<u32>());
            f64::from(reached) >= 0.9 * f64::from(asked)
        };
        (self.back()..self.asked.len() - 3).find(|second| all(*second)).map(|second| second - self.back())
    }

    /// The most that reaches the primary in a second of the first minute after its return.
    pub(crate) fn busiest_of_return(&self) -> u32 {
        self.reached[0][self.back()..self.back() + 60].iter().copied().max().unwrap()
    }

    /// The most that reaches the second target in a second after the primary is down, by what does in a later one.
    fn burst(&self) -> f64 {
        let calls = &self.reached[1][self.down()..];
        let later = &calls[60..120];
        f64::from(calls[..30].iter().copied().max().unwrap()) / (f64::from(later.iter().sum::<u32>()) / 60.0)
    }

    /// Which share of the others' calls the second target has in the first ten seconds.
    pub(crate) fn fallback_share(&self) -> f64 {
        let [second, third] = [1, 2].map(|place: usize| self.reached[place][self.down()..][..10].iter().sum::<u32>());
        f64::from(second) / f64::from(second + third)
    }
}

/// A row for each.
pub(crate) fn table(logs: &[(&str, Log)]) -> String {
    let heads = [
        "",
        "the primary's calls in the first second of its outage",
        "in the next 30 s, at most",
        "then, on average / at most",
        "in the first second of its return",
        "back after",
        "the second's calls, at most / later",
        "amplification",
        "in the worst minute",
        "failed",
    ];
    let mut table = format!("\n| {} |\n|{}\n", heads.join(" | "), " --- |".repeat(heads.len()));
    for (name, log) in logs {
        let (primary, down, probes) = (&log.reached[0], log.down(), log.probes());
        let early = primary[down + 1..down + 31].iter().copied().max().unwrap();
        let back = log.seconds_until_back().filter(|_| log.plan.fails == 1.0);
        let back = back.map_or("–".into(), |seconds| format!("{seconds} s"));
        // Where clients try again there is no usual rate to compare with.
        let burst =
            if log.plan.all_down || log.plan.fails < 1.0 { "–".into() } else { format!("{:.1}", log.burst()) };
        let failed = f64::from(log.failed.iter().sum::<u32>()) / f64::from(log.asked.iter().sum::<u32>());
        let failed = if failed == 0.0 { "0".into() } else { format!("{:.0} %", failed * 100.0) };
        let (returns, mean, peak) = (primary[log.back()], probes.mean, probes.peak);
        let (first, all, worst) = (primary[down], log.amplification(), log.worst_minute());
        let _ = writeln!(
            table,
            "| {name} | {first} | {early} | {mean:.2} / {peak} | {returns} | {back} | {burst} | {all:.3} | {worst:.3} | {failed} |",
        );
    }
    table
}

fn named<'a>(logs: &'a [(&str, Log)], name: &str) -> &'a Log {
    &logs.iter().find(|it| it.0 == name).unwrap().1
}

/// Each value for as long as it stands for.
fn steps(values: impl Iterator<Item = f64>, from: f64, step: f64) -> Vec<(f64, f64)> {
    let at = |place: usize| from + step * place as f64;
    values.enumerate().flat_map(|(place, value)| [(at(place), value), (at(place + 1), value)]).collect()
}

/// What reaches the primary while it is down, and when it returns.
pub(crate) fn draw_primary(logs: &[(&str, Log)]) -> Plot {
    let shown = [
        ("as it is by default", "by default"),
        ("without jitter", "without jitter"),
        ("with shared state", "with shared state"),
    ];
    let mut panels = Vec::new();
    for (name, title) in shown {
        let (log, down, back) = (named(logs, name), named(logs, name).down(), named(logs, name).back());
        let busiest = log.reached[0][down..back].chunks(5).map(|seconds| f64::from(*seconds.iter().max().unwrap()));
        panels.push(Panel {
            title: format!("Down, {title}"),
            x: Axis::new(0.0, 600.0, &[(0.0, "0"), (300.0, "5"), (600.0, "10 min")]),
            y: Axis::new(0.0, 200.0, &[(0.0, "0"), (100.0, "100"), (200.0, "200/s")]),
            marks: vec![Mark { tone: Tone::First, filled: true, points: steps(busiest, 0.0, 5.0) }],
            words: Vec::new(),
        });
    }
    for (name, title) in shown {
        let log = named(logs, name);
        let from = log.back() - 10;
        let points = |of: &[u32]| steps(of[from..from + 60].iter().map(|calls| f64::from(*calls)), -10.0, 1.0);
        panels.push(Panel {
            title: format!("It returns, {title}"),
            x: Axis::new(-10.0, 50.0, &[(-10.0, "−10"), (0.0, "0"), (20.0, "20"), (50.0, "50 s")]),
            y: Axis::new(0.0, 1_000.0, &[(0.0, "0"), (500.0, "500"), (1_000.0, "1,000/s")]),
            marks: vec![
                Mark { tone: Tone::First, filled: true, points: points(&log.reached[0]) },
                Mark { tone: Tone::Faint, filled: false, points: points(&log.asked) },
            ],
            words: Vec::new(),
        });
    }
    panels[3].words.push(((-8.0, 770.0), "asked", Tone::Faint));
    let about = "Calls that reach the primary in a second, while it is down and when it returns".into();
    Plot { name: "fleet-primary", about, columns: 3, size: (260.0, 110.0), panels }
}

/// What reaches the others when the primary goes down.
pub(crate) fn draw_fallback(logs: &[(&str, Log)]) -> Plot {
    let shown = [("three targets", "At once"), ("three targets, `ramp = true`", "With ramp = true")];
    let panel = |(name, title): (&str, &str)| {
        let log = named(logs, name);
        let from = log.down() - 5;
        let points = |of: &[u32]| steps(of[from..from + 45].iter().map(|calls| f64::from(*calls)), -5.0, 1.0);
        Panel {
            title: title.into(),
            x: Axis::new(-5.0, 40.0, &[(-5.0, "−5"), (0.0, "0"), (20.0, "20"), (40.0, "40 s")]),
            y: Axis::new(0.0, 2_000.0, &[(0.0, "0"), (1_000.0, "1,000"), (2_000.0, "2,000/s")]),
            marks: vec![
                Mark { tone: Tone::First, filled: false, points: points(&log.reached[0]) },
                Mark { tone: Tone::Second, filled: false, points: points(&log.reached[1]) },
                Mark { tone: Tone::Third, filled: false, points: points(&log.reached[2]) },
            ],
            words: Vec::new(),
        }
    };
    let mut panels: Vec<_> = shown.into_iter().map(panel).collect();
    panels[0].words = vec![((-4.5, 1_050.0), "primary", Tone::First), ((20.0, 1_050.0), "second", Tone::Second)];
    panels[1].words = vec![((9.0, 180.0), "third", Tone::Third)];
    let about = "Calls that reach each target in a second when the primary goes down, with and without a ramp".into();
    Plot { name: "fleet-fallback", about, columns: 2, size: (400.0, 140.0), panels }
}
