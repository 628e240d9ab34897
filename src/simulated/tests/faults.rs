//! Each fault as a caller meets it.

use super::*;

#[tokio::test]
async fn status_faults() {
    for (fault, status, kind, code) in [
        ("rate-limited", 429, "requests", Some("rate_limit_exceeded")),
        ("quota-exhausted", 429, "insufficient_quota", Some("insufficient_quota")),
        ("overloaded", 503, "server_error", None),
        ("server-error", 500, "server_error", None),
        ("unauthorized", 401, "invalid_request_error", Some("invalid_api_key")),
        ("forbidden", 403, "request_forbidden", Some("unsupported_country_region_territory")),
        ("model-not-found", 404, "invalid_request_error", Some("model_not_found")),
        ("context-length-exceeded", 400, "invalid_request_error", Some("context_length_exceeded")),
        ("unsupported-parameter", 400, "invalid_request_error", Some("unsupported_parameter")),
        ("bad-request", 400, "invalid_request_error", Some("decimal_above_max_value")),
        ("content-filtered", 400, "invalid_request_error", Some("content_policy_violation")),
    ] {
        for stream in [false, true] {
            let seen = with(fault.parse().unwrap(), stream).await;
            assert_eq!((seen.status, seen.complete, seen.end), (status, true, End::Closed), "{fault}");
            assert_eq!(seen.header("content-type"), Some("application/json"));
            assert!(seen.header("x-request-id").is_some());
            let error = seen.error();
            assert_eq!(error["type"], kind, "{fault}");
            assert_eq!(error["code"].as_str(), code, "{fault}");
            assert!(error["message"].is_string());
        }
    }
}

#[tokio::test]
async fn what_a_rate_limit_tells() {
    let seen = with("rate-limited:3890ms".parse().unwrap(), true).await;
    assert_eq!(seen.header("retry-after"), Some("4"));
    assert_eq!(seen.header("retry-after-ms"), Some("3890"));
    assert_eq!(seen.header("x-ratelimit-limit-requests"), Some("500"));
    assert_eq!(seen.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(seen.header("x-ratelimit-reset-requests"), Some("3.89s"));
    let message = seen.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Please try again in 3.89s."), "{message}");
    assert!(message.contains("gpt-4o"), "{message}");

    let seen = with("rate-limited".parse().unwrap(), false).await;
    assert_eq!(seen.header("retry-after"), None);
    assert_eq!(seen.header("retry-after-ms"), None);
    assert!(!seen.body.contains("try again"));

    let seen = with("quota-exhausted".parse().unwrap(), false).await;
    assert_ne!(seen.header("x-ratelimit-remaining-requests"), Some("0"));
}

#[tokio::test]
async fn the_model_and_the_key_are_named() {
    let seen = with(SimulatedFault::ModelNotFound, false).await;
    let expected = "The model `gpt-4o` does not exist or you do not have access to it.";
    assert_eq!(seen.error()["message"], expected);
    let seen = with(SimulatedFault::Unauthorized, false).await;
    assert!(seen.body.contains("sk-s***"));
    assert!(!seen.body.contains("simulated-"));
}

#[tokio::test]
async fn pages_of_a_proxy() {
    for (fault, status) in [(SimulatedFault::BadGatewayHtml, 502), (SimulatedFault::HtmlOk, 200)] {
        let seen = with(fault, true).await;
        assert_eq!((seen.status, seen.complete, seen.end), (status, true, End::Closed));
        assert_eq!(seen.header("content-type"), Some("text/html"));
        assert_eq!(seen.header("x-request-id"), None);
        assert!(seen.body.starts_with("<html>"));
    }
}

#[tokio::test]
async fn reset_before_any_byte() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    provider.set_fault(SimulatedFault::Reset);
    let mut stream = send(&provider, "POST", "/v1/chat/completions", &hello(true).to_string()).await;
    assert_eq!(read_to_end(&mut stream).await, (Vec::new(), End::Reset));
    assert_eq!(provider.received()[0].json().unwrap(), hello(true));
    assert_eq!(provider.received()[0].fault, SimulatedFault::Reset);
    assert_eq!(provider.aborted_count(), 0);
}

#[tokio::test]
async fn silent() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    provider.set_fault(SimulatedFault::Silent);
    let mut stream = send(&provider, "POST", "/v1/chat/completions", &hello(false).to_string()).await;
    assert_eq!(read_to_end(&mut stream).await, (Vec::new(), End::Open));
    assert_eq!((provider.request_count(), provider.aborted_count()), (1, 0));
    drop(stream);
    until(|| provider.aborted_count() == 1).await;
}

