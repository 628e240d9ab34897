//! `GET /v1/models`: what clients may ask for.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::request::Parts;
use serde_json::{Value, json};

use super::{Gateway, Live, access::Client, refuse_in};
use crate::{Dialect, Fault, FaultKind, Target};

/// The routes that are plain names, and the models behind those that are patterns; of those that the client may ask.
fn names<'a>(live: &'a Live, client: Option<&'a Client>) -> impl Iterator<Item = &'a str> {
    let mut seen = std::collections::BTreeSet::new();
    let routes = live.config.routes.iter().enumerate();
    let routes = routes.filter(move |(index, _)| client.is_none_or(|client| client.may_ask(*index)));
    let names = routes.flat_map(|(_, route)| {
        let pattern = route.route.name().contains('*');
        let models = route.route.targets().iter().filter(move |_| pattern).filter_map(Target::model);
        std::iter::once(route.route.name()).filter(move |_| !pattern).chain(models)
    });
    names.filter(move |name| seen.insert(*name))
}

/// How a client expects models to be told: its SDK says which it is, by the path or by a header that only it sends.
fn speaker(parts: &Parts) -> Dialect {
    let says = |name: &str| parts.headers.contains_key(name);
    let path = parts.uri.path();
    match path.starts_with("/v1beta/") || path.starts_with("/v1alpha/") || says("x-goog-api-key") {
        true => Dialect::Gemini,
        false if says("anthropic-version") => Dialect::AnthropicMessages,
        false => Dialect::OpenAiChat,
    }
}

fn model(dialect: Dialect, name: &str) -> Value {
    match dialect {
        Dialect::Gemini => json!({
            "name": format!("models/{name}"),
            "displayName": name,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
        }),
        Dialect::AnthropicMessages => {
            json!({ "type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z" })
        }
        _ => json!({ "id": name, "object": "model", "created": 0, "owned_by": "tower-failover" }),
    }
}

fn all(dialect: Dialect, names: &[&str]) -> Value {
    let models: Vec<_> = names.iter().map(|name| model(dialect, name)).collect();
    match dialect {
        Dialect::Gemini => json!({ "models": models }),
        Dialect::AnthropicMessages => {
            json!({ "data": models, "has_more": false, "first_id": names.first(), "last_id": names.last() })
        }
        _ => json!({ "object": "list", "data": models }),
    }
}

pub(super) async fn list(State(gateway): State<Gateway>, parts: Parts) -> Response {
    let live = gateway.live();
    match live.access.client(&parts) {
        Ok(client) => {
            let names: Vec<_> = names(&live, client.map(Arc::as_ref)).collect();
            Json(all(speaker(&parts), &names)).into_response()
        }
        Err(fault) => refuse_in(speaker(&parts), fault).map(Body::new),
    }
}

pub(super) async fn get(State(gateway): State<Gateway>, Path(name): Path<String>, parts: Parts) -> Response {
    let live = gateway.live();
    let client = match live.access.client(&parts) {
        Ok(client) => client,
        Err(fault) => return refuse_in(speaker(&parts), fault).map(Body::new),
    };
    // One that it may not ask is told of as little as one that there is not.
    let index = live.config.routes.find_index(&name);
    if index.is_some_and(|index| client.is_none_or(|client| client.may_ask(index))) {
        return Json(model(speaker(&parts), &name)).into_response();
    }
    let fault = Fault::new(FaultKind::BadRequest, format!("the model `{name}` is not served here"));
    let fault = fault.with_status(http::StatusCode::NOT_FOUND).with_code("model_not_found");
    refuse_in(speaker(&parts), fault).map(Body::new)
}
