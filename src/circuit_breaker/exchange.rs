//! What replicas tell one another of their circuits.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::{
    circuit_breaker::circuit::{Circuit, Standing},
    shared_state::{CircuitWord, Fleet, Opening, Portion, Taken},
};

/// How often others are asked, and told where nothing has happened.
const EVERY: Duration = Duration::from_millis(250);
/// What happens within that time is told together.
const TOGETHER: Duration = Duration::from_millis(20);
/// How long before a circuit's end it is settled who probes.
const LEAD: Duration = Duration::from_millis(500);
/// Within which time, at random, a replica acts on it that a circuit is closed: all at once would be as if the target had been
/// hit by the whole fleet.
const SPREAD: Duration = Duration::from_secs(1);
/// How much of an opening a replica that probes has for itself: less than the shortest that it may lead to.
const TURN: f64 = 0.8;
/// More circuits that nobody has called here are not kept in mind.
const MOST_UNKNOWN: usize = 4096;

pub(super) fn of_target(id: &str) -> Arc<str> {
    format!("target/{id}").into()
}

pub(super) fn of_provider(name: &str) -> Arc<str> {
    format!("provider/{name}").into()
}

/// What is known of the others.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// How often it was begun: only the last goes on.
    pub(super) begun: AtomicU64,
    /// Something happened that others should know.
    happened: Notify,
    notes: Mutex<HashMap<Arc<str>, Note>>,
}

/// What is known of the others' circuits of one name.
#[derive(Debug, Default)]
struct Note {
    /// The last word that was heard.
    stamp: u64,
    /// Whether that word still stands.
    stands: bool,
    /// Until when it is open by that word.
    open: Option<(Instant, Opening)>,
    /// When it is acted on that it is closed.
    closing: Option<Instant>,
    /// The last opening that others were told.
    told: Option<u64>,
    /// Whether it was not closed when it was last looked at.
    was_open: bool,
    /// Others have reached the target since it failed here.
    is_alone: bool,
    /// The last word of others is that it is closed: nobody waits for a turn any more.
    is_settled: bool,
    /// Until when it is this replica's turn to probe.
    turn: Option<Instant>,
    /// Until when at most it is held for whoever has calls, and in which epoch and after which word that began.
    held: Option<(u64, u64, Instant)>,
}

/// What is to be said.
enum Say {
    Open(Opening),
    Closed,
    /// May this one probe?
    Turn(Duration),
}

impl Exchange {
    pub(super) fn wake(&self) {
        self.happened.notify_one();
    }

    /// Some moment within the first while: replicas that start together are not to ask together.
    pub(super) async fn first_tick(&self) {
        sleep(EVERY.mul_f64(fastrand::f64())).await;
    }

    /// After a while, or soon after something has happened.
    pub(super) async fn next_tick(&self) {
        if timeout(EVERY, self.happened.notified()).await.is_ok() {
            sleep(TOGETHER).await;
        }
    }

    fn notes(&self) -> MutexGuard<'_, HashMap<Arc<str>, Note>> {
        // Plain facts, each of which is as good without the others.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a circuit that is called for the first time what others have said of it.
    pub(super) fn introduce(&self, circuit: &Circuit, target: Option<&str>, provider: Option<&str>) {
        let mut notes = self.notes();
        if notes.is_empty() {
            return;
        }
        let name = target.map(of_target).or_else(|| provider.map(of_provider));
        let Some(note) = name.and_then(|name| notes.get_mut(&name)) else { return };
        let Some((until, opening)) = note.open else { return };
        let remaining = until.saturating_duration_since(Instant::now());
        if !remaining.is_zero() {
            note.was_open = true;
            drop(notes);
            circuit.learn_opening(&Opening { remaining, ..opening });
        }
    }

    /// Learns what others say, and tells them what has changed here.
    pub(super) async fn tick(&self, fleet: &Fleet, circuits: impl FnOnce() -> Vec<(Arc<str>, Arc<Circuit>)>) {
        let Ok(words) = fleet.learn().await else { return };
        let circuits = circuits();
        self.hear(words, fleet.replica(), &circuits);
        for (name, circuit) in &circuits {
            for say in self.look(name, circuit) {
                self.say(say, name, circuit, fleet).await;
            }
        }
    }

