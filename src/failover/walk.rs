//! Which target is next, and what to answer when none is left.

use std::{sync::Arc, time::Duration};

use crate::{
    Dialect, FailoverAdvice, Fault, FaultKind, Need, Refusal, RequestContext, Target, Unmet, failover::layer::Policy,
};

/// The walk of one request over its route's targets. It knows nothing of services and time.
#[derive(Debug)]
pub(super) struct Walk {
    policy: Arc<Policy>,
    client_dialect: Option<Dialect>,
    /// The target that is tried, by its place on the route.
    current: usize,
    next: usize,
    /// A context window that was too small: only larger ones are worth a try.
    too_small: Option<u64>,
    /// The failure of the most preferred target that reached the wire.
    failure: Option<Fault>,
    /// The refusal of the most preferred target that would have been capable.
    refusal: Option<Refusal>,
    /// What the targets lacked that were not capable.
    unmet: Vec<Need>,
    /// The soonest that anybody asked to be tried again.
    retry_after: Option<Duration>,
    /// The targets that were refused by circuits which recover by themselves, and when they do.
    recovering: Vec<(Duration, usize)>,
    /// Whether the current target is tried as a last resort.
    last_resort: bool,
}

/// What to do with a failed attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Try that target.
    Try(Next),
    /// Answer with the response at hand.
    PassOn,
    /// Answer with that failure.
    Fail(Fault),
}

/// The next target, by its place on the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) index: usize,
    pub(super) last_resort: bool,
}

impl Walk {
    pub(super) fn new(policy: Arc<Policy>, context: &RequestContext) -> Self {
        Walk {
            policy,
            client_dialect: context.dialect(),
            current: 0,
            next: 1,
            too_small: None,
            failure: None,
            refusal: None,
            unmet: Vec::new(),
            retry_after: None,
            recovering: Vec::new(),
            last_resort: false,
        }
    }

    fn target(&self, index: usize) -> Option<&Target> {
        self.policy.route.targets().get(index)
    }

    /// The target that is tried, by its place on the route.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Takes in how the current target failed, and says what comes next. `in_time` is whether there is time for another.
    pub(super) fn failed(&mut self, fault: Fault, in_time: bool) -> Step {
        self.retry_after = [self.retry_after, fault.retry_after()].into_iter().flatten().min();
        let moves_on = self.moves_on(&fault);
        self.note(&fault);
        if self.last_resort && fault.kind() != FaultKind::Refused {
            // One that is open for a reason was asked all the same; the others are left in peace.
            self.recovering.clear();
        }
        if !moves_on {
            return Step::PassOn;
        }
        let next = if in_time { self.next_capable().or_else(|| self.last_resort()) } else { None };
        if let Some(next) = next {
            (self.current, self.last_resort) = (next.index, next.last_resort);
            return Step::Try(next);
        }
        // The request's own fault, and nobody else had a say: as the provider put it.
        let alone = self.failure.as_ref() == Some(&fault);
        if alone && is_of_the_request(fault.kind()) { Step::PassOn } else { Step::Fail(self.verdict(fault)) }
    }

    /// The time is over while the current target is tried.
    pub(super) fn out_of_time(&mut self, late: Fault) -> Fault {
        self.note(&late);
        self.verdict(late)
    }

    fn moves_on(&self, fault: &Fault) -> bool {
        if fault.kind() == FaultKind::Cancelled {
            return false;
        }
        let translated = || {
            let provider = self.target(self.current).and_then(Target::provider);
            provider.is_some_and(|provider| self.client_dialect.is_some_and(|client| client != provider.dialect()))
        };
        let may_be_ours = fault.policy().failover == FailoverAdvice::WhenTranslated && translated();
        may_be_ours || self.policy.failover_on.contains(fault.kind())
    }

    fn note(&mut self, fault: &Fault) {
        let window = self.target(self.current).and_then(|target| target.capabilities().context_window());
        match (fault.kind(), fault.refusal()) {
            (FaultKind::Refused, Some(Refusal::Unmet(unmet))) => {
                let new = unmet.needs().iter().filter(|need| !self.unmet.contains(need)).cloned().collect::<Vec<_>>();
                self.unmet.extend(new);
            }
            (FaultKind::Refused, Some(refusal)) => {
                if let (Refusal::CircuitOpen { retry_after, transient: true }, false) = (refusal, self.last_resort) {
                    self.recovering.push((*retry_after, self.current));
                }
                self.refusal.get_or_insert_with(|| refusal.clone());
            }
            (FaultKind::Refused, None) => {}
            (kind, _) => {
                if kind == FaultKind::ContextLengthExceeded {
                    self.too_small = self.too_small.max(window);
                }
                self.failure.get_or_insert_with(|| fault.clone());
            }
        }
    }

