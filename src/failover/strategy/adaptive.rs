use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::{Duration, Instant};

use super::{Order, Strategy, cost::Expected, is_streaming};
use crate::{RequestContext, Route, Statistics, Target, statistics::Pulse};

/// Fewer calls say nothing of how a target does.
const ENOUGH_TO_LEAVE: u64 = 20;
/// Those that are sent to see whether it is well again: they are few.
const ENOUGH_TO_RETURN: u64 = 4;
/// How long a target leads at least.
const LEAST_LEAD: Duration = Duration::from_secs(10);
/// How long the primary is away at least, and then must have done well without a break. Four times as long after each time
/// that it had to leave again.
const LEAST_ABSENCE: Duration = Duration::from_secs(60);
const STEADY: Duration = Duration::from_secs(30);
/// Without enough calls to tell, it returns after so many times its absence.
const UNSEEN: u32 = 5;
/// How often it becomes longer at most: to 64 minutes.
const MOST_STEPS: u32 = 3;
/// Once it has led for so long, it is no longer held against the primary that it had to leave.
const FORGIVEN: Duration = Duration::from_secs(3_600);
/// How often a request sees whether the primary is well again; and, when it seems to be, whether it is: of a few calls, all go well
/// by chance with one that fails a third of them.
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROVE_EVERY: Duration = Duration::from_secs(2);
/// How often a request sees how another target does, when the primary is to yield to it and nothing is known of it lately; and for how
/// long, before it leads on good faith.
const EXPLORE_EVERY: Duration = Duration::from_millis(400);
const EXPLORE_FOR: Duration = Duration::from_secs(10);
/// Another target must be better by so much.
const BETTER: f32 = 1.2;
/// And the primary, sick as it is, by so much that the one that leads in its place turns out the worse choice.
const MUCH_BETTER: f32 = 2.0;

/// Keeps to the route's first target, the primary, until that does much worse than it usually does and another one does better;
/// and returns to it when it has done well for a while.
///
/// How well a target does is its success rate in the last minute (for what must be noticed soon: in the last ten to
/// twenty seconds), squared, times how long its answers usually take to begin by how long they took lately: 1 is as ever. The
/// primary yields below the [threshold](Self::with_threshold). Of the others, the one leads then that has the best score: its success rate
/// squared, by its latency and what the request will [cost](super::Cost) there, of which the latter has the
/// [weight](Self::with_cost_weight) that is left to it; it must be better than the primary's. A price alone moves nobody: for that there is
/// [`Cost`](super::Cost).
///
/// Of whom it would yield to and knows nothing lately, it sends a request there first every 400 ms, until four have told how it does, or for
/// ten seconds.
///
/// While the primary is away, every ten seconds one request tries it first, and when that goes well, every two seconds. It returns once it has been away for a minute and
/// was above the [return threshold](Self::with_return_threshold) for half a minute; each time that it has to leave again, that
/// minute becomes four times as long. So a target that comes and goes does not take the traffic along. It returns sooner where the
/// one that leads in its place turns out to do worse by half, and then stays as long as it would have been away. A change of the
/// lead is an event in the log.
///
/// What is usual changes over hours: a target that stays slow for a day is then as slow as usual.
///
/// The failover layer must [count](crate::FailoverLayer::with_statistics) into the same statistics. Clones share everything.
#[derive(Clone, Debug)]
pub struct Adaptive {
    pulses: Arc<[Pulse]>,
    threshold: f32,
    return_threshold: f32,
    cost_weight: f32,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    start: Instant,
    /// The place of the target that leads, and since which millisecond: see [`Lead`].
    lead: AtomicU64,
    /// Since which millisecond, and one more, the primary has done well without a break; 0 while it does not.
    well_since: AtomicU64,
    /// When the last request was sent to see.
    probed: AtomicU64,
    /// Which place is to be seen before the primary yields to it, and since which millisecond, and one more; 0 is none.
    explored: AtomicU64,
}

