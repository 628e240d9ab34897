//! The stack in an axum application of your own, beside its other routes.
//!
//! ```sh
//! OPENAI_API_KEY=… GROQ_API_KEY=… cargo run --example axum_gateway --features gateway
//! curl http://127.0.0.1:3000/v1/chat/completions -H 'content-type: application/json' \
//!   -d '{"model":"any","messages":[{"role":"user","content":"Hello!"}]}'
//! ```

use axum::{Router, routing::get};
use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{BoxError, ServiceBuilder};
use tower_failover::{Credentials, Dialect::OpenAiChat, FailoverStack, Provider, Route, Target};

fn provider(name: &str, base_url: &str, key: &str) -> Result<Provider, BoxError> {
    let provider = Provider::new(name, OpenAiChat, base_url)?;
    // Without its variable set, the provider rejects the call, and the next target is tried.
    let Ok(key) = std::env::var(key) else { return Ok(provider) };
    Ok(provider.with_credentials(Credentials::api_key(OpenAiChat, key.into())?))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let openai = provider("openai", "https://api.openai.com/v1", "OPENAI_API_KEY")?;
    let groq = provider("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY")?;
    let route =
        Route::new("chat", [Target::new(&openai, "gpt-4o-mini"), Target::new(&groq, "llama-3.3-70b-versatile")])?;

    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build::<_, Full<Bytes>>(https);
    let chat = ServiceBuilder::new().layer(FailoverStack::new(&route)).service(client);

    // Its error is `Infallible` and its body an ordinary one: no `HandleErrorLayer` is needed.
    let app = Router::new()
        .route("/", get(|| async { "An application with an LLM behind it.\n" }))
        .route_service("/v1/chat/completions", chat);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