    fn next_capable(&mut self) -> Option<Next> {
        while let Some(target) = self.target(self.next) {
            let window = target.capabilities().context_window();
            let too_small = self.too_small.is_some_and(|small| window.is_some_and(|window| window <= small));
            let index = self.next;
            self.next += 1;
            if !too_small {
                return Some(Next { index, last_resort: false });
            }
        }
        None
    }

    /// When no other target is left: of those that circuits refused, the one that recovers soonest; the next one only where
    /// somebody else is trying that one already. Whatever became of the others, it may have recovered.
    fn last_resort(&mut self) -> Option<Next> {
        let (place, _) = self.recovering.iter().enumerate().min_by_key(|(_, candidate)| **candidate)?;
        let (_, index) = self.recovering.swap_remove(place);
        self.policy.last_resort.then_some(Next { index, last_resort: true })
    }

    /// The one failure that stands for all.
    fn verdict(&mut self, latest: Fault) -> Fault {
        if let Some(failure) = self.failure.take() {
            let waits = matches!(failure.response_status().as_u16(), 429 | 502..=504);
            return failure.with_retry_after(self.retry_after.filter(|_| waits));
        }
        if let Some(refusal) = self.refusal.take() {
            return Fault::from(refusal).with_retry_after(self.retry_after);
        }
        match Unmet::new(std::mem::take(&mut self.unmet)) {
            Some(unmet) if self.policy.route.targets().len() > 1 => {
                let message =
                    format!("no target offers all that the request needs; what they lack, each its own: {unmet}");
                Fault::from(Refusal::Unmet(unmet)).with_message(message)
            }
            Some(unmet) => Refusal::Unmet(unmet).into(),
            None => latest,
        }
    }
}

