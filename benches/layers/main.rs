//! What a call costs in each layer when nothing goes wrong: time, heap allocations and instructions.
//!
//! ```sh
//! cargo bench --bench layers
//! cargo bench --bench layers -- --rounds 31 --calls 50000 --case retry --without-instructions
//! valgrind --tool=callgrind target/release/deps/layers-… --only 'failover stack' --iters 2000
//! ```
//!
//! Below each layer is the same service, always ready, which answers at once with a chat completion of 1 KiB; above it is
//! a caller that makes the request (a chat completion of 1 KiB, seven headers), waits for readiness, calls, and reads the
//! answer's body to its end: that is when a circuit breaker learns how a call went. Beside this crate's layers are
//! `tower`'s and `tower-resilience`'s.
//!
//! The service of the cases that begin with "stream" answers with a stream of 100 events, each in a frame of its own and all
//! there at once: a hundredth of such a figure is what an event costs.
//!
//! The columns that begin with a plus sign are differences from the service without a layer. Some layers have more to do
//! for a request that carries a [`RequestContext`](tower_failover::RequestContext) with a target: those cases are
//! compared with the service called with such requests, so what making a context costs is not the layer's.
//!
//! Every round runs each case, one after another; times are medians over the rounds, and so are differences, each taken
//! within a round. Allocations are counted in a run of their own. Instructions are counted by valgrind, where it is to be
//! had: callgrind runs each case in a process of its own with so many calls and with twice as many, and what the second
//! takes more, divided by the calls, is the cost of one. Unlike times they hardly depend on what else the machine does.
//!
//! The cases with metrics and a cache need the features: `cargo bench --bench layers --features metrics,cache`.
//!
//! It prints whether the bars are met, and never fails because one is not. Without cargo's `--bench`, as under
//! `cargo test --benches`, one short round shows that it works.

// A bench stops where a test would, and it measures real time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_types)]

mod cases;
mod listening;
mod measure;
mod report;
mod selection;
mod upstream;

use self::cases::Case;

struct Options {
    rounds: usize,
    calls: u64,
    /// Part of the names of the cases to run; the services without a layer always run.
    case: String,
    instructions: bool,
    /// One case to run and no more, for a profiler.
    only: Option<String>,
    list: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Self {
        let is_bench = arguments.iter().any(|argument| argument == "--bench");
        let (rounds, calls) = if is_bench { (15, 20_000) } else { (1, 20) };
        let (case, only, list) = (String::new(), None, false);
        let mut options = Options { rounds, calls, case, instructions: is_bench, only, list };
        let mut arguments = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value")).clone();
            match argument.as_str() {
                "--rounds" => options.rounds = value().parse::<usize>().expect("a number of rounds").max(1),
                "--calls" | "--iters" => options.calls = value().parse::<u64>().expect("a number of calls").max(1),
                "--case" => options.case = value(),
                "--without-instructions" => options.instructions = false,
                "--only" => options.only = Some(value()),
                "--list" => options.list = true,
                other => eprintln!(
                    "ignored: {other}; there are --rounds N, --calls N, --case TEXT, --without-instructions, \
                     --only CASE --iters N, and --list"
                ),
            }
        }
        options
    }

    fn wants(&self, case: &Case) -> bool {
        case.is_base() || case.name.contains(&self.case)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = Options::parse(&arguments);
    let cases = cases::all();
    if options.list {
        return cases.iter().for_each(|case| println!("{}", case.name));
    }
    if let Some(only) = &options.only {
        let case = cases.iter().find(|case| case.name == only).expect("the name of a case: see --list");
        return measure::run_alone(case, options.calls);
    }
    let cases: Vec<Case> = cases.into_iter().filter(|case| options.wants(case)).collect();
    let measured = measure::all(&cases, &options);
    report::print(&cases, &measured, &options);
}
