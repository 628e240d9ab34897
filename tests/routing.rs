//! What each strategy does with an hour of requests, in the same made-up worlds: `docs/routing.md` shows what comes out.
//!
//! Time is paused and chance is seeded: what a target would do to a request depends on the seed, the request and the target only,
//! so that strategies are compared on the same luck. `ROUTING_SEED=7 cargo test --test routing -- --nocapture` makes another
//! world, prints its tables and holds the claims against it, too; `ROUTING_SEEDS=20` holds them against twenty others. `UPDATE_DOCS=1` writes the page's tables and plots anew.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod plot;

use std::{
    convert::Infallible,
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, sleep, sleep_until};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_failover::{
    CircuitBreakerLayer, Dialect, FailoverLayer, Price, Provider, RateLimits, RateLimitsRegistry, RequestContext,
    Requirements, Route, Statistics, Target,
    circuit_breaker::CircuitRegistry,
    failover::{Adaptive, Cost, Latency, Weighted},
};

use plot::{Axis, Mark, Panel, Plot, Tone};

const HOUR: Duration = Duration::from_secs(3_600);
const PER_SECOND: f64 = 5.0;
const NAMES: [&str; 3] = ["primary", "second", "third"];
/// Dollars for a million tokens of input and output, and the median time to the first token.
const TARGETS: [(f64, f64, f64); 3] = [(2.0, 8.0, 0.5), (2.4, 9.6, 0.55), (3.0, 15.0, 0.8)];
/// How far the times to the first token are spread: that of 1 of 100 is 2.3 times the median.
const SPREAD: f64 = 0.35;

#[derive(Clone, Copy, Debug, PartialEq)]
enum World {
    Normal,
    Outage,
    BrownOut(BrownOut),
    Quota,
    PriceChange,
}

impl World {
    const ALL: [(World, &'static str, &'static str); 5] = [
        (World::Normal, "Normal", "All is well."),
        (World::Outage, "Outage", "From minute 20 to minute 30, the primary answers every request with a 503."),
        (
            World::BrownOut(BrownOut::SHOWN),
            "Brown-out",
            "From minute 20 to minute 30, the primary takes six times as long, and one request of ten fails after a second.",
        ),
        (
            World::Quota,
            "Quota exhaustion",
            "The primary takes 200 requests a minute, of the 300 that come, and says in its headers how many are left; beyond, it \
             answers with a 429.",
        ),
        (World::PriceChange, "Price change", "From minute 30 on, the primary costs three times as much."),
    ];

    fn file(self) -> &'static str {
        match self {
            World::Normal => "routing-normal",
            World::Outage => "routing-outage",
            World::BrownOut(_) => "routing-brown-out",
            World::Quota => "routing-quota",
            World::PriceChange => "routing-price",
        }
    }

    fn is_bad_at(self, elapsed: Duration) -> bool {
        let since = |minute: u64| elapsed.as_secs().checked_sub(60 * minute);
        match self {
            World::Outage => since(20).is_some_and(|since| since < 600),
            World::BrownOut(BrownOut { minutes, twice, .. }) => [Some(20), twice.then_some(40)]
                .into_iter()
                .flatten()
                .any(|minute| since(minute).is_some_and(|since| since < 60 * minutes)),
            _ => false,
        }
    }

    fn price(self, place: usize, elapsed: Duration) -> Price {
        let (input, output, _) = TARGETS[place];
        let factor = if self == World::PriceChange && place == 0 && elapsed >= HOUR / 2 { 3.0 } else { 1.0 };
        Price::new(input * factor, output * factor).unwrap()
    }

    fn route(self, elapsed: Duration) -> Route {
        let target = |(place, name)| {
            let provider = Provider::new(name, Dialect::OpenAiChat, "http://localhost").unwrap();
            Target::new(&provider, "m").with_price(self.price(place, elapsed))
        };
        Route::new("chat", NAMES.into_iter().enumerate().map(target)).unwrap()
    }
}

