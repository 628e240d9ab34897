//! What happened lately that an operator wants to know of.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::{CircuitState, Event, Fault, Observer, Target};

/// How many entries are kept.
const CAPACITY: usize = 100;
/// How far back the same is looked for, so that an outage is a line with a count and not a thousand lines.
const SAME_AMONG: usize = 12;
const SAME_WITHIN: Duration = Duration::from_secs(60);
/// How much of what a provider said is told.
const MAX_MESSAGE: usize = 300;

/// The latest failovers, hedges, interruptions, failures and changes of circuits. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct Feed(Arc<Mutex<Ring>>);

#[derive(Debug, Default)]
struct Ring {
    /// How many entries there ever were.
    count: u64,
    /// The latest last.
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    event: Event,
    first: SystemTime,
    last: SystemTime,
    times: u64,
}

impl Feed {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing panics while it is held; were it so, what is in it would still be good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries, the latest first, but for hedges on these routes: in a race they are nothing out of the ordinary.
    pub(super) fn describe(&self, races: &[&str]) -> Vec<Value> {
        let is_usual = |event: &Event| matches!(event, Event::Hedged { route, .. } if races.contains(&&**route));
        self.ring().entries.iter().rev().filter(|entry| !is_usual(&entry.event)).map(Entry::describe).collect()
    }
}

impl Observer for Feed {
    fn observe(&self, event: &Event) {
        if !is_of_interest(event) {
            return;
        }
        let now = SystemTime::now();
        let mut ring = self.ring();
        if ring.entries.back().is_some_and(|last| follows(&last.event, event)) {
            return;
        }
        let recent = |entry: &Entry| now.duration_since(entry.last).is_ok_and(|ago| ago <= SAME_WITHIN);
        let mut latest = ring.entries.iter().enumerate().rev().take(SAME_AMONG);
        let same = latest.find(|(_, entry)| is_same(&entry.event, event) && recent(entry)).map(|(place, _)| place);
        let earlier = same.and_then(|place| ring.entries.remove(place));
        let entry = match earlier {
            // What was said last may be another message: it is the one to be shown.
            Some(earlier) => Entry { event: by_name(event), last: now, times: earlier.times + 1, ..earlier },
            None => {
                ring.count += 1;
                Entry { id: ring.count, event: by_name(event), first: now, last: now, times: 1 }
            }
        };
        if ring.entries.len() == CAPACITY {
            ring.entries.pop_front();
        }
        ring.entries.push_back(entry);
    }

    fn wants_every_attempt(&self) -> bool {
        false
    }
}

fn is_of_interest(event: &Event) -> bool {
    match event {
        Event::FailedOver { .. }
        | Event::Hedged { .. }
        | Event::Interrupted { .. }
        | Event::CircuitChanged { .. }
        | Event::DrainChanged { .. } => true,
        // A client whose request is wrong is no concern of whoever watches the providers.
        Event::Failed { fault, .. } => {
            let status = fault.response_status();
            status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS
        }
        _ => false,
    }
}

/// The event with nothing of its targets but their names: kept as they are, they would keep the keys of a provider fresh that
/// the configuration has no more.
fn by_name(event: &Event) -> Event {
    let named = |target: &Target| Target::named(target.id().as_str());
    match event.clone() {
        Event::FailedOver { route, from, to, fault } => {
            Event::FailedOver { route, from: named(&from), to: named(&to), fault }
        }
        Event::Hedged { route, slow, beside } => Event::Hedged { route, slow: named(&slow), beside: named(&beside) },
        Event::Interrupted { target, fault } => Event::Interrupted { target: target.as_ref().map(named), fault },
        other => other,
    }
}

/// Whether a circuit changed because its target was drained or put back just before, which says it all.
fn follows(earlier: &Event, event: &Event) -> bool {
    match (earlier, event) {
        (Event::DrainChanged { target, drained }, Event::CircuitChanged { target: Some(changed), state, .. }) => {
            target == changed && *state == if *drained { CircuitState::Open } else { CircuitState::Closed }
        }
        _ => false,
    }
}

/// Whether it is the same once more. Changes of circuits never are: their order is what they tell.
fn is_same(a: &Event, b: &Event) -> bool {
    match (a, b) {
        (
            Event::FailedOver { route, from, to, fault },
            Event::FailedOver { route: other_route, from: other_from, to: other_to, fault: other_fault },
        ) => {
            route == other_route
                && (from.id(), to.id(), fault.kind()) == (other_from.id(), other_to.id(), other_fault.kind())
        }
        (
            Event::Hedged { route, slow, beside },
            Event::Hedged { route: other_route, slow: other_slow, beside: other_beside },
        ) => route == other_route && (slow.id(), beside.id()) == (other_slow.id(), other_beside.id()),
        (Event::Interrupted { target, fault }, Event::Interrupted { target: other_target, fault: other_fault }) => {
            let id = |target: &Option<Target>| target.as_ref().map(|target| target.id().clone());
            id(target) == id(other_target) && fault.kind() == other_fault.kind()
        }
        (Event::Failed { route, fault }, Event::Failed { route: other_route, fault: other_fault }) => {
            route == other_route && fault.kind() == other_fault.kind()
        }
        _ => false,
    }
}

