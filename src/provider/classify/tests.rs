use super::*;
use crate::{Dialect, FaultKind};
use serde_json::Value;

#[test]
fn an_echoed_key_is_not_kept_and_a_long_message_is_cut() {
    let credentials = Credentials::api_key(Dialect::OpenAiChat, "sk-echo".into()).unwrap();
    for before in [0, MAX_MESSAGE - 3] {
        let message = format!("{}sk-echo {}", "x".repeat(before), "é".repeat(2000));
        let body = serde_json::json!({"error": {"message": message, "code": "sk-echo"}}).to_string();
        let (status, none) = (StatusCode::UNAUTHORIZED, HeaderMap::new());
        let fault = response(&FaultRules::NONE, status, &none, body.as_bytes(), &credentials);
        assert!(!format!("{fault:?}").contains("sk-"), "{fault:?}");
        assert!(fault.message().len() <= MAX_MESSAGE);
    }
}

/// Real bodies of all dialects' providers, where a copy of the recordings is at hand.
#[test]
fn recorded_errors_are_what_they_are_labelled() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/recordings/errors.jsonl");
    let Ok(recordings) = std::fs::read_to_string(path) else {
        return eprintln!("skipped: no recordings at {path}");
    };
    let mut wrong = Vec::new();
    for line in recordings.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let body = match &row["body"] {
            Value::String(text) => text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(text).into(),
            body => body.to_string(),
        };
        let headers = row["headers"].as_object().unwrap().iter();
        let headers = headers.map(|(name, value)| {
            (name.parse::<http::HeaderName>().unwrap(), value.as_str().unwrap().parse::<http::HeaderValue>().unwrap())
        });
        let status = StatusCode::from_u16(row["status"].as_u64().unwrap() as u16).unwrap();
        let found = match status.is_success() {
            true => in_band(&FaultRules::NONE, body.as_bytes(), &Credentials::none()),
            false => response(&FaultRules::NONE, status, &headers.collect(), body.as_bytes(), &Credentials::none()),
        };
        let found = found.kind().name();
        let labels = row["also_ok"].as_array().unwrap().iter().chain([&row["class"]]);
        let mut labels =
            labels.map(|label| if label == "server_error" { "unavailable" } else { label.as_str().unwrap() });
        if !labels.any(|label| label == found) {
            wrong.push(format!("{}: {found} instead of {}: {body}", row["id"], row["class"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What an error with that status (200: inside a good response) and body is.
fn kind_of(status: u16, body: &str) -> FaultKind {
    kind_with(&[], status, body)
}

fn kind_with(headers: &[(&'static str, &'static str)], status: u16, body: &str) -> FaultKind {
    let headers = headers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
    let none = Credentials::none();
    match StatusCode::from_u16(status).unwrap() {
        StatusCode::OK => in_band(&FaultRules::NONE, body.as_bytes(), &none).kind(),
        status => response(&FaultRules::NONE, status, &headers.collect(), body.as_bytes(), &none).kind(),
    }
}

fn check(rows: &[(FaultKind, u16, &str)]) {
    let wrong: Vec<_> = rows
        .iter()
        .map(|(expected, status, body)| (expected, kind_of(*status, body), status, body))
        .filter(|(expected, found, ..)| *expected != found)
        .map(|(expected, found, status, body)| format!("{found} instead of {expected}: {status} {body}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

use FaultKind::*;

#[test]
fn openai() {
    let error = |kind: &str, code: &str, message: &str| {
        serde_json::json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string()
    };
    let invalid = |code, message| error("invalid_request_error", code, message);
    check(&[
        (
            RateLimited,
            429,
            &error(
                "requests",
                "rate_limit_exceeded",
                "Rate limit reached for m on requests per min (RPM): Limit 3. Please try again in 20s.",
            ),
        ),
        (
            QuotaExhausted,
            429,
            &error(
                "requests",
                "rate_limit_exceeded",
                "Rate limit reached for m on requests per day (RPD): Limit 200. Please try again in 7m12s.",
            ),
        ),
        (QuotaExhausted, 429, &error("insufficient_quota", "", "Quota is gone.")),
        (QuotaExhausted, 429, &invalid("billing_hard_limit_reached", "Billing hard limit has been reached")),
        (QuotaExhausted, 429, &error("billing_not_active", "billing_not_active", "Your account is not active.")),
        (
            RateLimited,
            429,
            &error(
                "tokens",
                "rate_limit_exceeded",
                "Request too large for m on tokens per min (TPM): Limit 10, Requested 99.",
            ),
        ),
        (Overloaded, 429, &error("server_error", "", "The engine is currently overloaded, please try again later")),
        (AuthFailed, 401, &invalid("", "You didn't provide an API key.")),
        (PermissionDenied, 403, &error("request_forbidden", "unsupported_country_region_territory", "no")),
        (PermissionDenied, 403, &invalid("model_not_found", "Project `p` does not have access to model `m`")),
        (
            PermissionDenied,
            400,
            &invalid("unsupported_value", "Your organization must be verified to stream this model."),
        ),
        (NotFound, 404, &invalid("model_not_found", "The model `m` does not exist")),
        (NotFound, 400, &invalid("model_not_found", "The requested model 'm' does not exist.")),
        (
            ContextLengthExceeded,
            400,
            &invalid("context_length_exceeded", "Your input exceeds the context window of this model."),
        ),
        (
            ContextLengthExceeded,
            400,
            &invalid("", "This model's maximum context length is 10 tokens, however you requested 20."),
        ),
        (
            BadRequest,
            400,
            &invalid(
                "invalid_value",
                "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
            ),
        ),
        (ContentFiltered, 400, &invalid("invalid_prompt", "Your prompt was declined.")),
        (ContentFiltered, 400, &invalid("content_policy_violation", "Your request was rejected by our safety system.")),
        (Unsupported, 400, &invalid("unsupported_parameter", "Unknown.")),
        (Unsupported, 400, &invalid("", "'reasoning.effort' is not supported with the 'm' model.")),
        (BadRequest, 400, &invalid("", "Missing required parameter: 'messages'.")),
        (BadRequest, 400, &invalid("invalid_json_schema", "Invalid schema for response_format")),
        (Unavailable, 500, &error("server_error", "", "The server had an error")),
        (Overloaded, 503, &error("server_error", "", "That model is currently overloaded with other requests.")),
        // Inside a 200, in both APIs.
        (QuotaExhausted, 200, &error("insufficient_quota", "insufficient_quota", "no")),
        (Unavailable, 200, &error("server_error", "", "The server had an error")),
        (BadRequest, 200, &invalid("", "No tool output found for call c.")),
        (
            RateLimited,
            200,
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"wait"}}}"#,
        ),
        (
            Unavailable,
            200,
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"x"}}}"#,
        ),
        (
            ContextLengthExceeded,
            200,
            r#"{"type":"error","code":"context_length_exceeded","message":"too long","param":"input"}"#,
        ),
    ]);
}

#[test]
fn azure() {
    check(&[
        (
            RateLimited,
            429,
            r#"{"error":{"code":"429","message":"Requests to the Chat Operation have exceeded call rate limit of your tier. Please retry after 9 seconds."}}"#,
        ),
        (
            RateLimited,
            429,
            r#"{"error":{"code":"RateLimitReached","message":"Your requests have exceeded rate limit."}}"#,
        ),
        (
            QuotaExhausted,
            429,
            r#"{"error":{"code":"RateLimitReached","message":"Rate limit of 50 per 86400s exceeded for UserByModelByDay."}}"#,
        ),
        (
            Overloaded,
            429,
            r#"{"error":{"code":"429","message":"The system is currently experiencing high demand and cannot process your request."}}"#,
        ),
        (AuthFailed, 401, r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key."}}"#),
        (
            PermissionDenied,
            403,
            r#"{"error":{"code":"403","message":"Access denied due to Virtual Network/Firewall rules."}}"#,
        ),
        (NotFound, 404, r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment does not exist."}}"#),
        (
            ContentFiltered,
            400,
            r#"{"error":{"message":"The response was filtered","code":"content_filter","status":400}}"#,
        ),
        (
            ContentFiltered,
            400,
            r#"{"error":{"message":"declined","code":"400","innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true}}}}}"#,
        ),
        (
            Unsupported,
            400,
            r#"{"error":{"code":"OperationNotSupported","message":"The chatCompletion operation does not work with the specified model, m."}}"#,
        ),
        (
            ContextLengthExceeded,
            413,
            r#"{"error":{"code":"tokens_limit_reached","message":"Request body too large for m. Max size: 8000 tokens."}}"#,
        ),
        (Timeout, 408, r#"{"error":{"code":"Timeout","message":"The operation was timeout."}}"#),
        (
            Unavailable,
            500,
            r#"{"error":{"code":"InternalServerError","message":"Backend returned unexpected response."}}"#,
        ),
    ]);
}

#[test]
fn anthropic() {
    let error = |kind: &str, message: &str| {
        serde_json::json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
            .to_string()
    };
    let invalid = |message| error("invalid_request_error", message);
    check(&[
        (QuotaExhausted, 400, &invalid("Your credit balance is too low to use the API.")),
        (QuotaExhausted, 400, &invalid("You have reached your specified workspace API usage limits.")),
        (QuotaExhausted, 400, &invalid("You're out of extra usage. Add more to keep going.")),
        (QuotaExhausted, 402, &error("billing_error", "Check your payment method")),
        (QuotaExhausted, 429, &error("rate_limit_error", "Extra usage is required for requests of that length.")),
        (QuotaExhausted, 429, &error("rate_limit_error", "Number of tokens has exceeded your daily rate limit")),
        (
            RateLimited,
            429,
            &error("rate_limit_error", "This would exceed your organization's rate limit of 50 requests per minute"),
        ),
        (AuthFailed, 401, &error("authentication_error", "invalid x-api-key")),
        (PermissionDenied, 403, &error("permission_error", "Your key may not use this")),
        (PermissionDenied, 400, &invalid("This organization has been disabled.")),
        (NotFound, 404, &error("not_found_error", "model: m")),
        (ContextLengthExceeded, 400, &invalid("prompt is too long: 210000 tokens > 200000 maximum")),
        (
            ContextLengthExceeded,
            400,
            &invalid("input length and `max_tokens` exceed context limit: 190000 + 21333 > 200000"),
        ),
        (ContentFiltered, 400, &invalid("Output blocked by content filtering policy")),
        (ContentFiltered, 200, &invalid("Output blocked by content filtering policy")),
        (Unsupported, 400, &invalid("`temperature` is deprecated for this model.")),
        (Unsupported, 400, &invalid("This model does not support assistant message prefill.")),
        (
            BadRequest,
            400,
            &invalid("max_tokens: 99999 > 64000, which is the maximum allowed number of output tokens for m"),
        ),
        (BadRequest, 400, &invalid("messages: roles must alternate")),
        (
            PayloadTooLarge,
            413,
            r#"{"error":{"type":"request_too_large","message":"Request exceeds the maximum allowed number of bytes."}}"#,
        ),
        (Overloaded, 529, &error("overloaded_error", "Overloaded")),
        (Overloaded, 500, &error("api_error", "Overloaded")),
        (Overloaded, 200, &error("overloaded_error", "Overloaded")),
        (Unavailable, 500, &error("api_error", "Internal server error")),
        (Unavailable, 200, &error("api_error", "Internal server error")),
        (Timeout, 504, &error("timeout_error", "Request timed out")),
        (Timeout, 200, &error("timeout_error", "Request timed out")),
    ]);
}

#[test]
fn gemini_and_vertex() {
    let error = |code: u16, status: &str, message: &str, details: Value| {
        serde_json::json!({"error": {"code": code, "message": message, "status": status, "details": details}})
            .to_string()
    };
    let plain = |code, status, message| error(code, status, message, serde_json::json!([]));
    let reason = |code, status, reason: &str| {
        let info = serde_json::json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}]);
        error(code, status, "See the details.", info)
    };
    let quota = |ids: &[&str]| {
        let violations: Vec<_> = ids.iter().map(|id| serde_json::json!({"quotaId": id})).collect();
        let details = serde_json::json!([
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "40s"},
        ]);
        error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan.", details)
    };
    check(&[
        (RateLimited, 429, &quota(&["GenerateContentInputTokensPerModelPerMinute-PaidTier"])),
        (QuotaExhausted, 429, &quota(&["GenerateRequestsPerDayPerProjectPerModel"])),
        (QuotaExhausted, 429, &quota(&["GenerateRequestsPerMinutePerProject", "GenerateRequestsPerDayPerProject"])),
        (RateLimited, 429, &plain(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota. Please retry in 9.5s.")),
        (RateLimited, 429, &plain(429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later.")),
        (
            RateLimited,
            429,
            &plain(429, "RESOURCE_EXHAUSTED", "Quota exceeded for online_prediction_requests_per_base_model."),
        ),
        (Overloaded, 429, &plain(429, "RESOURCE_EXHAUSTED", "No capacity available for model m.")),
        (AuthFailed, 400, &reason(400, "INVALID_ARGUMENT", "API_KEY_INVALID")),
        (AuthFailed, 401, &plain(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")),
        (AuthFailed, 403, &plain(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers.")),
        (PermissionDenied, 403, &reason(403, "PERMISSION_DENIED", "SERVICE_DISABLED")),
        (PermissionDenied, 403, &reason(403, "PERMISSION_DENIED", "CONSUMER_SUSPENDED")),
        (PermissionDenied, 400, &plain(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")),
        (PermissionDenied, 400, &plain(400, "FAILED_PRECONDITION", "The free tier is not available in your country.")),
        (
            BadRequest,
            400,
            &plain(400, "FAILED_PRECONDITION", "The file is not in an ACTIVE state and usage is not allowed."),
        ),
        (
            NotFound,
            404,
            &plain(
                404,
                "NOT_FOUND",
                "models/m is not found for API version v1, or is not supported for generateContent.",
            ),
        ),
        (
            ContextLengthExceeded,
            400,
            &plain(
                400,
                "INVALID_ARGUMENT",
                "The input token count exceeds the maximum number of tokens allowed 1048576.",
            ),
        ),
        (
            PayloadTooLarge,
            400,
            &plain(400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
        ),
        (Unsupported, 400, &plain(400, "INVALID_ARGUMENT", "Function calling is not enabled for models/m")),
        (BadRequest, 400, &plain(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")),
        (Timeout, 499, &plain(499, "CANCELLED", "The operation was cancelled.")),
        (Timeout, 504, &plain(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete.")),
        (Overloaded, 503, &plain(503, "UNAVAILABLE", "The service is currently unavailable.")),
        (Unavailable, 500, &plain(500, "INTERNAL", "An internal error has occurred.")),
        (
            Unavailable,
            500,
            &plain(500, "INTERNAL", "The input token count exceeds the maximum number of tokens allowed."),
        ),
        // In an array, and inside a 200.
        (Overloaded, 200, &format!("[{}]", plain(503, "UNAVAILABLE", "Try later."))),
        (RateLimited, 200, &plain(429, "RESOURCE_EXHAUSTED", "Try later.")),
        (BadRequest, 200, &plain(400, "INVALID_ARGUMENT", "No.")),
        // Anthropic's error as Vertex wraps it.
        (
            ContextLengthExceeded,
            400,
            r#"{"error":{"code":400,"message":"{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"prompt is too long: 9 > 8\"}}","status":"INVALID_ARGUMENT"}}"#,
        ),
    ]);
}

#[test]
fn groq_mistral_together_deepseek() {
    check(&[
        // Groq
        (
            QuotaExhausted,
            429,
            r#"{"error":{"message":"Rate limit reached for model `m` on tokens per day (TPD): Limit 100000.","type":"tokens","code":"rate_limit_exceeded"}}"#,
        ),
        (
            RateLimited,
            429,
            r#"{"error":{"message":"Rate limit reached for model `m` on requests per minute (RPM): Limit 30.","type":"requests","code":"rate_limit_exceeded"}}"#,
        ),
        (
            RateLimited,
            413,
            r#"{"error":{"message":"Request too large for model `m` on tokens per minute (TPM)","type":"tokens","code":"rate_limit_exceeded"}}"#,
        ),
        (Overloaded, 498, r#"{"error":{"message":"Flex tier capacity exceeded","code":"capacity_exceeded"}}"#),
        (
            Overloaded,
            503,
            r#"{"error":{"message":"m is currently over capacity. Please back off.","type":"internal_server_error"}}"#,
        ),
        (
            NotFound,
            400,
            r#"{"error":{"message":"The model `m` has been decommissioned and is no longer supported.","code":"model_decommissioned"}}"#,
        ),
        (
            BadRequest,
            400,
            r#"{"error":{"message":"Failed to generate JSON.","type":"invalid_request_error","code":"json_validate_failed"}}"#,
        ),
        (
            ContextLengthExceeded,
            400,
            r#"{"error":{"message":"Please reduce the length of the messages or completion.","code":"context_length_exceeded"}}"#,
        ),
        (
            PermissionDenied,
            400,
            r#"{"error":{"message":"Organization has been restricted.","code":"organization_restricted"}}"#,
        ),
        // Mistral
        (RateLimited, 429, r#"{"message":"Requests rate limit exceeded"}"#),
        (
            Overloaded,
            429,
            r#"{"object":"error","message":"Service tier capacity exceeded for this model.","type":"service_tier_capacity_exceeded","code":"3505"}"#,
        ),
        (AuthFailed, 401, r#"{"detail":"Unauthorized"}"#),
        (NotFound, 400, r#"{"object":"error","message":"Invalid model: m","type":"invalid_model","code":"1500"}"#),
        (
            ContextLengthExceeded,
            400,
            r#"{"object":"error","message":"Prompt contains 40001 tokens, too large for model with 32768 maximum context length","code":"3051"}"#,
        ),
        (BadRequest, 422, r#"{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required"}]}"#),
        // Together
        (
            RateLimited,
            429,
            r#"{"error":{"message":"You have reached the rate limit specific to this model.","type":"model_rate_limit"}}"#,
        ),
        (
            QuotaExhausted,
            402,
            r#"{"error":{"message":"Credit limit exceeded, please see billing.","type":"credit_limit"}}"#,
        ),
        (
            ContextLengthExceeded,
            422,
            r#"{"error":{"message":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193.","type":"invalid_request_error"}}"#,
        ),
        (NotFound, 404, r#"{"error":{"message":"Unable to access model m.","code":"model_not_available"}}"#),
        // DeepSeek
        (
            QuotaExhausted,
            402,
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#,
        ),
        (
            AuthFailed,
            401,
            r#"{"error":{"message":"Authentication Fails, your api key is invalid","type":"authentication_error"}}"#,
        ),
        (ContentFiltered, 400, r#"{"error":{"message":"Content Exists Risk","type":"invalid_request_error"}}"#),
        (
            NotFound,
            400,
            r#"{"error":{"message":"Model Not Exist","type":"invalid_request_error","code":"invalid_request_error"}}"#,
        ),
        (Overloaded, 503, r#"{"error":{"message":"Service is too busy.","type":"service_unavailable_error"}}"#),
    ]);
}

#[test]
fn openrouter() {
    let error = |code: u16, message: &str, metadata: Value| {
        serde_json::json!({"error": {"code": code, "message": message, "metadata": metadata}, "user_id": "u"})
            .to_string()
    };
    let raw =
        |code, raw: &str| error(code, "Provider returned error", serde_json::json!({"provider_name": "P", "raw": raw}));
    check(&[
        (QuotaExhausted, 402, &error(402, "Insufficient credits. Add more.", Value::Null)),
        (QuotaExhausted, 429, &error(429, "Rate limit exceeded: free-models-per-day. Add 10 credits.", Value::Null)),
        (RateLimited, 429, &error(429, "Rate limit exceeded: free-models-per-min.", Value::Null)),
        (QuotaExhausted, 403, &error(403, "Key limit exceeded (total limit).", Value::Null)),
        (RateLimited, 429, &raw(429, "m:free is temporarily rate-limited upstream. Please retry shortly.")),
        (
            ContextLengthExceeded,
            400,
            &raw(400, r#"{"error":{"message":"prompt is too long: 9 > 8","type":"invalid_request_error"}}"#),
        ),
        (BadRequest, 400, &raw(400, r#"{"error":{"message":"bad tool","type":"invalid_request_error"}}"#)),
        (Overloaded, 502, &raw(502, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#)),
        (Unavailable, 502, &error(502, "Provider returned error", Value::Null)),
        (
            ContentFiltered,
            403,
            &error(403, "Declined.", serde_json::json!({"reasons": ["violence"], "flagged_input": "..."})),
        ),
        (PermissionDenied, 403, &error(403, "This key may not do that.", serde_json::json!({"reasons": []}))),
        (Unsupported, 404, &error(404, "No endpoints found that support image input", Value::Null)),
        (NotFound, 404, &error(404, "No endpoints found for m.", Value::Null)),
        (PermissionDenied, 404, &error(404, "No endpoints found matching your data policy.", Value::Null)),
        (NotFound, 400, &error(400, "m is not a valid model ID", Value::Null)),
        (Timeout, 408, &error(408, "Timed out", Value::Null)),
        // In a 200, its own status is in the body.
        (RateLimited, 200, &error(429, "Slow down", Value::Null)),
        (QuotaExhausted, 200, &error(402, "Pay", Value::Null)),
        (Unavailable, 200, &error(502, "Upstream broke", Value::Null)),
        (
            Unavailable,
            200,
            r#"{"id":"c","choices":[],"error":{"code":"server_error","message":"Provider disconnected"}}"#,
        ),
    ]);
}

#[test]
fn xai_perplexity_cerebras() {
    check(&[
        (
            AuthFailed,
            400,
            r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***."}"#,
        ),
        (
            QuotaExhausted,
            403,
            r#"{"code":"The caller does not have permission","error":"Your new team doesn’t have any credits yet."}"#,
        ),
        (
            QuotaExhausted,
            429,
            r#"{"code":"Some resource has been exhausted","error":"Your team has either used all available credits or reached its monthly spending limit."}"#,
        ),
        (RateLimited, 429, r#"{"code":"Some resource has been exhausted","error":"Too many requests for team t."}"#),
        (
            NotFound,
            404,
            r#"{"code":"Some requested entity was not found","error":"The model m does not exist or your team has no access to it."}"#,
        ),
        (
            ContextLengthExceeded,
            400,
            r#"{"code":"invalid-argument","error":"This model's maximum prompt length is 131072 but the request contains 200000 tokens."}"#,
        ),
        (Unsupported, 400, r#"{"code":"invalid-argument","error":"Argument not supported on this model: stop"}"#),
        (ContentFiltered, 403, r#"{"code":"permission","error":"Content violates usage guidelines."}"#),
        (AuthFailed, 401, r#"{"error":{"message":"Invalid API key","type":"invalid_api_key","code":401}}"#),
        (NotFound, 400, r#"{"error":{"message":"Invalid model 'm'.","type":"invalid_model","code":400}}"#),
        (ContextLengthExceeded, 400, r#"{"error":{"message":"Too long.","type":"too_many_prompt_tokens","code":400}}"#),
        (
            AuthFailed,
            401,
            r#"{"message":"Wrong API Key","type":"invalid_request_error","param":"api_key","code":"wrong_api_key"}"#,
        ),
        (
            RateLimited,
            429,
            r#"{"message":"Requests per minute limit exceeded","type":"too_many_requests_error","code":"request_quota_exceeded"}"#,
        ),
        (
            QuotaExhausted,
            429,
            r#"{"message":"Tokens per day limit exceeded","type":"too_many_tokens_error","code":"token_quota_exceeded"}"#,
        ),
        (
            Overloaded,
            429,
            r#"{"message":"We're experiencing high traffic, the queue is at capacity","type":"too_many_requests_error","code":"queue_exceeded"}"#,
        ),
        (
            ContextLengthExceeded,
            400,
            r#"{"message":"Please reduce the length of the messages. Current length is 10000 while limit is 8192","type":"invalid_request_error"}"#,
        ),
    ]);
}

#[test]
fn vllm_ollama_hugging_face() {
    check(&[
        (
            ContextLengthExceeded,
            400,
            r#"{"object":"error","message":"max_tokens must be at least 1, got -7.","type":"BadRequestError","code":400}"#,
        ),
        (
            BadRequest,
            400,
            r#"{"object":"error","message":"max_tokens must be at least 1, got 0.","type":"BadRequestError","code":400}"#,
        ),
        (
            ContextLengthExceeded,
            400,
            r#"{"error":{"message":"The decoder prompt (length 9) is longer than the maximum model length of 8.","type":"BadRequestError","code":400}}"#,
        ),
        (
            NotFound,
            404,
            r#"{"object":"error","message":"The model `m` does not exist.","type":"NotFoundError","code":404}"#,
        ),
        (
            Unsupported,
            400,
            r#"{"error":{"message":"\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set","type":"BadRequestError","code":400}}"#,
        ),
        (
            Unsupported,
            400,
            r#"{"error":{"message":"m is not a multimodal model","type":"BadRequestError","code":400}}"#,
        ),
        (AuthFailed, 401, r#"{"error":"Unauthorized"}"#),
        (NotFound, 404, r#"{"error":"model 'm' not found"}"#),
        (Unsupported, 400, r#"{"error":"registry.ollama.ai/library/m does not support tools"}"#),
        (ContextLengthExceeded, 400, r#"{"error":"the input length exceeds the context length"}"#),
        (QuotaExhausted, 429, r#"{"error":"you've reached your weekly limit"}"#),
        (Overloaded, 503, r#"{"error":"server busy, please try again. maximum pending requests exceeded: high load"}"#),
        (Overloaded, 503, r#"{"error":"Model m is currently loading","estimated_time":20.0}"#),
        (Overloaded, 429, r#"{"error":"Model is overloaded","error_type":"overloaded"}"#),
        (QuotaExhausted, 402, r#"{"error":"You have exceeded your monthly included credits."}"#),
        (
            NotFound,
            400,
            r#"{"error":{"message":"The requested model 'm' is not supported by any provider you have enabled.","code":"model_not_supported"}}"#,
        ),
    ]);
}

#[test]
fn bedrock() {
    for (expected, status, kind, message) in [
        (RateLimited, 429, "ThrottlingException", "Too many tokens, please wait before trying again."),
        (QuotaExhausted, 429, "ThrottlingException", "Too many tokens per day, please wait before trying again."),
        (RateLimited, 400, "ThrottlingException:http://internal.amazon.com/coral/", "Rate exceeded"),
        (
            QuotaExhausted,
            400,
            "ServiceQuotaExceededException",
            "Your request exceeds the service quota for your account.",
        ),
        (Overloaded, 429, "ModelNotReadyException", "The model is not ready."),
        (Overloaded, 503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
        (AuthFailed, 403, "UnrecognizedClientException", "no"),
        (AuthFailed, 403, "ExpiredTokenException:http://internal.amazon.com/coral/", "no"),
        (
            PermissionDenied,
            403,
            "AccessDeniedException",
            "You don't have access to the model with the specified model ID.",
        ),
        (
            PermissionDenied,
            404,
            "ResourceNotFoundException",
            "Model use case details have not been submitted for this account.",
        ),
        (NotFound, 404, "ResourceNotFoundException", "This model version has reached the end of its life."),
        (NotFound, 400, "ValidationException", "The provided model identifier is invalid."),
        (ContextLengthExceeded, 400, "ValidationException", "Input is too long for requested model."),
        (
            ContextLengthExceeded,
            400,
            "ValidationException",
            "Input Tokens Exceeded: Number of input tokens exceeds maximum length.",
        ),
        (
            Unsupported,
            400,
            "ValidationException",
            "Invocation of model ID m with on-demand throughput isn’t supported.",
        ),
        (ContentFiltered, 400, "ValidationException", "The generated text has been blocked by our content filters."),
        (BadRequest, 400, "ValidationException", "Malformed input request, please reformat your input and try again."),
        (Timeout, 408, "ModelTimeoutException", "Model has timed out in processing the request."),
        (Unavailable, 424, "ModelErrorException", "The model failed."),
        (Unavailable, 500, "InternalServerException", "Internal."),
    ] {
        let body = serde_json::json!({ "message": message }).to_string();
        assert_eq!(kind_with(&[("x-amzn-errortype", kind)], status, &body), expected, "{kind}: {message}");
    }
}

#[test]
fn proxies_and_networks() {
    const PAGE: &str = "<html><body>Maximum context length of overloaded pages exceeded</body></html>";
    for (expected, statuses) in [
        (Unavailable, &[500, 502, 503, 520, 521, 523, 525, 526, 530][..]),
        (Timeout, &[408, 499, 504, 522, 524]),
        (PayloadTooLarge, &[413]),
        (NotFound, &[404, 410]),
        (PermissionDenied, &[403]),
        (RateLimited, &[429]),
        (BadRequest, &[400, 405, 415]),
    ] {
        for status in statuses {
            assert_eq!(kind_of(*status, PAGE), expected, "{status}");
            assert_eq!(kind_of(*status, ""), expected, "{status}");
        }
    }
    assert_eq!(kind_of(200, PAGE), Unavailable);
    assert_eq!(kind_of(503, "upstream connect error or disconnect/reset before headers"), Unavailable);
}

#[test]
fn hints_are_taken_from_headers_before_the_body_and_from_it_before_the_windows() {
    let read = |headers: &[(&'static str, &'static str)], body: &str| {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
        let status = StatusCode::TOO_MANY_REQUESTS;
        response(&FaultRules::NONE, status, &headers.collect(), body.as_bytes(), &Credentials::none())
    };
    let window = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "9s")];
    let asked = [window[0], window[1], ("retry-after", "2"), ("x-should-retry", "false")];
    let body = r#"{"error":{"message":"Please try again in 3s."}}"#;
    let seconds = |fault: Fault| fault.retry_after().map(|wait| wait.as_secs());
    assert_eq!(seconds(read(&asked, body)), Some(2));
    assert_eq!(seconds(read(&window, body)), Some(3));
    assert_eq!(seconds(read(&window, "")), Some(9));
    assert_eq!((read(&asked, body).should_retry(), read(&window, body).should_retry()), (Some(false), None));
    assert_eq!(seconds(in_band(&FaultRules::NONE, body.as_bytes(), &Credentials::none())), Some(3));
}
