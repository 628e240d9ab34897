//! Which target is next, and what to answer when none is left.

use std::{sync::Arc, time::Duration};

use crate::{
    Ability, Dialect, FailoverAdvice, Fault, FaultKind, Feature, Need, Provider, Refusal, RequestContext, Target,
    Unmet,
    continuation::Form,
    failover::{layer::Policy, strategy::Order},
};

/// The walk of one request over its route's targets. It knows nothing of services and time.
#[derive(Debug)]
pub(super) struct Walk {
    policy: Arc<Policy>,
    client_dialect: Option<Dialect>,
    /// Places on the route, the preferred one first.
    order: Order,
    /// How many of them were tried or passed over.
    rank: usize,
    /// How many were moved to its end because they are ramped.
    spared: usize,
    /// Those that are not to be tried: they are passed over.
    context: RequestContext,
    /// A context window that was too small: only larger ones are worth a try.
    too_small: Option<u64>,
    /// The failure of the most preferred target that reached the wire, and how far from the first it is.
    failure: Option<(usize, Fault)>,
    /// The refusal of the most preferred target that would have been capable.
    refusal: Option<(usize, Refusal)>,
    /// What the targets lacked that were not capable.
    unmet: Vec<Need>,
    /// The soonest that anybody asked to be tried again.
    retry_after: Option<Duration>,
    /// The targets that were refused by circuits which recover by themselves, and when they do.
    recovering: Vec<(Duration, Next)>,
}

/// What to do after a failed attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Try that target.
    Try(Next),
    /// Wait for those that are tried still.
    Wait,
    /// Answer with the response at hand, unless one that is tried still has a better one.
    PassOn,
    /// Answer with that failure.
    Fail(Fault),
}

/// A target to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Next {
    /// How far from the preferred one it is.
    rank: usize,
    /// Its place on the route.
    pub(super) index: usize,
    pub(super) last_resort: bool,
    pub(super) form: Form,
}

impl Walk {
    pub(super) fn new(policy: Arc<Policy>, context: RequestContext) -> Self {
        let order = match &policy.strategy {
            None => Order::as_listed(&policy.route),
            Some(strategy) => strategy.order(&policy.route, &context),
        };
        let order = policy.outlook.look(order, &context, |place, need| {
            if let (Some(target), Some(unmet)) = (policy.route.targets().get(place), Unmet::new(vec![need])) {
                context.passed_over(target, Refusal::Unmet(unmet).into());
            }
        });
        Walk {
            policy,
            client_dialect: context.dialect(),
            order,
            rank: 0,
            spared: 0,
            context,
            too_small: None,
            failure: None,
            refusal: None,
            unmet: Vec::new(),
            retry_after: None,
            recovering: Vec::new(),
        }
    }

    /// The context of the request.
    pub(super) fn context(&self) -> &RequestContext {
        &self.context
    }

    fn target(&self, index: usize) -> Option<&Target> {
        self.policy.route.targets().get(index)
    }

    /// The next target that was not tried yet; `None` when all were.
    pub(super) fn next(&mut self) -> Option<Next> {
        if self.policy.ramp {
            self.spare_the_next();
        }
        let next = self.peek()?;
        self.rank = next.rank + 1;
        if let Some(statistics) = self.policy.statistics.as_ref().filter(|_| self.policy.ramp) {
            statistics.ramp(next.index);
        }
        Some(next)
    }

    /// Moves those to the end that would get more requests of others than they are ramped to.
    fn spare_the_next(&mut self) {
        let Some(statistics) = &self.policy.statistics else { return };
        // The one that a request is meant for gets it, and so does the last one that is left.
        let is_for_the_first = self.policy.strategy.as_ref().is_none_or(|strategy| strategy.is_meant_for_the_first());
        let is_meant = |next: &Next| if is_for_the_first { next.index == 0 } else { next.rank == 0 };
        while self.rank + self.spared + 1 < self.order.len() {
            if self.peek().as_ref().is_some_and(is_meant) {
                return;
            }
            let Some(next) = self.peek().filter(|next| !statistics.has_room(next.index)) else { return };
            if next.rank + self.spared + 1 >= self.order.len() {
                return;
            }
            self.order = self.order.clone().with_last(|place| place == next.index);
            self.spared += 1;
        }
    }

