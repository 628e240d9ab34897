//! Who may ask the gateway for what, on real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

mod harness;

use bytes::Bytes;
use harness::{RawProvider, Served, ask, chat, raw_response, send, simulated, text};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tower_failover::simulated::{SimulatedFault, SimulatedProvider};

const TEAM_A: &str = "sk-gateway-team-a-0123456789";
const TEAM_B: &str = "sk-gateway-team-b-0123456789";
const ADMIN: &str = "sk-gateway-admin-0123456789";

fn json(body: &[u8]) -> serde_json::Value {
    serde_json::from_slice(body).unwrap()
}

/// A gateway with these lines of `[auth]`, in front of one provider.
async fn served(base_url: &str, auth: &str) -> Served {
    Served::with_config(&format!(
        r#"
        [auth]
        {auth}
        [providers.primary]
        dialect = "openai-chat"
        base_url = "{base_url}"
        api_key = {{ value = "sk-upstream-primary" }}
        [routes."chat"]
        targets = [{{ provider = "primary", model = "model-p" }}]
        [routes."other"]
        targets = [{{ provider = "primary", model = "model-p" }}]
        [routes."fb-*"]
        targets = [{{ provider = "primary", model = "model-f" }}]
        "#
    ))
    .await
}

fn both() -> String {
    format!(
        "keys = [{{ value = \"{TEAM_A}\" }}, {{ value = \"{TEAM_B}\", name = \"team-b\", routes = [\"chat\", \"fb-*\"] }}]\n\
         admin_keys = [{{ value = \"{ADMIN}\" }}]"
    )
}

/// Asks for an answer, with these headers.
fn post(served: &Served, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::post(served.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.to_owned().into())).unwrap()
}

