use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{Commit, Exchange, supervisor::Progress, supervisor::Supervisor};
use crate::{
    Attempt, BoxError, Fault, FaultKind, UsageHandle,
    body::{Decoded, IdleTimer},
    trace,
};

/// A stream that is watched: it ends with an error unless its answer is whole.
#[derive(Debug, Default)]
pub struct GuardedBody<B> {
    inner: Decoded<B>,
    watch: Option<Box<Watch>>,
}

#[derive(Debug)]
struct Watch {
    supervisor: Supervisor,
    exchange: Exchange,
    usage: Option<UsageHandle>,
    trailers: Option<HeaderMap>,
    progress: IdleTimer,
    upstream_ended: bool,
    over: bool,
    /// Whether the attempt's span knows which model answers.
    model_told: bool,
}

/// How long a connection may take to end behind an answer that is whole: if it does, it can be used again.
const CONNECTION_END: Duration = Duration::from_millis(200);

/// How long what comes behind a finish reason (usage, the last event) may take. Providers send it at once, and nothing of
/// the answer is missing without it.
const EPILOGUE: Duration = Duration::from_secs(5);

/// What was held until it could be let through.
pub(super) enum Held {
    /// A stream that has begun or, where it is committed when complete, is all there.
    Stream,
    /// JSON in the place of a stream, and nothing but that.
    Json(Bytes),
}

impl<B> GuardedBody<B> {
    /// A body that passes as it is.
    pub(super) fn unwatched(inner: B) -> Self {
        GuardedBody { inner: Decoded::new(inner, None), watch: None }
    }

    /// A body that is watched. `silence` is how long its answer has been waited for.
    pub(super) fn watched(
        inner: Decoded<B>,
        supervisor: Supervisor,
        exchange: Exchange,
        usage: UsageHandle,
        silence: IdleTimer,
    ) -> Self {
        let watch = Watch {
            supervisor,
            progress: silence,
            exchange,
            usage: Some(usage),
            trailers: None,
            upstream_ended: false,
            over: false,
            model_told: false,
        };
        GuardedBody { inner, watch: Some(Box::new(watch)) }
    }
}

impl<B> GuardedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// All of a stream that was [held](Self::poll_held) until it was whole. Its usage is told by whoever looks into it.
    pub(super) fn take_whole(&mut self) -> Bytes {
        let Some(watch) = &mut self.watch else { return Bytes::new() };
        watch.usage = None;
        let mut whole = BytesMut::new();
        while let Some(bytes) = watch.supervisor.take_ready() {
            whole.extend_from_slice(&bytes);
        }
        whole.freeze()
    }

    /// Waits until the answer has begun, or is whole where it is committed only then. Everything that came so far is kept.
    pub(super) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<Held, Fault>> {
        let Some(watch) = &mut self.watch else { return Poll::Ready(Ok(Held::Stream)) };
        loop {
            // First: nothing of an answer that broke at once was seen by anybody yet.
            if let Some(fault) = watch.supervisor.take_failure() {
                return Poll::Ready(Err(fault));
            }
            if let Some(json) = watch.supervisor.take_json().filter(|_| watch.upstream_ended) {
                // Its usage is told by whoever looks into it.
                watch.usage = None;
                return Poll::Ready(Ok(Held::Json(json)));
            }
            let let_through = match watch.exchange.settings.commit {
                Commit::FirstOutput => watch.supervisor.is_committed(),
                Commit::Complete => watch.supervisor.is_over() || watch.upstream_ended,
            };
            if let_through {
                watch.supervisor.release();
                return Poll::Ready(Ok(Held::Stream));
            }
            if watch.poll_upstream(&mut self.inner, cx).is_pending() {
                if watch.exchange.settings.commit == Commit::FirstOutput {
                    // How long that may take is for a timeout around this.
                    return Poll::Pending;
                }
                ready!(watch.poll_stalled(cx));
            }
        }
    }
}

