//! What is noted of one request.

use std::{sync::Arc, time::Duration};

use http::{Response, StatusCode, header};
use http_body::Body;
use tokio::time::Instant;
use tracing::{Span, field::Empty};

use crate::{
    Attempt, CacheOutcome, Cost, Event, Fault, FaultKind, Outcome, Phase, Provider, RequestContext, RequestOutcome,
    RequestSummary, Target, Usage, summary,
    telemetry::{TelemetryBody, TelemetryLayer},
    trace,
};

/// What is noted of a request until it is over: then it is told, once. Dropped before that, its client has gone away.
#[derive(Debug)]
pub(crate) struct Record {
    // `None` when it has been told.
    open: Option<Box<Open>>,
    span: Span,
}

#[derive(Debug)]
struct Open {
    route: Arc<str>,
    context: RequestContext,
    started: Instant,
    first_output: Option<Duration>,
    streaming: bool,
    /// How it ended, as far as is known.
    ending: Option<(RequestOutcome, Option<Fault>)>,
}

impl Record {
    /// Begins one for a request that came for that path.
    pub(crate) fn begin(layer: &TelemetryLayer, context: RequestContext, path: &str) -> Record {
        let span = if tracing::level_enabled!(tracing::Level::DEBUG) {
            span(&layer.route, &context, path)
        } else {
            Span::none()
        };
        context.tell(&layer.observers);
        context.observe(|| Event::RequestStarted { route: layer.route.clone() });
        let open = Open {
            route: layer.route.clone(),
            context,
            started: Instant::now(),
            first_output: None,
            streaming: false,
            ending: None,
        };
        Record { open: Some(Box::new(open)), span }
    }

    /// Does something within the request's span.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _within = self.span.enter();
        work()
    }

    /// Notes the beginning of the answer, and then its end.
    pub(crate) fn attach<B: Body>(mut self, response: Response<B>) -> Response<TelemetryBody<B>> {
        self.answered(&response);
        if response.body().is_end_stream() {
            // Nobody asks for what is known to be nothing.
            self.ended();
        }
        response.map(|body| TelemetryBody::new(body, self))
    }

    fn answered<B>(&mut self, response: &Response<B>) {
        let Some(open) = &mut self.open else { return };
        let fault = response.extensions().get::<Fault>();
        let status = response.status();
        if fault.is_some() || status.is_client_error() || status.is_server_error() {
            let outcome = match fault {
                Some(fault) => RequestOutcome::of(fault),
                None if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => RequestOutcome::Failed,
                None => RequestOutcome::Rejected,
            };
            // Of a failure nothing more is expected, whether or not its body is read.
            open.ending = Some((outcome, fault.cloned()));
            return;
        }
        open.first_output = Some(open.started.elapsed());
        let content_type = response.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        if content_type.is_some_and(|value| value.starts_with(b"text/event-stream")) {
            open.streaming = true;
            open.context.observe(|| Event::StreamStarted { route: open.route.clone() });
        }
    }

    /// Ends with a failure that has no answer.
    pub(crate) fn failed(mut self, fault: Fault) {
        if let Some(open) = &mut self.open {
            open.ending = Some((RequestOutcome::of(&fault), Some(fault)));
        }
    }

    /// The answer has ended as it should.
    pub(super) fn ended(&mut self) {
        if let Some(open) = &mut self.open {
            open.ending.get_or_insert((RequestOutcome::Answered, None));
        }
        self.close();
    }

    /// The answer broke off.
    pub(super) fn broke(&mut self, fault: Fault) {
        if let Some(open) = &mut self.open {
            let outcome = match fault.kind() {
                FaultKind::Cancelled => RequestOutcome::Cancelled,
                _ => RequestOutcome::Interrupted,
            };
            open.ending.get_or_insert((outcome, Some(fault)));
        }
        self.close();
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let Open { route, context, started, first_output, streaming, ending } = *open;
        if !context.is_observed() && !tracing::level_enabled!(tracing::Level::INFO) {
            return;
        }
        let (outcome, fault) = ending.unwrap_or_else(|| {
            // A client that has all of its answer need not wait for the connection's end.
            let whole = first_output.is_some() && context.attempts().answered().is_some_and(Attempt::is_whole);
            (if whole { RequestOutcome::Answered } else { RequestOutcome::Cancelled }, None)
        });
        let summary = RequestSummary::new(summary::Inner {
            route,
            context,
            outcome,
            fault,
            duration: started.elapsed(),
            time_to_first_output: first_output,
            streaming,
        });
        if tracing::level_enabled!(tracing::Level::INFO) {
            tell(&self.span, &summary);
        }
        let context = summary.context().clone();
        context.observe(|| Event::RequestEnded { summary });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.close();
    }
}

