//! A call whose answer several requests read.
//!
//! Nobody owns it. Whoever has a seat and nothing to read polls the call itself, under a lock that is never held across an
//! await; what wakes the call wakes all of them (the [`Bell`]). So it does not matter who asked first, nor who goes away.

mod bell;
mod tape;

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Extensions, Response, response::Parts};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;

use self::bell::Bell;
pub(super) use self::tape::Piece;
use self::tape::Tape;
use super::{
    entry::{self, Entry},
    key::Key,
    layer::Policy,
    shape::{self, Shape},
    verdict::{Verdict, verdict},
};
use crate::{Attempt, BoxError, Dialect, Fault, FaultKind, RequestContext, usage::Worth};

pub(super) type BoxBody = UnsyncBoxBody<Bytes, BoxError>;
pub(super) type Call<E> = Pin<Box<dyn Future<Output = Result<Response<BoxBody>, E>> + Send>>;

/// What is being asked, and in which form.
pub(super) type Place = (Key, Shape);

/// The calls that run, by what they ask.
pub(super) struct Flights<E>(Arc<Mutex<HashMap<Place, Weak<Flight<E>>>>>);

impl<E> Default for Flights<E> {
    fn default() -> Self {
        Flights(Arc::default())
    }
}

impl<E> Clone for Flights<E> {
    fn clone(&self) -> Self {
        Flights(self.0.clone())
    }
}

impl<E> Flights<E> {
    fn map(&self) -> MutexGuard<'_, HashMap<Place, Weak<Flight<E>>>> {
        // Nothing that can panic is done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, place: &Place) -> Option<Arc<Flight<E>>> {
        self.map().get(place).and_then(Weak::upgrade)
    }

    /// A seat in the call that runs for that place, or in a new one.
    pub(super) fn board(&self, recipe: Recipe, call: impl FnOnce() -> Call<E>) -> Seat<E> {
        let place = recipe.place();
        // What is upgraded is let go of outside of the lock: it may be the last to hold it.
        if let Some(seat) = self.at(&place).and_then(Flight::join) {
            return seat;
        }
        let flight = Arc::new(Flight::new(recipe, call(), Some(self.clone())));
        let quicker = match self.map().entry(place) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Arc::downgrade(&flight));
                None
            }
            std::collections::hash_map::Entry::Occupied(mut occupied) => match occupied.get().upgrade() {
                Some(quicker) => Some(quicker),
                None => {
                    occupied.insert(Arc::downgrade(&flight));
                    None
                }
            },
        };
        if let Some(seat) = quicker.and_then(Flight::join) {
            return seat;
        }
        // Here at the latest it stands there: one that cannot be joined any more gives way.
        self.map().insert(place, Arc::downgrade(&flight));
        flight.seat(LEADER)
    }

    /// Whether a call runs for that place.
    pub(super) fn has(&self, place: &Place) -> bool {
        self.map().get(place).is_some_and(|flight| flight.strong_count() > 0)
    }

    /// A seat in a call that nobody else joins.
    pub(super) fn board_alone(recipe: Recipe, call: Call<E>) -> Seat<E> {
        Arc::new(Flight::new(recipe, call, None)).seat(LEADER)
    }

    fn leave(&self, place: &Place, flight: *const Flight<E>) {
        let mut map = self.map();
        if map.get(place).is_some_and(|there| std::ptr::eq(there.as_ptr(), flight)) {
            map.remove(place);
        }
    }
}

/// What is done with the answer of a call.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) policy: Arc<Policy>,
    pub(super) key: Key,
    pub(super) shape: Shape,
    pub(super) dialect: Dialect,
    pub(super) is_embeddings: bool,
    /// That of the request for which a call is made.
    pub(super) context: RequestContext,
}

impl Recipe {
    pub(super) fn place(&self) -> Place {
        (self.key, self.shape)
    }

    /// Whether it may be kept, going by its head.
    fn is_kept(&self, head: &Parts) -> bool {
        let header = |name| head.headers.get(name).map(|value: &http::HeaderValue| value.as_bytes());
        let kind = header(http::header::CONTENT_TYPE).unwrap_or_default();
        let is_plain = header(http::header::CONTENT_ENCODING).is_none_or(|coding| coding == b"identity");
        is_plain && head.status == http::StatusCode::OK && kind.starts_with(self.shape.content_type().as_bytes())
    }

    /// What the answer cost: the try that gave it, and none of those that came to nothing.
    fn worth(&self) -> Worth {
        let answered = self.context.attempts().unbroken();
        Worth { usage: answered.and_then(Attempt::usage), cost: answered.and_then(Attempt::cost) }
    }

    /// Keeps a whole answer, if it is one to be kept.
    fn keep(&self, head: &Parts, body: Bytes) {
        let Some(answer) = shape::joined(self.dialect, self.shape, &body) else { return };
        match verdict(self.dialect, self.is_embeddings, &answer) {
            Verdict::Whole => {}
            Verdict::CallsTools if self.policy.tool_calls => {}
            _ => return,
        }
        let entry = Entry {
            status: head.status,
            headers: entry::kept(&head.headers),
            shape: self.shape,
            body,
            worth: self.worth(),
            stored: tokio::time::Instant::now(),
            ttl: self.policy.ttl,
            stale: self.policy.stale_if_error,
        };
        self.policy.store.insert(self.key, entry);
    }
}

