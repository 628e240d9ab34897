//! The gateway: an HTTP server that speaks the providers' own APIs and answers from whichever target can.
//!
//! ```no_run
//! use std::path::Path;
//! use tower_failover::{config::Config, gateway::Gateway};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::load(Path::new("gateway.toml"))?;
//! let listener = tokio::net::TcpListener::bind(config.listen).await?;
//! let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
//! Gateway::new(&config).serve(listener, stop).await?;
//! # Ok(()) }
//! ```
//!
//! It is thin: everything that keeps answers coming is in the layers. To put those into a server of your own, take a
//! [`FailoverStack`](crate::FailoverStack), or [`Gateway::router`] to nest the whole.

mod access;
mod banner;
pub mod check;
mod connection;
mod cut;
mod demo;
pub mod drill;
pub mod explain;
mod generate;
mod hangup;
mod headers;
mod health;
mod keep_alive;
pub mod log;
mod metrics;
mod models;
mod reload;
mod server;
mod service;
mod spending;
mod stack;
mod status;
mod stop;
mod terminal;
mod terminated;
mod tls;
mod upstream;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use http::StatusCode;

use self::{
    access::{Access, Slots},
    health::HealthChecks,
    metrics::Telemetry,
    stack::Stack,
    status::{Feed, Status},
    upstream::Upstream,
};
pub use self::{demo::Demo, stop::stop_signal, terminal::Paint};
use crate::{
    Dialect, Fault, FaultKind, ResponseBody, TelemetryLayer,
    body::Asker,
    config::{Config, RouteConfig, Shared},
    fault_injection::FaultSwitch,
    statistics::Account,
};

/// A gateway, ready to serve. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Upstream,
    live: ArcSwap<Live>,
    /// Held by whoever puts another configuration in the place of this one.
    reloading: Mutex<()>,
    /// Held by whoever changes what one configuration hands on to the next, so that nothing falls between both.
    handing_on: Mutex<()>,
    telemetry: Telemetry,
    /// For requests that no route is for.
    unrouted: TelemetryLayer,
    status: Status,
    demo: Option<Demo>,
    stopping: AtomicBool,
    slots: Slots,
    health: HealthChecks,
    /// The first address that it is served at and that others than this machine can reach, if there is one.
    exposed: OnceLock<SocketAddr>,
}

/// What a configuration was made into. A request looks once which one is live, and is served by that to its end.
#[derive(Debug)]
struct Live {
    config: Config,
    shared: Shared,
    access: Access,
    /// In the order of the configuration's routes.
    stacks: Vec<Stack>,
    /// What is spent on each of them.
    accounts: Vec<Arc<Account>>,
}

impl Live {
    fn new(config: Config, shared: Shared, client: &Upstream, telemetry: &Telemetry, before: Option<&Access>) -> Self {
        let stack =
            |route: &RouteConfig| Stack::new(route, &shared, config.max_body, client, telemetry.layer(&route.route));
        let stacks = config.routes.iter().map(stack).collect();
        let access = Access::new(&config, shared.fleet_of_limits(), before);
        let account = |route: &RouteConfig| shared.statistics.route_account(route.route.name());
        let accounts = config.routes.iter().map(account).collect();
        Live { config, shared, access, stacks, accounts }
    }

    /// Everybody who has a key, in the order of the configuration, and what they spent.
    fn clients(&self) -> impl Iterator<Item = (&str, &Arc<Account>)> {
        let keys = self.config.auth.keys.iter();
        keys.filter_map(|key| Some((&*key.name, self.access.account(key)?)))
    }

    /// Asks for the keys that may change, again and again, and for what other replicas learn. Where there is no runtime,
    /// whoever serves the gateway does it.
    fn keep_keys_fresh(&self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.config.keep_keys_fresh().for_each(|task| _ = runtime.spawn(task));
            // Of several, the last goes on.
            self.shared.share_circuits().into_iter().for_each(|task| _ = runtime.spawn(task));
        }
    }
}