impl Entry {
    fn describe(&self) -> Value {
        let mut entry = match &self.event {
            Event::FailedOver { route, from, to, fault } => json!({
                "kind": "failover",
                "route": &**route,
                "from": from.id().as_str(),
                "to": to.id().as_str(),
                "fault": describe_fault(fault),
            }),
            Event::Hedged { route, slow, beside } => json!({
                "kind": "hedge",
                "route": &**route,
                "from": slow.id().as_str(),
                "to": beside.id().as_str(),
            }),
            Event::Interrupted { target, fault } => json!({
                "kind": "interrupted",
                "target": target.as_ref().map(|target| target.id().as_str()),
                "fault": describe_fault(fault),
            }),
            Event::Failed { route, fault } => json!({
                "kind": "failed",
                "route": &**route,
                "fault": describe_fault(fault),
            }),
            Event::CircuitChanged { target, provider, state } => json!({
                "kind": "circuit",
                "target": target.as_deref(),
                "provider": provider.as_deref(),
                "state": state_name(*state),
            }),
            Event::DrainChanged { target, drained } => json!({
                "kind": "drain",
                "target": &**target,
                "drained": drained,
            }),
            _ => json!({ "kind": "other" }),
        };
        entry["id"] = self.id.into();
        entry["at"] = moment(self.last).into();
        entry["since"] = moment(self.first).into();
        entry["count"] = self.times.into();
        entry
    }
}

/// A point in time, to the millisecond, as every language reads it.
pub(super) fn moment(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

pub(super) fn state_name(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "closed",
        CircuitState::HalfOpen => "half_open",
        CircuitState::Open => "open",
    }
}

/// A fault as operators are told of it. No credential is in it: see [`Fault`].
pub(super) fn describe_fault(fault: &Fault) -> Value {
    let mut message = fault.message();
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message = &message[..end];
    }
    json!({
        "kind": fault.kind().name(),
        "status": fault.status().map(|status| status.as_u16()),
        "code": fault.code(),
        "message": message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaultKind;

    fn failover(from: &str, kind: FaultKind) -> Event {
        let (from, to) = (Target::named(from), Target::named("z"));
        Event::FailedOver { route: "chat".into(), from, to, fault: Fault::new(kind, "x".repeat(1_000)) }
    }

    fn circuit(state: CircuitState) -> Event {
        Event::CircuitChanged { target: Some("a".into()), provider: None, state }
    }

    #[test]
    fn an_outage_is_a_line_with_a_count_and_circuits_keep_their_order() {
        let feed = Feed::default();
        for _ in 0..1_000 {
            feed.observe(&failover("a", FaultKind::Connect));
        }
        for state in [CircuitState::Open, CircuitState::HalfOpen, CircuitState::Open] {
            feed.observe(&circuit(state));
        }
        feed.observe(&failover("a", FaultKind::Connect));
        feed.observe(&failover("b", FaultKind::Connect));
        let told = feed.describe(&[]);
        let lines: Vec<_> = told.iter().map(|entry| (entry["kind"].as_str().unwrap(), &entry["count"])).collect();
        let [one, many] = [Value::from(1), Value::from(1_001)];
        let kinds = [("failover", &one), ("failover", &many), ("circuit", &one), ("circuit", &one), ("circuit", &one)];
        assert_eq!(lines, kinds);
        assert_eq!(
            (&told[1]["id"], &told[2]["state"], &told[3]["state"]),
            (&1.into(), &"open".into(), &"half_open".into())
        );
        assert_eq!(told[0]["fault"]["message"].as_str().unwrap().len(), MAX_MESSAGE);
    }

    #[test]
    fn it_is_bounded_and_leaves_out_what_is_the_clients_affair() {
        let feed = Feed::default();
        let failed = |kind| Event::Failed { route: "chat".into(), fault: Fault::new(kind, "x") };
        feed.observe(&failed(FaultKind::BadRequest));
        feed.observe(&Event::AttemptStarted { target: None });
        assert!(feed.describe(&[]).is_empty());
        feed.observe(&failed(FaultKind::Connect));
        (0..2 * CAPACITY).for_each(|index| feed.observe(&failover(&index.to_string(), FaultKind::Connect)));
        let told = feed.describe(&[]);
        assert_eq!((told.len(), &told[0]["id"]), (CAPACITY, &(2 * CAPACITY as u64 + 1).into()));
    }

    #[test]
    fn a_drain_is_told_once_and_the_hedges_of_a_race_are_not() {
        let feed = Feed::default();
        for (drained, state) in [(true, CircuitState::Open), (false, CircuitState::Closed)] {
            feed.observe(&Event::DrainChanged { target: "a".into(), drained });
            feed.observe(&circuit(state));
        }
        let [slow, beside] = ["a", "b"].map(Target::named);
        feed.observe(&Event::Hedged { route: "chat".into(), slow, beside });
        let kinds = |races: &[&str]| {
            let told = feed.describe(races);
            told.iter().map(|entry| entry["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&[]), ["hedge", "drain", "drain"]);
        assert_eq!(kinds(&["chat"]), ["drain", "drain"]);
    }
}