/// Whose seat is the first.
const LEADER: u64 = 0;

/// A call, and its answer as far as it came.
pub(super) struct Flight<E> {
    state: Mutex<State<E>>,
    bell: Arc<Bell>,
    recipe: Recipe,
    flights: Option<Flights<E>>,
}

struct State<E> {
    stage: Stage<E>,
    next_seat: u64,
    /// How much each of those who read has read.
    read: HashMap<u64, usize>,
}

enum Stage<E> {
    Calling(Call<E>),
    Answered(Box<Answered>),
    /// With the answer for whoever asked first, and what the others are told.
    Failed(Box<Failed<E>>),
}

struct Failed<E> {
    result: Option<Result<Response<BoxBody>, E>>,
    fault: Option<Fault>,
}

struct Answered {
    head: Parts,
    /// For whoever asked first.
    extensions: Option<Extensions>,
    length: Option<u64>,
    /// `None` when it is over.
    body: Option<BoxBody>,
    tape: Tape,
    /// What broke it off.
    broken: Option<Fault>,
}

/// What comes of a call.
pub(super) enum Arrival<E> {
    /// An answer, whose body is read from the seat.
    Answered { head: Parts, length: Option<u64> },
    /// The failure, for whoever asked first.
    Failed(Result<Response<BoxBody>, E>),
    /// It failed, and somebody else was told how.
    Lost(Option<Fault>),
}

impl<E> Flight<E> {
    fn new(recipe: Recipe, call: Call<E>, flights: Option<Flights<E>>) -> Self {
        let state = State { stage: Stage::Calling(call), next_seat: LEADER + 1, read: HashMap::from([(LEADER, 0)]) };
        Flight { state: Mutex::new(state), bell: Arc::default(), recipe, flights }
    }

    fn state(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(|poisoned| {
            // The call panicked while somebody polled it. It is not to be polled again; the others call for themselves.
            let mut state = poisoned.into_inner();
            if let Stage::Answered(answered) = &mut state.stage {
                if answered.body.take().is_some() {
                    answered.broken = Some(Fault::new(FaultKind::StreamInterrupted, "the answer broke off"));
                }
            } else {
                state.stage = Stage::Failed(Box::new(Failed { result: None, fault: None }));
            }
            self.state.clear_poison();
            self.close();
            self.bell.ring();
            state
        })
    }

    fn seat(self: Arc<Self>, number: u64) -> Seat<E> {
        Seat { flight: self, number, is_told: false }
    }

    /// Another seat, as long as everything can still be read from the beginning.
    fn join(self: Arc<Self>) -> Option<Seat<E>> {
        let number = {
            let mut state = self.state();
            let is_open = match &state.stage {
                Stage::Calling(_) => true,
                Stage::Answered(answered) => answered.body.is_some() && answered.tape.is_whole(),
                Stage::Failed(_) => false,
            };
            if !is_open {
                return None;
            }
            let number = state.next_seat;
            state.next_seat += 1;
            state.read.insert(number, 0);
            number
        };
        Some(self.seat(number))
    }

    /// Nobody joins any more.
    fn close(&self) {
        if let Some(flights) = &self.flights {
            flights.leave(&self.recipe.place(), self);
        }
    }
}

impl<E> Drop for Flight<E> {
    fn drop(&mut self) {
        self.close();
    }
}

/// A place from which a call is waited for, and its answer read.
pub(super) struct Seat<E> {
    flight: Arc<Flight<E>>,
    number: u64,
    /// Whether it was told that the answer broke off, which is the last that it is told.
    is_told: bool,
}

impl<E> Seat<E> {
    /// Whether the call was made for this seat.
    pub(super) fn is_first(&self) -> bool {
        self.number == LEADER
    }

    /// Waits for the answer's head.
    pub(super) fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Arrival<E>> {
        // Before the call is polled: it may wake whoever waits while it is.
        self.flight.bell.register(self.number, cx.waker());
        let mut state = self.flight.state();
        if let Stage::Calling(call) = &mut state.stage {
            let waker = Waker::from(self.flight.bell.clone());
            let Poll::Ready(result) = call.as_mut().poll(&mut Context::from_waker(&waker)) else {
                return Poll::Pending;
            };
            state.stage = Stage::landed(result, &self.flight.recipe);
            if !matches!(&state.stage, Stage::Answered(_)) {
                self.flight.close();
            }
            waker.wake();
        }
        Poll::Ready(match &mut state.stage {
            Stage::Answered(answered) => {
                let mut head = clone_head(&answered.head);
                if self.is_first() {
                    head.extensions = answered.extensions.take().unwrap_or_default();
                }
                Arrival::Answered { head, length: answered.length }
            }
            Stage::Failed(failed) => match if self.number == LEADER { failed.result.take() } else { None } {
                Some(result) => Arrival::Failed(result),
                None => Arrival::Lost(failed.fault.clone()),
            },
            Stage::Calling(_) => return Poll::Pending,
        })
    }