    /// The same, without taking it.
    pub(super) fn peek(&self) -> Option<Next> {
        let untried = (self.rank..self.order.len()).filter_map(|rank| Some((rank, self.order.get(rank)?)));
        let mut permitted = untried.filter_map(|(rank, index)| {
            let target = self.target(index)?;
            let form = match self.context.continuation() {
                Some(asked) if asked.has_instruction() && !self.takes_prefill(target) => Form::Instructed,
                _ => Form::AsAsked,
            };
            let next = Next { rank, index, last_resort: false, form };
            (!self.is_too_small(index) && !self.context.excludes(target.id())).then_some(next)
        });
        permitted.next()
    }

    /// Takes in how an attempt failed, and says what comes next. `in_time` is whether there is time for another;
    /// `others` whether others are tried still.
    pub(super) fn failed(&mut self, attempt: Next, fault: Fault, in_time: bool, others: bool) -> Step {
        self.retry_after = [self.retry_after, fault.retry_after()].into_iter().flatten().min();
        let moves_on = self.moves_on(attempt, &fault);
        self.note(attempt, &fault);
        if attempt.last_resort && fault.kind() != FaultKind::Refused {
            // One that is open for a reason was asked all the same; the others are left in peace.
            self.recovering.clear();
        }
        if !moves_on {
            return Step::PassOn;
        }
        let next = match in_time {
            false => None,
            true => self.in_other_words(attempt, &fault).or_else(|| self.next()),
        };
        if let Some(next) = next {
            return Step::Try(next);
        }
        if others {
            return Step::Wait;
        }
        if let Some(next) = self.last_resort().filter(|_| in_time) {
            return Step::Try(next);
        }
        // The request's own fault, and nobody else had a say: as the provider put it.
        let alone = self.failure.as_ref().is_some_and(|(_, failure)| *failure == fault);
        if alone && is_of_the_request(fault.kind()) { Step::PassOn } else { Step::Fail(self.verdict(fault)) }
    }

    /// The time is over while these attempts are on.
    pub(super) fn out_of_time(&mut self, attempts: impl IntoIterator<Item = Next>, late: Fault) -> Fault {
        attempts.into_iter().for_each(|attempt| self.note(attempt, &late));
        self.verdict(late)
    }

    /// No target was left even for a first try.
    pub(super) fn nobody(&mut self) -> Fault {
        self.verdict(Fault::new(FaultKind::Unavailable, "every target of the route is excluded").unsent())
    }

    fn moves_on(&self, attempt: Next, fault: &Fault) -> bool {
        if fault.kind() == FaultKind::Cancelled {
            return false;
        }
        if self.context.continuation().is_some() {
            // Whatever a target has against going on with what another one began says nothing about the client's request.
            return true;
        }
        let translated = || {
            let provider = self.target(attempt.index).and_then(Target::provider);
            provider.is_some_and(|provider| self.client_dialect.is_some_and(|client| client != provider.dialect()))
        };
        let may_be_ours = fault.policy().failover == FailoverAdvice::WhenTranslated && translated();
        may_be_ours || self.policy.failover_on.contains(fault.kind())
    }

    /// Whether a target may be given the beginning of its answer, as far as is known.
    fn takes_prefill(&self, target: &Target) -> bool {
        let provider = target.provider().map(Provider::dialect);
        let survives = match (self.client_dialect, provider) {
            (Some(client), Some(provider)) => client == provider || Feature::Prefill.survives_translation_to(provider),
            _ => true,
        };
        survives && target.capabilities().offers(Ability::Prefill)
    }

    /// The same target again, when it seems to take no prefill: it may take an instruction.
    fn in_other_words(&self, attempt: Next, fault: &Fault) -> Option<Next> {
        let continuation = self.context.continuation()?;
        let refused = matches!(fault.kind(), FaultKind::BadRequest | FaultKind::Unsupported);
        let may = refused && attempt.form == Form::AsAsked && continuation.has_instruction();
        may.then_some(Next { form: Form::Instructed, ..attempt })
    }