impl Watch {
    /// Hands one frame of the upstream to the supervisor.
    fn poll_upstream<B>(&mut self, inner: &mut B, cx: &mut Context<'_>) -> Poll<()>
    where
        B: Body<Data = Bytes, Error = BoxError> + Unpin,
    {
        match ready!(Pin::new(inner).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    if trace::listens() && !self.model_told {
                        let attempt = self.exchange.attempt();
                        self.model_told = attempt.is_none_or(|attempt| trace::answered_by(attempt.span(), &data));
                    }
                    let had_begun = self.supervisor.is_committed();
                    let (was_finished, was_over) = (self.supervisor.is_finished(), self.supervisor.is_over());
                    let progress = self.supervisor.push(data);
                    if self.supervisor.is_committed() && !had_begun {
                        self.progress = IdleTimer::new(self.exchange.settings.idle);
                    }
                    if self.supervisor.is_finished() && !was_finished {
                        self.exchange.attempt().into_iter().for_each(Attempt::became_whole);
                    }
                    if self.supervisor.is_over() && !was_over {
                        self.progress.tighten(CONNECTION_END);
                    } else if self.supervisor.is_finished() && !was_finished {
                        self.progress.tighten(EPILOGUE);
                    } else if progress == Progress::Made {
                        self.progress.touch();
                    }
                    self.upstream_ended |= self.supervisor.is_abandoned();
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            },
            Some(Err(error)) => {
                self.upstream_ended = true;
                self.supervisor.end(Some(Fault::from_error(&*error)));
            }
            None => {
                self.upstream_ended = true;
                self.supervisor.end(None);
            }
        }
        Poll::Ready(())
    }

    /// Ready when the answer has made no progress for too long; the stream is over then.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.progress.poll_over(None, cx));
        // Of an answer that is whole nothing is missed; of another, the rest.
        self.upstream_ended = true;
        if !self.supervisor.is_finished() {
            let message = format!("the answer made no progress for {:?}", self.progress.idle());
            self.supervisor.end(Some(Fault::new(FaultKind::Timeout, message)));
        }
        Poll::Ready(())
    }

    /// Says what the answer cost, once, if it has begun: of one that broke before that, nobody knows.
    fn settle(&mut self) {
        let Some(handle) = self.usage.take() else { return };
        let estimate = || self.exchange.estimate(self.supervisor.written());
        let known = self.supervisor.usage();
        let usage = if self.supervisor.is_committed() { known.or_else(estimate) } else { known };
        if let Some(usage) = usage {
            handle.fill(usage);
            self.exchange.spend(usage);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Whoever leaves early has been charged for what came, too.
        self.settle();
    }
}

