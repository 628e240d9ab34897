//! The gateway on simulated providers, for a newcomer's first minute and for tests of clients.

use std::{collections::BTreeMap, io, str::FromStr, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{Gateway, refuse};
use crate::{
    Dialect, Fault, FaultKind, Provider, Route, Target,
    config::{Config, Policy},
    simulated::{ReceivedRequest, SimulatedFault, SimulatedProvider},
};

/// Two simulated providers, `primary` and `fallback`, and the configuration that fails over between them.
#[derive(Clone, Debug)]
pub struct Demo {
    providers: Vec<SimulatedProvider>,
}

impl Demo {
    /// Starts the providers on loopback ports of their own.
    ///
    /// # Errors
    ///
    /// When no socket can be had.
    pub async fn start() -> io::Result<Self> {
        let mut providers = Vec::new();
        for name in ["primary", "fallback"] {
            providers.push(SimulatedProvider::start(name).await?);
        }
        Ok(Demo { providers })
    }

    /// The providers, the preferred one first.
    #[must_use]
    pub fn providers(&self) -> &[SimulatedProvider] {
        &self.providers
    }

    /// Every model goes to the primary, and to the fallback when that fails.
    pub(super) fn config(&self) -> Config {
        let targets: Vec<_> = self
            .providers
            .iter()
            .filter_map(|simulated| {
                let provider = Provider::new(simulated.name(), Dialect::OpenAiChat, &simulated.base_url()).ok()?;
                Some(Target::passing_model_through(&provider))
            })
            .collect();
        let mut policy = Policy::default();
        // Nobody wants to watch a simulated provider be silent for a minute.
        policy.timeout.first_output = Duration::from_secs(2);
        policy.timeout.response = Duration::from_secs(2);
        // One by name, so that a list of models shows something, and one for whatever else is asked for.
        let routes = ["gpt-4o", "*"].into_iter().filter_map(|name| Route::new(name, targets.clone()).ok());
        Config::from_parts(routes.map(|route| (route, policy.clone())).collect())
    }

    pub(super) fn router(&self) -> Router<Gateway> {
        Router::new()
            .route("/", get(list))
            .route("/faults", get(|| async { Json(SimulatedFault::NAMES) }))
            .route("/{name}/{fault}", post(set_fault))
            .route("/{name}/received", get(received).delete(forget))
            .with_state(self.clone())
    }

    fn provider(&self, name: &str) -> Result<&SimulatedProvider, Fault> {
        let names = || self.providers.iter().map(SimulatedProvider::name).collect::<Vec<_>>().join(", ");
        self.providers.iter().find(|provider| provider.name() == name).ok_or_else(|| {
            let message = format!("there is no simulated provider {name:?}; there are: {}", names());
            Fault::new(FaultKind::BadRequest, message).with_status(http::StatusCode::NOT_FOUND)
        })
    }
}

fn describe(provider: &SimulatedProvider) -> Value {
    json!({
        "name": provider.name(),
        "base_url": provider.base_url(),
        "fault": provider.fault().to_string(),
        "requests": provider.request_count(),
        "connections": provider.connection_count(),
        "aborted": provider.aborted_count(),
    })
}

async fn list(State(demo): State<Demo>) -> Json<Value> {
    Json(demo.providers.iter().map(describe).collect())
}

async fn set_fault(State(demo): State<Demo>, Path((name, fault)): Path<(String, String)>) -> Response {
    let provider = match demo.provider(&name) {
        Ok(provider) => provider,
        Err(fault) => return refuse(fault),
    };
    let fault = if fault == "up" { Ok(SimulatedFault::None) } else { SimulatedFault::from_str(&fault) };
    match fault {
        Ok(fault) => provider.set_fault(fault),
        Err(error) => return refuse(Fault::new(FaultKind::BadRequest, error.to_string())),
    }
    Json(describe(provider)).into_response()
}

async fn received(State(demo): State<Demo>, Path(name): Path<String>) -> Response {
    match demo.provider(&name) {
        Ok(provider) => Json(provider.received().iter().map(show).collect::<Value>()).into_response(),
        Err(fault) => refuse(fault),
    }
}

/// What a simulated provider was sent, keys included: they open nothing.
fn show(request: &ReceivedRequest) -> Value {
    let mut headers = BTreeMap::<&str, Vec<_>>::new();
    for (name, value) in &request.headers {
        headers.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()));
    }
    json!({
        "method": request.method.as_str(),
        "path": request.uri.to_string(),
        "headers": headers.into_iter().map(|(name, values)| (name, values.join(", "))).collect::<BTreeMap<_, _>>(),
        "body": String::from_utf8_lossy(&request.body),
    })
}

async fn forget(State(demo): State<Demo>, Path(name): Path<String>) -> Response {
    match demo.provider(&name) {
        Ok(provider) => {
            provider.clear();
            Json(describe(provider)).into_response()
        }
        Err(fault) => refuse(fault),
    }
}
