//! What the gateway adds, beside the least reverse proxy that hyper makes possible.
//!
//! ```sh
//! cargo bench --bench gateway --features gateway
//! cargo bench --bench gateway --features gateway -- --rounds 9 --seconds 2 --only stream
//! ```
//!
//! Four processes on loopback: a mock of two providers ([`upstream`]), a bare hyper proxy ([`bare`]), the gateway, and
//! this one, which makes the load ([`load`]). The proxies have one worker thread each, so that figures are per core;
//! where `taskset` is to be had, they run on CPU 0 and everything else on CPU 1.
//!
//! Every round runs each scenario through the bare proxy and then, at once, through the gateway. A ratio is the
//! gateway's figure to the bare proxy's of the same round, and what is printed is the median over the rounds, with the
//! least and the greatest beside it: ratios carry over to other machines, microseconds do not. When they lie far
//! apart, something else was running.
//!
//! Each load is a closed loop: a connection sends its next request when it has the last answer. At 16 connections and
//! more a latency is thus mostly the wait for whoever is busiest. The column `busy`, the share of its core that the
//! proxy used, says whether that was the proxy; where it was not, the CPU per request says more than the latency.
//!
//! `stream` answers are of 50 chunks, each written to the socket by itself and without a pause: a proxy that falls
//! behind reads several at once, which is cheaper. Its CPU per request thus depends on what else its core does, and
//! varies more than that of plain answers. `stream paced` has 2 ms between the chunks, so that each is forwarded by itself:
//! that is where CPU per chunk is to be read. The time to the first token ends with the first chunk that says something:
//! what comes before it the gateway holds back, on purpose. All of it, and what open streams take:
//!
//! ```sh
//! cargo bench --bench gateway --features gateway -- --only stream
//! ```
//!
//! At the end 1,000 streams (`--open`) are opened through a fresh proxy of each kind, and stall behind their first words;
//! what its resident memory has grown by, divided by their number, is what an open stream takes.
//!
//! `failover` has the first provider answer 500 at once, to every request: the gateway, without retries and with a
//! breaker that never opens, beside a bare proxy that holds the request's body and sends it to the second.
//!
//! `translated` has a client that speaks Anthropic's dialect, which the gateway answers from the same providers; the bare
//! proxy passes its requests on as they are. What that hop adds stands beside what the same dialect takes, in one run.
//!
//! `cached` asks the same of a route that keeps answers: all but the first come from the cache, beside the bare proxy, which asks the
//! provider each time.
//!
//! It prints whether the bars are met, and never fails because one is not. Without cargo's `--bench`, as under
//! `cargo test --benches`, one short round shows that it works.

// A bench stops where a test would, and it measures real time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_types)]

mod bare;
mod load;
mod ours;
mod process;
mod report;
mod upstream;

use std::{future::Future, io::Read, net::SocketAddr, time::Duration};

use self::{
    load::{Kind, Load, Measured},
    process::{Placement, Process},
    report::{Report, Rounds},
    upstream::Manner,
};

const SCENARIOS: [Scenario; 14] = [
    Scenario { name: "json c1", kind: Kind::Json, connections: 1 },
    Scenario { name: "json c16", kind: Kind::Json, connections: 16 },
    Scenario { name: "json c64", kind: Kind::Json, connections: 64 },
    Scenario { name: "stream c1", kind: Kind::Stream, connections: 1 },
    Scenario { name: "stream c16", kind: Kind::Stream, connections: 16 },
    Scenario { name: "stream paced c16", kind: Kind::Paced, connections: 16 },
    Scenario { name: "translated json c1", kind: Kind::Translated, connections: 1 },
    Scenario { name: "translated json c16", kind: Kind::Translated, connections: 16 },
    Scenario { name: "translated stream c1", kind: Kind::TranslatedStream, connections: 1 },
    Scenario { name: "translated stream c16", kind: Kind::TranslatedStream, connections: 16 },
    Scenario { name: "cached json c1", kind: Kind::Cached, connections: 1 },
    Scenario { name: "cached json c16", kind: Kind::Cached, connections: 16 },
    Scenario { name: "failover c1", kind: Kind::Failover, connections: 1 },
    Scenario { name: "failover c16", kind: Kind::Failover, connections: 16 },
];

/// The part that opens streams and leaves them open.
const STALLED: &str = "stream stalled";

const WARM_UP: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    kind: Kind,
    connections: usize,
}

