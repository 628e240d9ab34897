//! What became of changes of the configuration.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde_json::{Value, json};

use super::feed::moment;
use crate::config::ConfigErrors;

/// How much is told of what is wrong with a configuration; the log has the rest.
const MAX_ERROR: usize = 2_000;

/// When the configuration changed that is served, and why another one was not taken.
#[derive(Debug)]
pub(in crate::gateway) struct Changes(Mutex<State>);

#[derive(Debug)]
struct State {
    loaded: SystemTime,
    applied: u64,
    refused: u64,
    /// Until another one is taken.
    error: Option<(SystemTime, String)>,
}

impl Changes {
    pub(super) fn new() -> Self {
        Changes(Mutex::new(State { loaded: SystemTime::now(), applied: 0, refused: 0, error: None }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of another configuration, or of one that was refused.
    pub(in crate::gateway) fn note(&self, change: &Result<(), ConfigErrors>) {
        let (now, mut state) = (SystemTime::now(), self.state());
        match change {
            Ok(()) => {
                (state.loaded, state.error) = (now, None);
                state.applied += 1;
            }
            Err(errors) => {
                let mut text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
                if let Some((end, _)) = text.char_indices().nth(MAX_ERROR) {
                    text.truncate(end);
                }
                state.error = Some((now, text));
                state.refused += 1;
            }
        }
    }

    /// How many were taken, and how many refused.
    pub(in crate::gateway) fn counts(&self) -> [(&'static str, u64); 2] {
        let state = self.state();
        [("applied", state.applied), ("refused", state.refused)]
    }

    pub(super) fn describe(&self) -> Value {
        let state = self.state();
        let error = state.error.as_ref();
        json!({
            "loaded_at": moment(state.loaded),
            "reloads": state.applied,
            "refused": state.refused,
            "last_error": error.map(|(at, message)| json!({ "at": moment(*at), "message": message })),
        })
    }
}
