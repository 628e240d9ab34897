//! Runs cases and measures them.

use std::{
    fmt::Debug,
    future::poll_fn,
    hint::black_box,
    pin::pin,
    process::{Command, Stdio},
    time::Instant,
};

use http_body::Body;
use tokio::runtime::Runtime;
use tower::{Service, ServiceExt};

use crate::{
    Options,
    cases::Case,
    upstream::{Request, Template},
};

/// Calls of one case that nothing is measured of: the first ones fill caches, and registries of targets.
const WARM_UP: u64 = 200;
const COUNTED: u64 = 1000;
/// Calls of the shorter of callgrind's runs.
const INSTRUMENTED: u64 = 1000;

/// A service, and what it is called with.
pub(crate) trait Run {
    fn run(&mut self, runtime: &Runtime, calls: u64);

    /// How large the future of one call is.
    fn future_bytes(&self) -> usize;
}

pub(crate) trait Runnable: Sized {
    fn runs(self, template: Template) -> impl Run + 'static;
}

struct Called<S> {
    service: S,
    template: Template,
}

impl<S, B> Runnable for S
where
    S: Service<Request, Response = http::Response<B>> + 'static,
    S::Error: Debug,
    B: Body,
{
    fn runs(self, template: Template) -> impl Run + 'static {
        Called { service: self, template }
    }
}

impl<S, B> Run for Called<S>
where
    S: Service<Request, Response = http::Response<B>>,
    S::Error: Debug,
    B: Body,
{
    fn run(&mut self, runtime: &Runtime, calls: u64) {
        let Called { service, template } = self;
        runtime.block_on(async {
            for _ in 0..calls {
                let response = service.ready().await.unwrap().call(template.request()).await.unwrap();
                assert!(response.status().is_success());
                let mut body = pin!(response.into_body());
                while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                    _ = black_box(frame);
                }
            }
        });
    }

    fn future_bytes(&self) -> usize {
        size_of::<S::Future>()
    }
}

/// What was measured of a case.
pub(crate) struct Measured {
    /// Nanoseconds a call, of each round.
    pub(crate) times: Vec<f64>,
    pub(crate) allocations: f64,
    pub(crate) instructions: Option<f64>,
    pub(crate) future_bytes: usize,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs one case and measures nothing: for a profiler.
pub(crate) fn run_alone(case: &Case, calls: u64) {
    allocation_counter::opt_out(|| case.make().run(&runtime(), calls));
}

pub(crate) fn all(cases: &[Case], options: &Options) -> Vec<Measured> {
    let runtime = runtime();
    let mut runs: Vec<_> = cases.iter().map(Case::make).collect();
    let mut measured: Vec<_> = runs
        .iter_mut()
        .map(|run| Measured {
            times: Vec::new(),
            allocations: allocations(&mut **run, &runtime),
            instructions: None,
            future_bytes: run.future_bytes(),
        })
        .collect();
    for round in 1..=options.rounds {
        eprint!("\rround {round} of {}", options.rounds);
        for (run, measured) in runs.iter_mut().zip(&mut measured) {
            // The allocator of the counter is in place now too, but asks no more than whether it is to count.
            allocation_counter::opt_out(|| {
                run.run(&runtime, WARM_UP.min(options.calls));
                let start = Instant::now();
                run.run(&runtime, options.calls);
                measured.times.push(start.elapsed().as_nanos() as f64 / options.calls as f64);
            });
        }
    }
    eprintln!();
    if options.instructions {
        for (at, (case, measured)) in cases.iter().zip(&mut measured).enumerate() {
            eprint!("\rvalgrind {} of {}", at + 1, cases.len());
            measured.instructions = instructions(case);
        }
        eprintln!();
    }
    measured
}

fn allocations(run: &mut dyn Run, runtime: &Runtime) -> f64 {
    run.run(runtime, WARM_UP);
    let counted = allocation_counter::measure(|| run.run(runtime, COUNTED));
    counted.count_total as f64 / COUNTED as f64
}

/// What one call takes, by callgrind; nothing where there is no valgrind.
fn instructions(case: &Case) -> Option<f64> {
    let [fewer, more] = [1, 2].map(|times| collected(case, times * INSTRUMENTED));
    Some((more? - fewer?) / INSTRUMENTED as f64)
}

fn collected(case: &Case, calls: u64) -> Option<f64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe().ok()?);
    valgrind.args(["--only", case.name, "--iters", &calls.to_string()]);
    let output = valgrind.stdin(Stdio::null()).output().ok()?;
    let report = String::from_utf8_lossy(&output.stderr);
    report.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}
