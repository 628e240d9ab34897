//! What a request says.

use super::{Extras, Losses, Raw, Text};
use crate::{Capabilities, Dialect, Variant};

/// A request for an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request<'a> {
    /// Whose [`Extras`] and native parts it has.
    pub(crate) dialect: Dialect,
    /// The model as the client names it; `None` where the dialect names it in the path.
    pub(crate) model: Option<Text<'a>>,
    pub(crate) turns: Vec<Turn<'a>>,
    pub(crate) tools: Vec<Tool<'a>>,
    pub(crate) tool_choice: Option<ToolChoice<'a>>,
    pub(crate) parallel_tool_calls: Option<bool>,
    pub(crate) format: Option<Format<'a>>,
    pub(crate) reasoning: Option<Reasoning>,
    /// The most tokens of the answer, reasoning included.
    pub(crate) max_output_tokens: Option<u64>,
    pub(crate) stop: Vec<Text<'a>>,
    pub(crate) temperature: Option<Raw<'a>>,
    pub(crate) top_p: Option<Raw<'a>>,
    pub(crate) top_k: Option<Raw<'a>>,
    pub(crate) frequency_penalty: Option<Raw<'a>>,
    pub(crate) presence_penalty: Option<Raw<'a>>,
    pub(crate) seed: Option<Raw<'a>>,
    /// Who the end user is, for the provider's abuse detection.
    pub(crate) user: Option<Text<'a>>,
    /// `auto`, `default`, `flex`, `priority`: OpenAI's words.
    pub(crate) service_tier: Option<Text<'a>>,
    pub(crate) verbosity: Option<Text<'a>>,
    /// A map that is stored with the answer.
    pub(crate) metadata: Option<Raw<'a>>,
    pub(crate) prompt_cache_key: Option<Text<'a>>,
    pub(crate) stream: bool,
    /// Whether a stream is to tell its usage, in dialects that do so only if asked.
    pub(crate) include_usage: bool,
    /// Members as its own dialect puts them, of what is said above in all dialects' words: of no use to another, and no
    /// loss to it.
    pub(crate) own: Extras<'a>,
    pub(crate) extras: Extras<'a>,
}

impl Request<'_> {
    /// One that says nothing yet.
    pub(crate) fn new(dialect: Dialect) -> Self {
        Request {
            dialect,
            model: None,
            turns: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            format: None,
            reasoning: None,
            max_output_tokens: None,
            stop: Vec::new(),
            temperature: None,
            top_p: None,
            top_k: None,
            frequency_penalty: None,
            presence_penalty: None,
            seed: None,
            user: None,
            service_tier: None,
            verbosity: None,
            metadata: None,
            prompt_cache_key: None,
            stream: false,
            include_usage: false,
            own: Extras::default(),
            extras: Extras::default(),
        }
    }
}

/// Who it goes to, as far as that decides how it is put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination<'d> {
    /// The model that is to answer: JSON text, quotes included. `None` keeps the client's.
    pub(crate) model: Option<&'d str>,
    /// What that model can do, as far as is known.
    pub(crate) capabilities: &'d Capabilities,
    /// What is particular about its server.
    pub(crate) variant: &'d Variant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    /// OpenAI's newer name for it.
    Developer,
    User,
    Assistant,
}