/// How the primary does badly for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
struct BrownOut {
    minutes: u64,
    /// Whether it happens at minute 40, too.
    twice: bool,
    /// How many times as long its answers take.
    slower: f64,
    /// Which share of its calls fails after a second.
    fails: f64,
    /// The medians of the others' times, in seconds.
    others: [f64; 2],
}

impl BrownOut {
    const SHOWN: BrownOut =
        BrownOut { minutes: 10, twice: false, slower: 6.0, fails: 0.1, others: [TARGETS[1].2, TARGETS[2].2] };
}

const STRATEGIES: [&str; 5] = ["ordered", "weighted", "latency", "cost", "adaptive"];

/// What happened to a request.
#[derive(Clone, Copy)]
struct Told {
    at: Duration,
    took: Duration,
    by: Option<usize>,
    cost: f64,
}

/// One number between 0 and 1 after the other, which depend on these only.
fn chance(seed: u64, request: u64, place: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed ^ (request * 8 + place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A draw around 1, whose logarithm is spread normally.
fn spread(random: &mut fastrand::Rng, by: f64) -> f64 {
    let (radius, angle) = (-2.0 * (1.0 - random.f64()).ln(), std::f64::consts::TAU * random.f64());
    (by * radius.sqrt() * angle.cos()).exp()
}

/// The primary's window of 200 requests a minute.
#[derive(Default)]
struct Quota {
    minute: AtomicU64,
    used: AtomicU64,
}

impl Quota {
    /// Takes one and says what is left, and for how many seconds; `None` when there is none.
    fn take(&self, elapsed: Duration) -> (Option<u64>, u64) {
        let minute = elapsed.as_secs() / 60;
        if self.minute.swap(minute, Ordering::Relaxed) != minute {
            self.used.store(0, Ordering::Relaxed);
        }
        let left = 200_u64.checked_sub(self.used.fetch_add(1, Ordering::Relaxed) + 1);
        (left, 60 - elapsed.as_secs() % 60)
    }
}

struct Simulation {
    world: World,
    seed: u64,
    start: Instant,
    quota: Quota,
    limits: RateLimitsRegistry,
}

impl Simulation {
    /// What a target does with a request: after how long, and with what status.
    fn fate(&self, request: u64, place: usize) -> (Duration, u16) {
        let mut random = chance(self.seed, request, place as u64);
        let median = match (self.world, place) {
            (World::BrownOut(BrownOut { others, .. }), 1..) => others[place - 1],
            _ => TARGETS[place].2,
        };
        let mut seconds = median * spread(&mut random, SPREAD);
        if place == 0 {
            let elapsed = self.start.elapsed();
            match self.world {
                World::Outage if self.world.is_bad_at(elapsed) => return (Duration::from_millis(50), 503),
                World::BrownOut(BrownOut { slower, fails, .. }) if self.world.is_bad_at(elapsed) => {
                    if random.f64() < fails {
                        return (Duration::from_secs(1), 503);
                    }
                    seconds *= slower;
                }
                World::Quota => {
                    let (left, resets) = self.quota.take(elapsed);
                    let mut headers = HeaderMap::new();
                    headers.insert("x-ratelimit-limit-requests", 200.into());
                    headers.insert("x-ratelimit-remaining-requests", left.unwrap_or(0).into());
                    headers.insert("x-ratelimit-reset-requests", format!("{resets}s").parse().unwrap());
                    self.limits.record(NAMES[0], RateLimits::from_headers(&headers).unwrap());
                    if left.is_none() {
                        return (Duration::from_millis(50), 429);
                    }
                }
                _ => {}
            }
        }
        (Duration::from_secs_f64(seconds), 200)
    }
}

/// An hour of requests.
fn simulate(world: World, strategy: &'static str, seed: u64) -> Outcome {
    // Circuits draw how long they are open.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let told = runtime.block_on(async move {
        let simulation = Arc::new(Simulation {
            world,
            seed,
            start: Instant::now(),
            quota: Quota::default(),
            limits: RateLimitsRegistry::default(),
        });
        let start = simulation.start;
        let (statistics, circuits) = (Statistics::default(), CircuitRegistry::default());
        let stack = |route: &Route| {
            let layer = FailoverLayer::new(route).with_statistics(&statistics).with_rate_limits(&simulation.limits);
            let layer = match strategy {
                "weighted" => layer.with_strategy(Weighted::new(route)),
                "latency" => layer.with_strategy(Latency::new(route, &statistics).with_seed(seed)),
                "cost" => layer.with_strategy(Cost::new(route, &statistics)),
                "adaptive" => layer.with_strategy(Adaptive::new(route, &statistics)),
                _ => layer,
            };
            let simulation = simulation.clone();
            let targets = service_fn(move |request: Request<Full<Bytes>>| {
                let number = request.extensions().get::<Number>().unwrap().0;
                let context = RequestContext::of(request.extensions()).unwrap();
                let (after, status) = simulation.fate(number, place(context.target().unwrap()));
                async move {
                    sleep(after).await;
                    let answer = Response::builder().status(status);
                    Ok::<_, Infallible>(answer.body(Full::<Bytes>::default()).unwrap())
                }
            });
            let circuits = CircuitBreakerLayer::new(circuits.clone());
            ServiceBuilder::new().layer(layer).layer(circuits).service(targets)
        };
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut service = stack(&world.route(Duration::ZERO));
        let (mut arrivals, mut at, mut reloaded) = (fastrand::Rng::with_seed(seed), Duration::ZERO, false);
        let mut running = tokio::task::JoinSet::new();
        for number in 0.. {
            at += Duration::from_secs_f64(-(1.0 - arrivals.f64()).ln() / PER_SECOND);
            if at >= HOUR {
                break;
            }
            sleep_until(start + at).await;
            if at >= HOUR / 2 && !std::mem::replace(&mut reloaded, true) && world == World::PriceChange {
                // As when the configuration is loaded anew: what was learnt stays.
                service = stack(&world.route(at));
            }
            let mut random = chance(seed, number, 7);
            let input = (1_000.0 * spread(&mut random, 0.8)) as u64;
            let output = (300.0 * spread(&mut random, 0.5)) as u64;
            let needs =
                Requirements { input_tokens: input, max_output_tokens: Some(output), ..Requirements::default() };
            let context = RequestContext::new().with_requirements(needs);
            let mut request = Request::new(Full::<Bytes>::default());
            request.extensions_mut().insert(context.clone());
            request.extensions_mut().insert(Number(number));
            let (call, told) = (service.clone().oneshot(request), told.clone());
            running.spawn(async move {
                let answered = call.await.unwrap().status() == 200;
                let by = context.attempts().answered().filter(|_| answered);
                let by = by.map(|it| place(it.target().unwrap()));
                let mut usage = tower_failover::Usage::default();
                (usage.input, usage.output) = (input, output);
                let cost = by.map_or(0.0, |place| world.price(place, at).cost(&usage).usd());
                told.lock().unwrap().push(Told { at, took: start.elapsed() - at, by, cost });
            });
            while running.try_join_next().is_some() {}
        }
        while running.join_next().await.is_some() {}
        drop(service);
        std::mem::take(&mut *told.lock().unwrap())
    });
    Outcome::of(told)
}

