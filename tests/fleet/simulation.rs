//! A fleet of replicas, their clients, and the providers behind them, in paused time.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_failover::{
    CapabilityFilterLayer, CircuitBreakerLayer, Dialect, FailoverLayer, Provider, RateLimitLayer, RequestContext,
    RetryLayer, Route, Statistics, Target, TimeoutLayer,
    circuit_breaker::{CircuitRegistry, CircuitSettings},
    retry::RetryBudget,
    shared_state::{Fleet, InMemory},
};

/// The providers, in the order in which they are tried.
pub(crate) const NAMES: [&str; 3] = ["primary", "second", "third"];
/// The median time to an answer of each, in seconds.
const MEDIANS: [f64; 3] = [1.0, 1.1, 1.2];
/// How far the times are spread: that of 1 of 100 is 2.3 times the median.
const SPREAD: f64 = 0.35;
/// How soon a provider that is down says so.
const REFUSAL: Duration = Duration::from_millis(50);
/// How long a client does something else between two requests, on average.
const THOUGHT: Duration = Duration::from_secs(10);
/// Replicas are not started together.
const STARTED_WITHIN: Duration = Duration::from_secs(30);
/// What happened before is not looked at: everybody has started and is asking.
pub(crate) const SETTLED: Duration = Duration::from_secs(60);

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) replicas: usize,
    /// Of each replica.
    pub(crate) clients: usize,
    /// How long all is well before the primary is down, when that has [settled](SETTLED).
    pub(crate) before: Duration,
    pub(crate) down: Duration,
    pub(crate) after: Duration,
    pub(crate) targets: usize,
    /// Whether all targets are down, and not only the primary.
    pub(crate) all_down: bool,
    /// Which share of its calls fails while it is down.
    pub(crate) fails: f64,
    pub(crate) jitter: bool,
    pub(crate) budget: bool,
    pub(crate) ramp: bool,
    /// Whether replicas tell each other of their open circuits.
    pub(crate) shared: bool,
    /// Whether clients try again on their own, as SDKs do: twice.
    pub(crate) insistent: bool,
}

impl Plan {
    pub(crate) fn goes_down(&self) -> Duration {
        SETTLED + self.before
    }

    pub(crate) fn returns(&self) -> Duration {
        self.goes_down() + self.down
    }

    pub(crate) fn end(&self) -> Duration {
        self.returns() + self.after
    }

    /// What happens, second by second.
    pub(crate) fn run(self) -> Log {
        // Chance within the layers: jitter.
        fastrand::seed(self.seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let world = runtime.block_on(async {
            let world = Arc::new(World::new(self));
            let replicas =
                (0..self.replicas as u64).map(|replica| tokio::spawn(replica_and_clients(world.clone(), replica)));
            for replica in replicas.collect::<Vec<_>>() {
                replica.await.unwrap();
            }
            world
        });
        Log::of(&world)
    }
}

/// The providers, and the counts of what reaches whom.
struct World {
    plan: Plan,
    start: Instant,
    chance: Mutex<fastrand::Rng>,
    state: InMemory,
    seconds: Vec<Second>,
}

/// How many calls there were in a second.
#[derive(Default)]
struct Second {
    /// Requests of clients.
    asked: AtomicU32,
    /// Of them those that failed.
    failed: AtomicU32,
    /// What reached each provider.
    reached: [AtomicU32; NAMES.len()],
}

impl World {
    fn new(plan: Plan) -> Self {
        World {
            plan,
            start: Instant::now(),
            chance: Mutex::new(fastrand::Rng::with_seed(plan.seed)),
            state: InMemory::new(),
            seconds: std::iter::repeat_with(Second::default).take(plan.end().as_secs() as usize).collect(),
        }
    }

    fn count(&self, which: impl FnOnce(&Second) -> &AtomicU32) {
        if let Some(second) = self.seconds.get(self.start.elapsed().as_secs() as usize) {
            which(second).fetch_add(1, Ordering::Relaxed);
        }
    }

    fn draw(&self, draw: impl FnOnce(&mut fastrand::Rng) -> f64) -> f64 {
        draw(&mut self.chance.lock().unwrap())
    }

    fn is_over(&self) -> bool {
        self.start.elapsed() >= self.plan.end()
    }

