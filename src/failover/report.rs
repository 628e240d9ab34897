//! What the log and the observers are told.

use tokio::time::Instant;

use super::{layer::Policy, walk::Next};
use crate::{
    CircuitAdvice, Event, Fault, Phase, RequestContext, ResponseBody, Target, body::Asker, statistics::Recorder, trace,
};

impl Policy {
    pub(super) fn target(&self, next: Next) -> &Target {
        &self.route.targets()[next.index]
    }

    #[cold]
    pub(super) fn tell_failed_over(&self, context: &RequestContext, from: Next, to: Next, fault: &Fault) {
        let (route, kind, last_resort) = (self.route.name(), fault.kind().name(), to.last_resort);
        let (from, to) = (self.target(from), self.target(to));
        let status = fault.status().map(|status| status.as_u16());
        let (provider_code, reason) = (fault.code().map(trace::shortened), fault.reason());
        if fault.policy().circuit == CircuitAdvice::OpenLong {
            // Waiting does not mend these: somebody has to look at the key, the balance or the model's name.
            tracing::error!(
                route,
                from = %from.id(),
                to = %to.id(),
                kind,
                http.response.status_code = status,
                provider_code,
                reason,
                "failover: the target needs attention"
            );
        } else {
            tracing::info!(
                route,
                from = %from.id(),
                to = %to.id(),
                kind,
                http.response.status_code = status,
                provider_code,
                last_resort,
                reason,
                "failover"
            );
        }
        self.statistics.iter().for_each(Recorder::failed_over);
        context.observe(|| Event::FailedOver {
            route: self.route.shared_name(),
            from: from.clone(),
            to: to.clone(),
            fault: fault.clone(),
        });
    }

    #[cold]
    pub(super) fn tell_hedged(&self, context: &RequestContext, slow: Next, beside: Next) {
        let (slow, beside) = (self.target(slow), self.target(beside));
        tracing::debug!(route = self.route.name(), slow = %slow.id(), beside = %beside.id(), "hedge");
        context.observe(|| Event::Hedged {
            route: self.route.shared_name(),
            slow: slow.clone(),
            beside: beside.clone(),
        });
    }

    /// One target has answered; whoever else is tried has lost.
    pub(super) fn tell_answered(&self, by: Next, context: &RequestContext) {
        if let Some(hedge) = &self.hedge {
            for attempt in context.attempts().iter() {
                let latency = attempt.latency().unwrap_or_else(|| attempt.started().elapsed());
                // One that runs still is recorded with what it took so far: without the slow ones, the distribution would
                // know only the fast.
                let counts = attempt.outcome().is_none() || attempt.phase() == Phase::Answering;
                if let Some(target) = attempt.target().filter(|_| counts) {
                    hedge.record_latency(target, latency);
                }
            }
        }
        if let Some(statistics) = &self.statistics {
            // The clock was looked at when the attempt ended.
            let ended = context.attempts().answered().map(|it| it.started() + it.latency().unwrap_or_default());
            statistics.answered(ended.unwrap_or_else(Instant::now), context.continuation().is_some());
        }
        let answered = || Event::Answered { route: self.route.shared_name(), target: self.target(by).clone() };
        context.observe_routine(answered);
    }

    pub(super) fn tell_failed(&self, context: &RequestContext, fault: &Fault) {
        let continued = context.continuation().is_some();
        self.statistics.iter().for_each(|statistics| statistics.failed(fault, continued));
        context.observe(|| Event::Failed { route: self.route.shared_name(), fault: fault.clone() });
    }

    /// The answer that is a failure.
    pub(super) fn fail<B>(
        &self,
        context: &RequestContext,
        asker: Asker,
        fault: Fault,
    ) -> http::Response<ResponseBody<B>> {
        self.tell_failed(context, &fault);
        asker.failure(fault)
    }
}
