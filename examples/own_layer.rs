//! A guard of one's own between failover and what is sent, as docs/own-layer.md explains it.
//!
//! ```sh
//! cargo run --example own_layer --features simulated
//! ```

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_failover::{
    Dialect, FailoverLayer, Guarded, Provider, ProviderLayer, Refusal, RequestContext, ResponseBody, Route, Target,
    simulated::SimulatedProvider,
};

/// Keeps long prompts from targets outside of the EU.
#[derive(Clone)]
struct KeepLongPromptsHomeLayer {
    most: u64,
}

#[derive(Clone)]
struct KeepLongPromptsHome<S> {
    inner: S,
    most: u64,
}

impl<S> Layer<S> for KeepLongPromptsHomeLayer {
    type Service = KeepLongPromptsHome<S>;

    fn layer(&self, inner: S) -> Self::Service {
        KeepLongPromptsHome { inner, most: self.most }
    }
}

impl<S, B> Service<Request<Full<Bytes>>> for KeepLongPromptsHome<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = Guarded<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        // Whom this attempt is for: failover said so.
        let target = RequestContext::of(request.extensions()).and_then(RequestContext::target);
        let is_home = target.is_none_or(|target| target.tags().contains("eu"));
        if is_home || request.body().size_hint().lower() <= self.most {
            return Guarded::called(self.inner.call(request));
        }
        Guarded::refused(Refusal::Declined("too long a prompt to leave the EU".into()), &request)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (abroad, home) = (SimulatedProvider::start("abroad").await?, SimulatedProvider::start("home").await?);
    let provider =
        |simulated: &SimulatedProvider| Provider::new(simulated.name(), Dialect::OpenAiChat, &simulated.base_url());
    let route = Route::new(
        "chat",
        [Target::new(&provider(&abroad)?, "gpt-4o"), Target::new(&provider(&home)?, "mistral-large").with_tags(["eu"])],
    )?;
    let http_client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(HttpConnector::new());

    let chat = ServiceBuilder::new()
        .layer(FailoverLayer::new(&route))
        .layer(KeepLongPromptsHomeLayer { most: 100_000 })
        .layer(ProviderLayer::new())
        .service(http_client);

    for words in [10, 100_000] {
        let prompt = "word ".repeat(words);
        let body = format!(r#"{{"model":"chat","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
        let context = RequestContext::new();
        let mut request = Request::post("/v1/chat/completions").body(Full::new(Bytes::from(body)))?;
        request.extensions_mut().insert(context.clone());
        let response = chat.clone().oneshot(request).await?;
        let answered = context.attempts().answered().and_then(|attempt| Some(attempt.target()?.id().to_string()));
        println!("{words} words: {}, by {answered:?}", response.status());
    }
    Ok(())
}
