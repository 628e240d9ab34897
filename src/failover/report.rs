//! What the log and the observers are told.

use tokio::time::Instant;

use super::{layer::Policy, walk::Next};
use crate::{
    CircuitAdvice, Event, Fault, Phase, RequestContext, ResponseBody, Target, body::Asker, statistics::Recorder,
};

impl Policy {
    pub(super) fn target(&self, next: Next) -> &Target {
        &self.route.targets()[next.index]
    }

    #[cold]
    pub(super) fn tell_failed_over(&self, from: Next, to: Next, fault: &Fault) {
        let (route, kind, last_resort) = (self.route.name(), fault.kind().name(), to.last_resort);
        let (from, to) = (self.target(from), self.target(to));
        if fault.policy().circuit == CircuitAdvice::OpenLong {
            // Waiting does not mend these: somebody has to look at the key, the balance or the model's name.
            let reason = fault.message();
            tracing::error!(route, from = %from.id(), to = %to.id(), kind, reason, "failover: the target needs attention");
        } else {
            let reason = fault.message();
            tracing::info!(route, from = %from.id(), to = %to.id(), kind, last_resort, reason, "failover");
        }
        self.statistics.iter().for_each(Recorder::failed_over);
        self.observers.tell(|| Event::FailedOver {
            route: self.route.shared_name(),
            from: from.clone(),
            to: to.clone(),
            fault: fault.clone(),
        });
    }

    #[cold]
    pub(super) fn tell_hedged(&self, slow: Next, beside: Next) {
        let (slow, beside) = (self.target(slow), self.target(beside));
        tracing::debug!(route = self.route.name(), slow = %slow.id(), beside = %beside.id(), "hedge");
        self.observers.tell(|| Event::Hedged {
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
        self.observers
            .tell_routine(|| Event::Answered { route: self.route.shared_name(), target: self.target(by).clone() });
    }

    pub(super) fn tell_failed(&self, fault: &Fault, context: &RequestContext) {
        let continued = context.continuation().is_some();
        self.statistics.iter().for_each(|statistics| statistics.failed(fault, continued));
        self.observers.tell(|| Event::Failed { route: self.route.shared_name(), fault: fault.clone() });
    }

    /// The answer that is a failure.
    pub(super) fn fail<B>(
        &self,
        asker: Asker,
        fault: Fault,
        context: &RequestContext,
    ) -> http::Response<ResponseBody<B>> {
        self.tell_failed(&fault, context);
        asker.failure(fault)
    }
}