fn place(target: &Target) -> usize {
    NAMES.iter().position(|name| *name == target.provider().unwrap().name()).unwrap()
}

#[derive(Clone, Copy)]
struct Number(u64);

struct Outcome {
    /// Of all requests, those that each target answered.
    shares: [f64; 3],
    failed: usize,
    p50: Duration,
    p99: Duration,
    /// Of a thousand requests.
    cost: f64,
    /// How often another target than before answered most of ten seconds' requests.
    flaps: usize,
    /// The primary's share in each two minutes.
    primary: Vec<f64>,
    /// The same of all who answered.
    parts: Vec<[f64; 3]>,
    /// The median and the 99th of 100 times in each two minutes, in seconds.
    times: Vec<[f64; 2]>,
}

/// What share of the times is not longer.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() as f64 * share).ceil() as usize).max(1) - 1]
}

impl Outcome {
    fn of(told: Vec<Told>) -> Self {
        let all = told.len() as f64;
        let mut took: Vec<_> = told.iter().map(|it| it.took).collect();
        took.sort_unstable();
        let mut tens = vec![[0_usize; 3]; (HOUR.as_secs() / 10) as usize];
        let mut minutes = vec![(Vec::new(), [0.0; 3]); (HOUR.as_secs() / 120) as usize];
        for it in &told {
            let (took, by) = &mut minutes[(it.at.as_secs() / 120) as usize];
            took.push(it.took);
            it.by.into_iter().for_each(|place| by[place] += 1.0);
            it.by.into_iter().for_each(|by| tens[(it.at.as_secs() / 10) as usize][by] += 1);
        }
        let leads = tens.iter().map(|counts| (0..3).max_by_key(|place| (counts[*place], 3 - place)).unwrap());
        let leads: Vec<_> = leads.collect();
        let parts: Vec<_> = minutes.iter().map(|(took, by)| by.map(|count| count / took.len() as f64)).collect();
        let times = minutes.iter_mut().map(|(took, _)| {
            took.sort_unstable();
            [0.5, 0.99].map(|share| quantile(took, share).as_secs_f64())
        });
        let times = times.collect();
        Outcome {
            shares: [0, 1, 2].map(|place| told.iter().filter(|it| it.by == Some(place)).count() as f64 / all),
            failed: told.iter().filter(|it| it.by.is_none()).count(),
            p50: quantile(&took, 0.5),
            p99: quantile(&took, 0.99),
            cost: told.iter().map(|it| it.cost).sum::<f64>() / all * 1_000.0,
            flaps: leads.windows(2).filter(|pair| pair[0] != pair[1]).count(),
            primary: parts.iter().map(|parts| parts[0]).collect(),
            parts,
            times,
        }
    }