/// Who leads: in one word, 16 bits of its place, one of whether the primary is back for want of a better one, 7 of how often it
/// had to leave, and 40 of the millisecond, which are 34 years.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Lead {
    place: usize,
    for_want: bool,
    left: u32,
    since: u64,
}

impl Lead {
    fn of(word: u64) -> Self {
        Lead {
            place: (word >> 48) as usize,
            for_want: word >> 47 & 1 == 1,
            left: (word >> 40 & 0x7f) as u32,
            since: word & ((1 << 40) - 1),
        }
    }

    fn word(self) -> u64 {
        let millis = self.since & ((1 << 40) - 1);
        (self.place as u64) << 48 | u64::from(self.for_want) << 47 | u64::from(self.left) << 40 | millis
    }

    /// How long the primary is away, or stays for want of a better one.
    fn absence(self) -> Duration {
        LEAST_ABSENCE * (1 << (2 * self.left.saturating_sub(1).min(MOST_STEPS)))
    }
}

impl Adaptive {
    /// For the targets of a route, by what the statistics know of them. The primary yields below 0.5, returns above 0.8, and
    /// costs weigh 0.3.
    #[must_use]
    pub fn new(route: &Route, statistics: &Statistics) -> Self {
        let state = State {
            start: Instant::now(),
            lead: AtomicU64::new(0),
            well_since: AtomicU64::new(0),
            probed: AtomicU64::new(0),
            explored: AtomicU64::new(0),
        };
        Adaptive {
            pulses: statistics.pulses(route).into(),
            threshold: 0.5,
            return_threshold: 0.8,
            cost_weight: 0.3,
            state: Arc::new(state),
        }
    }

    /// Below what the primary yields, 0 to 1: at 0 never.
    #[must_use]
    pub fn with_threshold(mut self, threshold: f32) -> Self {
        self.threshold = share(threshold, self.threshold);
        self
    }

    /// Above what it returns, 0 to 1, and not less than where it yields.
    #[must_use]
    pub fn with_return_threshold(mut self, threshold: f32) -> Self {
        self.return_threshold = share(threshold, self.return_threshold);
        self
    }

    /// How much costs weigh beside latency in the choice of whom it yields to: from 0, not at all, to 1, alone.
    #[must_use]
    pub fn with_cost_weight(mut self, weight: f32) -> Self {
        self.cost_weight = share(weight, self.cost_weight);
        self
    }

    /// How well a target does, as far as that is known: 1 is as ever.
    fn health(&self, place: usize, now: Instant, enough: u64) -> Option<f32> {
        let pulse = self.pulses.get(place)?;
        // The latest calls, or where they are too few, those of the last minute.
        let lately = Some(pulse.fresh(now)).filter(|fresh| fresh.calls() >= ENOUGH_TO_LEAVE);
        let lately = lately.unwrap_or_else(|| pulse.minute(now));
        let success = lately.success_rate().filter(|_| lately.calls() >= enough)?;
        // Streams and other answers by how many there are of them.
        let (mut pace, mut answers) = (0.0, 0.0);
        for streaming in [false, true] {
            if let (Some(usual), Some(latency)) = (pulse.usual(streaming), lately.latency(streaming)) {
                let weight = lately.answers(streaming) as f32;
                pace += weight * (usual / latency).min(1.0);
                answers += weight;
            }
        }
        let pace = if answers > 0.0 { pace / answers } else { 1.0 };
        Some(success * success * pace)
    }

