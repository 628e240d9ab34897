//! The walk against a naive restatement of its rules: from the list of all that was tried and how it failed, what comes next
//! is worked out anew each time.

use proptest::prelude::*;

use super::{
    FailoverLayer,
    walk::{Next, Step, Walk},
};
use crate::{
    Ability, Capabilities, CircuitAdvice, Dialect, FailoverAdvice, Fault, FaultKind, FaultKinds, Need, Provider,
    Refusal, RequestContext, Requirements, Route, Target,
};

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
struct Place {
    window: Option<u64>,
    /// Whether it speaks another dialect than the client.
    translated: bool,
    excluded: bool,
}

impl Place {
    fn target(self, index: usize) -> Target {
        let dialect = if self.translated { Dialect::AnthropicMessages } else { Dialect::OpenAiChat };
        let provider = Provider::new(format!("p{index}"), dialect, "http://provider.test").unwrap();
        let capabilities = self.window.map_or(Capabilities::new(), |it| Capabilities::new().with_context_window(it));
        Target::new(&provider, "m").with_capabilities(capabilities)
    }
}

/// What happens next.
#[derive(Clone, Debug)]
enum Act {
    /// Another target is tried beside those that are.
    Hedge,
    /// One of those that are tried fails.
    Fail { which: usize, fault: Fault, in_time: bool },
    /// The deadline comes.
    Late,
}

fn places() -> impl Strategy<Value = Vec<Place>> {
    let window = prop_oneof![Just(None), prop_oneof![Just(8), Just(32), Just(128)].prop_map(Some)];
    let place = (window, prop::bool::weighted(0.3), prop::bool::weighted(0.1))
        .prop_map(|(window, translated, excluded)| Place { window, translated, excluded });
    prop::collection::vec(place, 1..6)
}

fn unmet(ability: Ability) -> Fault {
    let needs = Requirements { abilities: [ability].into_iter().collect(), ..Requirements::default() };
    let lacking = Capabilities::new().without(ability);
    Refusal::Unmet(needs.check(&lacking, &[].into()).unwrap_err()).into()
}

fn fault() -> impl Strategy<Value = Fault> {
    let seconds = || prop::option::of((0..100_u64).prop_map(Duration::from_secs));
    let open = (0..20_u64, prop::bool::weighted(0.8)).prop_map(|(seconds, transient)| {
        Fault::from(Refusal::CircuitOpen { retry_after: Duration::from_secs(seconds), transient })
    });
    let failed = (prop::sample::select(FaultKind::ALL), seconds(), 0..3_u32).prop_map(|(kind, seconds, message)| {
        Fault::new(kind, format!("{} {message}", kind.name())).with_retry_after(seconds)
    });
    prop_oneof![
        6 => failed,
        2 => Just(Fault::new(FaultKind::ContextLengthExceeded, "too long")),
        6 => open,
        1 => seconds().prop_map(|retry_after| Refusal::LimitReached { retry_after }.into()),
        2 => prop::sample::select(vec![Ability::Tools, Ability::ImageInput, Ability::Streaming]).prop_map(unmet),
    ]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let fail = (any::<usize>(), fault(), prop::bool::weighted(0.95)).prop_map(|(which, fault, in_time)| Act::Fail {
        which,
        fault,
        in_time,
    });
    prop::collection::vec(prop_oneof![1 => Just(Act::Hedge), 6 => fail, 1 => Just(Act::Late)], 1..20)
}

