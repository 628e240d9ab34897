//! `GET /v1/models`: what clients may ask for.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::request::Parts;
use serde_json::{Value, json};

use super::{Gateway, Live, access::Client, refuse};
use crate::{Fault, FaultKind, Target};

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

fn model(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": "tower-failover" })
}

pub(super) async fn list(State(gateway): State<Gateway>, parts: Parts) -> Response {
    let live = gateway.live();
    match live.access.client(&parts) {
        Ok(client) => {
            let models: Vec<_> = names(&live, client.map(Arc::as_ref)).map(model).collect();
            Json(json!({ "object": "list", "data": models })).into_response()
        }
        Err(fault) => refuse(fault),
    }
}

pub(super) async fn get(State(gateway): State<Gateway>, Path(name): Path<String>, parts: Parts) -> Response {
    let live = gateway.live();
    let client = match live.access.client(&parts) {
        Ok(client) => client,
        Err(fault) => return refuse(fault),
    };
    // One that it may not ask is told of as little as one that there is not.
    let index = live.config.routes.find_index(&name);
    if index.is_some_and(|index| client.is_none_or(|client| client.may_ask(index))) {
        return Json(model(&name)).into_response();
    }
    let fault = Fault::new(FaultKind::BadRequest, format!("the model `{name}` is not served here"));
    refuse(fault.with_status(http::StatusCode::NOT_FOUND).with_code("model_not_found"))
}