    /// Who does best of all but the one that leads, if anyone does better than that, or it cannot be called at all.
    fn best_other(&self, route: &Route, request: &RequestContext, lead: usize, now: Instant) -> Option<usize> {
        let scores = Scores::new(self, route, request, lead, now)?;
        let others = (0..self.pulses.len()).filter(|place| *place != lead && !self.is_refused(*place, now));
        let others = others
            .filter(|place| self.health(*place, now, ENOUGH_TO_RETURN).is_none_or(|health| health >= self.threshold));
        let scored = others.filter_map(|place| Some((place, scores.of(place)?, scores.knows(place))));
        // Of about equals, the one that is listed first; and hope is no match for knowledge.
        let (best, score, _) = scored.reduce(|best, next| {
            let is_better = next.1 > best.1 * BETTER && (next.2 || !best.2);
            if is_better { next } else { best }
        })?;
        (self.is_refused(lead, now) || score > scores.of_lead()? * BETTER).then_some(best)
    }

    /// Whether its circuit keeps it from being called.
    fn is_refused(&self, place: usize, now: Instant) -> bool {
        self.pulses.get(place).is_some_and(|pulse| pulse.is_refused(now))
    }

    /// Whether the one that leads in the primary's place does much worse than that does now.
    fn chose_badly(&self, route: &Route, request: &RequestContext, lead: usize, now: Instant) -> bool {
        if self.pulses.first().is_none_or(|primary| primary.minute(now).calls() < ENOUGH_TO_RETURN) {
            return false;
        }
        let scores = Scores::new(self, route, request, lead, now);
        let both = scores.and_then(|scores| Some((scores.of(0)?, scores.of_lead()?)));
        both.is_some_and(|(primary, lead)| primary > lead * MUCH_BETTER)
    }

    /// Who leads from now on.
    fn lead(&self, route: &Route, request: &RequestContext, now: Instant) -> Lead {
        let word = self.state.lead.load(Ordering::Relaxed);
        let lead = Lead::of(word);
        let millis = self.state.millis(now);
        let led = Duration::from_millis(millis.saturating_sub(lead.since));
        let Some(next) = self.successor(route, request, lead, led, now) else { return lead };
        let next = Lead { since: millis, ..next };
        // Of those who see it at the same time one changes it, and tells.
        match self.state.lead.compare_exchange(word, next.word(), Ordering::Relaxed, Ordering::Relaxed) {
            Err(word) => Lead::of(word),
            Ok(_) => {
                self.state.well_since.store(0, Ordering::Relaxed);
                self.state.explored.store(0, Ordering::Relaxed);
                self.state.probed.store(millis, Ordering::Relaxed);
                self.tell(route, lead, next, now);
                next
            }
        }
    }

    fn successor(
        &self,
        route: &Route,
        request: &RequestContext,
        lead: Lead,
        led: Duration,
        now: Instant,
    ) -> Option<Lead> {
        if lead.place != 0 {
            if self.is_well_again(lead, led, now) {
                return Some(Lead { place: 0, for_want: false, ..lead });
            }
            if led >= LEAST_LEAD && self.chose_badly(route, request, lead.place, now) {
                return Some(Lead { place: 0, for_want: true, ..lead });
            }
        }
        let least = match lead {
            Lead { place: 0, left: 0, .. } => Duration::ZERO,
            Lead { for_want: true, .. } => lead.absence(),
            _ => LEAST_LEAD,
        };
        let is_well = || self.health(lead.place, now, ENOUGH_TO_LEAVE).is_none_or(|health| health >= self.threshold);
        // Who leads in the primary's place and cannot be called is no lead; the primary's own failures tell of it in time.
        let is_gone = lead.place != 0 && self.is_refused(lead.place, now);
        if !is_gone && (led < least || is_well()) {
            if self.state.explored.load(Ordering::Relaxed) != 0 {
                self.state.explored.store(0, Ordering::Relaxed);
            }
            return None;
        }
        let place = self.best_other(route, request, lead.place, now)?;
        if lead.place == 0 && self.explores(place, now) {
            return None;
        }
        // Only what the primary did is held against it.
        let left = match lead.place {
            0 if led >= FORGIVEN => 1,
            0 => (lead.left + 1).min(MOST_STEPS + 1),
            _ => lead.left,
        };
        Some(Lead { place, for_want: false, left, ..lead })
    }