    fn row(&self, strategy: &str) -> String {
        let [a, b, c] = self.shares.map(|share| (share * 100.0).round());
        let (p50, p99) = (self.p50.as_secs_f64(), self.p99.as_secs_f64());
        let Outcome { failed, cost, flaps, .. } = self;
        format!("| `{strategy}` | {a} / {b} / {c} % | {p50:.2} s | {p99:.2} s | ${cost:.2} | {flaps} | {failed} |")
    }

    /// Who answered, and how soon, over the hour.
    fn panels(&self, strategy: &str) -> [Panel; 2] {
        let minutes = Axis::new(0.0, 60.0, &[(0.0, "0"), (30.0, "30"), (60.0, "60 min")]);
        // Drawn as steps: each two minutes stand for themselves.
        let steps = |values: &mut dyn Iterator<Item = f64>| {
            values
                .enumerate()
                .flat_map(|(place, value)| [0.0, 2.0].map(|more| (2.0 * place as f64 + more, value)))
                .collect()
        };
        let sums = |places: usize| steps(&mut self.parts.iter().map(|parts| parts[..places].iter().sum()));
        let marks = [(Tone::Third, 3), (Tone::Second, 2), (Tone::First, 1)];
        let who = Panel {
            title: strategy.into(),
            x: Axis { ticks: Vec::new(), ..minutes.clone() },
            y: Axis::new(0.0, 1.0, &[(0.0, "0"), (0.5, "50 %"), (1.0, "100 %")]),
            marks: marks.map(|(tone, places)| Mark { tone, filled: true, points: sums(places) }).into(),
            words: Vec::new(),
        };
        let marks = [(Tone::Strong, 1), (Tone::Faint, 0)];
        let points = |which: usize| steps(&mut self.times.iter().map(|times| times[which]));
        let how_soon = Panel {
            title: String::new(),
            x: minutes,
            y: Axis::new(0.0, 8.0, &[(0.0, "0"), (4.0, "4 s"), (8.0, "8 s")]),
            marks: marks.map(|(tone, which)| Mark { tone, filled: false, points: points(which) }).into(),
            words: Vec::new(),
        };
        [who, how_soon]
    }
}

