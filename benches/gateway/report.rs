//! The table, and whether the bars are met.

use crate::{
    Options, Scenario,
    load::{Kind, Measured},
    process::{Placement, Process},
};

/// The bare proxy's and the gateway's figures of each round.
pub(crate) type Rounds = Vec<[Measured; 2]>;

type Figure = fn(&Measured) -> Option<f64>;

const CPU_NAME: &str = "CPU per request";
const CPU: Figure = Measured::cpu_each;
const P50: Figure = Measured::p50;
const P99: Figure = Measured::p99;
const FIRST_TOKEN_NAME: &str = "first token p50";
const FIRST_TOKEN: Figure = Measured::first_token_p50;

/// What the gateway may cost, as a ratio to the bare proxy, in plain answers and streams.
const RATIO_BARS: [(&str, Figure, f64); 3] =
    [(CPU_NAME, CPU, 1.3), ("p50", P50, 1.2), (FIRST_TOKEN_NAME, FIRST_TOKEN, 1.2)];
const RESIDENT_BAR_MIB: f64 = 12.0;
const STREAM_BAR_KIB: f64 = 32.0;
const FAILOVER_BAR_MICROS: f64 = 150.0;

pub(crate) struct Report<'a> {
    pub(crate) options: &'a Options,
    pub(crate) placement: Placement,
    pub(crate) processes: [&'a Process; 3],
    pub(crate) scenarios: &'a [Scenario],
    pub(crate) results: &'a [Rounds],
    /// Resident memory of the bare proxy and of the gateway, before any request.
    pub(crate) idle: [Option<f64>; 2],
    /// The same, after all of them.
    pub(crate) loaded: [Option<f64>; 2],
    /// How many streams were open at once and stalled, and what each took of the bare proxy's and of the gateway's
    /// resident memory, in KiB.
    pub(crate) stalled: Option<(usize, [Option<f64>; 2])>,
}

