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

mod banner;
pub mod check;
mod demo;
pub mod drill;
mod generate;
mod headers;
mod models;
mod server;
mod service;
mod terminal;
mod terminated;
mod upstream;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use http::StatusCode;
use tower_layer::Layer;

use self::upstream::Upstream;
pub use self::{demo::Demo, terminal::Paint};
use crate::{
    Dialect, FailoverService, Fault, FaultKind, RecoveryLayer,
    body::Asker,
    config::{Config, RouteConfig},
    fault_injection::FaultSwitch,
};

/// A gateway, ready to serve. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    /// In the order of the configuration's routes.
    stacks: Vec<Stack>,
    demo: Option<Demo>,
    stopping: AtomicBool,
}

/// What serves a route.
#[derive(Clone, Debug)]
struct Stack {
    service: FailoverService<Upstream>,
    /// What is around it, where streams that break off are completed.
    recovery: Option<RecoveryLayer>,
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
        let shared = config.shared();
        let stack = |route: &RouteConfig| Stack {
            service: route.stack(&shared, config.max_body).layer(client.clone()),
            recovery: route.recovery(config.max_body),
        };
        let stacks = config.routes.iter().map(stack).collect();
        Gateway { inner: Arc::new(Inner { config, stacks, demo, stopping: AtomicBool::new(false) }) }
    }

    /// The gateway as an axum router: every endpoint, and answers in the client's dialect for every other path.
    pub fn router(&self) -> Router {
        let generating = generate::PATHS.into_iter();
        let mut router = generating
            .fold(Router::new(), |router, path| router.route(path, post(generate::route)))
            .route("/v1/models", get(models::list))
            .route("/v1/models/{*call}", get(models::get))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready));
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
            .with_state(self.clone())
    }
}

/// Whether new requests should be sent here.
async fn ready(State(gateway): State<Gateway>) -> (StatusCode, &'static str) {
    if gateway.inner.stopping.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

fn unknown_path(path: &str) -> Response {
    let fault = Fault::new(FaultKind::BadRequest, format!("there is nothing at {path}")).with_code("unknown_url");
    refuse(fault.with_status(StatusCode::NOT_FOUND))
}

/// A failure that the gateway finds itself, for whoever speaks we do not know what.
fn refuse(fault: Fault) -> Response {
    Asker::speaking(Dialect::OpenAiChat).failure::<axum::body::Body>(fault).map(axum::body::Body::new)
}