struct Options {
    rounds: usize,
    seconds: f64,
    only: String,
    /// How many streams are left open at once.
    open: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(role) = arguments.iter().position(|argument| argument == process::ROLE) else {
        return compare(&Options::parse(&arguments));
    };
    let addresses: Vec<SocketAddr> = arguments[role + 2..].iter().map(|address| address.parse().unwrap()).collect();
    match arguments[role + 1].as_str() {
        "upstream" => play(upstream::serve()),
        "bare" => play(bare::serve([addresses[0], addresses[1]])),
        "gateway" => play(ours::serve([addresses[0], addresses[1]])),
        other => panic!("no such role: {other}"),
    }
}

/// Runs on one worker thread until the process that started this one is gone.
fn play(role: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async {
        role.await;
        std::process::exit(1);
    });
    _ = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0);
}

impl Options {
    fn parse(arguments: &[String]) -> Self {
        let is_bench = arguments.iter().any(|argument| argument == "--bench");
        let (rounds, seconds, open) = if is_bench { (5, 1.0, 1000) } else { (1, 0.05, 10) };
        let mut options = Options { rounds, seconds, only: String::new(), open };
        let mut arguments = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            match argument.as_str() {
                "--rounds" => options.rounds = value().parse::<usize>().expect("a number of rounds").max(1),
                "--seconds" => {
                    options.seconds = value().parse::<f64>().expect("a number of seconds").clamp(0.01, 600.0)
                }
                "--open" => options.open = value().parse::<usize>().expect("a number of streams").max(1),
                "--only" => options.only = value().clone(),
                other => eprintln!("ignored: {other}; there are --rounds N, --seconds S, --open N and --only TEXT"),
            }
        }
        options
    }
}

fn compare(options: &Options) {
    let scenarios: Vec<_> = SCENARIOS.into_iter().filter(|scenario| scenario.name.contains(&options.only)).collect();
    let placement = Placement::choose();
    let upstream = Process::start("upstream", &[], placement.others());
    let providers = &upstream.addresses;
    let bare = Process::start("bare", providers, placement.measured());
    let gateway = Process::start("gateway", providers, placement.measured());
    let idle = [bare.resident_mib(), gateway.resident_mib()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    let mut results: Vec<Rounds> = scenarios.iter().map(|_| Rounds::new()).collect();
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        for (scenario, rounds) in scenarios.iter().zip(&mut results) {
            runtime.block_on(load::switch(providers[0], scenario.kind.manner()));
            let pair = [&bare, &gateway].map(|proxy| runtime.block_on(run(proxy, *scenario, options.seconds)));
            rounds.push(pair);
        }
    }
    let processes = [&upstream, &bare, &gateway];
    let loaded = [bare.resident_mib(), gateway.resident_mib()];
    let stalled = STALLED.contains(&options.only).then(|| {
        runtime.block_on(load::switch(providers[0], Manner::Stalls));
        let each = ["bare", "gateway"].map(|role| {
            // What earlier requests left to be used again would not be counted.
            let proxy = Process::start(role, providers, placement.measured());
            runtime.block_on(memory_of_streams(&proxy, options.open))
        });
        (options.open, each)
    });
    Report { options, placement, processes, scenarios: &scenarios, results: &results, idle, loaded, stalled }.print();
}

/// How much resident memory each of so many open streams takes, in KiB.
async fn memory_of_streams(proxy: &Process, count: usize) -> Option<f64> {
    let _first = load::open_stalled(proxy.addresses[0], 1).await;
    let before = proxy.resident_mib();
    let _streams = load::open_stalled(proxy.addresses[0], count).await;
    let after = proxy.resident_mib();
    before.zip(after).map(|(before, after)| (after - before) * 1024.0 / count as f64)
}

async fn run(proxy: &Process, scenario: Scenario, seconds: f64) -> Measured {
    // The bare proxy has a second listener, which fails over; the gateway does everything on one.
    let listener = if matches!(scenario.kind, Kind::Failover) { proxy.addresses.len() - 1 } else { 0 };
    let mut load = Load::open(proxy.addresses[listener], scenario.kind, scenario.connections).await;
    load.drive(WARM_UP.min(Duration::from_secs_f64(seconds))).await;
    let before = proxy.cpu_time();
    let mut measured = load.drive(Duration::from_secs_f64(seconds)).await;
    let after = proxy.cpu_time();
    measured.cpu = before.zip(after).map(|(before, after)| after.saturating_sub(before));
    measured
}