    /// What a provider makes of a call.
    async fn answer(&self, place: usize) -> StatusCode {
        self.count(|second| &second.reached[place]);
        let goes_down = self.start + self.plan.goes_down();
        let (now, until) = (Instant::now(), goes_down + self.plan.down);
        let fails = (place == 0 || self.plan.all_down) && self.draw(|chance| chance.f64()) < self.plan.fails;
        if fails && (goes_down..until).contains(&now) {
            sleep(REFUSAL).await;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let seconds = MEDIANS[place] * self.draw(spread);
        let done = now + Duration::from_secs_f64(seconds);
        if fails && now < goes_down && done >= goes_down {
            // It goes down under way.
            sleep_until(goes_down).await;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        sleep_until(done).await;
        StatusCode::OK
    }
}

/// A draw around 1, whose logarithm is spread normally.
fn spread(random: &mut fastrand::Rng) -> f64 {
    let (radius, angle) = (-2.0 * (1.0 - random.f64()).ln(), std::f64::consts::TAU * random.f64());
    (SPREAD * radius.sqrt() * angle.cos()).exp()
}

fn place(target: &Target) -> usize {
    NAMES.iter().position(|name| *name == target.provider().unwrap().name()).unwrap()
}

/// One replica, with a stack that shares nothing with the others', and whoever asks it.
async fn replica_and_clients(world: Arc<World>, replica: u64) {
    let plan = world.plan;
    let mut random = fastrand::Rng::with_seed(plan.seed ^ (replica + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    sleep(STARTED_WITHIN.mul_f64(random.f64())).await;
    let target =
        |name: &&str| Target::new(&Provider::new(*name, Dialect::OpenAiChat, "http://localhost").unwrap(), "m");
    let route = Route::new("chat", NAMES[..plan.targets].iter().map(target)).unwrap();
    let failover = FailoverLayer::new(&route).with_statistics(&Statistics::default()).with_ramp(plan.ramp);
    let retry = if plan.budget { RetryLayer::new() } else { RetryLayer::new().with_budget(RetryBudget::new(1e9)) };
    let mut settings = CircuitSettings::default();
    if !plan.jitter {
        settings.jitter = 0.0;
    }
    let circuits = CircuitRegistry::new(settings);
    if plan.shared {
        tokio::spawn(circuits.share(&Fleet::new(world.state.clone())));
    }
    let providers = {
        let world = world.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let place = place(RequestContext::of(request.extensions()).unwrap().target().unwrap());
            let world = world.clone();
            async move {
                let mut response = Response::new(Full::<Bytes>::default());
                *response.status_mut() = world.answer(place).await;
                if !world.plan.jitter {
                    // Waits that providers ask for are not drawn at random.
                    response.headers_mut().insert("retry-after-ms", 125.into());
                }
                Ok::<_, Infallible>(response)
            }
        })
    };
    // As `FailoverStack` composes them.
    let service = ServiceBuilder::new()
        .layer(failover)
        .layer(CapabilityFilterLayer::new())
        .layer(retry)
        .layer(CircuitBreakerLayer::new(circuits))
        .layer(RateLimitLayer::default())
        .layer(TimeoutLayer::new())
        .service(providers);
    let clients = (0..plan.clients).map(|_| {
        let (service, world, random) = (service.clone(), world.clone(), random.fork());
        tokio::spawn(client(service, world, random))
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

/// Asks, waits for the answer, thinks, and asks again.
async fn client<S, B>(service: S, world: Arc<World>, mut random: fastrand::Rng)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    while !world.is_over() {
        sleep(THOUGHT.mul_f64(-(1.0 - random.f64()).ln())).await;
        for again in 0..if world.plan.insistent { 3 } else { 1 } {
            if again > 0 {
                // As the SDKs of OpenAI and Anthropic do: half a second, then a whole one, or up to a quarter less.
                sleep(Duration::from_millis(250 << again).mul_f64(1.0 - 0.25 * random.f64())).await;
            }
            world.count(|second| &second.asked);
            let response = service.clone().oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
            let answered = response.status() == StatusCode::OK;
            // Read to its end: that is when a closed circuit hears of it.
            let _ = response.into_body().collect().await;
            if answered {
                break;
            }
            world.count(|second| &second.failed);
        }
    }
}

/// What happened, second by second.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Log {
    pub(crate) plan: Plan,
    pub(crate) asked: Vec<u32>,
    pub(crate) failed: Vec<u32>,
    /// By provider.
    pub(crate) reached: [Vec<u32>; NAMES.len()],
}

impl Log {
    fn of(world: &World) -> Self {
        let read = |which: &dyn Fn(&Second) -> &AtomicU32| {
            world.seconds.iter().map(|second| which(second).load(Ordering::Relaxed)).collect::<Vec<_>>()
        };
        Log {
            plan: world.plan,
            asked: read(&|second| &second.asked),
            failed: read(&|second| &second.failed),
            reached: [0, 1, 2].map(|place| read(&|second| &second.reached[place])),
        }
    }
}
