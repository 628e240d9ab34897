//! The layers on a server's own routes: what is slow, broken or not offered is answered at once.
//!
//! ```sh
//! cargo run --example server_side
//! ```
//!
//! It serves on a port of its own, makes a few requests to itself, and prints what it saw.

use std::{future::pending, time::Duration};

use axum::{Router, routing::post};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder};
use tower_failover::{
    Ability, Capabilities, CapabilityFilterLayer, CircuitBreakerLayer, CollectBodyLayer, RequirementsLayer, Target,
    TimeoutLayer,
    circuit_breaker::{CircuitRegistry, CircuitSettings},
};

fn app() -> Router {
    // A model of our own that reads no images: who sends one is told so before it runs.
    let model = Target::named("our-model").with_capabilities(Capabilities::new().without(Ability::ImageInput));
    let only_what_it_can_do = ServiceBuilder::new()
        .layer(CollectBodyLayer::new().with_max_body(1 << 20))
        .layer(RequirementsLayer::new().with_target(model))
        .layer(CapabilityFilterLayer::new());

    // Two failures in a row, and the route is left alone for a while. A circuit belongs to the layer, so each route whose
    // failures say nothing of the others gets a layer of its own.
    let mut settings = CircuitSettings::default();
    settings.failures = 2;
    let breaker = CircuitBreakerLayer::new(CircuitRegistry::new(settings));

    Router::new()
        .route("/v1/chat/completions", post(|| async { "An answer.\n" }).layer(only_what_it_can_do))
        .route("/broken", post(|| async { StatusCode::INTERNAL_SERVER_ERROR }).layer(breaker))
        .route("/slow", post(pending::<()>))
        .layer(TimeoutLayer::new().with_response(Duration::from_millis(500)))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app()).await });

    let text = r#"{"messages":[{"role":"user","content":"Hello!"}]}"#;
    let image = r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,"}}]}]}"#;
    let chat = "/v1/chat/completions";
    let broken = [("/broken", "", 500), ("/broken", "", 500), ("/broken", "", 503)];
    let client = Client::builder(TokioExecutor::new()).build_http();
    for (path, body, expected) in [(chat, text, 200), (chat, image, 400), ("/slow", "", 504)].into_iter().chain(broken)
    {
        let request = Request::post(format!("http://{address}{path}"));
        let response = client.request(request.body(Full::<Bytes>::from(body))?).await?;
        let (status, retry_after) = (response.status(), response.headers().get("retry-after").cloned());
        let body = response.into_body().collect().await?.to_bytes();
        println!("POST {path}: {status} {}", String::from_utf8_lossy(&body).trim());
        if let Some(seconds) = retry_after {
            println!("  Retry-After: {}", seconds.to_str()?);
        }
        assert_eq!(status, expected);
    }
    Ok(())
}
