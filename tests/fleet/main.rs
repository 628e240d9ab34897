//! What a fleet of replicas does to its providers when the primary goes down and returns: `docs/fleet.md` shows what comes out.
//!
//! The layers are real, each replica has its own stack, and time is paused. `cargo test --test fleet` holds a small fleet to the
//! claims, and so does `FLEET_SEED=7` with other luck. The page's is 200 replicas with 50 clients each, which wants an optimised build:
//! `UPDATE_DOCS=1 cargo test --release --test fleet -- --ignored` writes its tables and plots anew, and without `UPDATE_DOCS` compares them.

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "../plot/mod.rs"]
mod plot;
mod report;
mod simulation;

use std::time::Duration;

use report::{draw_fallback, draw_primary, table};
use simulation::{Log, Plan};

const MINUTE: Duration = Duration::from_secs(60);

/// The primary is down for ten minutes.
const OUTAGE: Plan = Plan {
    seed: 1,
    replicas: 200,
    clients: 50,
    before: MINUTE,
    down: Duration::from_secs(600),
    after: Duration::from_secs(90),
    targets: 2,
    fails: 1.0,
    all_down: false,
    jitter: true,
    budget: true,
    ramp: false,
    shared: false,
    insistent: false,
};

/// What is compared, and what it is called on the page.
fn variants(plan: Plan) -> Vec<(&'static str, Plan)> {
    let three = Plan { targets: 3, ..plan };
    let all_down = Plan { all_down: true, down: plan.down.min(2 * MINUTE), insistent: true, ..plan };
    let flaky = Plan { fails: 0.3, ..plan };
    vec![
        ("as it is by default", plan),
        ("without jitter", Plan { jitter: false, ..plan }),
        ("without a retry budget", Plan { budget: false, ..plan }),
        ("with shared state", Plan { shared: true, ..plan }),
        ("with shared state, without jitter", Plan { shared: true, jitter: false, ..plan }),
        ("three targets", three),
        ("three targets, `ramp = true`", Plan { ramp: true, ..three }),
        ("both targets are down, clients try thrice", all_down),
        ("the same without a retry budget", Plan { budget: false, ..all_down }),
        ("the primary fails 30 % of its calls", flaky),
        ("the same without a retry budget", Plan { budget: false, ..flaky }),
    ]
}

/// Two at a time.
fn run(variants: &[(&'static str, Plan)]) -> Vec<(&'static str, Log)> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mine = std::iter::from_fn(|| variants.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        mine.map(|(name, plan)| (*name, plan.run())).collect::<Vec<_>>()
    };
    let place = |log: &Log| variants.iter().position(|(_, plan)| *plan == log.plan).unwrap();
    std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(work));
        let mut logs: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        logs.sort_by_key(|(_, log)| place(log));
        logs
    })
}

/// What every fleet is held to, whatever its luck.
fn check(logs: &[(&'static str, Log)]) {
    for (name, log) in logs {
        let plan = log.plan;
        if !plan.all_down {
            assert_eq!(log.failed.iter().sum::<u32>(), 0, "{name}: failed requests");
        }
        if plan.fails < 1.0 {
            // Whoever fails a call causes another, whatever anybody does.
            continue;
        }
        let amplification = [log.amplification(), log.worst_minute()];
        assert!(amplification.iter().all(|it| *it <= 1.1), "{name}: {amplification:?}");
        if plan.all_down {
            continue;
        }
        let (probes, usual, back) = (log.probes(), log.usual(), log.seconds_until_back());
        assert!(back.is_some_and(|back| back <= 36), "{name}: back after {back:?}");
        // A probe an opening of half a minute, of each replica or of them all.
        let each = if plan.shared { 1.0 } else { plan.replicas as f64 };
        assert!(probes.mean <= each / 27.0 + 0.05, "{name}: {probes:?}");
        assert!(f64::from(log.busiest_of_return()) <= 1.3 * usual, "{name}: {} at once", log.busiest_of_return());
    }
    let of = |name: &str| &logs.iter().find(|it| it.0 == name).unwrap().1;
    let (jitter, none) = (of("as it is by default"), of("without jitter"));
    assert!(jitter.probes().peak < none.probes().peak, "{:?} and {:?}", jitter.probes(), none.probes());
    let [at_once, ramped] = ["three targets", "three targets, `ramp = true`"].map(|name| of(name).fallback_share());
    assert!(at_once > 0.99 && ramped < 0.85, "of the first ten seconds' calls: {at_once} and {ramped}");
}

fn seed() -> u64 {
    std::env::var("FLEET_SEED").map_or(1, |seed| seed.parse().unwrap())
}

#[test]
fn a_small_fleet_keeps_its_promises() {
    let plan = Plan { seed: seed(), replicas: 20, before: MINUTE / 3, down: 4 * MINUTE, ..OUTAGE };
    let logs = run(&variants(plan));
    println!("{}", table(&logs));
    check(&logs);
}

#[test]
fn what_happens_depends_on_the_seed_only() {
    let plan = Plan { replicas: 5, clients: 20, down: MINUTE, shared: true, targets: 3, ramp: true, ..OUTAGE };
    let [first, second, other] = [7, 7, 8].map(|seed| Plan { seed, ..plan }.run());
    assert_eq!(first, second);
    assert_ne!(first, other);
}

#[test]
#[ignore = "wants an optimised build: cargo test --release --test fleet -- --ignored"]
fn the_page_shows_what_two_hundred_replicas_do() {
    const BEGIN: &str = "<!-- generated by tests/fleet -->\n";
    const END: &str = "\n<!-- end of what is generated -->";
    let logs = run(&variants(Plan { seed: seed(), ..OUTAGE }));
    let table = table(&logs);
    println!("{table}");
    check(&logs);
    if seed() != 1 {
        return;
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fleet.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(shown, table, "UPDATE_DOCS=1 writes it anew");
    }
    draw_primary(&logs).keep();
    draw_fallback(&logs).keep();
}
