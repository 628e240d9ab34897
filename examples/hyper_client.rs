//! The stack on a hyper-util client: the primary is down, the fallback answers, and the caller sees an answer.
//!
//! ```sh
//! cargo run --example hyper_client --features simulated
//! ```

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{ServiceBuilder, ServiceExt};
use tower_failover::{
    Credentials, Dialect, FailoverStack, Provider, RequestContext, Route, Target,
    simulated::{SimulatedFault, SimulatedProvider},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two providers. Real ones differ in their URL and key only; the client then needs a TLS connector.
    let (primary, fallback) = (SimulatedProvider::start("primary").await?, SimulatedProvider::start("fallback").await?);
    primary.set_fault(SimulatedFault::Down);
    let provider = |simulated: &SimulatedProvider, key: &str| -> Result<Provider, Box<dyn std::error::Error>> {
        let credentials = Credentials::api_key(Dialect::OpenAiChat, key.into())?;
        let provider = Provider::new(simulated.name(), Dialect::OpenAiChat, &simulated.base_url())?;
        Ok(provider.with_credentials(credentials))
    };
    let route = Route::new(
        "chat",
        [
            Target::new(&provider(&primary, "sk-primary")?, "gpt-4o"),
            Target::new(&provider(&fallback, "sk-fallback")?, "llama-3.3-70b"),
        ],
    )?;

    // The layers around an ordinary client. Retrying is theirs, so the client is told not to.
    let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(HttpConnector::new());
    let chat = ServiceBuilder::new().layer(FailoverStack::new(&route)).service(client);

    for stream in [false, true] {
        let context = RequestContext::new();
        let mut request = Request::post("/v1/chat/completions").header("content-type", "application/json").body(
            Full::new(Bytes::from(format!(
                r#"{{"model":"any","stream":{stream},"messages":[{{"role":"user","content":"Hello!"}}]}}"#
            ))),
        )?;
        request.extensions_mut().insert(context.clone());
        let response = chat.clone().oneshot(request).await?;

        println!("{}, after:", response.status());
        for attempt in context.attempts().iter() {
            println!("  {attempt:?}");
        }
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() {
                print!("{}", String::from_utf8_lossy(&data));
            }
        }
        println!();
    }
    assert_eq!(primary.request_count(), 0);
    assert_eq!(fallback.request_count(), 2);
    Ok(())
}
