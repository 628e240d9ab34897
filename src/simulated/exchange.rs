//! One request, from its head to the body of its answer.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, SERVER};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::SimulatedFault;
use super::answer::{Events, Part, Rendered};
use super::api::Api;
use super::received::ReceivedRequest;
use super::script::{Exchange, Script, Step, Steps};
use super::server::Server;
use super::socket::Socket;
use super::stream_fault::{StreamFault, StreamPoint};
use super::style::StreamStyle;

/// The largest request body that is read.
const LARGEST: usize = 64 << 20;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html");

/// How long before it is reset a connection rests: a reset destroys what the other side has not read yet, and what comes
/// before the fault is to be seen.
const READ_BY: Duration = Duration::from_millis(20);

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
    let api = Api::of(&parts);
    let body = Limited::new(body, LARGEST).collect().await;
    let body = body.map(|body| body.to_bytes());
    let kept = body.as_ref().map_or_else(|_| Bytes::new(), Bytes::clone);
    server.record(ReceivedRequest::new(parts.clone(), kept, fault.clone()));
    let reply = match body {
        Ok(body) => meet(api, &server, &fault, &parts, &body),
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
            api.decorate(response.headers_mut(), &server);
            response
        }
    }
}

fn meet(api: Api, server: &Server, fault: &SimulatedFault, parts: &Parts, body: &Bytes) -> Reply {
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
    if let Some(error) = api.fault(fault, parts, body, &server.settings) {
        return at_once(error);
    }
    match api.outcome(server, parts, body) {
        Outcome::Plain(response) => at_once(response),
        Outcome::Answer { rendered: Rendered::Whole(body), error_body, .. } => {
            let delay = match fault {
                SimulatedFault::SlowFirstToken { delay } => *delay,
                _ => server.settings.first_output_delay,
            };
            Reply::Send(delay, whole(body, error_body, fault, &server.manner().style))
        }
        Outcome::Answer { rendered: Rendered::Stream(events), error_event, end_event, .. } => {
            at_once(stream(events, [error_event, end_event], fault, server))
        }
    }
}

/// A JSON answer with its fault.
fn whole(body: Bytes, error: Bytes, fault: &SimulatedFault, style: &StreamStyle) -> Response<Steps> {
    use StreamFault::{Cut, EndEarly, Error, Garbled, Malformed, Oversized, Pings, Stall};
    let half = body.slice(..body.len() / 2);
    let broken = |end| {
        let steps = Steps { steps: [Step::Send(half.clone()), end].into(), length: None };
        let mut response = response(StatusCode::OK, JSON, steps);
        response.headers_mut().insert(CONTENT_LENGTH, body.len().into());
        response
    };
    let sent = match fault {
        SimulatedFault::Cut { .. } | SimulatedFault::Stream { fault: Cut, .. } => return broken(Step::Reset),
        SimulatedFault::Stall { .. } | SimulatedFault::Stream { fault: Stall | Pings | Oversized, .. } => {
            return broken(Step::Stall);
        }
        SimulatedFault::EndEarly { .. } | SimulatedFault::Stream { fault: EndEarly | Malformed | Garbled, .. } => half,
        SimulatedFault::ErrorFirstEvent
        | SimulatedFault::ErrorMidStream { .. }
        | SimulatedFault::Stream { fault: Error, .. } => error,
        SimulatedFault::EmptyStream => Bytes::new(),
        _ => body,
    };
    styled(response(StatusCode::OK, JSON, Steps::whole(sent)), style, StreamStyle::of_body)
}

/// A stream with its fault.
fn stream(events: Events, [error, end]: [Bytes; 2], fault: &SimulatedFault, server: &Server) -> Response<Steps> {
    let style = server.manner().style;
    let mut steps = Steps::default();
    let (kind, write): (_, fn(&StreamStyle, Steps) -> Steps) = match events.array {
        true => (JSON, StreamStyle::of_body),
        false => (EVENTS, StreamStyle::of_stream),
    };
    match fault {
        SimulatedFault::EmptyStream => return response(StatusCode::OK, kind, steps),
        SimulatedFault::ErrorFirstEvent => {
            steps.send(error);
            if !end.is_empty() {
                steps.send(end);
            }
            if events.array {
                bracket(&mut steps, true);
            }
            return response(StatusCode::OK, kind, steps);
        }
        _ => {}
    }
    let array = events.array;
    let mut breakage = Breakage::of(&events, fault);
    let opening = events.opening.len();
    let outputs = opening..opening + events.output.len();
    let output = events.output.into_iter().map(|(_, event)| event);
    let all: Vec<Bytes> = events.opening.into_iter().chain(output).chain(events.ending).collect();
    let count = all.len();
    let mut goes_on = true;
    for (n, event) in all.into_iter().enumerate() {
        // The first output may be slow whether it comes or not.
        if n == opening {
            steps.wait(match fault {
                SimulatedFault::SlowFirstToken { delay } => *delay,
                _ => server.settings.first_output_delay,
            });
        }
        if let Some(breakage) = breakage.take_if(|breakage| breakage.before == n) {
            if breakage.half_event {
                steps.send(event.slice(..event.len() / 2));
            }
            if breakage.how == StreamFault::Garbled {
                steps.send([&event[..event.len() / 2], b"\n\n"].concat().into());
                continue;
            }
            goes_on = breakage.happens(&mut steps, &error);
            if !goes_on {
                break;
            }
        }
        if outputs.contains(&n) && n > opening {
            steps.wait(server.settings.chunk_delay);
        }
        steps.send(event);
    }
    // Behind the last event there may be nothing more to break.
    if let Some(breakage) = breakage.filter(|breakage| goes_on && breakage.before >= count) {
        goes_on = breakage.happens(&mut steps, &error);
    }
    if array {
        let errs = matches!(
            fault,
            SimulatedFault::ErrorMidStream { .. } | SimulatedFault::Stream { fault: StreamFault::Error, .. }
        );
        bracket(&mut steps, goes_on || errs);
    }
    styled(response(StatusCode::OK, kind, steps), &style, write)
}

