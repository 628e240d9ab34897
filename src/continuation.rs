//! A request for the rest of an answer that broke off.

use std::{fmt, sync::OnceLock};

use bytes::Bytes;

use crate::{RequestOutline, Requirements};

/// How the request of an attempt is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// As it was asked; of a continuation, with what the client has as the beginning of the assistant's answer, which
    /// the target goes on writing (*prefill*).
    #[default]
    AsAsked,
    /// With what the client has as the assistant's answer, and behind it an instruction to go on: for targets that take
    /// no prefill.
    Instructed,
}

/// The rest of an answer, asked for in two ways: which one suits depends on the target.
#[derive(Debug)]
pub(crate) struct Continuation {
    prefill: Asked,
    instruction: Option<Asked>,
}

struct Asked {
    body: Bytes,
    outline: Option<RequestOutline>,
    requirements: OnceLock<Requirements>,
}

/// Without the body, which is what a user wrote.
impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl Continuation {
    /// With the two bodies and what they say. Without an instruction, the first one is for every target: it asks for all
    /// of the answer again.
    pub(crate) fn new(
        prefill: (Bytes, Option<RequestOutline>),
        instruction: Option<(Bytes, Option<RequestOutline>)>,
    ) -> Self {
        let asked = |(body, outline)| Asked { body, outline, requirements: OnceLock::new() };
        Continuation { prefill: asked(prefill), instruction: instruction.map(asked) }
    }

    fn asked(&self, form: Form) -> &Asked {
        match (form, &self.instruction) {
            (Form::Instructed, Some(instruction)) => instruction,
            _ => &self.prefill,
        }
    }

    /// Whether a target may be asked in either way.
    pub(crate) fn has_instruction(&self) -> bool {
        self.instruction.is_some()
    }

    pub(crate) fn body(&self, form: Form) -> &Bytes {
        &self.asked(form).body
    }

    pub(crate) fn outline(&self, form: Form) -> Option<&RequestOutline> {
        self.asked(form).outline.as_ref()
    }
    /// What it needs in that form, worked out once.
    pub(crate) fn requirements(&self, form: Form, work_out: impl FnOnce() -> Requirements) -> &Requirements {
        self.asked(form).requirements.get_or_init(work_out)
    }
}