impl Gateway {
    /// Builds what the configuration says. Nothing is sent yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::with_faults(config, &FaultSwitch::new())
    }

    /// The same, with a switch by which calls to providers can be made to fail: for drills.
    #[must_use]
    pub fn with_faults(config: &Config, faults: &FaultSwitch) -> Self {
        Self::build(config.clone(), None, faults)
    }

    /// A gateway on simulated providers, which can be taken down and up through it.
    #[must_use]
    pub fn with_demo(demo: Demo) -> Self {
        Self::build(demo.config(), Some(demo), &FaultSwitch::new())
    }

    fn build(config: Config, demo: Option<Demo>, faults: &FaultSwitch) -> Self {
        let client = upstream::client(faults);
        let feed = Feed::default();
        let telemetry = Telemetry::new();
        let shared = config.shared().with_observer(feed.clone()).with_observer_of_circuits(telemetry.of_checks());
        let live = Live::new(config, shared, &client, &telemetry, None);
        live.keep_keys_fresh();
        let health = HealthChecks::default();
        health.begin(&live, &client);
        let live = ArcSwap::from_pointee(live);
        let (unrouted, status) = (telemetry.layer_of_none(), Status::new(feed));
        let (reloading, handing_on, stopping, slots, exposed) = Default::default();
        let inner = Inner {
            client,
            live,
            reloading,
            handing_on,
            telemetry,
            unrouted,
            status,
            demo,
            stopping,
            slots,
            health,
            exposed,
        };
        Gateway { inner: Arc::new(inner) }
    }

    /// What serves requests that come now.
    fn live(&self) -> Arc<Live> {
        self.inner.live.load_full()
    }

    /// The gateway as an axum router: every endpoint, and answers in the client's dialect for every other path.
    ///
    /// With keys, all of it is behind them but `/healthz` and `/readyz`. What bounds connections is not part of it: that belongs
    /// to whoever serves.
    pub fn router(&self) -> Router {
        let generating = generate::PATHS.into_iter();
        let mut router = generating
            .fold(Router::new(), |router, path| router.route(path, post(generate::route)))
            .route("/v1/models", get(models::list))
            .route("/v1beta/models", get(models::list))
            .route("/v1alpha/models", get(models::list))
            .route("/v1/models/{*call}", get(models::get))
            .route("/v1beta/models/{*call}", get(models::get))
            .route("/v1alpha/models/{*call}", get(models::get))
            .route("/metrics", get(metrics::serve))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .merge(status::router());
        if let Some(demo) = &self.inner.demo {
            router = router.nest("/simulated", demo.router());
        }
        router
            .method_not_allowed_fallback(|| async {
                refuse(
                    Fault::new(FaultKind::BadRequest, "this path is not for that method")
                        .with_status(StatusCode::METHOD_NOT_ALLOWED),
                )
            })
            .fallback(|request: axum::extract::Request| async move { unknown_path(request.uri().path()) })
            .layer(axum::middleware::from_fn_with_state(self.clone(), access::guard))
            .with_state(self.clone())
    }
}

impl Gateway {
    fn is_stopping(&self) -> bool {
        self.inner.stopping.load(Ordering::Relaxed)
    }
}

/// Whether new requests should be sent here.
async fn ready(State(gateway): State<Gateway>) -> (StatusCode, &'static str) {
    if gateway.is_stopping() { (StatusCode::SERVICE_UNAVAILABLE, "stopping\n") } else { (StatusCode::OK, "ok\n") }
}

fn unknown_path(path: &str) -> Response {
    let apis = ["/chat/completions", "/responses", "/embeddings", "/messages", "/models", "/completions"];
    // What an SDK asks for whose base URL has the version that it adds itself, or lacks the one that it does not.
    let hint = match path {
        path if path.starts_with("/v1/v1") => ": this SDK adds the version itself, so its base URL ends before /v1",
        path if apis.iter().any(|api| path.starts_with(api)) => ": this SDK's base URL must end in /v1",
        _ => "",
    };
    let dialect = match path {
        path if path.contains("/messages") => Dialect::AnthropicMessages,
        path if path.starts_with("/v1beta/") || path.starts_with("/v1alpha/") => Dialect::Gemini,
        _ => Dialect::OpenAiChat,
    };
    let fault = Fault::new(FaultKind::BadRequest, format!("there is nothing at {path}{hint}")).with_code("unknown_url");
    refuse_in(dialect, fault.with_status(StatusCode::NOT_FOUND)).map(axum::body::Body::new)
}

/// A failure that the gateway finds itself, for whoever speaks we do not know what.
fn refuse(fault: Fault) -> Response {
    refuse_in(Dialect::OpenAiChat, fault).map(axum::body::Body::new)
}

/// A failure that the gateway finds itself, for whoever speaks that dialect.
fn refuse_in(dialect: Dialect, fault: Fault) -> http::Response<ResponseBody<axum::body::Body>> {
    Asker::speaking(dialect).failure(fault)
}