/// Makes the events that are sent the elements of an array, which is closed if nothing broke it.
fn bracket(steps: &mut Steps, closed: bool) {
    let mut open = &b"["[..];
    for step in &mut steps.steps {
        match step {
            Step::Send(element) => {
                *element = [open, element].concat().into();
                open = b",\r\n";
            }
            // White space says nothing there, as comments do in events.
            Step::Repeat(ping, _) => *ping = Bytes::from_static(b"\r\n"),
            _ => {}
        }
    }
    if closed {
        steps.send(Bytes::from_static(b"\r\n]"));
    }
}

/// Where a stream breaks, and how.
struct Breakage {
    /// Before the event with this number.
    before: usize,
    /// With half of that event sent.
    half_event: bool,
    how: StreamFault,
}

impl Breakage {
    fn of(events: &Events, fault: &SimulatedFault) -> Option<Self> {
        let (opening, outputs) = (events.opening.len(), events.output.len());
        let after = |chunks: usize, how| {
            let before = opening + chunks.min(outputs);
            Some(Self { before, half_event: false, how })
        };
        let (how, at) = match fault {
            SimulatedFault::Cut { after_chunks } => return after(*after_chunks, StreamFault::Cut),
            SimulatedFault::EndEarly { after_chunks } => return after(*after_chunks, StreamFault::EndEarly),
            SimulatedFault::Stall { after_chunks } => return after(*after_chunks, StreamFault::Stall),
            SimulatedFault::ErrorMidStream { after_chunks } => return after(*after_chunks, StreamFault::Error),
            SimulatedFault::Stream { fault, at } => (*fault, *at),
            _ => return None,
        };
        let middle_of = |part: Part| {
            let of_part: Vec<_> = (0..outputs).filter(|n| events.output[*n].0 == part).collect();
            let middle = opening + of_part.get(of_part.len() / 2)?;
            Some(Self { before: middle, half_event: how.breaks_an_event(), how })
        };
        match at {
            StreamPoint::BeforeOutput => after(0, how),
            StreamPoint::AtFirstOutput => after(1, how).filter(|_| outputs > 0),
            StreamPoint::InText => middle_of(Part::Text),
            StreamPoint::InToolCall => middle_of(Part::ToolCall),
            StreamPoint::InStructuredOutput => middle_of(Part::StructuredOutput),
            StreamPoint::InReasoning => middle_of(Part::Reasoning),
            StreamPoint::AfterFinishReason => Some(Self { before: opening + outputs + 1, half_event: false, how }),
        }
    }

    /// Adds what happens; says whether the stream goes on behind it.
    fn happens(&self, steps: &mut Steps, error: &Bytes) -> bool {
        match self.how {
            StreamFault::Cut => {
                steps.wait(READ_BY);
                steps.steps.push_back(Step::Reset);
            }
            StreamFault::EndEarly => {}
            StreamFault::Stall => steps.steps.push_back(Step::Stall),
            StreamFault::Pings => {
                let ping = Bytes::from_static(b": keep-alive\n\n");
                steps.steps.push_back(Step::Repeat(ping, Duration::from_millis(10)));
            }
            StreamFault::Error => steps.send(error.clone()),
            StreamFault::Malformed => {
                steps.send(Bytes::from_static(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\n\n"));
                return true;
            }
            // In the place of an event: nothing besides.
            StreamFault::Garbled => return true,
            StreamFault::Oversized => {
                let piece = Bytes::from(vec![b'x'; 1 << 20]);
                steps.send(Bytes::from_static(b"data: \""));
                (0..17).for_each(|_| steps.send(piece.clone()));
                steps.steps.push_back(Step::Stall);
            }
        }
        false
    }
}

fn styled(response: Response<Steps>, style: &StreamStyle, write: fn(&StreamStyle, Steps) -> Steps) -> Response<Steps> {
    let mut response = response.map(|steps| write(style, steps));
    if let Some(encoding) = style.encoding() {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    if style.unlabelled {
        response.headers_mut().remove(CONTENT_TYPE);
    }
    response
}

/// A response of events, all of them there.
pub(super) fn events(events: Bytes) -> Response<Steps> {
    response(StatusCode::OK, EVENTS, Steps { steps: [Step::Send(events)].into(), length: None })
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
