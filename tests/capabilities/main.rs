//! What targets cannot do, and what is known of models: such a request never reaches them.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod axes;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_failover::{
    Ability, Capabilities, Dialect, FailoverStack, Fault, FaultKind, Feature, Need, Outcome, Phase, Provider, Refusal,
    RequestContext, Route, Target, Variant,
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

/// Asks a stack around a real client.
async fn ask(
    targets: impl IntoIterator<Item = Target>,
    path: &str,
    body: &Value,
    context: &RequestContext,
) -> Response<Bytes> {
    let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(HttpConnector::new());
    let stack = FailoverStack::new(&Route::new("r", targets).unwrap()).layer(client);
    let body = Full::new(Bytes::from(body.to_string()));
    let mut request = Request::post(path).header("content-type", "application/json").body(body).unwrap();
    request.extensions_mut().insert(context.clone());
    let (parts, body) = stack.oneshot(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

const CHAT: &str = "/v1/chat/completions";

fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "any", "messages": [{"role": "user", "content": "Say something."}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

fn said(part: Value) -> Value {
    json!({"messages": [{"role": "user", "content": [part]}]})
}

/// The needs of which the log says that the target lacks them, of the only one that was refused.
fn lacked(context: &RequestContext) -> Vec<Need> {
    let refused = context.attempts().iter().next().unwrap();
    assert_eq!((refused.target().unwrap().id().as_str(), refused.phase()), ("lacking/gpt-4o", Phase::NeverSent));
    let Some(Outcome::Refused(fault)) = refused.outcome() else { panic!("{refused:?}") };
    let Some(Refusal::Unmet(unmet)) = fault.refusal() else { panic!("{fault:?}") };
    let exactly = |need: &Need| match need {
        Need::ContextWindow { offered, .. } => Need::ContextWindow { needed: 0, offered: *offered },
        need => need.clone(),
    };
    unmet.needs().iter().map(exactly).collect()
}

#[tokio::test]
async fn a_target_that_lacks_what_a_request_needs_never_sees_it_and_the_log_says_why() {
    let lacking = SimulatedProvider::start("lacking").await.unwrap();
    let able = SimulatedProvider::start("able").await.unwrap();
    let mut combinations = 0;
    for axis in axes::all() {
        for ((client, said), speaks) in axis.said.iter().flat_map(|said| Dialect::ALL.iter().map(move |to| (said, *to)))
        {
            if !axis.is_lacked_by(speaks, *client) {
                continue;
            }
            combinations += 1;
            let (path, body) = axis.request(*client, said);
            let what = format!("{} asked in {client} of one that speaks {speaks}", axis.need);
            let short = Target::new(&provider(&lacking, speaks), "gpt-4o").with_capabilities(axis.lacking.clone());
            let enough = Target::new(&provider(&able, *client), "gpt-4o").with_tags(["eu"]);
            able.clear();
            let context = RequestContext::new().with_requirements(axis.asked.clone());
            ask([short.clone(), enough], path, &body, &context).await;
            assert_eq!(lacking.request_count(), 0, "{what}: it was sent to a target that cannot serve it");
            assert_eq!(able.request_count(), 1, "{what}: it was not sent to the other: {:?}", context.attempts());
            let lacked = lacked(&context);
            assert!(lacked.contains(&axis.need), "{what}: {lacked:?}");
            let stray = lacked.iter().find(|need| **need != axis.need && !axis.may_lack_as_well(need));
            assert_eq!(stray, None, "{what}");

            // Where nobody else is left, the client learns the reason.
            let context = RequestContext::new().with_requirements(axis.asked.clone());
            let answer = ask([short], path, &body, &context).await;
            assert_eq!((answer.status().as_u16(), lacking.request_count()), (400, 0), "{what}");
            let fault = answer.extensions().get::<Fault>().unwrap();
            let Some(Refusal::Unmet(unmet)) = fault.refusal() else { panic!("{what}: {fault:?}") };
            let told: Value = serde_json::from_slice(answer.body()).unwrap();
            let message = told["error"]["message"].as_str().unwrap();
            assert!(message.contains(&unmet.to_string()), "{what}: {told}");
            let code = [&told["error"]["code"], &told["error"]["type"], &told["error"]["details"][0]["reason"]];
            assert!(code.contains(&&json!("no_capable_target")), "{what}: {told}");
        }
    }
    assert!(combinations >= 249, "{combinations}");
    let all = axes::all();
    let is_there = |need: Need| all.iter().any(|axis| axis.need == need);
    assert!(Ability::ALL.iter().all(|ability| is_there(Need::Ability(*ability))));
    assert!(Feature::ALL.iter().all(|feature| is_there(Need::Feature(*feature))));
}

#[tokio::test]
async fn what_the_table_says_keeps_long_requests_from_short_windows_and_pdfs_from_models_that_read_none() {
    let (small, large) =
        (SimulatedProvider::start("small").await.unwrap(), SimulatedProvider::start("large").await.unwrap());
    // How long an answer may be is known of OpenAI itself only.
    let openai = |simulated: &SimulatedProvider| {
        provider(simulated, Dialect::OpenAiChat).with_variant(Variant::from_name("openai").unwrap())
    };
    let targets = |small_model: &str| {
        [
            Target::new(&openai(&small), small_model).with_known_capabilities(),
            Target::new(&openai(&large), "gpt-4.1-2025-04-14").with_known_capabilities(),
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

#[tokio::test]
async fn a_window_of_which_nothing_is_known_is_no_bound_and_is_not_taken_for_one() {
    let all = [
        SimulatedProvider::start("first").await.unwrap(),
        SimulatedProvider::start("second").await.unwrap(),
        SimulatedProvider::start("third").await.unwrap(),
    ];
    all[..2].iter().for_each(|provider| provider.set_fault(SimulatedFault::ContextLengthExceeded));
    for (windows, asked) in [
        // Whose window nobody knows may be smaller than any other.
        ([None, None, None], [1, 1, 1]),
        ([None, Some(8_000), Some(4_000)], [1, 1, 0]),
        ([None, Some(8_000), Some(16_000)], [1, 1, 1]),
        // It does not make larger what was too small.
        ([Some(8_000), None, Some(8_000)], [1, 1, 0]),
        ([Some(8_000), None, Some(8_001)], [1, 1, 1]),
        ([Some(8_000), Some(4_000), Some(16_000)], [1, 0, 1]),
        ([Some(8_000), Some(8_000), None], [1, 0, 1]),
    ] {
        all.iter().for_each(SimulatedProvider::clear);
        let targets = all.iter().zip(windows).map(|(simulated, window)| {
            let capabilities = Capabilities::new();
            let capabilities = window.map_or(capabilities.clone(), |tokens| capabilities.with_context_window(tokens));
            Target::new(&provider(simulated, Dialect::OpenAiChat), "m").with_capabilities(capabilities)
        });
        ask(targets, CHAT, &chat(json!({})), &RequestContext::new()).await;
        assert_eq!(all.each_ref().map(SimulatedProvider::request_count), asked, "{windows:?}");
    }
}

#[cfg(feature = "tokenizer")]
#[tokio::test]
async fn where_tokens_are_counted_a_window_is_kept_to_the_token() {
    let (small, large) =
        (SimulatedProvider::start("small").await.unwrap(), SimulatedProvider::start("large").await.unwrap());
    let window = |tokens| Capabilities::new().with_context_window(tokens);
    let targets = |model: &str| {
        [
            Target::new(&provider(&small, Dialect::OpenAiChat), model).with_capabilities(window(32_000)),
            Target::new(&provider(&large, Dialect::OpenAiChat), "gpt-4.1").with_known_capabilities(),
        ]
    };
    // A token each, and seven around them.
    let words = |tokens: usize| json!([{"role": "user", "content": " word".repeat(tokens - 7)}]);
    for (model, path, tokens, answers) in [
        ("gpt-4o", CHAT, 31_999, "small"),
        ("gpt-4o", CHAT, 32_000, "large"),
        ("gpt-4o", CHAT, 64_000, "large"),
        // Where text is not all of it, so many tokens it has for certain, but for one around the message.
        ("gpt-4o", "/v1/messages", 32_001, "large"),
        ("gpt-4o", "/v1/messages", 32_000, "small"),
        ("gpt-5", CHAT, 32_001, "large"),
        // An estimate leaves out what is surely too long.
        ("unknown", CHAT, 32_000, "small"),
        ("unknown", CHAT, 64_000, "large"),
    ] {
        small.clear();
        large.clear();
        let body = json!({"model": "any", "max_tokens": 9, "messages": words(tokens)});
        let context = RequestContext::new();
        ask(targets(model), path, &body, &context).await;
        let asked = (small.request_count(), large.request_count());
        assert_eq!(asked, if answers == "small" { (1, 0) } else { (0, 1) }, "{model} {path} {tokens}");
        if (model, path, answers) == ("gpt-4o", CHAT, "large") {
            let Some(Outcome::Refused(fault)) = context.attempts().iter().next().unwrap().outcome() else { panic!() };
            let needed = tokens as u64 + 9;
            let Some(Refusal::Unmet(unmet)) = fault.refusal() else { panic!("{fault:?}") };
            assert_eq!(unmet.needs(), [Need::ContextWindow { needed, offered: 32_000 }]);
        }
    }
}