/// What one side says before the other does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turn<'a> {
    pub(crate) role: Role,
    pub(crate) parts: Vec<Part<'a>>,
    /// Whether its content is one string rather than a list: matters to the same dialect only.
    pub(crate) bare: bool,
    pub(crate) extras: Extras<'a>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(role: Role) -> Self {
        Turn { role, parts: Vec::new(), bare: false, extras: Extras::default() }
    }

    /// A turn that is one text.
    pub(crate) fn text(role: Role, text: Text<'a>) -> Self {
        Turn { parts: vec![Part::text(text)], bare: true, ..Turn::new(role) }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part<'a> {
    Text {
        text: Text<'a>,
        extras: Extras<'a>,
    },
    Media(Media<'a>),
    /// The model declined, and says why.
    Refusal(Text<'a>),
    Thought(Thought<'a>),
    Call(Call<'a>),
    Result(ToolResult<'a>),
    /// What only its own dialect knows.
    Native(Raw<'a>),
}

impl<'a> Part<'a> {
    pub(crate) fn text(text: Text<'a>) -> Self {
        Part::Text { text, extras: Extras::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MediaKind {
    Image,
    Audio,
    Document,
    Video,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Media<'a> {
    pub(crate) kind: MediaKind,
    pub(crate) source: Source<'a>,
    /// A document's file name or title.
    pub(crate) name: Option<Text<'a>>,
    /// Own members of the part, such as an image's `detail`.
    pub(crate) extras: Extras<'a>,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source<'a> {
    Url {
        url: Text<'a>,
        media_type: Option<Text<'a>>,
    },
    /// In base64.
    Inline {
        media_type: Text<'a>,
        data: Text<'a>,
    },
    /// A document that is text.
    Text(Text<'a>),
    /// A file that lies with the provider, which no other provider can read.
    File(Raw<'a>),
}

/// What the model thought before it spoke.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Thought<'a> {
    /// A summary, or all of it; empty where it is not shown.
    pub(crate) text: Text<'a>,
    /// What proves to the same provider that it is its own: a signature, or all of it encrypted. Of no use to another.
    pub(crate) signature: Option<Text<'a>>,
    /// All of it as its own dialect puts it, where that says more.
    pub(crate) native: Option<Raw<'a>>,
}

/// The model calls a tool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call<'a> {
    /// Empty where the dialect has none.
    pub(crate) id: Text<'a>,
    pub(crate) name: Text<'a>,
    /// The arguments: JSON text, which a model may have got wrong.
    pub(crate) arguments: Raw<'a>,
    /// As a thought's.
    pub(crate) signature: Option<Text<'a>>,
    pub(crate) extras: Extras<'a>,
}

/// What a tool answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolResult<'a> {
    /// The call's; empty where the dialect has none.
    pub(crate) id: Text<'a>,
    /// The tool's, where the dialect says it.
    pub(crate) name: Option<Text<'a>>,
    pub(crate) parts: Vec<Part<'a>>,
    /// Whether its content is one string: matters to the same dialect only.
    pub(crate) bare: bool,
    pub(crate) is_error: bool,
    pub(crate) extras: Extras<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tool<'a> {
    Function {
        name: Text<'a>,
        description: Option<Text<'a>>,
        /// JSON Schema.
        parameters: Option<Raw<'a>>,
        strict: Option<bool>,
        extras: Extras<'a>,
        /// Members of what stands around the function, in dialects that put something around it.
        outer: Extras<'a>,
    },
    /// One that only its own dialect knows: a provider's own search, say. Requests with one go to no other.
    Native(Raw<'a>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ToolChoice<'a> {
    Auto,
    None,
    /// Some tool.
    Required,
    /// That one.
    Tool(Text<'a>),
    /// One of these, or none of them unless it is required.
    Among {
        required: bool,
        names: Vec<Text<'a>>,
    },
    /// What only its own dialect knows.
    Native(Raw<'a>),
}

/// What the answer's text is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Format<'a> {
    Text,
    /// Any JSON.
    Json,
    Schema {
        name: Option<Text<'a>>,
        description: Option<Text<'a>>,
        schema: Raw<'a>,
        strict: Option<bool>,
    },
}

/// How much the model is to think.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reasoning {
    pub(crate) effort: Option<Effort>,
    /// The most tokens to think with.
    pub(crate) budget: Option<u64>,
    /// Whether what it thought is to be told.
    pub(crate) told: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

impl Effort {
    const ALL: [Effort; 7] =
        [Effort::None, Effort::Minimal, Effort::Low, Effort::Medium, Effort::High, Effort::XHigh, Effort::Max];

    /// OpenAI's word for it, which the others share.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Effort::None => "none",
            Effort::Minimal => "minimal",
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            Effort::XHigh => "xhigh",
            Effort::Max => "max",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Effort> {
        Self::ALL.into_iter().find(|effort| effort.name().eq_ignore_ascii_case(name))
    }

    /// A budget that does about the same, for models that know only those. (The steps are the ones that LiteLLM made
    /// customary.)
    pub(crate) fn budget(self) -> u64 {
        match self {
            Effort::None => 0,
            Effort::Minimal => 128,
            Effort::Low => 1024,
            Effort::Medium => 2048,
            Effort::High => 4096,
            Effort::XHigh => 8192,
            Effort::Max => 16384,
        }
    }

    /// The effort for which that budget would be enough.
    pub(crate) fn of_budget(budget: u64) -> Effort {
        Self::ALL.into_iter().find(|effort| budget <= effort.budget()).unwrap_or(Effort::Max)
    }
}

impl Reasoning {
    /// The effort, be it said as one or as a budget.
    pub(crate) fn as_effort(&self) -> Option<Effort> {
        self.effort.or_else(|| self.budget.map(Effort::of_budget))
    }

    /// The budget, be it said as one or as an effort.
    pub(crate) fn as_budget(&self) -> Option<u64> {
        self.budget.or_else(|| self.effort.map(Effort::budget))
    }
}

impl<'a> Request<'a> {
    /// The call that a result answers: dialects differ in whether a result tells its id, its name or both.
    pub(crate) fn call(&self, id: &Text<'_>) -> Option<&Call<'a>> {
        self.turns.iter().rev().flat_map(|turn| &turn.parts).find_map(|part| match part {
            Part::Call(call) if call.id == *id => Some(call),
            _ => None,
        })
    }

    /// Notes whatever stands beside what all dialects know, for a dialect that is not the request's own.
    pub(crate) fn note_extras(&self, losses: &mut Losses) {
        losses.extras(&self.extras);
        for tool in &self.tools {
            if let Tool::Function { extras, outer, .. } = tool {
                losses.extras(extras);
                losses.extras(outer);
            }
        }
        for turn in &self.turns {
            losses.extras(&turn.extras);
            turn.parts.iter().for_each(|part| part.note_extras(losses));
        }
    }

    /// Whether anything in it can be said in another dialect.
    pub(crate) fn says_something(&self) -> bool {
        let mut parts = self.turns.iter().flat_map(|turn| &turn.parts);
        parts.any(|part| !matches!(part, Part::Native(_) | Part::Thought(_)))
    }

    /// The same for a dialect that has those members too.
    pub(crate) fn note_extras_but(&self, is_told: impl Fn(&str) -> bool, losses: &mut Losses) {
        let mut noted = Losses::default();
        self.note_extras(&mut noted);
        noted.iter().filter(|loss| !is_told(loss.0)).for_each(|loss| losses.note(loss.0));
    }
}

impl Part<'_> {
    fn note_extras(&self, losses: &mut Losses) {
        match self {
            Part::Text { extras, .. } => losses.extras(extras),
            Part::Media(media) => losses.extras(&media.extras),
            Part::Call(call) => losses.extras(&call.extras),
            Part::Result(result) => {
                losses.extras(&result.extras);
                result.parts.iter().for_each(|part| part.note_extras(losses));
            }
            Part::Refusal(_) | Part::Thought(_) | Part::Native(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efforts_and_budgets_stand_for_each_other() {
        for effort in Effort::ALL {
            assert_eq!(Effort::of_budget(effort.budget()), effort);
            assert_eq!(Effort::from_name(effort.name()), Some(effort));
        }
        assert_eq!(Effort::of_budget(u64::MAX), Effort::Max);
        assert_eq!(Effort::from_name("LOW"), Some(Effort::Low));
        let budget = Reasoning { budget: Some(1500), ..Reasoning::default() };
        assert_eq!((budget.as_effort(), budget.as_budget()), (Some(Effort::Medium), Some(1500)));
    }
}