    /// Reads the next piece of the answer's body.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Fault>>> {
        self.flight.bell.register(self.number, cx.waker());
        let mut state = self.flight.state();
        let State { stage: Stage::Answered(answered), read, .. } = &mut *state else { return Poll::Ready(None) };
        let at = read.get(&self.number).copied().unwrap_or_default();
        if let Some(piece) = answered.tape.get(at) {
            read.insert(self.number, at + 1);
            let waited_for = answered.tape.is_full();
            answered.tape.forget(read.values().copied());
            if waited_for && !answered.tape.is_full() {
                self.flight.bell.ring();
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        let Some(body) = &mut answered.body else {
            let fault = answered.broken.clone().filter(|_| !self.is_told);
            self.is_told = true;
            return Poll::Ready(fault.map(Err));
        };
        if answered.tape.is_full() {
            // Somebody who reads more slowly has to catch up.
            return Poll::Pending;
        }
        let waker = Waker::from(self.flight.bell.clone());
        let frame = match Pin::new(&mut *body).poll_frame(&mut Context::from_waker(&waker)) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        let is_over = frame.is_none() || body.is_end_stream();
        let next = match frame {
            Some(Ok(frame)) => {
                let piece = Piece::of(frame);
                if let Some(piece) = &piece {
                    answered.tape.push(piece.clone());
                    read.insert(self.number, at + 1);
                    answered.tape.forget(read.values().copied());
                }
                piece.map(Ok)
            }
            Some(Err(error)) => {
                let fault = Fault::from_error(&*error);
                answered.body = None;
                answered.broken = Some(fault.clone());
                self.is_told = true;
                self.flight.close();
                waker.wake();
                return Poll::Ready(Some(Err(fault)));
            }
            None => None,
        };
        if is_over {
            answered.body = None;
            // Kept before the call can no longer be joined: whoever comes in between finds one or the other.
            if let Some(whole) = answered.tape.recorded() {
                self.flight.recipe.keep(&answered.head, whole);
            }
            self.flight.close();
            waker.wake();
        } else if next.is_none() {
            // A frame of a kind that is not known.
            waker.wake();
            return Poll::Pending;
        }
        Poll::Ready(next)
    }

    /// What the answer cost, once all of it is read.
    pub(super) fn worth(&self) -> Option<Worth> {
        let state = self.flight.state();
        let Stage::Answered(answered) = &state.stage else { return None };
        let at = state.read.get(&self.number).copied().unwrap_or_default();
        let is_whole = answered.body.is_none() && answered.broken.is_none() && answered.tape.get(at).is_none();
        is_whole.then(|| self.flight.recipe.worth())
    }

    /// Whether all is read.
    pub(super) fn is_over(&self) -> bool {
        let state = self.flight.state();
        let Stage::Answered(answered) = &state.stage else { return true };
        let at = state.read.get(&self.number).copied().unwrap_or_default();
        let is_told = answered.broken.is_none() || self.is_told;
        answered.body.is_none() && is_told && answered.tape.get(at).is_none()
    }
}

impl<E> Drop for Seat<E> {
    fn drop(&mut self) {
        self.flight.bell.forget(self.number);
        let mut state = self.flight.state();
        state.read.remove(&self.number);
        let State { stage: Stage::Answered(answered), read, .. } = &mut *state else { return };
        // Others may have waited for this one.
        let waited_for = answered.tape.is_full();
        answered.tape.forget(read.values().copied());
        drop(state);
        if waited_for {
            self.flight.bell.ring();
        }
    }
}

impl<E> Stage<E> {
    fn landed(result: Result<Response<BoxBody>, E>, recipe: &Recipe) -> Self {
        let fault = result.as_ref().ok().and_then(|response| response.extensions().get::<Fault>()).cloned();
        match result {
            Ok(response) if fault.is_none() && response.status().is_success() => {
                let (mut head, body) = response.into_parts();
                let extensions = Some(std::mem::take(&mut head.extensions));
                let mut tape = Tape::new(recipe.policy.max_entry);
                let length = body.size_hint().exact();
                if !recipe.is_kept(&head) || length.is_some_and(|length| length > recipe.policy.max_entry as u64) {
                    tape.stop();
                }
                let body = (!body.is_end_stream()).then_some(body);
                Stage::Answered(Box::new(Answered { head, extensions, length, body, tape, broken: None }))
            }
            failed => Stage::Failed(Box::new(Failed { result: Some(failed), fault })),
        }
    }
}

fn clone_head(head: &Parts) -> Parts {
    let (mut copy, ()) = Response::new(()).into_parts();
    copy.status = head.status;
    copy.version = head.version;
    copy.headers = head.headers.clone();
    copy
}
