//! Asks every target whether it works.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};
use tower_layer::Layer;
use tower_service::Service;

use super::super::upstream;
use crate::{
    Dialect, Fault, FaultKind, Provider, ProviderLayer, RequestContext, StatusClassifier, Target, classify::Classify,
    config::Config, fault_injection::FaultSwitch,
};

/// How many are asked at once.
const AT_ONCE: usize = 16;
/// How many tokens an answer may have: less than that some models do not take.
const MAX_TOKENS: u32 = 16;

/// How one target did when it was asked.
#[derive(Clone, Debug)]
pub struct Trial {
    target: Target,
    /// Which of so many keys it was asked with, where its provider has several.
    key: Option<(usize, usize)>,
    asked: Asked,
    latency: Duration,
    fault: Option<Fault>,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A few words, by its model.
    Words,
    /// An embedding, by its model.
    Embedding,
    /// The list of models: nothing else is known to ask of a target that has none of its own.
    Models,
}

impl Asked {
    fn of(target: &Target) -> Self {
        match target.model() {
            None => Asked::Models,
            // Such a model has no words to say, and nothing but its name tells.
            Some(model) if model.contains("embed") => Asked::Embedding,
            Some(_) => Asked::Words,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Asked::Words => "a few words",
            Asked::Embedding => "an embedding",
            Asked::Models => "its list of models",
        }
    }
}

impl Trial {
    /// Who was asked.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// How long it took to answer or to fail.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.latency
    }

    /// How it failed, if it did. What a provider says is told without our key.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Whether it answered.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.fault.is_none()
    }

    /// Which key of its provider's list it was asked with, counted from 1, and how many there are; `None` where that has one
    /// key, or has had each tried with another target.
    #[must_use]
    pub fn key(&self) -> Option<(usize, usize)> {
        self.key
    }

    pub(super) fn asked(&self) -> Asked {
        self.asked
    }
}

/// Asks every target of the configuration once, however many routes it serves; the first of a provider that has several keys
/// once with each: with one that works, nobody would learn of the others.
pub(super) async fn try_all(config: &Config, patience: Duration) -> Vec<Trial> {
    let (mut all, mut providers) = (Vec::new(), BTreeSet::new());
    for target in config.targets() {
        match target.provider().filter(|provider| provider.credentials().rotate() && providers.insert(provider.name()))
        {
            Some(provider) => all.extend(with_each_key(target, provider)),
            None => all.push((target.clone(), target.clone(), None)),
        }
    }
    let client = upstream::client(&FaultSwitch::new());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut trials = JoinSet::new();
    for (place, (target, asked, key)) in all.into_iter().enumerate() {
        let (client, places) = (client.clone(), places.clone());
        trials.spawn(async move {
            let _permit = places.acquire().await;
            (place, Trial { target, key, ..attempt(client, asked, patience).await })
        });
    }
    let mut trials = trials.join_all().await;
    trials.sort_by_key(|(place, _)| *place);
    trials.into_iter().map(|(_, trial)| trial).collect()
}

/// The target, itself as it is asked with one key, and which key that is; for each of its provider's keys.
fn with_each_key(
    target: &Target,
    provider: &Provider,
) -> impl Iterator<Item = (Target, Target, Option<(usize, usize)>)> {
    let count = provider.credentials().len();
    provider.credentials().each().enumerate().map(move |(index, key)| {
        let provider = provider.clone().with_credentials(key);
        let asked = match target.model() {
            Some(model) => Target::new(&provider, model),
            None => Target::passing_model_through(&provider),
        };
        (target.clone(), asked, Some((index + 1, count)))
    })
}

async fn attempt(client: upstream::Upstream, target: Target, patience: Duration) -> Trial {
    let (asked, began) = (Asked::of(&target), Instant::now());
    let fault = match timeout(patience, ask(client, &target, asked)).await {
        Ok(fault) => fault,
        Err(_) => Some(Fault::new(FaultKind::Timeout, format!("no answer within {patience:?}"))),
    };
    Trial { target, key: None, asked, latency: began.elapsed(), fault }
}

async fn ask(client: upstream::Upstream, target: &Target, asked: Asked) -> Option<Fault> {
    let Some(provider) = target.provider() else {
        return Some(Fault::new(FaultKind::NotFound, "it has no provider that could be asked"));
    };
    let request = match request(provider, target, asked) {
        Ok(request) => request,
        Err(error) => return Some(Fault::new(FaultKind::BadRequest, format!("it cannot be asked: {error}"))),
    };
    // Always ready, and without errors.
    let response = match ProviderLayer::new().layer(client).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (parts, body) = response.into_parts();
    if let Some(fault) = StatusClassifier.classify_head(parts.status, &parts.headers, &parts.extensions) {
        return Some(fault);
    }
    match body.collect().await {
        Err(error) => Some(Fault::from_error(&*error)),
        // An answer was looked at on its way; a list was not.
        Ok(list) if asked == Asked::Models => {
            let is_json = serde_json::from_slice::<Value>(&list.to_bytes()).is_ok();
            (!is_json).then(|| Fault::new(FaultKind::MalformedResponse, "its list of models is not JSON"))
        }
        Ok(_) => None,
    }
}

/// The smallest request that shows whether the target works.
fn request(provider: &Provider, target: &Target, asked: Asked) -> http::Result<Request<Full<Bytes>>> {
    const WORDS: &str = "Say OK.";
    let dialect = provider.dialect();
    let model = target.model().unwrap_or_default();
    let message = || json!([{ "role": "user", "content": WORDS }]);
    let (path, body) = match (asked, dialect) {
        (Asked::Models, Dialect::Gemini) => ("/v1beta/models".to_owned(), Value::Null),
        (Asked::Models, _) => ("/v1/models".to_owned(), Value::Null),
        (Asked::Embedding, Dialect::OpenAiChat | Dialect::OpenAiResponses) => {
            ("/v1/embeddings".to_owned(), json!({ "model": model, "input": WORDS }))
        }
        (_, Dialect::OpenAiChat) => {
            let most = if provider.variant().new_token_limit { "max_completion_tokens" } else { "max_tokens" };
            ("/v1/chat/completions".to_owned(), json!({ "model": model, "messages": message(), most: MAX_TOKENS }))
        }
        (_, Dialect::OpenAiResponses) => {
            ("/v1/responses".to_owned(), json!({ "model": model, "input": WORDS, "max_output_tokens": MAX_TOKENS }))
        }
        (_, Dialect::AnthropicMessages) => {
            ("/v1/messages".to_owned(), json!({ "model": model, "messages": message(), "max_tokens": MAX_TOKENS }))
        }
        (_, Dialect::Gemini) => (
            // The model is put into the path on the way.
            "/v1beta/models/model:generateContent".to_owned(),
            json!({
                "contents": [{ "role": "user", "parts": [{ "text": WORDS }] }],
                "generationConfig": { "maxOutputTokens": MAX_TOKENS },
            }),
        ),
    };
    let builder = match body {
        Value::Null => Request::get(path),
        _ => Request::post(path).header(header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    };
    // Anthropic refuses whoever does not say which version of its API is meant.
    let builder = match dialect {
        Dialect::AnthropicMessages => builder.header("anthropic-version", "2023-06-01"),
        _ => builder,
    };
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let mut request = builder.body(Full::new(body))?;
    let context = RequestContext::new().with_dialect(dialect).with_target(target.clone());
    request.extensions_mut().insert(context);
    Ok(request)
}