fn tables(seed: u64) -> (String, Vec<Plot>) {
    let (mut page, mut plots) = (String::new(), Vec::new());
    for (world, name, about) in World::ALL {
        let outcomes = STRATEGIES.map(|strategy| (strategy, simulate(world, strategy, seed)));
        let file = world.file();
        let heads = "| strategy | share of primary / second / third | p50 | p99 | 1,000 requests | flaps | failed |";
        let _ = write!(
            page,
            "\n### {name}\n\n{about}\n\n![Who answers, and how soon, over the hour](plots/{file}.svg)\n\n"
        );
        let _ = write!(page, "{heads}\n| --- | --- | --- | --- | --- | --- | --- |\n");
        outcomes.iter().for_each(|(strategy, outcome)| _ = writeln!(page, "{}", outcome.row(strategy)));
        let (mut who, mut how_soon): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        for [a, b] in outcomes.iter().map(|(strategy, outcome)| outcome.panels(strategy)) {
            who.push(a);
            how_soon.push(b);
        }
        // Where the first strategy leaves room for it.
        who[1].words = vec![
            ((3.0, 0.12), "primary", Tone::Strong),
            ((3.0, 0.45), "second", Tone::Strong),
            ((3.0, 0.79), "third", Tone::Strong),
        ];
        how_soon[0].title = "p99, and p50 in grey".into();
        let about =
            format!("{name}: the share of each target and the times of answers under each strategy, over an hour");
        plots.push(Plot {
            name: file,
            about,
            columns: STRATEGIES.len(),
            size: (150.0, 90.0),
            panels: who.into_iter().chain(how_soon).collect(),
        });
    }
    (page, plots)
}

fn unseen_seed() -> Option<u64> {
    std::env::var("ROUTING_SEED").ok().map(|seed| seed.parse().unwrap())
}

/// The seed of the page's tables.
const SHOWN: u64 = 1;

#[test]
fn the_page_shows_what_comes_out() {
    if let Some(seed) = unseen_seed() {
        println!("{}", tables(seed).0);
    }
    let (tables, plots) = tables(SHOWN);
    plots.iter().for_each(Plot::keep);
    keep_in_page("tables", &tables);
}

/// Writes a part of the page with `UPDATE_DOCS=1`; else it must be there as it is.
fn keep_in_page(part: &str, new: &str) {
    let begin = format!("<!-- generated by tests/routing.rs: {part} -->\n");
    let end = "\n<!-- end of what is generated -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/routing.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(&begin).unwrap();
    let (shown, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{begin}{new}{end}{after}")).unwrap();
    } else {
        assert_eq!(shown, new, "UPDATE_DOCS=1 writes it anew");
    }
}