    fn hear(&self, words: Vec<CircuitWord>, own: u64, circuits: &[(Arc<str>, Arc<Circuit>)]) {
        let now = Instant::now();
        let mut openings = Vec::new();
        let mut notes = self.notes();
        notes.values_mut().for_each(|note| (note.open, note.stands) = (None, false));
        // Keys, quotas and the models that they may use are each replica's own: none of them takes a target from the others.
        for word in words.into_iter().filter(|word| word.opening.is_none_or(|opening| opening.transient)) {
            if notes.len() >= MOST_UNKNOWN && !notes.contains_key(&word.circuit) {
                continue;
            }
            let note = notes.entry(word.circuit.clone()).or_default();
            note.stands = true;
            note.open = word.opening.map(|opening| (now + opening.remaining, opening));
            if std::mem::replace(&mut note.stamp, word.stamp) == word.stamp || word.replica == own {
                continue;
            }
            let circuit = circuits.iter().find(|(name, _)| *name == word.circuit).map(|(_, circuit)| circuit);
            note.is_settled = word.opening.is_none();
            note.closing = word.opening.is_none().then(|| now + SPREAD.mul_f64(fastrand::f64()));
            match (circuit, word.opening) {
                (Some(circuit), Some(opening)) => {
                    openings.push((circuit, opening));
                    note.was_open = true;
                }
                (Some(circuit), None) => {
                    let standing = circuit.standing();
                    note.is_alone |=
                        matches!(standing, Standing::Open { own: Some(own), .. } if !own.remaining.is_zero());
                }
                (None, _) => {}
            }
        }
        let known: HashSet<_> = circuits.iter().map(|(name, _)| name).collect();
        notes.retain(|name, note| note.stands || known.contains(name));
        // Observers hear of it, and may call for a circuit that is not known yet.
        drop(notes);
        openings.iter().for_each(|(circuit, opening)| circuit.learn_opening(opening));
    }

    /// What is to be said of a circuit.
    fn look(&self, name: &Arc<str>, circuit: &Circuit) -> Vec<Say> {
        let now = Instant::now();
        let mut notes = self.notes();
        let standing = circuit.standing();
        if matches!(standing, Standing::Closed) && !notes.contains_key(name) {
            return Vec::new();
        }
        // What time alone does not mend is this replica's own affair: nobody hears of it, and nobody's turn is waited for.
        if matches!(standing, Standing::Open { own: Some(own), .. } if !own.transient) {
            return Vec::new();
        }
        let note = notes.entry(name.clone()).or_default();
        if note.closing.is_some_and(|closing| closing <= now) {
            *note = Note { closing: None, was_open: false, turn: None, ..std::mem::take(note) };
            drop(notes);
            circuit.learn_closing();
            return Vec::new();
        }
        let (epoch, left, own, wanted, again) = match standing {
            Standing::Closed => {
                let closed = std::mem::take(&mut note.was_open);
                *note = Note { stamp: note.stamp, open: note.open, ..Note::default() };
                return closed.then_some(Say::Closed).into_iter().collect();
            }
            Standing::HalfOpen => {
                note.was_open = true;
                return Vec::new();
            }
            Standing::ByHand => return Vec::new(),
            Standing::Open { epoch, left, own, wanted, again } => (epoch, left, own, wanted, again),
        };
        note.was_open = true;
        let mut say = Vec::new();
        if let Some(opening) = own.filter(|own| !own.remaining.is_zero() && !note.is_alone) {
            // Whatever it was told to may have forgotten it.
            let is_known = note.told == Some(epoch) && note.open.is_some();
            if !is_known && note.closing.is_none() {
                (note.told, note.turn, note.is_settled) = (Some(epoch), None, false);
                say.push(Say::Open(opening));
            }
        }
        let mut wanted = wanted;
        if note.turn.is_some_and(|turn| turn <= now) {
            // There were no calls to probe with any more: others may have some.
            (note.turn, wanted) = (None, false);
            circuit.forget_wanted();
        }
        // Whoever only heard of it asks sooner than those it failed for: what failed may have been their own network.
        let lead = if own.is_some() { LEAD / 2 } else { LEAD };
        // Where others reach the target, this one need not wait for them.
        let is_settled = note.is_alone || note.is_settled;
        if left <= lead && !is_settled && note.turn.is_none() {
            match wanted {
                true => say.push(Say::Turn(again.mul_f64(TURN))),
                // Somebody else has calls for it, or nobody has: then the first call that comes finds out.
                false => {
                    let began = note.held.filter(|(held, stamp, _)| (*held, *stamp) == (epoch, note.stamp));
                    let (.., end) = *note.held.insert(began.unwrap_or((epoch, note.stamp, now + left + again)));
                    circuit.hold(LEAD.min(end.saturating_duration_since(now)));
                }
            }
        }
        say
    }