impl<B> Body for GuardedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(watch) = &mut this.watch else { return Pin::new(&mut this.inner).poll_frame(cx) };
        loop {
            if watch.over {
                return Poll::Ready(None);
            }
            if let Some(bytes) = watch.supervisor.take_ready() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if let Some(fault) = watch.supervisor.take_failure() {
                watch.over = true;
                watch.settle();
                if let Some(context) = &watch.exchange.context {
                    context.interrupted(&fault);
                }
                return Poll::Ready(Some(Err(fault.into())));
            }
            if watch.upstream_ended {
                watch.over = true;
                watch.settle();
                return Poll::Ready(watch.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            if watch.poll_upstream(&mut this.inner, cx).is_pending() {
                ready!(watch.poll_stalled(cx));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.watch {
            None => self.inner.is_end_stream(),
            Some(watch) => watch.over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.watch {
            None => self.inner.size_hint(),
            Some(watch) if watch.over => SizeHint::with_exact(0),
            Some(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::StreamGuardLayer;
    use futures_util::FutureExt;
    use http::{Request, Response};
    use http_body_util::{BodyExt, StreamBody};
    use std::convert::Infallible;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
    use tower::{Layer, ServiceExt, service_fn};

    const ROLE: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
    const TEXT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    const STOP: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

    type Sender = UnboundedSender<Result<Frame<Bytes>, Infallible>>;

    /// A guarded stream, and what feeds it.
    fn guarded(
        layer: StreamGuardLayer,
    ) -> (Sender, impl Future<Output = Response<impl Body<Data = Bytes, Error = BoxError> + Unpin>>) {
        let (sender, receiver) = unbounded_channel();
        let mut receiver = Some(receiver);
        let inner = service_fn(move |_: Request<()>| {
            let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver.take().unwrap());
            let response = Response::builder().header("content-type", "text/event-stream");
            std::future::ready(Ok::<_, Infallible>(response.body(StreamBody::new(stream)).unwrap()))
        });
        let request = Request::post("/v1/chat/completions").body(()).unwrap();
        let response = layer.layer(inner).oneshot(request);
        (sender, async { response.await.unwrap() })
    }

    fn send(sender: &Sender, text: &'static str) {
        sender.send(Ok(Frame::data(Bytes::from_static(text.as_bytes())))).unwrap();
    }

    fn now(body: &mut (impl Body<Data = Bytes, Error = BoxError> + Unpin)) -> Option<Bytes> {
        Some(body.frame().now_or_never()??.unwrap().into_data().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn no_event_waits_for_the_next_nor_half_of_one_for_nothing() {
        let (sender, response) = guarded(StreamGuardLayer::new());
        let mut response = Box::pin(response);
        send(&sender, ROLE);
        assert!(response.as_mut().now_or_never().is_none(), "held until there is output");
        send(&sender, TEXT);
        let mut body = response.now_or_never().unwrap().into_body();
        assert_eq!((now(&mut body).unwrap(), now(&mut body).unwrap()), (ROLE.into(), TEXT.into()));
        let (half, rest) = TEXT.split_at(20);
        for event in [TEXT, STOP] {
            assert_eq!(now(&mut body), None);
            send(&sender, half);
            assert_eq!(now(&mut body), None);
            send(&sender, rest);
            assert_eq!(now(&mut body).unwrap(), TEXT);
            send(&sender, event);
            assert_eq!(now(&mut body).unwrap(), event);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_head_took_is_no_longer_there_for_the_first_output() {
        let second = Duration::from_secs(1);
        for (head_after, message) in [(2, "no progress for 3s"), (4, "no answer within 3s")] {
            let inner = service_fn(move |_: Request<()>| async move {
                tokio::time::sleep(second * head_after).await;
                let silent = StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, Infallible>>());
                Ok::<_, Infallible>(
                    Response::builder().header("content-type", "text/event-stream").body(silent).unwrap(),
                )
            });
            let outline =
                crate::dialect::outline(crate::Dialect::OpenAiChat, "", &Bytes::from_static(b"{\"stream\":true}"));
            let mut request = Request::post("/v1/chat/completions").body(()).unwrap();
            let context = crate::RequestContext::new().with_outline(outline.unwrap().unwrap());
            request.extensions_mut().insert(context);
            let layer = StreamGuardLayer::new().with_commit(Commit::Complete).with_first_output(second * 3);
            let began = tokio::time::Instant::now();
            let response = layer.layer(inner).oneshot(request).await.unwrap();
            let fault = response.extensions().get::<Fault>().unwrap();
            assert!(fault.kind() == FaultKind::Timeout && fault.message().ends_with(message), "{fault}");
            assert!((second * 3..second * 3 + Duration::from_millis(10)).contains(&began.elapsed()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_held_whole_is_given_up_on_in_time() {
        let second = Duration::from_secs(1);
        for (events, fault) in [
            (&[ROLE][..], Some("no progress for 3s")),
            (&[ROLE, TEXT], Some("no progress for 1s")),
            (&[TEXT, STOP], None),
        ] {
            let layer =
                StreamGuardLayer::new().with_commit(Commit::Complete).with_idle(second).with_first_output(second * 3);
            let (sender, response) = guarded(layer);
            events.iter().for_each(|event| send(&sender, event));
            // Keep-alives are no progress, and the connection stays open.
            let pings = sender.clone();
            tokio::spawn(async move {
                while pings.send(Ok(Frame::data(Bytes::from_static(b": ping\n\n")))).is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
            let response = response.await;
            let found = response.extensions().get::<Fault>().map(|fault| (fault.kind(), fault.message().to_owned()));
            match fault {
                None => assert_eq!(found, None),
                Some(words) => {
                    let (kind, message) = found.unwrap();
                    assert!(kind == FaultKind::Timeout && message.ends_with(words), "{message}");
                }
            }
        }
    }
}