fn span(route: &str, context: &RequestContext, path: &str) -> Span {
    let operation = context.dialect().or_else(|| crate::Dialect::from_path(path));
    tracing::debug_span!(
        "failover.request",
        otel.kind = "server",
        otel.status_code = Empty,
        request_id = context.request_id().map(trace::shortened),
        route,
        gen_ai.operation.name = trace::operation(operation, path),
        outcome = Empty,
        error.type = Empty,
        target = Empty,
    )
}

/// The one event that sums up a request: for whoever looks for trouble, or for whoever wants to know of all.
fn tell(span: &Span, summary: &RequestSummary) {
    let (outcome, fault) = (summary.outcome().name(), summary.fault());
    let kind = fault.map(|fault| fault.kind().name());
    let target = summary.target();
    let id = target.map(|target| target.id().as_str());
    span.record("outcome", outcome);
    span.record("error.type", kind);
    span.record("target", id);
    let is_ours = matches!(summary.outcome(), RequestOutcome::Failed | RequestOutcome::Interrupted);
    span.record("otel.status_code", is_ours.then_some("ERROR"));
    let usage = summary.usage();
    let tokens = |of: fn(&Usage) -> u64| usage.as_ref().map(of);
    let attempts = summary.attempts();
    let failed = failed(attempts);
    macro_rules! event {
        ($level:expr) => {
            tracing::event!(
                parent: span,
                $level,
                request_id = summary.request_id().map(trace::shortened),
                route = &**summary.route(),
                target = id,
                provider = target.and_then(Target::provider).map(Provider::name),
                attempts = attempts.sent(),
                failed_attempts = failed,
                outcome,
                kind,
                http.response.status_code = fault.and_then(Fault::status).map(|status| status.as_u16()),
                provider_code = fault.and_then(Fault::code).map(trace::shortened),
                streaming = summary.streaming(),
                latency = summary.duration().as_secs_f64(),
                gen_ai.response.time_to_first_chunk = summary.time_to_first_output().map(|time| time.as_secs_f64()),
                gen_ai.usage.input_tokens = tokens(|usage| usage.input),
                gen_ai.usage.cache_read.input_tokens = tokens(|usage| usage.cached_input),
                gen_ai.usage.cache_creation.input_tokens = tokens(|usage| usage.cache_write_input),
                gen_ai.usage.output_tokens = tokens(|usage| usage.output),
                gen_ai.usage.reasoning.output_tokens = tokens(|usage| usage.reasoning),
                usage_estimated = usage.map(|usage| usage.estimated),
                cost_usd = summary.cost().map(Cost::usd),
                wasted_usd = summary.wasted_cost().map(Cost::usd),
                cache = summary.cache().map(CacheOutcome::name),
                saved_usd = summary.saved_cost().map(Cost::usd),
                reason = fault.and_then(Fault::reason),
                "request ended"
            )
        };
    }
    // A line for each request that goes well costs more than all that is done for it.
    match failed == 0 && summary.outcome() == RequestOutcome::Answered {
        true => event!(tracing::Level::DEBUG),
        false => event!(tracing::Level::INFO),
    }
}

/// How many attempts reached the wire and failed.
fn failed(attempts: &crate::AttemptLog) -> usize {
    let failed = |attempt: &&Attempt| {
        attempt.phase() > Phase::NeverSent && matches!(attempt.outcome(), Some(Outcome::Failed(_)))
            || attempt.interruption().is_some()
    };
    attempts.iter().filter(failed).count()
}