    async fn say(&self, say: Say, name: &Arc<str>, circuit: &Circuit, fleet: &Fleet) {
        let word = |opening| CircuitWord { circuit: name.clone(), replica: fleet.replica(), stamp: 0, opening };
        match say {
            Say::Open(opening) => {
                if fleet.tell(word(Some(opening))).await.is_err() {
                    self.notes().entry(name.clone()).or_default().told = None;
                }
            }
            Say::Closed => {
                if fleet.tell(word(None)).await.is_err() {
                    self.notes().entry(name.clone()).or_default().was_open = true;
                }
            }
            Say::Turn(period) => {
                let portion = Portion { key: format!("probe/{name}").into(), amount: 1, most: 1, period };
                match fleet.take_patiently(portion).await {
                    Some(Taken::All) => {
                        self.notes().entry(name.clone()).or_default().turn = Some(Instant::now() + period);
                    }
                    Some(Taken::Nothing { retry_after }) => circuit.hold(retry_after.max(EVERY)),
                    None => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        CircuitState, Fault, FaultKind, Target,
        circuit_breaker::{CircuitRegistry, CircuitSettings},
        shared_state::{Answer, InMemory, SharedState, SharedValue, Unavailable},
    };
    use tokio::time::advance;

    const SECOND: Duration = Duration::from_secs(1);

    fn target() -> Target {
        Target::named("a")
    }

    fn replica(state: impl SharedState) -> CircuitRegistry {
        let settings = CircuitSettings { failures: 3, jitter: 0.0, ..CircuitSettings::default() };
        let circuits = CircuitRegistry::new(settings);
        tokio::spawn(circuits.share(&Fleet::new(state)));
        circuits
    }

    fn replicas<const N: usize>() -> [CircuitRegistry; N] {
        let state = InMemory::new();
        [(); N].map(|()| replica(state.clone()))
    }

    /// A call, if one is let through; says whether.
    fn call(circuits: &CircuitRegistry, is_up: bool) -> bool {
        let Ok(permits) = circuits.admit(Some(&target()), false) else { return false };
        match is_up {
            true => permits.succeed(),
            false => permits.fail(&Fault::new(FaultKind::Unavailable, "500")),
        }
        true
    }

    fn break_down(circuits: &CircuitRegistry) {
        (0..3).for_each(|_| assert!(call(circuits, false)));
        assert_eq!(circuits.state(&target()), CircuitState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_opens_the_others_skip_within_a_second_but_for_a_last_resort() {
        let [a, b, c] = replicas();
        assert!(call(&b, true));
        break_down(&a);
        sleep(SECOND).await;
        assert!(!call(&b, true));
        assert!(b.admit(Some(&target()), true).is_ok());
        assert!(!call(&c, true), "though it never called before");
    }

    #[tokio::test(start_paused = true)]
    async fn of_what_is_only_heard_all_last_resorts_pass_until_one_fails() {
        let [a, b] = replicas();
        assert!(call(&b, true));
        break_down(&a);
        sleep(SECOND).await;
        let mut permits: Vec<_> = (0..30).map(|_| b.admit(Some(&target()), true).unwrap()).collect();
        assert!(!call(&b, true), "that is no last resort");
        permits.pop().unwrap().fail(&Fault::new(FaultKind::Unavailable, "500"));
        let one = b.admit(Some(&target()), true).unwrap();
        assert!(b.admit(Some(&target()), true).is_err(), "it failed here as well");
        drop((one, permits));
        assert!(b.admit(Some(&target()), true).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answered_probe_closes_what_others_only_heard() {
        let [a, b, c] = replicas();
        call(&b, true);
        break_down(&a);
        let began = Instant::now();
        sleep(SECOND).await;
        while !call(&c, true) {
            sleep(SECOND / 20).await;
            assert!(began.elapsed() < 6 * SECOND, "{c:?}");
        }
        assert!(began.elapsed() > 4 * SECOND);
        sleep(2 * SECOND).await;
        let states = [&a, &b, &c].map(|circuits| circuits.state(&target()));
        // The first has its own probe to make.
        assert_eq!(states, [CircuitState::Open, CircuitState::Closed, CircuitState::Closed]);
        assert!(call(&a, true));
        assert_eq!(a.state(&target()), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_happened_here_outlasts_what_others_say() {
        let [a, b] = replicas();
        break_down(&a);
        sleep(SECOND).await;
        b.close(&target());
        sleep(2 * SECOND).await;
        assert_eq!(a.state(&target()), CircuitState::Open);
        assert!(call(&b, true));
        // Whose network is bad does not take the target from the others again.
        sleep(3 * SECOND).await;
        assert!(call(&a, false), "its own probe");
        for _ in 0..40 {
            sleep(SECOND / 4).await;
            assert!(call(&b, true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fleet_sends_about_one_probe_in_each_open_period() {
        let fleet = replicas::<30>();
        fleet.iter().for_each(break_down);
        let mut probes = Vec::new();
        let began = Instant::now();
        while began.elapsed() < 125 * SECOND {
            sleep(SECOND / 20).await;
            let count = fleet.iter().filter(|circuits| call(circuits, false)).count();
            probes.extend(std::iter::repeat_n(began.elapsed().as_secs(), count));
        }
        // Open for 5 s, 10 s, 20 s, and then 30 s at a time.
        assert!((5..=8).contains(&probes.len()), "{probes:?}");
        let returned = Instant::now();
        while fleet.iter().filter(|circuits| circuits.state(&target()) != CircuitState::Closed).count() > 0 {
            sleep(SECOND / 20).await;
            fleet.iter().for_each(|circuits| _ = call(circuits, true));
            assert!(returned.elapsed() < 32 * SECOND);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_no_calls_leaves_the_turn_to_others() {
        let [a, b] = replicas();
        call(&b, true);
        break_down(&a);
        // The first has no calls any more.
        let began = Instant::now();
        sleep(SECOND).await;
        while !call(&b, true) {
            sleep(SECOND / 20).await;
            assert!(began.elapsed() < 6 * SECOND, "{b:?}");
        }
    }

    fn reject_key(circuits: &CircuitRegistry) {
        circuits.admit(Some(&target()), false).unwrap().fail(&Fault::new(FaultKind::AuthFailed, "401"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replicas_bad_key_is_its_own_affair() {
        let [a, b] = replicas();
        assert!(call(&b, true));
        reject_key(&a);
        for _ in 0..40 {
            sleep(SECOND / 4).await;
            assert!(call(&b, true));
        }
        assert_eq!(a.state(&target()), CircuitState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_takes_in_that_anothers_key_is_bad() {
        let state = InMemory::new();
        let a = replica(state.clone());
        assert!(call(&a, true));
        let opening = Opening { remaining: 600 * SECOND, transient: false, openings: 1 };
        let word = CircuitWord { circuit: of_target("a"), replica: 7, stamp: 0, opening: Some(opening) };
        state.tell(word).await.unwrap();
        sleep(SECOND).await;
        assert!(call(&a, true));
        let late = replica(state);
        sleep(SECOND).await;
        assert!(call(&late, true));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_not_used_its_turn_takes_no_other() {
        // Who of two would take the next one is a matter of luck.
        for _ in 0..10 {
            let [a, b] = replicas();
            assert!(call(&b, true));
            break_down(&a);
            sleep(SECOND).await;
            assert!(!call(&b, true), "its last call");
            let began = Instant::now();
            while !call(&a, true) {
                sleep(SECOND / 20).await;
                assert!(began.elapsed() < 14 * SECOND, "{a:?}");
            }
            assert!(began.elapsed() > 10 * SECOND, "the first turn was the other's");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_calls_is_held_for_one_more_opening_and_no_longer() {
        let [a, b] = replicas();
        call(&b, true);
        break_down(&a);
        // Open for 5 s, and then for 10 s.
        sleep(14 * SECOND).await;
        assert!(a.admit(Some(&target()), false).is_err() && b.admit(Some(&target()), false).is_err());
        let [a, b] = replicas();
        call(&b, true);
        break_down(&a);
        sleep(17 * SECOND).await;
        assert!(call(&a, false) && call(&b, true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_call_after_a_rejected_keys_opening_finds_out() {
        let settings = CircuitSettings { long_open: 3 * SECOND, jitter: 0.0, ..CircuitSettings::default() };
        let circuits = CircuitRegistry::new(settings);
        tokio::spawn(circuits.share(&Fleet::new(InMemory::new())));
        reject_key(&circuits);
        sleep(2 * SECOND).await;
        assert!(!call(&circuits, true));
        // No opening is shorter than 5 s, and the next than 10 s.
        sleep(4 * SECOND).await;
        assert!(call(&circuits, true));
        reject_key(&circuits);
        sleep(12 * SECOND).await;
        assert!(call(&circuits, true), "though nobody called meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn operators_acts_stay_where_they_are() {
        let [a, b] = replicas();
        for circuits in [&a, &b] {
            call(circuits, true);
        }
        a.open(&target());
        sleep(2 * SECOND).await;
        assert!(call(&b, true));
        a.drain(&target());
        break_down(&b);
        sleep(2 * SECOND).await;
        b.close(&target());
        sleep(2 * SECOND).await;
        assert!(a.is_drained(&target()) && call(&b, true));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_says_any_more_is_forgotten() {
        let (state, exchange) = (InMemory::new(), Exchange::default());
        let fleet = Fleet::new(state.clone());
        let tell = async |name: String| {
            let opening = Opening { remaining: SECOND, transient: true, openings: 1 };
            let word = CircuitWord { circuit: of_target(&name), replica: 7, stamp: 0, opening: Some(opening) };
            state.tell(word).await.unwrap();
        };
        for number in 0..2 * MOST_UNKNOWN {
            tell(number.to_string()).await;
        }
        exchange.tick(&fleet, Vec::new).await;
        assert_eq!(exchange.notes().len(), MOST_UNKNOWN);
        advance(2 * SECOND).await;
        tell("late".into()).await;
        exchange.tick(&fleet, Vec::new).await;
        exchange.tick(&fleet, Vec::new).await;
        assert_eq!(exchange.notes().keys().collect::<Vec<_>>(), [&of_target("late")]);
    }

    /// One that never answers.
    #[derive(Clone)]
    struct Gone;

    impl SharedState for Gone {
        fn get(&self, _: &str) -> Answer<Option<SharedValue>> {
            gone()
        }

        fn put(&self, _: &str, _: bytes::Bytes, _: Duration) {}

        fn take(&self, _: &[Portion]) -> Answer<Taken> {
            gone()
        }

        fn tell(&self, _: CircuitWord) -> Answer<()> {
            gone()
        }

        fn learn(&self) -> Answer<Vec<CircuitWord>> {
            gone()
        }
    }

    fn gone<T: Send + 'static>() -> Answer<T> {
        Box::pin(std::future::ready(Err(Unavailable::new("gone"))))
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_each_circuit_goes_by_itself() {
        let circuits = replica(Gone);
        break_down(&circuits);
        advance(4 * SECOND).await;
        assert!(!call(&circuits, true));
        sleep(SECOND).await;
        assert!(call(&circuits, true));
        assert_eq!(circuits.state(&target()), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_ends_with_its_registry_and_outlives_its_rules() {
        let (state, settings) = (InMemory::new(), CircuitSettings::default());
        let old = CircuitRegistry::new(settings);
        let task = tokio::spawn(old.share(&Fleet::new(state.clone())));
        let new = old.with_rules(CircuitSettings { failures: 3, jitter: 0.0, ..settings });
        drop(old);
        tokio::time::timeout(SECOND, task).await.unwrap().unwrap();
        tokio::spawn(new.share(&Fleet::new(state.clone())));
        let other = replica(state);
        break_down(&new);
        sleep(SECOND).await;
        assert!(!call(&other, true));
    }
}
