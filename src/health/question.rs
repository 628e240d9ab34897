//! The smallest requests that show how a target does.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::util::Oneshot;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    BoxError, Dialect, Fault, FaultKind, Provider, ProviderLayer, RequestContext, StatusClassifier, Target,
    classify::Classify,
};

/// How many tokens an answer may have: less than that some models do not take.
pub(super) const MAX_TOKENS: u32 = 16;

/// How much is read of a list of models. The longest of today, of a thousand models with all their details, has about a megabyte.
const LONGEST_LIST: usize = 8 << 20;

/// What a model's name may not have in a path. Some have slashes, which stand for themselves.
const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`');

/// What a target is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A few words, by its model.
    Words,
    /// An embedding, by its model.
    Embedding,
    /// What its provider says of its model.
    Model,
    /// The list of models: nothing else is known to ask of a target that has none of its own.
    Models,
}

impl Asked {
    /// What its model is asked, if it has one.
    pub(crate) fn of(target: &Target) -> Self {
        match target.model() {
            None => Asked::Models,
            // Such a model has no words to say, and nothing but its name tells.
            Some(model) if model.contains("embed") => Asked::Embedding,
            Some(_) => Asked::Words,
        }
    }

    /// What costs no tokens.
    pub(super) fn free_of(target: &Target) -> Self {
        if target.model().is_some() { Asked::Model } else { Asked::Models }
    }

    /// Whether the model itself has to answer.
    pub(crate) fn is_of_model(self) -> bool {
        matches!(self, Asked::Words | Asked::Embedding)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Asked::Words => "a few words",
            Asked::Embedding => "an embedding",
            Asked::Model => "what it says of its model",
            Asked::Models => "its list of models",
        }
    }

    /// Asks, as calls are asked: with the provider's credentials, and what it answers told apart as usual. Returns what failed, if
    /// anything did.
    pub(crate) async fn ask<S, B>(self, target: &Target, client: S, patience: Duration) -> Option<Fault>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
        S::Error: 'static,
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        match timeout(patience, self.ask_patiently(target, client)).await {
            Ok(fault) => fault,
            Err(_) => Some(Fault::new(FaultKind::Timeout, format!("no answer within {patience:?}"))),
        }
    }

    async fn ask_patiently<S, B>(self, target: &Target, client: S) -> Option<Fault>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
        S::Error: 'static,
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let Some(provider) = target.provider() else {
            return Some(Fault::new(FaultKind::NotFound, "it has no provider that could be asked"));
        };
        let request = match self.request(provider, target) {
            Ok(request) => request,
            Err(error) => return Some(Fault::new(FaultKind::BadRequest, format!("it cannot be asked: {error}"))),
        };
        let response = match Oneshot::new(ProviderLayer::new().layer(client), request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        if let Some(fault) = StatusClassifier.classify_head(parts.status, &parts.headers, &parts.extensions) {
            return Some(fault);
        }
        match Limited::new(body, LONGEST_LIST).collect().await {
            Err(error) if error.is::<LengthLimitError>() => {
                let message = format!("{} is longer than {} MiB", self.name(), LONGEST_LIST >> 20);
                Some(Fault::new(FaultKind::MalformedResponse, message))
            }
            Err(error) => Some(Fault::from_error(&*error)),
            // An answer was looked at on its way; a list was not.
            Ok(list) if !self.is_of_model() => {
                let is_json = serde_json::from_slice::<Value>(&list.to_bytes()).is_ok();
                (!is_json).then(|| Fault::new(FaultKind::MalformedResponse, format!("{} is not JSON", self.name())))
            }
            Ok(_) => None,
        }
    }

    fn request(self, provider: &Provider, target: &Target) -> http::Result<Request<Full<Bytes>>> {
        const WORDS: &str = "Say OK.";
        let dialect = provider.dialect();
        let model = target.model().unwrap_or_default();
        let message = || json!([{ "role": "user", "content": WORDS }]);
        let (path, body) = match (self, dialect) {
            (Asked::Models, Dialect::Gemini) => ("/v1beta/models".to_owned(), Value::Null),
            (Asked::Models, _) => ("/v1/models".to_owned(), Value::Null),
            (Asked::Model, _) => {
                let root = if dialect == Dialect::Gemini { "/v1beta/models" } else { "/v1/models" };
                (format!("{root}/{}", utf8_percent_encode(model.trim_start_matches("models/"), UNSAFE)), Value::Null)
            }
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
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio_stream::{StreamExt, iter};
    use tower::service_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_an_end_is_not_read_to_its_end() {
        let provider = Provider::new("p", Dialect::OpenAiChat, "http://h").unwrap();
        let client = service_fn(|_: Request<Full<Bytes>>| async {
            let chunk = Bytes::from(vec![b' '; 64 << 10]);
            let endless = iter(std::iter::repeat(chunk)).map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
            Ok::<_, Infallible>(Response::new(StreamBody::new(endless)))
        });
        let fault =
            Asked::Models.ask(&Target::passing_model_through(&provider), client, Duration::from_secs(5)).await.unwrap();
        assert_eq!(
            (fault.kind(), fault.message()),
            (FaultKind::MalformedResponse, "its list of models is longer than 8 MiB")
        );
    }
}
