//! Plots for the guides: small multiples, as SVG that is readable on light and dark pages, and the same each time.

use std::fmt::Write;

/// Several panels of one size, side by side.
pub(crate) struct Plot {
    /// The file's name, without its end.
    pub(crate) name: &'static str,
    /// What is seen, for those who do not see it.
    pub(crate) about: String,
    pub(crate) columns: usize,
    /// Of a panel's drawing.
    pub(crate) size: (f64, f64),
    pub(crate) panels: Vec<Panel>,
}

#[derive(Clone)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// The ones behind first.
    pub(crate) marks: Vec<Mark>,
    /// Words within, where they begin and in which tone.
    pub(crate) words: Vec<((f64, f64), &'static str, Tone)>,
}

#[derive(Clone)]
pub(crate) struct Axis {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Ticks with these words, and no more.
    pub(crate) fn new(from: f64, to: f64, ticks: &[(f64, &str)]) -> Self {
        Axis { from, to, ticks: ticks.iter().map(|(at, words)| (*at, words.to_string())).collect() }
    }

    fn share(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

#[derive(Clone)]
pub(crate) struct Mark {
    pub(crate) tone: Tone,
    /// Whether what is below is filled.
    pub(crate) filled: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

#[allow(dead_code)] // no guide needs all of them
#[derive(Clone, Copy)]
pub(crate) enum Tone {
    First,
    Second,
    Third,
    Strong,
    Faint,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Tone::First => "a",
            Tone::Second => "b",
            Tone::Third => "c",
            Tone::Strong => "s",
            Tone::Faint => "f",
        }
    }
}

const STYLE: &str = "<style>\
:root{--p:#fff;--s:#1f2328;--f:#818b98;--g:#d1d9e0;--a:#4a9ced;--b:#e8a33d;--c:#c8cfd6}\
@media(prefers-color-scheme:dark){:root{--p:#0d1117;--s:#e6edf3;--f:#8b949e;--g:#30363d;--a:#3178c6;--b:#b5762a;--c:#464e58}}\
text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:var(--f)}\
.t{font-weight:600;fill:var(--s)}.g{stroke:var(--g);fill:none}path{stroke-linejoin:round}\
.la,.lb,.lc,.ls,.lf{fill:none;stroke-width:1.5}\
.la{stroke:var(--a)}.lb{stroke:var(--b)}.ls{stroke:var(--s)}.lc,.lf{stroke:var(--f)}\
.fa{fill:var(--a)}.fb{fill:var(--b)}.fc{fill:var(--c)}\
.wa{fill:var(--a)}.wb{fill:var(--b)}.wc,.wf{fill:var(--f)}.ws{fill:var(--s)}\
</style>";

/// Room for the words beside, above and below a panel.
const LEFT: f64 = 56.0;
const GAP: f64 = 18.0;
const ABOVE: f64 = 26.0;
const BELOW: f64 = 28.0;

impl Plot {
    fn svg(&self) -> String {
        let (across, down) = self.size;
        let rows = self.panels.len().div_ceil(self.columns);
        let width = LEFT + self.columns as f64 * (across + GAP);
        let height = rows as f64 * (ABOVE + down + BELOW);
        let about = &self.about;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             role=\"img\" aria-label=\"{about}\">\n{STYLE}\n<rect width=\"100%\" height=\"100%\" style=\"fill:var(--p)\"/>\n"
        );
        for (number, panel) in self.panels.iter().enumerate() {
            let (column, row) = (number % self.columns, number / self.columns);
            let left = LEFT + column as f64 * (across + GAP);
            let top = ABOVE + row as f64 * (ABOVE + down + BELOW);
            let _ = writeln!(svg, "<g transform=\"translate({left} {top})\">");
            panel.draw(&mut svg, self.size, column == 0);
            svg.push_str("</g>\n");
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Writes it with `UPDATE_DOCS=1`; else it must be there as it is.
    pub(crate) fn keep(&self) {
        let path = format!("{}/docs/plots/{}.svg", env!("CARGO_MANIFEST_DIR"), self.name);
        let svg = self.svg();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plots")).unwrap();
            std::fs::write(path, svg).unwrap();
        } else {
            assert!(std::fs::read_to_string(&path).unwrap_or_default() == svg, "{path}: UPDATE_DOCS=1 writes it anew");
        }
    }
}

impl Panel {
    /// `outer`: whether it stands at the left, where the scale is told.
    fn draw(&self, svg: &mut String, (across, down): (f64, f64), outer: bool) {
        let x = |value| (self.x.share(value) * across * 10.0).round() / 10.0;
        let y = |value| ((1.0 - self.y.share(value)) * down * 10.0).round() / 10.0;
        let _ = writeln!(svg, "<text class=\"t\" y=\"-9\">{}</text>", self.title);
        for (at, words) in &self.y.ticks {
            let at = y(*at);
            let _ = writeln!(svg, "<path class=\"g\" d=\"M0 {at}h{across}\"/>");
            if outer {
                let _ = writeln!(svg, "<text x=\"-7\" y=\"{}\" text-anchor=\"end\">{words}</text>", at + 4.0);
            }
        }
        for mark in &self.marks {
            let (way, tone) = (if mark.filled { "f" } else { "l" }, mark.tone.class());
            let (Some(first), Some(last)) = (mark.points.first(), mark.points.last()) else { continue };
            let _ = write!(svg, "<path class=\"{way}{tone}\" d=\"M{} {}", x(first.0), y(first.1));
            let drawn: Vec<_> = mark.points.iter().map(|(at, value)| (x(*at), y(*value))).collect();
            for (place, pair) in drawn.windows(2).enumerate() {
                let (before, (at, value)) = (pair[0], pair[1]);
                // Steps are shorter to write than slopes, and one step than two.
                let goes_on = drawn.get(place + 2).is_some_and(|next| next.1 == value);
                let _ = match (at == before.0, value == before.1) {
                    (_, true) if goes_on => Ok(()),
                    (_, true) => write!(svg, "H{at}"),
                    (true, _) => write!(svg, "V{value}"),
                    _ => write!(svg, "L{at} {value}"),
                };
            }
            if mark.filled {
                let _ = write!(svg, "L{} {down}L{} {down}z", x(last.0), x(first.0));
            }
            svg.push_str("\"/>\n");
        }
        for (place, (at, words)) in self.x.ticks.iter().enumerate() {
            let anchor = if place + 1 == self.x.ticks.len() { "end" } else { ["start", "middle"][place.min(1)] };
            let at = x(*at);
            let _ = writeln!(svg, "<text x=\"{at}\" y=\"{}\" text-anchor=\"{anchor}\">{words}</text>", down + 16.0);
        }
        for ((at, value), words, tone) in &self.words {
            let _ =
                writeln!(svg, "<text class=\"w{}\" x=\"{}\" y=\"{}\">{words}</text>", tone.class(), x(*at), y(*value));
        }
    }
}