fn get(served: &Served, path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::get(served.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

async fn status(request: Request<Full<Bytes>>) -> u16 {
    ask(request).await.0.status.as_u16()
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_key_is_taken_wherever_a_client_puts_it_and_goes_no_further() {
    let (primary, _) = simulated().await;
    let served = served(&primary.base_url(), &both()).await;
    let bearer = format!("Bearer {TEAM_A}");
    let query = format!("{CHAT}?key={TEAM_A}");
    let with: [(&str, &[(&str, &str)]); 6] = [
        (CHAT, &[("authorization", &bearer)]),
        (CHAT, &[("x-api-key", TEAM_A)]),
        (CHAT, &[("api-key", TEAM_A)]),
        (CHAT, &[("x-goog-api-key", TEAM_A)]),
        (&query, &[]),
        // An SDK's placeholder, and the key in a header that was set beside it.
        (CHAT, &[("authorization", "Bearer none"), ("x-api-key", TEAM_A)]),
    ];
    for (path, headers) in with {
        let (head, body) = ask(post(&served, path, headers, &chat(false))).await;
        assert_eq!(head.status, 200, "{path} {headers:?}: {body:?}");
        assert!(text(&body).starts_with("[primary]"));
        assert!(!format!("{head:?}{body:?}").contains(TEAM_A));
    }
    let received = primary.received();
    assert_eq!(received.len(), with.len());
    for request in received {
        let told = format!("{:?} {:?} {}", request.headers, request.uri, String::from_utf8_lossy(&request.body));
        assert!(!told.contains(TEAM_A), "the client's key travelled on: {told}");
        assert_eq!(request.header("authorization"), Some("Bearer sk-upstream-primary"));
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_answered_but_whether_it_lives() {
    let (primary, _) = simulated().await;
    let served = served(&primary.base_url(), &both()).await;
    let wrong = "sk-gateway-of-nobody";
    for headers in [&[][..], &[("authorization", "Bearer sk-gateway-of-nobody")], &[("x-api-key", ADMIN)]] {
        for (path, error, code) in [
            (CHAT, "/error/code", "invalid_api_key"),
            ("/v1/embeddings", "/error/code", "invalid_api_key"),
            ("/v1/responses", "/error/code", "invalid_api_key"),
            ("/v1/messages", "/error/type", "authentication_error"),
            ("/v1beta/models/chat:generateContent", "/error/status", "UNAUTHENTICATED"),
            ("/v1/nothing", "/error/code", "invalid_api_key"),
        ] {
            let (head, body) = ask(post(&served, path, headers, &chat(false))).await;
            assert_eq!(head.status, 401, "{path} {headers:?}");
            assert_eq!(json(&body).pointer(error).unwrap(), code, "{path}: {body:?}");
            assert_eq!(head.headers["www-authenticate"], "Bearer");
            assert!(!String::from_utf8_lossy(&body).contains(wrong));
        }
        assert_eq!(status(get(&served, "/v1/models", headers)).await, 401);
        assert_eq!(status(get(&served, "/v1/models/chat", headers)).await, 401);
    }
    for path in ["/", "/metrics", "/status.json", "/admin/targets/primary/model-p/open", "/nobody/thought/of/this"] {
        let (head, _) = ask(get(&served, path, &[])).await;
        assert_eq!(head.status, 401, "{path}");
        assert!(head.headers["www-authenticate"].to_str().unwrap().starts_with("Basic realm="), "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(status(get(&served, path, &[])).await, 200, "{path}");
    }
    assert_eq!(primary.request_count(), 0);
}

#[tokio::test]
async fn what_is_for_operators_opens_with_their_key_and_no_other() {
    let (primary, _) = simulated().await;
    let guarded = served(&primary.base_url(), &both()).await;
    // There is nothing at this path, which only those are told who may know.
    let path = "/admin/nothing";
    let basic = |key: &str| {
        use std::process::{Command, Stdio};
        let mut encode =
            Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut encode.stdin.take().unwrap(), format!("anyone:{key}").as_bytes()).unwrap();
        format!("Basic {}", String::from_utf8(encode.wait_with_output().unwrap().stdout).unwrap())
    };
    for (name, value, expected) in [
        ("authorization", format!("Bearer {ADMIN}"), 404),
        ("x-api-key", ADMIN.to_owned(), 404),
        ("authorization", basic(ADMIN), 404),
        ("authorization", basic("wrong"), 401),
        ("authorization", basic(TEAM_A), 403),
        ("authorization", format!("Bearer {TEAM_A}"), 403),
    ] {
        assert_eq!(status(get(&guarded, path, &[(name, &value)])).await, expected, "{name}: {value}");
    }
    assert_eq!(status(get(&guarded, &format!("{path}?key={ADMIN}"), &[])).await, 401, "a browser keeps what it visits");
    // Without keys of their own, clients' open it; with none at all, nobody needs one.
    let shared = served(&primary.base_url(), &format!("keys = [{{ value = \"{TEAM_A}\" }}]")).await;
    assert_eq!(status(get(&shared, path, &[("x-api-key", TEAM_A)])).await, 404);
    assert_eq!(status(get(&shared, path, &[])).await, 401);
    let operators = served(&primary.base_url(), &format!("admin_keys = [{{ value = \"{ADMIN}\" }}]")).await;
    assert_eq!(status(get(&operators, path, &[])).await, 401);
    assert_eq!(status(post(&operators, CHAT, &[], &chat(false))).await, 200);
}

#[tokio::test]
async fn a_key_opens_its_routes_and_no_other() {
    let (primary, _) = simulated().await;
    let served = served(&primary.base_url(), &both()).await;
    let b = [("x-api-key", TEAM_B)];
    let ask_for = |model: &str| chat(false).replace("\"chat\"", &format!("\"{model}\""));
    for model in ["chat", "fb-anything"] {
        assert_eq!(status(post(&served, CHAT, &b, &ask_for(model))).await, 200, "{model}");
    }
    for (path, body, at, code) in [
        (CHAT, ask_for("other"), "/error/code", "model_not_allowed"),
        ("/v1/messages", ask_for("other"), "/error/type", "permission_error"),
        ("/v1beta/models/other:generateContent", "{\"contents\":[]}".into(), "/error/status", "PERMISSION_DENIED"),
    ] {
        let (head, told) = ask(post(&served, path, &b, &body)).await;
        assert_eq!((head.status.as_u16(), json(&told).pointer(at).unwrap()), (403, &code.into()), "{path}: {told:?}");
    }
    assert_eq!(status(post(&served, CHAT, &b, &ask_for("unknown"))).await, 404);
    let ids = |body: Bytes| -> Vec<String> {
        let list = json(&body)["data"].as_array().unwrap().clone();
        list.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(ask(get(&served, "/v1/models", &b)).await.1), ["chat", "model-f"]);
    assert_eq!(ids(ask(get(&served, "/v1/models", &[("x-api-key", TEAM_A)])).await.1), ["chat", "other", "model-f"]);
    assert_eq!(status(get(&served, "/v1/models/chat", &b)).await, 200);
    assert_eq!(status(get(&served, "/v1/models/other", &b)).await, 404);
    assert_eq!(primary.request_count(), 2);
}

#[tokio::test]
async fn a_key_has_limits_of_its_own() {
    let primary = SimulatedProvider::start("primary").await.unwrap();
    let limited = |limit: &str| format!("keys = [{{ value = \"{TEAM_A}\", {limit} }}, {{ value = \"{TEAM_B}\" }}]");
    let (a, b) = ([("x-api-key", TEAM_A)], [("x-api-key", TEAM_B)]);

    let served_twice = served(&primary.base_url(), &limited("requests_per_minute = 2")).await;
    for expected in [200, 200, 429] {
        let (head, body) = ask(post(&served_twice, CHAT, &a, &chat(false))).await;
        assert_eq!(head.status.as_u16(), expected);
        if expected == 429 {
            let seconds: u64 = head.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=30).contains(&seconds), "{seconds}");
            assert_eq!(json(&body)["error"]["code"], "rate_limit_exceeded");
        }
    }
    let (head, body) = ask(post(&served_twice, "/v1/messages", &a, &chat(false))).await;
    assert_eq!((head.status.as_u16(), &json(&body)["error"]["type"]), (429, &"rate_limit_error".into()));
    assert_eq!(status(post(&served_twice, CHAT, &b, &chat(false))).await, 200, "the other key has its own");

    let by_tokens = served(&primary.base_url(), &limited("tokens_per_minute = 100")).await;
    let long = chat(false).replacen('{', "{\"max_tokens\":90,", 1);
    assert_eq!(status(post(&by_tokens, CHAT, &a, &long)).await, 200);
    assert_eq!(status(post(&by_tokens, CHAT, &a, &long)).await, 429);

    let one_at_a_time = served(&primary.base_url(), &limited("max_concurrency = 1")).await;
    primary.set_fault("stall:2".parse::<SimulatedFault>().unwrap());
    let mut stream = send(post(&one_at_a_time, CHAT, &a, &chat(true))).await.into_body();
    stream.frame().await.unwrap().unwrap();
    primary.set_fault(SimulatedFault::None);
    let (head, _) = ask(post(&one_at_a_time, CHAT, &a, &chat(false))).await;
    assert_eq!((head.status, &head.headers["retry-after"]), (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap()));
    drop(stream);
    for _ in 0..200 {
        if status(post(&one_at_a_time, CHAT, &a, &chat(false))).await == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("what a stream held was not given back when its client left");
}

#[tokio::test]
async fn a_request_keeps_its_id_if_that_is_sane() {
    let primary = RawProvider::answering(raw_response("application/json", b"{\"choices\":[]}")).await;
    let served = served(&primary.base_url, &both()).await;
    let headers = [("x-api-key", TEAM_A), ("x-request-id", "mine-1")];
    let (head, _) = ask(post(&served, CHAT, &headers, &chat(false))).await;
    assert_eq!(head.headers["x-request-id"], "mine-1");
    assert!(primary.request().await.0.contains("x-request-id: mine-1\r\n"));
    let long = "x".repeat(129);
    for strange in ["two words", &long] {
        let (head, _) = ask(post(&served, "/v1/nothing", &[("x-request-id", strange)], "")).await;
        assert_eq!(head.headers["x-request-id"].len(), 36, "{strange}");
    }
}

#[tokio::test]
async fn pages_of_other_sites_do_not_spend_what_needs_no_key() {
    let (primary, _) = simulated().await;
    let open = served(&primary.base_url(), &format!("admin_keys = [{{ value = \"{ADMIN}\" }}]")).await;
    for site in ["cross-site", "same-site"] {
        let headers = [("sec-fetch-site", site), ("sec-fetch-mode", "no-cors"), ("content-type", "text/plain")];
        let (head, body) = ask(post(&open, CHAT, &headers, &chat(false))).await;
        assert_eq!((head.status.as_u16(), &json(&body)["error"]["code"]), (403, &"forbidden".into()), "{site}");
        assert_eq!(status(get(&open, "/v1/models", &headers)).await, 403);
        assert_eq!(
            status(get(&open, "/v1/models", &[("sec-fetch-site", site), ("sec-fetch-mode", "navigate")])).await,
            200
        );
    }
    // A name of another site that leads here.
    for origin in ["http://rebound.example:8080", "http://127.0.0.1.example", "null"] {
        assert_eq!(status(post(&open, CHAT, &[("origin", origin)], &chat(false))).await, 403, "{origin}");
    }
    let no_keys = Served::between(&primary.base_url(), "http://127.0.0.1:9/v1", "").await;
    for (host, code) in [("rebound.example:8080", 403), ("localhost:8080", 200), ("[::1]:8080", 200)] {
        assert_eq!(status(get(&no_keys, "/status.json", &[("host", host)])).await, code, "{host}");
    }
    assert_eq!(primary.request_count(), 0);
    for origin in ["http://localhost:3000", "http://127.0.0.1:8080"] {
        assert_eq!(status(post(&open, CHAT, &[("origin", origin)], &chat(false))).await, 200, "{origin}");
    }
    let of_a_page_of_ours = [("sec-fetch-site", "same-origin"), ("origin", "null")];
    assert_eq!(status(post(&open, CHAT, &of_a_page_of_ours, &chat(false))).await, 200);
    assert_eq!(status(post(&open, CHAT, &[("sec-fetch-site", "same-origin")], &chat(false))).await, 200);
    // Who has a key was given it.
    let guarded = served(&primary.base_url(), &both()).await;
    let headers = [("sec-fetch-site", "cross-site"), ("x-api-key", TEAM_A)];
    assert_eq!(status(post(&guarded, CHAT, &headers, &chat(false))).await, 200);
}