impl Report<'_> {
    pub(crate) fn print(&self) {
        self.print_setting();
        self.print_table();
        self.print_bars();
    }

    fn print_setting(&self) {
        let Options { rounds, seconds, only, open: _ } = self.options;
        let only = if only.is_empty() { String::new() } else { format!(" --only '{only}'") };
        println!("cargo bench --bench gateway --features gateway -- --rounds {rounds} --seconds {seconds}{only}");
        self.processes.iter().for_each(|process| println!("  {}", process.command));
        let placement = if self.placement.is_pinned {
            "proxies on CPU 0, upstream and load generator on CPU 1"
        } else {
            "not pinned to CPUs (that takes Linux, two cores and taskset)"
        };
        println!("{} cores; {placement}; one worker thread each", self.placement.cores);
        if cfg!(debug_assertions) {
            println!("A build without optimisation: these figures say nothing.");
        }
        println!();
    }

    fn print_table(&self) {
        println!("Medians of {} rounds: the bare proxy, the gateway, and the ratio. Times in µs.", self.options.rounds);
        println!(
            "{:<13}|{:^24}|{:^24}|{:^24}|{:^24}|{:^11}| bad",
            "", "CPU per request", "p50", "p99", FIRST_TOKEN_NAME, "busy"
        );
        for (scenario, rounds) in self.scenarios.iter().zip(self.results) {
            let cells: Vec<_> = [CPU, P50, P99, FIRST_TOKEN].map(|figure| cell(rounds, figure)).into();
            let [bare, gateway] = [0, 1].map(|proxy| percent(median_of(rounds, proxy, Measured::busy)));
            let bad: usize = rounds.iter().flatten().map(|measured| measured.bad).sum();
            println!("{:<13}|{}|{bare:>5}{gateway:>5} |{bad:>4}", scenario.name, cells.join("|"));
        }
        let resident = |[bare, gateway]: [Option<f64>; 2]| format!("{} {}", number(bare, 1), number(gateway, 1));
        println!("resident MiB: {} idle, {} after the load", resident(self.idle), resident(self.loaded));
        for (scenario, rounds) in self.scenarios.iter().zip(self.results).filter(|(it, _)| it.kind.is_stream()) {
            println!("{}: CPU per chunk, µs: {}", scenario.name, cell(rounds, Measured::cpu_each_chunk).trim());
        }
        if let Some((count, [bare, gateway])) = self.stalled {
            let ratio = bare.zip(gateway).map(|(bare, gateway)| gateway / bare);
            let [bare, gateway] = [bare, gateway].map(|kib| number(kib, 1));
            println!("{count} open streams that stall, KiB each: {bare} {gateway} {}", number(ratio, 2));
        }
        println!();
    }

    fn print_bars(&self) {
        println!("Bars: the median, and the least and greatest of the rounds.");
        for (name, figure, bar) in RATIO_BARS {
            for (scenario, rounds) in self.scenarios.iter().zip(self.results) {
                // A plain answer is there with its first byte.
                let applies = match scenario.kind {
                    Kind::Json => name != FIRST_TOKEN_NAME,
                    Kind::Stream => true,
                    // The upstream's pauses are nearly all of the time.
                    Kind::Paced => name == CPU_NAME,
                    Kind::Cached | Kind::Failover | Kind::Translated | Kind::TranslatedStream => false,
                };
                if applies {
                    let ratios = ratios(rounds, figure);
                    verdict(&format!("{name}, {}", scenario.name), &ratios, bar, 2, "× the bare proxy's");
                }
            }
        }
        let added = |proxy| self.added_by_failover(proxy);
        verdict("idle resident memory", &Vec::from_iter(self.idle[1]), RESIDENT_BAR_MIB, 1, "MiB");
        let each = self.stalled.and_then(|(_, [_, gateway])| gateway);
        verdict("memory per open stream", &Vec::from_iter(each), STREAM_BAR_KIB, 1, "KiB");
        verdict("failover adds, c1", &added(1), FAILOVER_BAR_MICROS, 0, "µs to the p50 of json c1");
        println!("  (by the bare proxy: {} µs)", number(median(added(0)), 0));
        for (what, same, other) in
            [("an answer", "json c1", "translated json c1"), ("a stream", "stream c1", "translated stream c1")]
        {
            let added = number(median(self.added(same, other, 1)), 0);
            println!("another dialect adds {added} µs to the p50 of {what} (c1); there is no bar");
        }
    }

    /// How much longer than an answer of the first provider one takes that comes of the second.
    fn added_by_failover(&self, proxy: usize) -> Vec<f64> {
        self.added("json c1", "failover c1", proxy)
    }

    /// How much longer an answer of one scenario takes than one of another, round by round.
    fn added(&self, one: &str, other: &str, proxy: usize) -> Vec<f64> {
        let rounds =
            |name| self.scenarios.iter().position(|scenario| scenario.name == name).map(|at| &self.results[at]);
        let Some((one, other)) = rounds(one).zip(rounds(other)) else { return Vec::new() };
        let pairs = one.iter().zip(other);
        pairs.filter_map(|(one, other)| Some(other[proxy].p50()? - one[proxy].p50()?)).collect()
    }
}

fn cell(rounds: &Rounds, figure: Figure) -> String {
    let [bare, gateway] = [0, 1].map(|proxy| number(median_of(rounds, proxy, figure), 1));
    format!("{bare:>8}{gateway:>9}{:>6} ", number(median(ratios(rounds, figure)), 2))
}

fn verdict(what: &str, measured: &[f64], bar: f64, digits: usize, unit: &str) {
    let Some(middle) = median(measured.to_vec()) else { return println!("  {what:<28} not measured") };
    let least = measured.iter().copied().reduce(f64::min);
    let greatest = measured.iter().copied().reduce(f64::max);
    let range = format!("[{} to {}]", number(least, digits), number(greatest, digits));
    let word = if middle <= bar { "met   " } else { "missed" };
    println!("  {what:<28} {word} {middle:>6.digits$} {range:<16} of at most {bar:.digits$} {unit}");
}

fn ratios(rounds: &Rounds, figure: Figure) -> Vec<f64> {
    let ratios = rounds.iter().filter_map(|[bare, gateway]| Some(figure(gateway)? / figure(bare)?));
    ratios.filter(|ratio| ratio.is_finite()).collect()
}

fn median_of(rounds: &Rounds, proxy: usize, figure: Figure) -> Option<f64> {
    median(rounds.iter().filter_map(|round| figure(&round[proxy])).collect())
}

fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let upper = *numbers.get(numbers.len() / 2)?;
    let lower = numbers[(numbers.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

fn number(number: Option<f64>, digits: usize) -> String {
    number.map_or("-".into(), |number| format!("{number:.digits$}"))
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.0}%", share * 100.0))
}