/// Whether the request is at fault, so that the client should read what the provider said of it.
fn is_of_the_request(kind: FaultKind) -> bool {
    use FaultKind::*;
    matches!(kind, BadRequest | PayloadTooLarge | ContentFiltered | ContextLengthExceeded | Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ability, Capabilities, Requirements, Route, failover::FailoverLayer};

    fn walk(targets: impl IntoIterator<Item = Target>) -> Walk {
        let layer = FailoverLayer::new(&Route::new("r", targets).unwrap());
        Walk::new(layer.policy(), &RequestContext::new().with_dialect(Dialect::OpenAiChat))
    }

    fn named(names: &[&str]) -> Walk {
        walk(names.iter().map(|name| Target::named(name)))
    }

    fn fault(kind: FaultKind) -> Fault {
        Fault::new(kind, kind.name())
    }

    fn open(seconds: u64) -> Fault {
        Refusal::CircuitOpen { retry_after: Duration::from_secs(seconds), transient: true }.into()
    }

    fn next(index: usize) -> Step {
        Step::Try(Next { index, last_resort: false })
    }

    #[test]
    fn each_target_is_tried_once_and_the_first_ones_failure_is_told() {
        let mut walk = named(&["a", "b", "c"]);
        let limited = fault(FaultKind::RateLimited).with_retry_after(Duration::from_secs(30));
        assert_eq!(walk.failed(limited, true), next(1));
        let busy = fault(FaultKind::Overloaded).with_retry_after(Duration::from_secs(3));
        assert_eq!(walk.failed(busy, true), next(2));
        let Step::Fail(told) = walk.failed(fault(FaultKind::Connect), true) else { panic!() };
        assert_eq!((told.kind(), told.retry_after()), (FaultKind::RateLimited, Some(Duration::from_secs(3))));
    }

    #[test]
    fn a_fault_of_the_request_is_passed_on_as_it_is() {
        for kind in [FaultKind::BadRequest, FaultKind::PayloadTooLarge, FaultKind::ContentFiltered] {
            assert_eq!(named(&["a", "b"]).failed(fault(kind), true), Step::PassOn, "{kind}");
        }
        assert_eq!(named(&["a"]).failed(fault(FaultKind::ContextLengthExceeded), true), Step::PassOn);
    }

    #[test]
    fn a_request_that_we_translated_may_be_right_for_another() {
        let provider = crate::Provider::new("p", Dialect::AnthropicMessages, "http://h").unwrap();
        let mut walk = walk([Target::new(&provider, "m"), Target::named("b")]);
        assert_eq!(walk.failed(fault(FaultKind::BadRequest), true), next(1));
    }

    #[test]
    fn a_context_that_was_too_long_goes_to_larger_or_unknown_windows_only() {
        let window =
            |name, tokens| Target::named(name).with_capabilities(Capabilities::new().with_context_window(tokens));
        let mut walk = walk([window("a", 32), window("b", 16), window("c", 64), Target::named("d")]);
        assert_eq!(walk.failed(fault(FaultKind::ContextLengthExceeded), true), next(2));
        assert_eq!(walk.failed(fault(FaultKind::ContextLengthExceeded), true), next(3));
    }

    #[test]
    fn when_circuits_refuse_all_the_one_that_recovers_soonest_is_the_last_resort() {
        let mut walk = named(&["a", "b"]);
        assert_eq!(walk.failed(open(9), true), next(1));
        assert_eq!(walk.failed(open(4), true), Step::Try(Next { index: 1, last_resort: true }));
        assert_eq!(walk.failed(open(4), true), Step::Try(Next { index: 0, last_resort: true }));
        let Step::Fail(told) = walk.failed(open(4), true) else { panic!() };
        assert!(matches!(told.refusal(), Some(Refusal::CircuitOpen { .. })));
        assert_eq!(told.retry_after(), Some(Duration::from_secs(4)));
    }

    #[test]
    fn a_last_resort_that_failed_is_the_last() {
        let mut walk = named(&["a", "b"]);
        assert_eq!(walk.failed(open(9), true), next(1));
        assert_eq!(walk.failed(open(4), true), Step::Try(Next { index: 1, last_resort: true }));
        let Step::Fail(told) = walk.failed(fault(FaultKind::Unavailable), true) else { panic!() };
        assert_eq!(told.kind(), FaultKind::Unavailable);
    }

    #[test]
    fn what_all_targets_lack_is_named_together() {
        let needs = |ability| Requirements { abilities: [ability].into_iter().collect(), ..Requirements::default() };
        let unmet = |ability| -> Fault {
            let lacking = Capabilities::new().without(ability);
            Refusal::Unmet(needs(ability).check(&lacking, &[].into()).unwrap_err()).into()
        };
        let mut walk = named(&["a", "b", "c"]);
        assert_eq!(walk.failed(unmet(Ability::Tools), true), next(1));
        assert_eq!(walk.failed(unmet(Ability::Tools), true), next(2));
        let Step::Fail(told) = walk.failed(unmet(Ability::ImageInput), true) else { panic!() };
        assert!(told.message().ends_with("each its own: tools, image_input"), "{told}");
    }

    #[test]
    fn a_failure_of_the_wire_goes_before_refusals_whatever_the_order() {
        let mut walk = named(&["a", "b"]);
        assert_eq!(walk.failed(open(9), true), next(1));
        assert_eq!(walk.failed(fault(FaultKind::Unavailable), true), Step::Try(Next { index: 0, last_resort: true }));
        let Step::Fail(told) = walk.failed(open(9), true) else { panic!() };
        assert_eq!(told.kind(), FaultKind::Unavailable);
        let mut walk = named(&["a", "b"]);
        walk.policy = FailoverLayer::new(&walk.policy.route.clone()).with_last_resort(false).policy();
        assert_eq!(walk.failed(open(9), true), next(1));
        let Step::Fail(told) = walk.failed(fault(FaultKind::Unavailable), true) else { panic!() };
        assert_eq!(told.kind(), FaultKind::Unavailable);
    }

    #[test]
    fn without_time_nothing_more_is_tried() {
        let Step::Fail(told) = named(&["a", "b"]).failed(fault(FaultKind::Timeout), false) else { panic!() };
        assert_eq!(told.kind(), FaultKind::Timeout);
    }

    #[test]
    fn kinds_can_be_taken_out_and_put_in() {
        let route = Route::new("r", [Target::named("a"), Target::named("b")]).unwrap();
        let layer = FailoverLayer::new(&route).with_failover_on([FaultKind::Connect].into_iter().collect());
        let mut walk = Walk::new(layer.policy(), &RequestContext::new());
        assert_eq!(walk.failed(fault(FaultKind::Unavailable), true), Step::PassOn);
        let layer = layer.with_failover_on([FaultKind::BadRequest].into_iter().collect());
        let mut walk = Walk::new(layer.policy(), &RequestContext::new());
        assert_eq!(walk.failed(fault(FaultKind::BadRequest), true), next(1), "and put in");
    }
}