    /// Whether the primary is well again, and has been for long enough.
    fn is_well_again(&self, lead: Lead, led: Duration, now: Instant) -> bool {
        let absence = lead.absence();
        let millis = self.state.millis(now) + 1;
        let well_since = self.state.well_since.load(Ordering::Relaxed);
        match self.health(0, now, ENOUGH_TO_RETURN) {
            Some(health) if health >= self.return_threshold.max(self.threshold) => {
                if well_since == 0 {
                    self.state.well_since.store(millis, Ordering::Relaxed);
                    return false;
                }
                led >= absence && Duration::from_millis(millis.saturating_sub(well_since)) >= STEADY
            }
            Some(_) => {
                if well_since != 0 {
                    self.state.well_since.store(0, Ordering::Relaxed);
                }
                false
            }
            None => led >= absence * UNSEEN,
        }
    }

    /// Whether it is to be seen first how that one does.
    fn explores(&self, place: usize, now: Instant) -> bool {
        if self.pulses.get(place).is_none_or(|pulse| pulse.minute(now).calls() >= ENOUGH_TO_RETURN) {
            return false;
        }
        let (millis, explored) = (self.state.millis(now) + 1, self.state.explored.load(Ordering::Relaxed));
        let since = Lead::of(explored);
        if explored != 0 && since.place == place {
            return millis.saturating_sub(since.since) < EXPLORE_FOR.as_millis() as u64;
        }
        let word = Lead { place, for_want: false, left: 0, since: millis }.word();
        self.state.explored.store(word, Ordering::Relaxed);
        true
    }

    /// Whom this request is to see, though the primary leads.
    fn to_explore(&self, now: Instant) -> Option<usize> {
        let explored = self.state.explored.load(Ordering::Relaxed);
        if explored == 0 {
            return None;
        }
        let place = Lead::of(explored).place;
        let is_known = self.pulses.get(place).is_none_or(|pulse| pulse.minute(now).calls() >= ENOUGH_TO_RETURN);
        (!is_known && self.is_due(EXPLORE_EVERY, now)).then_some(place)
    }

    /// Whether this request sees whether the primary is well again.
    fn probes(&self, now: Instant) -> bool {
        let seems_well = self.state.well_since.load(Ordering::Relaxed) != 0;
        self.is_due(if seems_well { PROVE_EVERY } else { PROBE_EVERY }, now)
    }

    /// Whether it is time to see again: of those who ask at the same time, for one.
    fn is_due(&self, every: Duration, now: Instant) -> bool {
        let (millis, probed) = (self.state.millis(now), self.state.probed.load(Ordering::Relaxed));
        let is_due = millis.saturating_sub(probed) >= every.as_millis() as u64;
        is_due && self.state.probed.compare_exchange(probed, millis, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn tell(&self, route: &Route, from: Lead, to: Lead, now: Instant) {
        let name = |lead: Lead| route.targets().get(lead.place).map_or("", |target| target.id().as_str());
        tracing::info!(
            route = route.name(),
            from = name(from),
            to = name(to),
            health = self.health(from.place, now, ENOUGH_TO_RETURN),
            "the lead changes"
        );
    }
}

/// How good each target is for a request now, by its success rate, its latency and what the request costs there.
struct Scores<'a> {
    strategy: &'a Adaptive,
    targets: &'a [Target],
    lead: usize,
    streaming: bool,
    expected: Expected,
    now: Instant,
    /// Of whom nothing is known, it is assumed that it does as the one that leads usually does, at the same cost.
    assumed_latency: f32,
    assumed_cost: f64,
    /// No target is taken for cheaper: one that costs nothing is not infinitely good.
    least_cost: f64,
}

/// To a target that costs nothing, others are compared as if it cost this share of the dearest.
const FREE: f64 = 0.1;

impl<'a> Scores<'a> {
    fn new(
        strategy: &'a Adaptive,
        route: &'a Route,
        request: &RequestContext,
        lead: usize,
        now: Instant,
    ) -> Option<Self> {
        let (streaming, targets, leading) = (is_streaming(request), route.targets(), strategy.pulses.get(lead)?);
        let expected = Expected::new(request, &strategy.pulses, now);
        let costs =
            targets.iter().zip(&*strategy.pulses).filter_map(|(target, pulse)| expected.cost(target, Some(pulse)));
        let least_cost = (costs.fold(0.0, f64::max) * FREE).max(1e-9);
        Some(Scores {
            least_cost,
            strategy,
            targets,
            lead,
            streaming,
            now,
            assumed_latency: leading.usual(streaming).unwrap_or(1.0),
            assumed_cost: expected.cost(targets.get(lead)?, Some(leading)).unwrap_or(1e-3),
            expected,
        })
    }