fn failover_on() -> impl Strategy<Value = Option<FaultKinds>> {
    let some = prop::collection::vec(prop::sample::select(FaultKind::ALL), 0..19);
    prop::option::weighted(0.3, some.prop_map(|kinds| kinds.into_iter().collect()))
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Try {
    index: usize,
    last_resort: bool,
}

#[derive(Debug, PartialEq)]
enum Expected {
    Try(Try),
    Wait,
    PassOn,
    Fail(Fault),
}

struct Model {
    places: Vec<Place>,
    last_resort: bool,
    failover_on: Option<FaultKinds>,
    begun: Vec<Try>,
    failed: Vec<(Try, Fault)>,
}

impl Model {
    fn moves_on(&self, index: usize, fault: &Fault) -> bool {
        let advice = fault.kind().policy().failover;
        let by_default = matches!(advice, FailoverAdvice::Yes | FailoverAdvice::LargerContextWindow);
        let listed = self.failover_on.as_ref().map_or(by_default, |kinds| kinds.contains(fault.kind()));
        let maybe_our_translation = advice == FailoverAdvice::WhenTranslated && self.places[index].translated;
        fault.kind() != FaultKind::Cancelled && (listed || maybe_our_translation)
    }

    /// Whether a window that is no smaller was too small.
    fn is_too_small(&self, index: usize) -> bool {
        let too_long = self.failed.iter().filter(|(_, fault)| fault.kind() == FaultKind::ContextLengthExceeded);
        let mut small = too_long.filter_map(|(failed, _)| self.places[failed.index].window);
        self.places[index].window.is_some_and(|window| small.any(|small| window <= small))
    }

    /// In order, each once, and none that is excluded or known to be too small when its turn comes.
    fn next(&self) -> Option<Try> {
        let first = self.begun.iter().filter(|it| !it.last_resort).map(|it| it.index + 1).max().unwrap_or_default();
        let mut indices = first..self.places.len();
        let index = indices.find(|&index| !self.places[index].excluded && !self.is_too_small(index))?;
        Some(Try { index, last_resort: false })
    }

    /// Of those refused by circuits that time mends, the one that recovers soonest, unless one was asked on the wire.
    fn last_resort(&self) -> Option<Try> {
        let asked = self.failed.iter().any(|(failed, fault)| failed.last_resort && fault.kind() != FaultKind::Refused);
        if asked || !self.last_resort {
            return None;
        }
        let recovering = self.failed.iter().filter_map(|(failed, fault)| match fault.refusal() {
            Some(Refusal::CircuitOpen { retry_after, transient: true }) if !failed.last_resort => {
                Some((*retry_after, failed.index))
            }
            _ => None,
        });
        let untried = recovering.filter(|(_, index)| !self.begun.contains(&Try { index: *index, last_resort: true }));
        untried.filter(|(_, index)| !self.is_too_small(*index)).min().map(|(_, index)| Try { index, last_resort: true })
    }

    fn failed(&self, which: Try, fault: &Fault, in_time: bool, others: bool) -> Expected {
        if !self.moves_on(which.index, fault) {
            return Expected::PassOn;
        }
        if let Some(next) = self.next().filter(|_| in_time) {
            return Expected::Try(next);
        }
        if others {
            return Expected::Wait;
        }
        if let Some(next) = self.last_resort().filter(|_| in_time) {
            return Expected::Try(next);
        }
        use FaultKind::*;
        let kinds = [BadRequest, PayloadTooLarge, ContentFiltered, ContextLengthExceeded, Unsupported];
        match self.most_preferred(|fault| fault.kind() != Refused) {
            Some(failure) if failure == fault && kinds.contains(&fault.kind()) => Expected::PassOn,
            _ => Expected::Fail(self.verdict(fault)),
        }
    }

    /// What the most preferred target said first, of what is asked for.
    fn most_preferred(&self, what: impl Fn(&Fault) -> bool) -> Option<&Fault> {
        let said = self.failed.iter().filter(|(_, fault)| what(fault));
        said.min_by_key(|(failed, _)| failed.index).map(|(_, fault)| fault)
    }

    fn verdict(&self, latest: &Fault) -> Fault {
        let soonest = self.failed.iter().filter_map(|(_, fault)| fault.retry_after()).min();
        if let Some(failure) = self.most_preferred(|fault| fault.kind() != FaultKind::Refused) {
            let may_wait = [429, 502, 503, 504].contains(&failure.response_status().as_u16());
            return failure.clone().with_retry_after(soonest.filter(|_| may_wait));
        }
        let would_be_capable = |fault: &Fault| !matches!(fault.refusal(), None | Some(Refusal::Unmet(_)));
        if let Some(refused) = self.most_preferred(would_be_capable) {
            return Fault::from(refused.refusal().unwrap().clone()).with_retry_after(soonest);
        }
        let unmet = self.failed.iter().filter(|(_, fault)| matches!(fault.refusal(), Some(Refusal::Unmet(_))));
        unmet.map(|(_, fault)| fault).next_back().unwrap_or(latest).clone()
    }

    /// What the targets lacked, each once.
    fn unmet(&self) -> Vec<Need> {
        let mut needs: Vec<Need> = Vec::new();
        for (_, fault) in &self.failed {
            if let Some(Refusal::Unmet(unmet)) = fault.refusal() {
                for need in unmet.needs() {
                    if !needs.contains(need) {
                        needs.push(need.clone());
                    }
                }
            }
        }
        needs
    }

    fn agrees(&self, told: &Fault, expected: &Fault) -> Result<(), TestCaseError> {
        match told.refusal() {
            Some(Refusal::Unmet(unmet)) => {
                prop_assert_eq!(told.kind(), expected.kind());
                prop_assert_eq!(unmet.needs(), &self.unmet()[..]);
            }
            _ => prop_assert_eq!(told, expected),
        }
        Ok(())
    }
}

fn as_try(next: Next) -> Try {
    Try { index: next.index, last_resort: next.last_resort }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn a_walk_does_what_its_model_does(
        places in places(),
        last_resort in prop::bool::weighted(0.8),
        failover_on in failover_on(),
        acts in acts(),
    ) {
        let targets: Vec<_> = places.iter().enumerate().map(|(index, place)| place.target(index)).collect();
        let excluded = targets.iter().zip(&places).filter(|(_, place)| place.excluded).map(|(it, _)| it.id().clone());
        let context = RequestContext::new().with_dialect(Dialect::OpenAiChat).excluding(excluded.collect::<Vec<_>>());
        let mut layer = FailoverLayer::new(&Route::new("r", targets.clone()).unwrap()).with_last_resort(last_resort);
        if let Some(kinds) = &failover_on {
            layer = layer.with_failover_on(*kinds);
        }
        let mut walk = Walk::new(layer.policy(), context);
        let mut model = Model { places, last_resort, failover_on, begun: Vec::new(), failed: Vec::new() };
        let mut running: Vec<Next> = Vec::new();

        let begin = |walk: &mut Walk, model: &mut Model, running: &mut Vec<Next>| {
            let next = walk.next();
            prop_assert_eq!(next.map(as_try), model.next());
            model.begun.extend(next.map(as_try));
            running.extend(next);
            Ok(())
        };
        begin(&mut walk, &mut model, &mut running)?;
        if running.is_empty() {
            prop_assert_eq!(walk.nobody().policy().circuit, CircuitAdvice::Neutral);
            return Ok(());
        }
        for act in acts {
            match act {
                Act::Hedge => begin(&mut walk, &mut model, &mut running)?,
                Act::Fail { which, fault, in_time } => {
                    let attempt = running.swap_remove(which % running.len());
                    model.failed.push((as_try(attempt), fault.clone()));
                    let others = !running.is_empty();
                    let expected = model.failed(as_try(attempt), &fault, in_time, others);
                    let step = walk.failed(attempt, fault, in_time, others);
                    match (step, expected) {
                        (Step::Try(next), Expected::Try(expected)) => {
                            prop_assert_eq!(as_try(next), expected);
                            prop_assert!(!model.begun.contains(&as_try(next)), "tried twice: {:?}", next);
                            model.begun.push(expected);
                            running.push(next);
                        }
                        (Step::Wait, Expected::Wait) => {}
                        (Step::PassOn, Expected::PassOn) => return Ok(()),
                        (Step::Fail(told), Expected::Fail(expected)) => return model.agrees(&told, &expected),
                        (step, expected) => prop_assert!(false, "{:?} instead of {:?}", step, expected),
                    }
                }
                Act::Late => {
                    let late = Fault::new(FaultKind::Timeout, "late");
                    model.failed.extend(running.iter().map(|attempt| (as_try(*attempt), late.clone())));
                    let told = walk.out_of_time(running, late.clone());
                    return model.agrees(&told, &model.verdict(&late));
                }
            }
        }
    }
}
