//! What targets cannot do, and what is known of models: such a request never reaches them.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_failover::{
    Ability, Capabilities, Dialect, FailoverStack, Fault, FaultKind, Feature, Need, Outcome, Phase, Provider, Refusal,
    RequestContext, Requirements, Route, Target,
    simulated::{SimulatedFault, SimulatedProvider},
};

fn provider(simulated: &SimulatedProvider, dialect: Dialect) -> Provider {
    let url = simulated.base_url();
    let url = match dialect {
        Dialect::AnthropicMessages | Dialect::Gemini => url.trim_end_matches("/v1"),
        _ => &url,
    };
    Provider::new(simulated.name(), dialect, url).unwrap()
}

/// Asks a stack around a real client; its answer is read to the head only.
async fn ask(targets: [Target; 2], path: &str, body: &Value, context: &RequestContext) -> Response<()> {
    let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(HttpConnector::new());
    let stack = FailoverStack::new(&Route::new("r", targets).unwrap()).layer(client);
    let body = Full::new(Bytes::from(body.to_string()));
    let mut request = Request::post(path).header("content-type", "application/json").body(body).unwrap();
    request.extensions_mut().insert(context.clone());
    stack.oneshot(request).await.unwrap().map(drop)
}

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// One thing that a request can need.
struct Axis {
    need: Box<dyn Fn(&Need) -> bool>,
    path: &'static str,
    body: Value,
    asked: Requirements,
    lacking: Capabilities,
    /// What the target that lacks it speaks, where that is why.
    dialect: Option<Dialect>,
}

impl Axis {
    fn new(need: impl Fn(&Need) -> bool + 'static, lacking: Capabilities, extra: Value) -> Self {
        Axis {
            need: Box::new(need),
            path: CHAT,
            body: chat(extra),
            asked: Requirements::default(),
            lacking,
            dialect: None,
        }
    }

    fn ability(ability: Ability, extra: Value) -> Self {
        let lacking = Capabilities::new().without(ability);
        Self::new(move |need| *need == Need::Ability(ability), lacking, extra)
    }

    fn feature(feature: Feature, extra: Value) -> Self {
        let axis = Self::new(move |need| *need == Need::Feature(feature), Capabilities::new(), extra);
        Axis { dialect: Some(Dialect::AnthropicMessages), ..axis }
    }

    fn asking(asked: Requirements, lacking: Capabilities, need: Need) -> Self {
        Axis { asked, ..Self::new(move |unmet| *unmet == need, lacking, json!({})) }
    }
}

fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "any", "messages": [{"role": "user", "content": "Say something."}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

fn said(part: Value) -> Value {
    json!({"messages": [{"role": "user", "content": [part]}]})
}

fn axes() -> Vec<Axis> {
    let tool = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let schema = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}});
    let pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let mut axes = vec![
        Axis::ability(Ability::Streaming, json!({"stream": true})),
        Axis::ability(Ability::Tools, json!({"tools": tool})),
        Axis::ability(Ability::ParallelTools, json!({"tools": tool, "parallel_tool_calls": true})),
        Axis::ability(Ability::StructuredOutput, json!({"response_format": schema})),
        Axis::ability(Ability::ImageInput, said(json!({"type": "image_url", "image_url": {"url": pixel}}))),
        Axis::ability(
            Ability::AudioInput,
            said(json!({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}})),
        ),
        Axis::ability(
            Ability::DocumentInput,
            said(
                json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}}),
            ),
        ),
        Axis::ability(Ability::Reasoning, json!({"reasoning_effort": "low"})),
    ];
    let begun = json!({"model": "any", "max_tokens": 9,
        "messages": [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One, two,"}]});
    axes.push(Axis { path: MESSAGES, body: begun, ..Axis::ability(Ability::Prefill, json!({})) });
    let long = json!({"messages": [{"role": "user", "content": "All of these words are to be read. ".repeat(10_000)}]});
    let small = Capabilities::new().with_context_window(32_000);
    axes.push(Axis::new(|need| matches!(need, Need::ContextWindow { offered: 32_000, .. }), small, long));
    let short = Capabilities::new().with_max_output_tokens(1_000);
    let need = Need::MaxOutputTokens { needed: 1_001, offered: 1_000 };
    axes.push(Axis::new(move |unmet| *unmet == need, short, json!({"max_tokens": 1_001})));
    let tagged = Requirements { tags: ["eu".into()].into(), ..Requirements::default() };
    axes.push(Axis::asking(tagged, Capabilities::new(), Need::Tag("eu".into())));
    let spoken = Requirements { languages: ["fi".into()].into(), ..Requirements::default() };
    axes.push(Axis::asking(spoken, Capabilities::new().with_languages(["en"]), Need::Language("fi".into())));
    axes.push(Axis::feature(Feature::SeveralAnswers, json!({"n": 2})));
    axes.push(Axis::feature(Feature::LogProbabilities, json!({"logprobs": true})));
    axes.push(Axis::feature(Feature::ProviderTools, json!({"web_search_options": {}})));
    axes
}

#[tokio::test]
async fn a_target_that_lacks_what_a_request_needs_never_sees_it_and_the_log_says_why() {
    let lacking = SimulatedProvider::start("lacking").await.unwrap();
    let able = SimulatedProvider::start("able").await.unwrap();
    let axes = axes();
    assert!(axes.len() >= Ability::ALL.len() + 4);
    for (index, axis) in axes.into_iter().enumerate() {
        let client = Dialect::from_path(axis.path).unwrap();
        let of_lacking = provider(&lacking, axis.dialect.unwrap_or(client));
        let targets = [
            Target::new(&of_lacking, "gpt-4o").with_capabilities(axis.lacking),
            Target::new(&provider(&able, client), "gpt-4o").with_tags(["eu"]),
        ];
        able.clear();
        let context = RequestContext::new().with_requirements(axis.asked);
        ask(targets, axis.path, &axis.body, &context).await;
        assert_eq!(lacking.request_count(), 0, "{index}: it was sent to a target that cannot serve it");
        assert_eq!(able.request_count(), 1, "{index}: it was not sent to the other: {:?}", context.attempts());
        let refused = context.attempts().iter().next().unwrap();
        assert_eq!((refused.target().unwrap().id().as_str(), refused.phase()), ("lacking/gpt-4o", Phase::NeverSent));
        let Some(Outcome::Refused(fault)) = refused.outcome() else { panic!("{index}: {refused:?}") };
        let Some(Refusal::Unmet(unmet)) = fault.refusal() else { panic!("{index}: {fault:?}") };
        assert!(unmet.needs().iter().all(|need| (axis.need)(need)), "{index}: {unmet}");
    }
}

#[tokio::test]
async fn what_the_table_says_keeps_long_requests_from_short_windows_and_pdfs_from_models_that_read_none() {
    let (small, large) =
        (SimulatedProvider::start("small").await.unwrap(), SimulatedProvider::start("large").await.unwrap());
    let targets = |small_model: &str| {
        [
            Target::new(&provider(&small, Dialect::OpenAiChat), small_model).with_known_capabilities(),
            Target::new(&provider(&large, Dialect::OpenAiChat), "gpt-4.1-2025-04-14").with_known_capabilities(),
        ]
    };
    let of_tokens = |tokens: usize| json!({"messages": [{"role": "user", "content": "word ".repeat(tokens)}]});
    let file =
        json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}});
    for (body, first, answers) in [
        (chat(of_tokens(1_000)), "gpt-4o", "small"),
        (chat(of_tokens(200_000)), "gpt-4o", "large"),
        (chat(of_tokens(200_000)), "an-unknown-deployment", "small"),
        (chat(said(file)), "gpt-oss-120b", "large"),
        (chat(json!({"max_tokens": 16_384})), "gpt-4o", "small"),
        (chat(json!({"max_tokens": 16_385})), "gpt-4o", "large"),
        (chat(json!({"max_tokens": 16_385})), "an-unknown-deployment", "small"),
    ] {
        small.clear();
        large.clear();
        ask(targets(first), CHAT, &body, &RequestContext::new()).await;
        let asked = (small.request_count(), large.request_count());
        assert_eq!(asked, if answers == "small" { (1, 0) } else { (0, 1) }, "{first}: {}", body.to_string().len());
    }
}

#[tokio::test]
async fn a_context_that_was_too_long_goes_on_only_to_models_known_to_have_a_larger_window() {
    let (first, second) =
        (SimulatedProvider::start("first").await.unwrap(), SimulatedProvider::start("second").await.unwrap());
    first.set_fault(SimulatedFault::ContextLengthExceeded);
    for (fallback, sent) in [("gpt-4o-mini", 0), ("gpt-4.1", 1), ("unknown", 1)] {
        second.clear();
        let targets = [
            Target::new(&provider(&first, Dialect::OpenAiChat), "gpt-4o").with_known_capabilities(),
            Target::new(&provider(&second, Dialect::OpenAiChat), fallback).with_known_capabilities(),
        ];
        let context = RequestContext::new();
        let response = ask(targets, CHAT, &chat(json!({})), &context).await;
        let fault = context.attempts().iter().next().unwrap().outcome().unwrap().fault().unwrap().kind();
        assert_eq!(fault, FaultKind::ContextLengthExceeded);
        assert_eq!(second.request_count(), sent, "{fallback}");
        assert_eq!(response.extensions().get::<Fault>().is_some(), sent == 0, "{fallback}");
    }
}
