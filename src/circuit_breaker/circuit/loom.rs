//! A circuit in every order in which threads can meet. The clock stands still.

use super::*;
use ::loom::thread;

/// Opens after so many failures.
fn circuit(failures: u32) -> Arc<Circuit> {
    let settings = CircuitSettings { failures, min_calls: 1_000, jitter: 0.0, ..CircuitSettings::default() };
    Arc::new(Circuit::new(settings))
}

fn unavailable() -> Fault {
    Fault::new(FaultKind::Unavailable, "500")
}

fn rejected() -> Fault {
    Fault::new(FaultKind::AuthFailed, "401")
}

/// Runs it in every order, with a clock that stands still: so each time is like the others.
fn check(test: impl Fn() + Send + Sync + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _entered = runtime.enter();
    ::loom::model(test);
}

/// Half-open, and nobody is under way.
fn half_open(circuit: &Arc<Circuit>) {
    circuit.force_open();
    circuit.force_half_open();
}

fn spawn<T: 'static>(circuit: &Arc<Circuit>, act: impl FnOnce(&Arc<Circuit>) -> T + 'static) -> thread::JoinHandle<T> {
    let circuit = circuit.clone();
    thread::spawn(move || act(&circuit))
}

#[test]
fn as_many_failures_as_it_takes_open_it_once() {
    for failures in [1, 2] {
        check(move || {
            let circuit = circuit(failures);
            let permits = [(); 2].map(|()| circuit.admit(false).unwrap());
            let threads = permits.map(|permit| thread::spawn(move || permit.fail(&unavailable())));
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(circuit.word(), Word::new(1, CircuitState::Open));
            assert_eq!(circuit.openings.load(Ordering::Relaxed), 1);
        });
    }
}

#[test]
fn whoever_is_admitted_was_admitted_before_it_opened_or_is_refused() {
    check(|| {
        let circuit = circuit(1);
        let failing = spawn(&circuit, |circuit| circuit.admit(false).unwrap().fail(&unavailable()));
        let admitted = circuit.admit(false);
        assert_eq!(admitted.is_ok(), admitted.as_ref().is_ok_and(|permit| permit.is_of(0)));
        failing.join().unwrap();
        assert!(circuit.admit(false).is_err());
        // Too late to say anything.
        admitted.into_iter().for_each(Permit::succeed);
        assert_eq!(circuit.word(), Word::new(1, CircuitState::Open));
    });
}

#[test]
fn half_open_admits_one_of_two() {
    check(|| {
        let circuit = circuit(1);
        half_open(&circuit);
        let other = spawn(&circuit, |circuit| circuit.admit(false).ok());
        let permits: Vec<_> = [circuit.admit(false).ok(), other.join().unwrap()].into_iter().flatten().collect();
        assert_eq!(permits.len(), 1);
        drop(permits);
        assert!(circuit.admit(false).is_ok(), "its place is free again");
    });
}

#[test]
fn an_open_circuit_lets_one_last_resort_pass_at_a_time() {
    check(|| {
        let circuit = circuit(1);
        circuit.admit(false).unwrap().fail(&unavailable());
        let other = spawn(&circuit, |circuit| circuit.admit(true).ok());
        let permits: Vec<_> = [circuit.admit(true).ok(), other.join().unwrap()].into_iter().flatten().collect();
        assert_eq!(permits.len(), 1);
    });
}

#[test]
fn a_late_success_never_closes_a_circuit_nor_a_late_failure_opens_one() {
    check(|| {
        let circuit = circuit(1);
        let [good, bad] = [(); 2].map(|()| circuit.admit(false).unwrap());
        half_open(&circuit);
        let good = thread::spawn(move || good.succeed());
        let probe = circuit.admit(false).unwrap();
        good.join().unwrap();
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        let bad = thread::spawn(move || bad.fail(&rejected()));
        probe.succeed();
        bad.join().unwrap();
        assert_eq!(circuit.state(), CircuitState::Closed);
    });
}

#[test]
fn a_probe_that_breaks_while_others_succeed_opens_it_again() {
    check(|| {
        let circuit = circuit(3);
        half_open(&circuit);
        let mut probe = circuit.admit(false).unwrap();
        probe.answering();
        let good = spawn(&circuit, |circuit| circuit.admit(false).map(Permit::succeed).is_ok());
        probe.fail(&unavailable());
        let _ = good.join().unwrap();
        assert_eq!(circuit.state(), CircuitState::Open);
    });
}

#[test]
fn of_a_probe_and_a_last_resort_the_first_word_counts() {
    check(|| {
        let circuit = circuit(1);
        half_open(&circuit);
        let (probe, last_resort) = (circuit.admit(false).unwrap(), circuit.admit(true).unwrap());
        let good = thread::spawn(move || probe.succeed());
        last_resort.fail(&unavailable());
        good.join().unwrap();
        // Whichever came second was of an older epoch.
        assert!(matches!(circuit.state(), CircuitState::Closed | CircuitState::Open));
        assert_eq!(circuit.word().epoch(), 3);
        circuit.force_half_open();
        let state = circuit.state();
        assert!(circuit.admit(false).is_ok(), "nothing is held in {state:?}");
    });
}

#[test]
fn a_change_by_hand_and_one_by_verdict_do_not_cross() {
    check(|| {
        let circuit = circuit(1);
        let permit = circuit.admit(false).unwrap();
        let by_hand = spawn(&circuit, |circuit| circuit.drain());
        permit.fail(&unavailable());
        by_hand.join().unwrap();
        assert_eq!(circuit.state(), CircuitState::Open);
        // Drained last or first, it is drained.
        assert!(circuit.admit(true).is_err());
        assert!(circuit.snapshot(None, None).drained);
    });
}
