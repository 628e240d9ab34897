//! One request, from its head to the body of its answer.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SERVER};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::SimulatedFault;
use super::answer::{Events, Rendered};
use super::openai_chat;
use super::received::ReceivedRequest;
use super::script::{Exchange, Script, Step, Steps};
use super::server::Server;
use super::socket::Socket;

/// The largest request body that is read.
const LARGEST: usize = 64 << 20;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html");

/// How a request is met.
#[derive(Debug)]
enum Reply {
    /// The connection is reset.
    Reset,
    /// Nothing comes.
    Silence,
    /// This comes, after a wait.
    Send(Duration, Response<Steps>),
}

/// What an API says to one request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An error, or anything else that no fault of the answer's body concerns.
    Plain(Response<Steps>),
    /// An answer, and how this API words an error within one: as a body, as an event, and what ends a stream.
    Answer { rendered: Rendered, error_body: Bytes, error_event: Bytes, end_event: Bytes },
}

/// Meets a request. The service of every connection.
pub(super) async fn respond(server: Arc<Server>, socket: Arc<Socket>, request: Request<Incoming>) -> Response<Script> {
    let fault = server.begin();
    let exchange = Exchange::new(server.clone(), socket.clone());
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, LARGEST).collect().await;
    let body = body.map(|body| body.to_bytes());
    let kept = body.as_ref().map_or_else(|_| Bytes::new(), Bytes::clone);
    server.record(ReceivedRequest::new(parts.clone(), kept, fault.clone()));
    let reply = match body {
        Ok(body) => meet(&server, &fault, &parts, &body),
        Err(error) if error.is::<LengthLimitError>() => {
            Reply::Send(Duration::ZERO, page(StatusCode::PAYLOAD_TOO_LARGE, "413 Payload Too Large"))
        }
        Err(_) => {
            // The caller left before its request was complete, which is to be counted, or sent nonsense.
            drop(exchange);
            socket.reset();
            return pending().await;
        }
    };
    match reply {
        Reply::Reset => {
            exchange.reset();
            pending().await
        }
        Reply::Silence => {
            let silence: Response<Script> = pending().await;
            drop(exchange);
            silence
        }
        Reply::Send(wait, response) => {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let mut response = response.map(|steps| Script::new(steps, exchange));
            openai_chat::decorate(response.headers_mut(), &server);
            response
        }
    }
}

fn meet(server: &Server, fault: &SimulatedFault, parts: &Parts, body: &Bytes) -> Reply {
    let at_once = |response| Reply::Send(Duration::ZERO, response);
    match fault {
        SimulatedFault::Reset => return Reply::Reset,
        SimulatedFault::Silent => return Reply::Silence,
        SimulatedFault::BadGatewayHtml => {
            return at_once(page(StatusCode::BAD_GATEWAY, "502 Bad Gateway"));
        }
        SimulatedFault::HtmlOk => return at_once(page(StatusCode::OK, "Just a moment...")),
        _ => {}
    }
    if let Some(error) = openai_chat::fault(fault, parts, body, &server.settings) {
        return at_once(error);
    }
    match openai_chat::outcome(server, parts, body) {
        Outcome::Plain(response) => at_once(response),
        Outcome::Answer { rendered: Rendered::Whole(body), error_body, .. } => {
            let delay = match fault {
                SimulatedFault::SlowFirstToken { delay } => *delay,
                _ => server.settings.first_output_delay,
            };
            Reply::Send(delay, whole(body, error_body, fault))
        }
        Outcome::Answer { rendered: Rendered::Stream(events), error_event, end_event, .. } => {
            at_once(stream(events, [error_event, end_event], fault, server))
        }
    }
}

/// A JSON answer with its fault.
fn whole(body: Bytes, error: Bytes, fault: &SimulatedFault) -> Response<Steps> {
    let half = body.slice(..body.len() / 2);
    let broken = |end| {
        let steps = Steps { steps: [Step::Send(half.clone()), end].into(), length: None };
        let mut response = response(StatusCode::OK, JSON, steps);
        response.headers_mut().insert(CONTENT_LENGTH, body.len().into());
        response
    };
    let sent = match fault {
        SimulatedFault::Cut { .. } => return broken(Step::Reset),
        SimulatedFault::Stall { .. } => return broken(Step::Stall),
        SimulatedFault::EndEarly { .. } => half,
        SimulatedFault::ErrorFirstEvent | SimulatedFault::ErrorMidStream { .. } => error,
        SimulatedFault::EmptyStream => Bytes::new(),
        _ => body,
    };
    response(StatusCode::OK, JSON, Steps::whole(sent))
}

/// A stream with its fault.
fn stream(events: Events, [error, end]: [Bytes; 2], fault: &SimulatedFault, server: &Server) -> Response<Steps> {
    let mut steps = Steps::default();
    let (after, breaks) = match fault {
        SimulatedFault::Cut { after_chunks }
        | SimulatedFault::EndEarly { after_chunks }
        | SimulatedFault::Stall { after_chunks }
        | SimulatedFault::ErrorMidStream { after_chunks } => (*after_chunks, true),
        _ => (usize::MAX, false),
    };
    match fault {
        SimulatedFault::EmptyStream => return response(StatusCode::OK, EVENTS, steps),
        SimulatedFault::ErrorFirstEvent => {
            steps.send(error);
            steps.send(end);
            return response(StatusCode::OK, EVENTS, steps);
        }
        _ => {}
    }
    for event in events.opening {
        steps.send(event);
    }
    steps.wait(match fault {
        SimulatedFault::SlowFirstToken { delay } => *delay,
        _ => server.settings.first_output_delay,
    });
    for (n, event) in events.output.into_iter().take(after).enumerate() {
        if n > 0 {
            steps.wait(server.settings.chunk_delay);
        }
        steps.send(event);
    }
    match fault {
        SimulatedFault::Cut { .. } => steps.steps.push_back(Step::Reset),
        SimulatedFault::Stall { .. } => steps.steps.push_back(Step::Stall),
        SimulatedFault::ErrorMidStream { .. } => steps.send(error),
        _ => {}
    }
    if !breaks {
        for event in events.ending {
            steps.send(event);
        }
    }
    response(StatusCode::OK, EVENTS, steps)
}

/// A response of JSON.
pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Steps> {
    response(status, JSON, Steps::whole(value.to_string()))
}

fn response(status: StatusCode, kind: HeaderValue, steps: Steps) -> Response<Steps> {
    let mut response = Response::new(steps);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The page of a proxy in front of the provider.
fn page(status: StatusCode, title: &str) -> Response<Steps> {
    let page = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n\
         <hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
    );
    let mut response = response(status, HTML, Steps::whole(page));
    let server = HeaderValue::from_static("cloudflare");
    response.headers_mut().insert(SERVER, server);
    response
}
