//! `GET /v1/models`: what clients may ask for.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{Gateway, Live, refuse};
use crate::{Fault, FaultKind, Target};

/// The routes that are plain names, and the models behind those that are patterns.
fn names(live: &Live) -> impl Iterator<Item = &str> {
    let mut seen = std::collections::BTreeSet::new();
    let names = live.config.routes.iter().flat_map(|route| {
        let pattern = route.route.name().contains('*');
        let models = route.route.targets().iter().filter(move |_| pattern).filter_map(Target::model);
        std::iter::once(route.route.name()).filter(move |_| !pattern).chain(models)
    });
    names.filter(move |name| seen.insert(*name))
}

fn model(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": "tower-failover" })
}

pub(super) async fn list(State(gateway): State<Gateway>) -> Json<Value> {
    let models: Vec<_> = names(&gateway.live()).map(model).collect();
    Json(json!({ "object": "list", "data": models }))
}

pub(super) async fn get(State(gateway): State<Gateway>, Path(name): Path<String>) -> Response {
    if gateway.live().config.routes.find(&name).is_some() {
        return Json(model(&name)).into_response();
    }
    let fault = Fault::new(FaultKind::BadRequest, format!("the model `{name}` is not served here"));
    refuse(fault.with_status(http::StatusCode::NOT_FOUND).with_code("model_not_found"))
}