#[test]
fn in_a_brown_out_adaptive_has_the_better_p99_at_five_percent_more_cost_at_most_and_flaps_twice_at_most() {
    // An hour takes seconds without optimisation: `ROUTING_SEEDS=20` takes them all.
    let others = std::env::var("ROUTING_SEEDS").map_or(4, |seeds| seeds.parse().unwrap());
    let seeds: Vec<u64> = (1..=3).chain((0..others).map(|seed| 1_000 + 7_919 * seed)).chain(unseen_seed()).collect();
    let check = |seed: &u64| {
        let world = World::BrownOut(BrownOut::SHOWN);
        let (ordered, adaptive) = (simulate(world, "ordered", *seed), simulate(world, "adaptive", *seed));
        println!("seed {seed}:\n{}\n{}", ordered.row("ordered"), adaptive.row("adaptive"));
        assert!(adaptive.p99 < ordered.p99 / 2, "seed {seed}: {:?} and {:?}", adaptive.p99, ordered.p99);
        assert!(adaptive.cost <= ordered.cost * 1.05, "seed {seed}: {} and {}", adaptive.cost, ordered.cost);
        assert!(adaptive.flaps <= 2 && adaptive.failed == 0, "seed {seed}: {} flaps", adaptive.flaps);
    };
    let (some, others) = seeds.split_at(seeds.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| some.iter().for_each(check));
        scope.spawn(|| others.iter().for_each(check));
    });
}

/// Other brown-outs, and what they are called on the page.
fn brown_outs() -> Vec<(&'static str, BrownOut)> {
    let shown = BrownOut::SHOWN;
    let slow_others = BrownOut { others: [1.5, 2.0], ..shown };
    vec![
        ("the one above", shown),
        ("2 minutes", BrownOut { minutes: 2, ..shown }),
        ("5 minutes", BrownOut { minutes: 5, ..shown }),
        ("20 minutes", BrownOut { minutes: 20, ..shown }),
        ("2 times as long", BrownOut { slower: 2.0, ..shown }),
        ("3 times as long", BrownOut { slower: 3.0, ..shown }),
        ("10 times as long", BrownOut { slower: 10.0, ..shown }),
        ("2 times as long, none fails", BrownOut { slower: 2.0, fails: 0.0, ..shown }),
        ("6 times as long, none fails", BrownOut { fails: 0.0, ..shown }),
        ("5 % fail", BrownOut { fails: 0.05, ..shown }),
        ("30 % fail", BrownOut { fails: 0.3, ..shown }),
        ("30 % fail, as fast as ever", BrownOut { fails: 0.3, slower: 1.0, ..shown }),
        ("two of 2 minutes", BrownOut { minutes: 2, twice: true, ..shown }),
        ("two of 5 minutes", BrownOut { minutes: 5, twice: true, ..shown }),
        ("two of 10 minutes", BrownOut { twice: true, ..shown }),
        ("the others take 1.5 and 2 s", slow_others),
        ("the same, 2 times as long", BrownOut { slower: 2.0, ..slow_others }),
        ("the same, 2 times as long, none fails", BrownOut { slower: 2.0, fails: 0.0, ..slow_others }),
        ("the same, 3 times as long", BrownOut { slower: 3.0, ..slow_others }),
    ]
}