    fn of(&self, place: usize) -> Option<f32> {
        let lately = self.strategy.pulses.get(place)?.minute(self.now);
        // Of a few answers, a slow one says little.
        let latency = lately.latency(self.streaming).filter(|_| lately.answers(self.streaming) >= ENOUGH_TO_RETURN);
        self.score(place, lately.success_rate(), latency)
    }

    fn knows(&self, place: usize) -> bool {
        self.strategy.pulses.get(place).is_some_and(|pulse| pulse.usual(self.streaming).is_some())
    }

    /// What it does now, and not on average over better times.
    fn of_lead(&self) -> Option<f32> {
        let fresh = self.strategy.pulses.get(self.lead)?.fresh(self.now);
        self.score(self.lead, fresh.success_rate(), fresh.latency(self.streaming))
    }

    fn score(&self, place: usize, success: Option<f32>, latency: Option<f32>) -> Option<f32> {
        let (pulse, target) = (self.strategy.pulses.get(place)?, self.targets.get(place)?);
        let latency = latency.or_else(|| pulse.usual(self.streaming)).unwrap_or(self.assumed_latency);
        let cost = self.expected.cost(target, Some(pulse)).unwrap_or(self.assumed_cost);
        let (success, weight) = (success.unwrap_or(1.0), self.strategy.cost_weight);
        let cost = cost.max(self.least_cost) as f32;
        Some(success * success / (latency.powf(1.0 - weight) * cost.powf(weight)))
    }
}

impl State {
    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_millis() as u64
    }
}

/// What is no share changes nothing.
fn share(new: f32, old: f32) -> f32 {
    if (0.0..=1.0).contains(&new) { new } else { old }
}

impl Strategy for Adaptive {
    fn is_meant_for_the_first(&self) -> bool {
        true
    }

