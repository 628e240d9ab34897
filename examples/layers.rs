//! The layers one by one around a hyper-util client, as the README shows them, on two simulated providers.
//!
//! ```sh
//! cargo run --example layers --features simulated
//! ```

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_failover::{
    CapabilityFilterLayer, CircuitBreakerLayer, Dialect, FailoverLayer, Provider, ProviderLayer, RateLimitLayer,
    RetryLayer, Route, Target, TimeoutLayer,
    circuit_breaker::CircuitRegistry,
    rate_limit::RateLimitRegistry,
    simulated::{SimulatedFault, SimulatedProvider},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (primary, fallback) = (SimulatedProvider::start("openai").await?, SimulatedProvider::start("groq").await?);
    primary.set_fault(SimulatedFault::Overloaded);
    let openai = Provider::new("openai", Dialect::OpenAiChat, &primary.base_url())?;
    let groq = Provider::new("groq", Dialect::OpenAiChat, &fallback.base_url())?;
    // What routes share: what is known of each target.
    let (circuits, limits) = (CircuitRegistry::default(), RateLimitRegistry::default());
    let http_client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(HttpConnector::new());

    let route = Route::new("chat", [Target::new(&openai, "gpt-4o"), Target::new(&groq, "llama-3.3-70b-versatile")])?;

    let chat = ServiceBuilder::new()
        .layer(FailoverLayer::new(&route))
        .layer(CapabilityFilterLayer::new())
        .layer(RetryLayer::new())
        .layer(CircuitBreakerLayer::new(circuits))
        .layer(RateLimitLayer::new(limits))
        .layer(TimeoutLayer::new())
        .layer(ProviderLayer::new())
        .service(http_client);

    let question = r#"{"model":"chat","messages":[{"role":"user","content":"Hello!"}]}"#;
    let request = Request::post("/v1/chat/completions").body(Full::new(Bytes::from(question)))?;
    let response = chat.oneshot(request).await?;
    println!("{}", response.status());
    let answer = response.into_body().collect().await.map_err(|error| error.to_string())?;
    println!("{}", String::from_utf8_lossy(&answer.to_bytes()));
    Ok(())
}