#[tokio::test]
async fn slow_first_token() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    provider.set_fault("slow-first-token:1h".parse().unwrap());
    let body = hello(true).to_string();
    let mut stream = send(&provider, "POST", "/v1/chat/completions", &body).await;
    let early = seen(read_to_end(&mut stream).await);
    assert_eq!((early.status, early.end, early.complete), (200, End::Open, false));
    assert_eq!((early.chunks().len(), early.outputs()), (1, 0));

    let body = hello(false).to_string();
    let mut stream = send(&provider, "POST", "/v1/chat/completions", &body).await;
    assert_eq!(read_to_end(&mut stream).await, (Vec::new(), End::Open));

    provider.set_fault("slow-first-token:10ms".parse().unwrap());
    assert_eq!(chat(&provider, hello(true)).await.outputs(), 7);
    assert!(chat(&provider, hello(false)).await.complete);
}

#[tokio::test]
async fn cut() {
    for after_chunks in [0, 1, 3] {
        let seen = with(SimulatedFault::Cut { after_chunks }, true).await;
        assert_eq!((seen.status, seen.end, seen.complete), (200, End::Reset, false));
        assert_eq!(seen.outputs(), after_chunks);
        assert_eq!(seen.chunks().len(), after_chunks + 1);
    }
    let seen = with(SimulatedFault::Cut { after_chunks: 99 }, true).await;
    assert_eq!((seen.end, seen.outputs()), (End::Reset, 7));
    assert!(!seen.body.contains("\"stop\""));

    let seen = with(SimulatedFault::Cut { after_chunks: 3 }, false).await;
    assert_eq!((seen.status, seen.end, seen.complete), (200, End::Reset, false));
    let announced: usize = seen.header("content-length").unwrap().parse().unwrap();
    assert_eq!(seen.body.len(), announced / 2);
}

#[tokio::test]
async fn end_early() {
    let seen = with(SimulatedFault::EndEarly { after_chunks: 2 }, true).await;
    assert_eq!((seen.status, seen.end, seen.complete), (200, End::Closed, true));
    assert_eq!((seen.outputs(), seen.chunks().len()), (2, 3));
    assert!(!seen.body.contains("[DONE]"));

    let seen = with(SimulatedFault::EndEarly { after_chunks: 2 }, false).await;
    assert_eq!((seen.status, seen.end, seen.complete), (200, End::Closed, true));
    assert!(serde_json::from_str::<Value>(&seen.body).unwrap_err().is_eof());
}

#[tokio::test]
async fn stall() {
    for stream in [true, false] {
        let seen = with(SimulatedFault::Stall { after_chunks: 2 }, stream).await;
        assert_eq!((seen.status, seen.end, seen.complete), (200, End::Open, false));
        assert!(!seen.body.is_empty());
        if stream {
            assert_eq!(seen.outputs(), 2);
        }
    }
}

#[tokio::test]
async fn errors_within_an_answer() {
    let seen = with(SimulatedFault::ErrorFirstEvent, true).await;
    assert_eq!((seen.status, seen.end, seen.complete), (200, End::Closed, true));
    assert_eq!(seen.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events = seen.events();
    assert_eq!((events.len(), events[1]), (2, "[DONE]"));
    assert_eq!(seen.chunks()[0]["error"]["type"], "server_error");

    let seen = with(SimulatedFault::ErrorMidStream { after_chunks: 2 }, true).await;
    assert_eq!((seen.outputs(), seen.complete), (2, true));
    assert!(seen.chunks()[3]["error"].is_object());
    assert_eq!(seen.events().len(), 4);

    for fault in ["error-first-event", "error-mid-stream"] {
        let seen = with(fault.parse().unwrap(), false).await;
        assert_eq!((seen.status, seen.complete), (200, true));
        assert_eq!(seen.error()["type"], "server_error");
    }
}

#[tokio::test]
async fn empty_stream() {
    for stream in [true, false] {
        let seen = with(SimulatedFault::EmptyStream, stream).await;
        assert_eq!((seen.status, seen.end, seen.complete), (200, End::Closed, true));
        assert_eq!(seen.body, "");
    }
}

#[tokio::test]
async fn tool_calls_are_cut_too() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    provider.set_fault(SimulatedFault::Cut { after_chunks: 2 });
    let mut request = hello(true);
    request["tools"] = json!([{"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "properties": {"long_enough": {"type": "string"}},
    }}}]);
    let seen = chat(&provider, request).await;
    assert_eq!((seen.end, seen.outputs()), (End::Reset, 2));
}

#[tokio::test]
async fn for_so_many_requests() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    provider.set_fault_times(SimulatedFault::ServerError, 2);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(chat(&provider, hello(false)).await.status);
    }
    assert_eq!(statuses, [500, 500, 200]);
    assert_eq!(provider.fault(), SimulatedFault::None);
    provider.set_fault_times(SimulatedFault::Down, 0);
    assert_eq!(chat(&provider, hello(false)).await.status, 200);
}

#[tokio::test]
async fn an_outage_concerns_every_path() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    provider.set_fault(SimulatedFault::Overloaded);
    assert_eq!(call(&provider, "GET", "/v1/models", "").await.status, 503);
    assert_eq!(call(&provider, "POST", "/v1/chat/completions", "{").await.status, 503);
}