    fn note(&mut self, attempt: Next, fault: &Fault) {
        let window = self.target(attempt.index).and_then(|target| target.capabilities().context_window());
        match (fault.kind(), fault.refusal()) {
            (FaultKind::Refused, Some(Refusal::Unmet(unmet))) => {
                let new = unmet.needs().iter().filter(|need| !self.unmet.contains(need)).cloned().collect::<Vec<_>>();
                self.unmet.extend(new);
            }
            (FaultKind::Refused, Some(refusal)) => {
                if let (Refusal::CircuitOpen { retry_after, transient: true }, false) = (refusal, attempt.last_resort) {
                    self.recovering.push((*retry_after, attempt));
                }
                keep_preferred(&mut self.refusal, attempt.rank, refusal);
            }
            (FaultKind::Refused, None) => {}
            (kind, _) => {
                if kind == FaultKind::ContextLengthExceeded {
                    self.too_small = self.too_small.max(window);
                }
                keep_preferred(&mut self.failure, attempt.rank, fault);
            }
        }
    }

    /// Whether its window is known to be no larger than one that was too small.
    fn is_too_small(&self, index: usize) -> bool {
        let window = self.target(index).and_then(|target| target.capabilities().context_window());
        self.too_small.is_some_and(|small| window.is_some_and(|window| window <= small))
    }

    /// When no other target is left: of those that circuits refused, the one that recovers soonest; the next one only where
    /// somebody else is trying that one already. Whatever became of the others, it may have recovered.
    fn last_resort(&mut self) -> Option<Next> {
        let candidates = self.recovering.iter().enumerate().filter(|(_, (_, it))| !self.is_too_small(it.index));
        let (place, _) = candidates.min_by_key(|(_, candidate)| **candidate)?;
        let (_, attempt) = self.recovering.swap_remove(place);
        self.policy.last_resort.then_some(Next { last_resort: true, ..attempt })
    }