    fn order(&self, route: &Route, request: &RequestContext) -> Order {
        let (now, order) = (Instant::now(), Order::as_listed(route));
        let lead = self.lead(route, request, now);
        match lead.place {
            0 => match self.to_explore(now) {
                Some(place) => order.with_first(place),
                None => order,
            },
            // Should the one that leads fail, the others are asked as listed.
            place => {
                let order = order.with_first(place);
                if self.probes(now) { order.with_first(0) } else { order }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::{Fault, FaultKind, Outcome};

    struct Play {
        route: Route,
        statistics: Statistics,
        strategy: Adaptive,
        changes: usize,
        /// Whom its circuit keeps from being called.
        refused: Option<usize>,
    }

    impl Play {
        fn new() -> Self {
            Self::on(["primary", "second", "third"].map(Target::named))
        }

        fn on(targets: [Target; 3]) -> Self {
            let route = Route::new("r", targets).unwrap();
            let statistics = Statistics::default();
            let strategy = Adaptive::new(&route, &statistics);
            Play { route, statistics, strategy, changes: 0, refused: None }
        }

        /// Five requests a second, of which each target answers after so many milliseconds; `None`: it fails.
        async fn go_on(&mut self, seconds: u64, millis: [Option<u64>; 3]) -> [u64; 3] {
            let recorder = self.statistics.recorder(&self.route);
            let mut firsts = [0; 3];
            for _ in 0..seconds * 5 {
                let lead = Lead::of(self.strategy.state.lead.load(Ordering::Relaxed)).place;
                let order = self.strategy.order(&self.route, &RequestContext::new());
                let mut first = order.get(0).unwrap();
                if Some(first) == self.refused {
                    let refused = Outcome::Refused(crate::Refusal::Drained.into());
                    recorder.call(first, false).unwrap().ended(&refused, false, Instant::now(), Duration::ZERO);
                    first = order.get(1).unwrap();
                }
                let after = Lead::of(self.strategy.state.lead.load(Ordering::Relaxed)).place;
                self.changes += usize::from(lead != after);
                firsts[first] += 1;
                let failed = || Outcome::Failed(Fault::new(FaultKind::Unavailable, ""));
                let outcome = millis[first].map_or_else(failed, |_| Outcome::Answered);
                let latency = Duration::from_millis(millis[first].unwrap_or(50));
                recorder.call(first, false).unwrap().ended(&outcome, true, Instant::now(), latency);
                advance(Duration::from_millis(200)).await;
            }
            firsts
        }
    }

    const WELL: [Option<u64>; 3] = [Some(500), Some(600), Some(300)];
    const SLOW: [Option<u64>; 3] = [Some(4_000), Some(600), Some(300)];
    const DOWN: [Option<u64>; 3] = [None, Some(600), Some(300)];

    #[tokio::test(start_paused = true)]
    async fn the_primary_leads_though_others_are_faster() {
        let mut play = Play::new();
        assert_eq!(play.go_on(600, WELL).await, [3_000, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_yields_when_it_is_much_slower_than_usual_and_returns_when_it_has_been_well_for_a_while() {
        for bad in [SLOW, DOWN] {
            let mut play = Play::new();
            play.go_on(300, WELL).await;
            let [primary, ..] = play.go_on(600, bad).await;
            assert!((60..=130).contains(&primary), "until it was noticed, and one of fifty: {primary}");
            assert_eq!(play.changes, 1);
            let early = play.go_on(60, WELL).await;
            assert!(early[0] <= 12, "the last minute was bad: {early:?}");
            play.go_on(120, WELL).await;
            assert_eq!((play.go_on(60, WELL).await, play.changes), ([300, 0, 0], 2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_cannot_be_called_neither_leads_nor_keeps_others_from_it() {
        let mut play = Play::new();
        play.go_on(300, WELL).await;
        play.refused = Some(1);
        let slow = [Some(4_000), Some(400), Some(600)];
        let firsts = play.go_on(60, slow).await;
        assert!(firsts[2] > 200, "{firsts:?}");
        // And one that leads is left when it is taken away.
        let mut play = Play::new();
        play.go_on(300, WELL).await;
        let slow = [Some(4_000), Some(300), Some(600)];
        let firsts = play.go_on(60, slow).await;
        assert!(firsts[1] > 200, "{firsts:?}");
        play.refused = Some(1);
        let firsts = play.go_on(60, slow).await;
        assert!(firsts[2] > 200, "{firsts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_primary_that_costs_nothing_yields_too() {
        let priced = |name, (input, output)| Target::named(name).with_price(crate::Price::new(input, output).unwrap());
        let targets = [("own", (0.0, 0.0)), ("second", (2.0, 8.0)), ("third", (3.0, 15.0))];
        let mut play = Play::on(targets.map(|(name, price)| priced(name, price)));
        play.go_on(300, WELL).await;
        let firsts = play.go_on(60, [Some(6_000), Some(600), Some(600)]).await;
        assert!(firsts[1] > 200, "{firsts:?}");
        let firsts = play.go_on(300, WELL).await;
        assert!(firsts[0] > 500, "{firsts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_and_goes_does_not_take_the_traffic_along() {
        let mut play = Play::new();
        play.go_on(300, WELL).await;
        for _ in 0..15 {
            play.go_on(120, SLOW).await;
            play.go_on(120, WELL).await;
        }
        assert!(play.changes <= 8, "{} in an hour", play.changes);
    }

    #[tokio::test(start_paused = true)]
    async fn hope_for_one_that_was_never_asked_is_no_match_for_what_is_known_of_another() {
        let mut play = Play::new();
        play.go_on(300, WELL).await;
        // The second has answered a few that the primary failed, and slowly, by chance.
        for millis in [900, 500, 1_200] {
            let call = play.statistics.recorder(&play.route).call(1, false).unwrap();
            call.ended(&Outcome::Answered, true, Instant::now(), Duration::from_millis(millis));
        }
        let firsts = play.go_on(60, SLOW).await;
        assert!(firsts[1] > 200 && firsts[2] == 0, "{firsts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_never_asked_is_seen_before_the_primary_yields_to_it() {
        let mut play = Play::new();
        play.go_on(300, WELL).await;
        // It is slow for its own kind, and better still than those of whom nothing is known.
        let firsts = play.go_on(600, [Some(1_200), Some(1_800), Some(2_500)]).await;
        assert_eq!(play.changes, 0, "{firsts:?}");
        assert!(firsts[1] + firsts[2] <= 120, "a few a minute: {firsts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_a_third_of_its_calls_does_not_return_by_luck() {
        // One of these hits the good moments with every call that is ten seconds after the one before.
        for phase in [0, 4, 8] {
            let mut play = Play::new();
            play.go_on(300, WELL).await;
            play.go_on(60, DOWN).await;
            assert_eq!(play.changes, 1);
            for second in phase..phase + 600 {
                play.go_on(1, if second % 10 >= 7 { DOWN } else { WELL }).await;
            }
            assert_eq!(play.changes, 1, "phase {phase}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_yield_to_one_that_does_worse() {
        let mut play = Play::new();
        play.go_on(300, WELL).await;
        let all = [Some(1_500), Some(9_000), None];
        play.go_on(20, all).await;
        play.changes = 0;
        let firsts = play.go_on(300, all).await;
        assert!(firsts[0] > 1_300, "{firsts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_leads_meanwhile_may_yield_to_another() {
        let mut play = Play::new();
        play.go_on(300, WELL).await;
        play.go_on(120, DOWN).await;
        let firsts = play.go_on(120, [None, Some(600), None]).await;
        assert!(firsts[1] > 450, "{firsts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_which_nothing_can_be_seen_gets_another_chance() {
        let mut play = Play::new();
        play.go_on(300, WELL).await;
        play.go_on(60, DOWN).await;
        assert_eq!(play.changes, 1);
        // Hardly any requests: one a minute.
        let (recorder, mut firsts) = (play.statistics.recorder(&play.route), Vec::new());
        for _ in 0..12 {
            advance(Duration::from_secs(60)).await;
            let first = play.strategy.order(&play.route, &RequestContext::new()).get(0).unwrap();
            recorder.call(first, false).unwrap().ended(
                &Outcome::Answered,
                true,
                Instant::now(),
                Duration::from_millis(500),
            );
            firsts.push(first);
        }
        assert_eq!(firsts.last(), Some(&0), "{firsts:?}");
        assert_eq!(Lead::of(play.strategy.state.lead.load(Ordering::Relaxed)).place, 0);
    }

    #[test]
    fn a_lead_fits_in_a_word() {
        let least = Lead { place: 0, for_want: false, left: 0, since: 0 };
        assert_eq!(least.word(), 0);
        for lead in [least, Lead { place: 65_535, for_want: true, left: 127, since: (1 << 40) - 1 }] {
            assert_eq!(Lead::of(lead.word()), lead);
        }
    }
}