#[test]
#[ignore = "wants an optimised build: cargo test --release --test routing -- --ignored"]
fn the_page_shows_where_adaptive_keeps_its_claims_and_where_not() {
    let seeds: u64 = std::env::var("ROUTING_SEEDS").map_or(20, |seeds| seeds.parse().unwrap());
    let row = |(name, brown_out): &(&'static str, BrownOut)| {
        let world = World::BrownOut(*brown_out);
        let both = (0..seeds).map(|seed| ["ordered", "adaptive"].map(|it| simulate(world, it, 1 + 7_919 * seed)));
        let both: Vec<_> = both.collect();
        let median = |which: usize| {
            let mut all: Vec<_> = both.iter().map(|pair| pair[which].p99.as_secs_f64()).collect();
            all.sort_unstable_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let better = both.iter().filter(|[ordered, adaptive]| adaptive.p99 < ordered.p99).count();
        let dearer = both.iter().map(|[ordered, adaptive]| adaptive.cost / ordered.cost - 1.0);
        let flaps = |which: usize| both.iter().map(|pair| pair[which].flaps).max().unwrap();
        let kept = both.iter().filter(|[ordered, adaptive]| {
            adaptive.p99 < ordered.p99 && adaptive.cost <= 1.05 * ordered.cost && adaptive.flaps <= 2
        });
        let failed: usize = both.iter().flatten().map(|outcome| outcome.failed).sum();
        assert_eq!(failed, 0, "{name}");
        format!(
            "| {name} | {:.2} s | {:.2} s | {better} | {:+.1} % | {} / {} | {} |\n",
            median(0),
            median(1),
            100.0 * dearer.fold(f64::MIN, f64::max),
            flaps(0),
            flaps(1),
            kept.count(),
        )
    };
    let (brown_outs, mut table) = (
        brown_outs(),
        format!(
            "\n| brown-out | p99 `ordered` | p99 `adaptive` | better, of {seeds} seeds | dearer, at most | flaps of each, at most | all kept, of {seeds} |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n"
        ),
    );
    let (some, others) = brown_outs.split_at(brown_outs.len() / 2);
    std::thread::scope(|scope| {
        let rows = [some, others].map(|part| scope.spawn(|| part.iter().map(row).collect::<String>()));
        rows.into_iter().for_each(|rows| table.push_str(&rows.join().unwrap()));
    });
    println!("{table}");
    if std::env::var_os("ROUTING_SEEDS").is_none() {
        keep_in_page("brown-outs", &table);
    }
}

#[test]
fn a_quota_that_is_told_of_is_not_run_into() {
    let told = simulate(World::Quota, "ordered", SHOWN);
    assert_eq!(told.failed, 0);
    // 190 of 200 are taken before the others come first, of 300.
    assert!((0.58..0.66).contains(&told.shares[0]), "{:?}", told.shares);
}

#[test]
fn the_cheapest_leads_when_prices_change() {
    let told = simulate(World::PriceChange, "cost", SHOWN);
    assert!(told.primary[..14].iter().all(|share| *share == 1.0), "{:?}", told.primary);
    assert!(told.primary[16..].iter().all(|share| *share == 0.0), "{:?}", told.primary);
}

/// By whom each of a number of requests is answered that come at once; the targets that fail are named.
async fn at_once(layer: &FailoverLayer, requests: usize, failing: &'static [&'static str]) -> [usize; 3] {
    let service = ServiceBuilder::new().layer(layer.clone()).service(service_fn(move |request: Request<Full<Bytes>>| {
        let target = RequestContext::of(request.extensions()).unwrap().target().unwrap();
        let status = if failing.contains(&NAMES[place(target)]) { 503 } else { 200 };
        async move { Ok::<_, Infallible>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap()) }
    }));
    let mut answered = [0; 3];
    for _ in 0..requests {
        let (context, mut request) = (RequestContext::new(), Request::new(Full::<Bytes>::default()));
        request.extensions_mut().insert(context.clone());
        assert_eq!(service.clone().oneshot(request).await.unwrap().status(), 200);
        answered[place(context.attempts().answered().unwrap().target().unwrap())] += 1;
    }
    answered
}

#[tokio::test(start_paused = true)]
async fn a_fallback_is_ramped_and_no_request_is_refused_for_it() {
    let layer = || {
        let layer = FailoverLayer::new(&World::Normal.route(Duration::ZERO));
        layer.with_statistics(&Statistics::default()).with_ramp(true)
    };
    let ramped = layer();
    assert_eq!(at_once(&ramped, 200, &[]).await, [200, 0, 0], "what a target is meant to have, it gets at once");
    for second in [10, 20, 40, 80, 100] {
        assert_eq!(at_once(&ramped, 100, &["primary"]).await, [0, second, 100 - second]);
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(at_once(&layer(), 100, &["primary", "third"]).await, [0, 100, 0], "the last one that is left gets all");
    assert_eq!(at_once(&layer(), 100, &["primary", "second"]).await, [0, 0, 100]);
    let without = FailoverLayer::new(&World::Normal.route(Duration::ZERO)).with_statistics(&Statistics::default());
    assert_eq!(at_once(&without, 100, &["primary"]).await, [0, 100, 0]);
}