    /// The one failure that stands for all.
    fn verdict(&mut self, latest: Fault) -> Fault {
        if let Some((_, failure)) = self.failure.take() {
            let waits = matches!(failure.response_status().as_u16(), 429 | 502..=504);
            return failure.with_retry_after(self.retry_after.filter(|_| waits));
        }
        if let Some((_, refusal)) = self.refusal.take() {
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

/// Keeps what the most preferred target said; of one that was tried again, what it said first.
fn keep_preferred<T: Clone>(kept: &mut Option<(usize, T)>, rank: usize, said: &T) {
    if kept.as_ref().is_none_or(|(earlier, _)| rank < *earlier) {
        *kept = Some((rank, said.clone()));
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
    use crate::{Capabilities, Requirements, Route, continuation::Continuation, failover::FailoverLayer};

    /// A walk with one attempt at a time.
    struct OneByOne {
        walk: Walk,
        attempt: Next,
    }

    impl OneByOne {
        fn new(layer: &FailoverLayer, context: &RequestContext) -> Self {
            let mut walk = Walk::new(layer.policy(), context.clone());
            let attempt = walk.next().unwrap();
            OneByOne { walk, attempt }
        }

        fn failed(&mut self, fault: Fault, in_time: bool) -> Step {
            let step = self.walk.failed(self.attempt, fault, in_time, false);
            if let Step::Try(next) = step {
                self.attempt = next;
            }
            step
        }
    }

    fn walk(targets: impl IntoIterator<Item = Target>) -> OneByOne {
        let layer = FailoverLayer::new(&Route::new("r", targets).unwrap());
        OneByOne::new(&layer, &RequestContext::new().with_dialect(Dialect::OpenAiChat))
    }

    fn named(names: &[&str]) -> OneByOne {
        walk(names.iter().map(|name| Target::named(name)))
    }

    fn fault(kind: FaultKind) -> Fault {
        Fault::new(kind, kind.name())
    }

    fn open(seconds: u64) -> Fault {
        Refusal::CircuitOpen { retry_after: Duration::from_secs(seconds), transient: true }.into()
    }

    fn step(index: usize, last_resort: bool) -> Step {
        Step::Try(Next { rank: index, index, last_resort, form: Form::AsAsked })
    }

    fn next(index: usize) -> Step {
        step(index, false)
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
        assert_eq!(walk.failed(open(4), true), step(1, true));
        assert_eq!(walk.failed(open(4), true), step(0, true));
        let Step::Fail(told) = walk.failed(open(4), true) else { panic!() };
        assert!(matches!(told.refusal(), Some(Refusal::CircuitOpen { .. })));
        assert_eq!(told.retry_after(), Some(Duration::from_secs(4)));
    }

    #[test]
    fn a_last_resort_that_failed_is_the_last() {
        let mut walk = named(&["a", "b"]);
        assert_eq!(walk.failed(open(9), true), next(1));
        assert_eq!(walk.failed(open(4), true), step(1, true));
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
        assert_eq!(walk.failed(fault(FaultKind::Unavailable), true), step(0, true));
        let Step::Fail(told) = walk.failed(open(9), true) else { panic!() };
        assert_eq!(told.kind(), FaultKind::Unavailable);
        let route = Route::new("r", ["a", "b"].map(Target::named)).unwrap();
        let mut walk = OneByOne::new(&FailoverLayer::new(&route).with_last_resort(false), &RequestContext::new());
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
        let mut walk = OneByOne::new(&layer, &RequestContext::new());
        assert_eq!(walk.failed(fault(FaultKind::Unavailable), true), Step::PassOn);
        let layer = layer.with_failover_on([FaultKind::BadRequest].into_iter().collect());
        let mut walk = OneByOne::new(&layer, &RequestContext::new());
        assert_eq!(walk.failed(fault(FaultKind::BadRequest), true), next(1), "and put in");
    }

    #[test]
    fn excluded_targets_are_passed_over() {
        let route = Route::new("r", ["a", "b", "c"].map(Target::named)).unwrap();
        let excluding = |names: &[&str]| {
            let ids = names.iter().map(|name| Target::named(name).id().clone());
            Walk::new(FailoverLayer::new(&route).policy(), RequestContext::new().excluding(ids))
        };
        let mut walk = excluding(&["a", "c"]);
        assert_eq!(walk.next().unwrap().index, 1);
        assert_eq!(walk.next(), None);
        let mut walk = excluding(&["a", "b", "c"]);
        assert_eq!((walk.next(), walk.nobody().kind()), (None, FaultKind::Unavailable));
    }

    #[test]
    fn while_others_are_tried_nothing_is_lost_yet_and_the_preferred_ones_failure_is_told() {
        let route = Route::new("r", ["a", "b"].map(Target::named)).unwrap();
        let mut walk = Walk::new(FailoverLayer::new(&route).policy(), RequestContext::new());
        let (first, second) = (walk.next().unwrap(), walk.next().unwrap());
        assert_eq!(walk.failed(second, fault(FaultKind::Overloaded), true, true), Step::Wait);
        let Step::Fail(told) = walk.failed(first, fault(FaultKind::RateLimited), true, false) else { panic!() };
        assert_eq!(told.kind(), FaultKind::RateLimited);
    }

    #[test]
    fn a_continuation_is_asked_for_in_the_way_that_a_target_takes() {
        let body = |text: &'static str| (bytes::Bytes::from_static(text.as_bytes()), None);
        let continuation = Continuation::new(body("prefill"), Some(body("instruction")));
        let context = RequestContext::new().continuing(continuation);
        let plain = Target::named("a").with_capabilities(Capabilities::new().without(Ability::Prefill));
        let route = Route::new("r", [plain, Target::named("b"), Target::named("c")]).unwrap();
        let mut walk = OneByOne::new(&FailoverLayer::new(&route), &context);
        let mut asked = Vec::new();
        loop {
            asked.push((walk.attempt.index, walk.attempt.form));
            if !matches!(walk.failed(fault(FaultKind::BadRequest), true), Step::Try(_)) {
                break;
            }
        }
        let expected = [
            (0, Form::Instructed),
            (1, Form::AsAsked),
            (1, Form::Instructed),
            (2, Form::AsAsked),
            (2, Form::Instructed),
        ];
        assert_eq!(asked, expected);
    }
}
