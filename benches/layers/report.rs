//! The table, and whether the bars are met.

use crate::{
    Options,
    cases::{BARE, CIRCUIT_BREAKER, Case, FIVE_LAYERS, RETRY, STACK, TIMEOUT, TOWER_RETRY, TOWER_TIMEOUT},
    listening,
    measure::Measured,
    selection,
};

pub(crate) fn print(cases: &[Case], measured: &[Measured], options: &Options) {
    Report { cases, measured, options }.print();
}

struct Report<'a> {
    cases: &'a [Case],
    measured: &'a [Measured],
    options: &'a Options,
}

/// What a case costs more than its base.
struct Added {
    /// Nanoseconds: the median of the rounds, the least and the greatest.
    time: [f64; 3],
    allocations: f64,
    instructions: Option<f64>,
}

impl Report<'_> {
    fn print(&self) {
        self.print_setting();
        self.print_table();
        self.print_bars();
        self.print_selection();
        self.print_telemetry();
    }

    fn print_setting(&self) {
        let Options { rounds, calls, case, instructions, .. } = self.options;
        let case = if case.is_empty() { String::new() } else { format!(" --case '{case}'") };
        let without = if *instructions { "" } else { " --without-instructions" };
        println!("cargo bench --bench layers -- --rounds {rounds} --calls {calls}{case}{without}");
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        println!("{cores} cores; one thread; medians of {rounds} rounds, each of {calls} calls of every case");
        if cfg!(debug_assertions) {
            println!("A build without optimisation: these figures say nothing.");
        }
        println!();
    }

    fn print_table(&self) {
        println!(
            "| case | ns | +ns (least to greatest) | allocations | +allocations | instructions | +instructions | bytes of the future |"
        );
        println!("| :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
        for (case, measured) in self.cases.iter().zip(self.measured) {
            let Added { time: [time, least, greatest], allocations, instructions } = self.added_by(case, measured);
            let [added_time, added_allocations, added_instructions] = if case.is_base() {
                [String::new(), String::new(), String::new()]
            } else {
                let time = format!("{time:.0} ({least:.0} to {greatest:.0})");
                [time, format!("{allocations:.1}"), number(instructions)]
            };
            println!(
                "| {} | {:.0} | {added_time} | {:.1} | {added_allocations} | {} | {added_instructions} | {} |",
                case.name,
                median(measured.times.clone()),
                measured.allocations,
                number(measured.instructions),
                measured.future_bytes,
            );
        }
        println!(
            "\n+ is the difference from \"{BARE}\", or from the same with a request that carries a context, or with a stream.\n"
        );
    }

    fn print_bars(&self) {
        println!("Bars:");
        for (own, theirs) in [(TIMEOUT, TOWER_TIMEOUT), (RETRY, TOWER_RETRY)] {
            let Some((own_added, theirs_added)) = self.added(own).zip(self.added(theirs)) else { continue };
            let unit = |unit: &str| format!("{unit}, as {theirs}");
            verdict(own, own_added.time[0], theirs_added.time[0], &unit("ns"));
            verdict(own, own_added.allocations, theirs_added.allocations, &unit("allocations"));
            if let (Some(own_added), Some(theirs_added)) = (own_added.instructions, theirs_added.instructions) {
                verdict(own, own_added, theirs_added, &unit("instructions"));
            }
        }
        for (name, nanoseconds, allocations) in
            [(CIRCUIT_BREAKER, 100.0, 0.0), (FIVE_LAYERS, 800.0, 12.0), (STACK, 3000.0, 24.0)]
        {
            let Some(added) = self.added(name) else { continue };
            verdict(name, added.time[0], nanoseconds, "ns");
            verdict(name, added.allocations, allocations, "allocations");
        }
    }

    fn print_selection(&self) {
        for name in selection::NAMES {
            let Some(at) = self.cases.iter().position(|case| case.name == name) else { continue };
            // All of it, and not only what it takes more than the order of the route.
            verdict(name, median(self.measured[at].times.clone()), 300.0, "ns");
        }
        if let Some(added) = self.added(selection::LIMITS) {
            verdict(selection::LIMITS, added.time[0], 300.0, "ns");
        }
    }

    fn print_telemetry(&self) {
        let of = |name: &str| {
            let at = self.cases.iter().position(|case| case.name == name)?;
            Some(&self.measured[at])
        };
        let Some(stack) = of(STACK) else { return };
        println!("\nOf \"{STACK}\":");
        for name in listening::NAMES {
            let Some(measured) = of(name) else { continue };
            let ratios = measured.times.iter().zip(&stack.times).map(|(own, stack)| own / stack);
            let time = median(ratios.collect());
            let instructions = measured.instructions.zip(stack.instructions).map(|(own, stack)| own / stack);
            let instructions = instructions.map_or(String::new(), |ratio| format!(", {ratio:.2} × instructions"));
            println!("  {time:.2} × time{instructions}: {name}");
        }
    }

    fn added(&self, name: &str) -> Option<Added> {
        let at = self.cases.iter().position(|case| case.name == name)?;
        Some(self.added_by(&self.cases[at], &self.measured[at]))
    }

    fn added_by(&self, case: &Case, measured: &Measured) -> Added {
        let base = self.cases.iter().position(|base| base.name == case.base);
        let base = base.map_or(measured, |at| &self.measured[at]);
        let times: Vec<f64> = measured.times.iter().zip(&base.times).map(|(own, base)| own - base).collect();
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = times.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Added {
            time: [median(times), least, greatest],
            allocations: measured.allocations - base.allocations,
            instructions: measured.instructions.zip(base.instructions).map(|(own, base)| own - base),
        }
    }
}

fn verdict(what: &str, measured: f64, bar: f64, unit: &str) {
    let word = if measured <= bar { "met   " } else { "missed" };
    let ratio = if bar > 0.0 { format!(", {:.2} ×", measured / bar) } else { String::new() };
    println!("  {word} {what}: {measured:.1} of at most {bar:.1} {unit}{ratio}");
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    (numbers[numbers.len() / 2] + numbers[(numbers.len() - 1) / 2]) / 2.0
}

fn number(number: Option<f64>) -> String {
    number.map_or("–".into(), |number| format!("{number:.0}"))
}
