//! How much a model of Anthropic's is to think, for what another dialect says of it.

use super::super::model::{Family, Thinking};
use crate::dialect::{
    canonical::{Effort, Losses, Reasoning},
    json_write::Object,
};

/// The least budget.
const LEAST: u64 = 1024;

/// How the request is to be thought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    mode: Option<Mode>,
    pub(super) effort: Option<Effort>,
    /// Whether what was thought is to be told; only where that can be said.
    told: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Enabled { budget: u64 },
    Adaptive,
}

/// What else decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// The most tokens of the answer, thoughts included, as the request has it.
    pub(super) max_tokens: u64,
    /// Whether that is the client's own word.
    pub(super) is_asked: bool,
    /// Whether a tool must be called, which a model that thinks cannot be made to.
    pub(super) forced: bool,
    /// Whether the last turn is the assistant's, or answers its calls: then that turn would have to begin with the model's
    /// own thoughts, where it thinks to a budget. Those of another model are gone.
    pub(super) is_amid_turn: bool,
}

impl Plan {
    pub(super) fn of(reasoning: Option<Reasoning>, family: &Family, now: Situation, losses: &mut Losses) -> Plan {
        let Some(reasoning) = reasoning else { return Plan::default() };
        let Some(effort) = reasoning.as_effort() else { return Plan::default() };
        if effort == Effort::None {
            // They do not think unless they are told to, but for those that always do.
            losses.note_if(!family.forced_tools, "reasoning_effort");
            let least = (!family.forced_tools).then(|| family.nearest(Effort::None)).flatten();
            return Plan { effort: least, ..Plan::default() };
        }
        let known = family.nearest(effort);
        losses.note_if(known.is_some_and(|known| known < effort), "reasoning_effort");
        let said_budget = reasoning.effort.is_none();
        let mode = match family.thinking {
            Thinking::Never => None,
            Thinking::Adaptive => Some(Mode::Adaptive),
            Thinking::Either if !said_budget => Some(Mode::Adaptive),
            Thinking::Either | Thinking::Budget => {
                let budget = reasoning.as_budget().unwrap_or(LEAST);
                within(budget, now).filter(|_| !now.is_amid_turn).map(|budget| Mode::Enabled { budget })
            }
        };
        let mode = mode.filter(|_| !now.forced);
        losses.note_if(mode.is_none(), "reasoning_effort");
        let budget_only = matches!(mode, Some(Mode::Enabled { .. })) && family.thinking == Thinking::Either;
        Plan {
            mode,
            effort: known.filter(|_| !budget_only),
            told: reasoning.told.filter(|_| !matches!(family.thinking, Thinking::Budget | Thinking::Never)),
        }
    }

    /// Whether it thinks to a budget, with which models take no sampling parameters.
    pub(super) fn has_budget(&self) -> bool {
        matches!(self.mode, Some(Mode::Enabled { .. }))
    }

    /// How many tokens the answer may have, where the client did not say: its thoughts count.
    pub(super) fn most_tokens(&self, unasked: u64) -> u64 {
        match self.mode {
            Some(Mode::Enabled { budget }) if budget >= unasked => budget + unasked,
            _ => unasked,
        }
    }

    pub(super) fn write(&self, body: &mut Object<'_>) {
        let Some(mode) = self.mode else { return };
        body.object("thinking", |thinking| {
            match mode {
                Mode::Adaptive => thinking.string("type", "adaptive"),
                Mode::Enabled { budget } => {
                    thinking.string("type", "enabled");
                    thinking.number("budget_tokens", budget);
                }
            }
            if let Some(told) = self.told {
                thinking.string("display", if told { "summarized" } else { "omitted" });
            }
        });
    }
}

/// A budget that leaves room for the answer; `None` if there is too little for any.
fn within(budget: u64, now: Situation) -> Option<u64> {
    let budget = budget.max(LEAST);
    if !now.is_asked {
        return Some(budget);
    }
    let most = now.max_tokens;
    let room = (most - most / 4).max(LEAST);
    (most > LEAST).then_some(budget.min(room))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: Situation = Situation { max_tokens: 32_000, is_asked: true, forced: false, is_amid_turn: false };

    fn plan(model: &str, reasoning: Reasoning, now: Situation) -> (String, Option<Effort>, bool) {
        let mut losses = Losses::default();
        let plan = Plan::of(Some(reasoning), &Family::of(model), now, &mut losses);
        let mut out = Vec::new();
        crate::dialect::json_write::object(&mut out, |body| plan.write(body));
        (String::from_utf8(out).unwrap(), plan.effort, !losses.is_empty())
    }

    fn effort(effort: Effort) -> Reasoning {
        Reasoning { effort: Some(effort), ..Reasoning::default() }
    }

    fn budget(budget: u64) -> Reasoning {
        Reasoning { budget: Some(budget), ..Reasoning::default() }
    }

    const ADAPTIVE: &str = r#"{"thinking":{"type":"adaptive"}}"#;

    fn enabled(budget: u64) -> String {
        format!(r#"{{"thinking":{{"type":"enabled","budget_tokens":{budget}}}}}"#)
    }

    #[test]
    fn newer_models_are_told_an_effort_and_older_ones_a_budget() {
        use Effort::{High, Low, Medium, Minimal, XHigh};
        assert_eq!(plan("claude-opus-4-7", effort(High), ROOMY), (ADAPTIVE.into(), Some(High), false));
        assert_eq!(plan("claude-opus-4-7", budget(2000), ROOMY), (ADAPTIVE.into(), Some(Medium), false));
        assert_eq!(plan("claude-opus-4-6", effort(XHigh), ROOMY), (ADAPTIVE.into(), Some(High), true));
        assert_eq!(plan("claude-opus-4-6", budget(2000), ROOMY), (enabled(2000), None, false));
        assert_eq!(plan("claude-opus-4-5", effort(High), ROOMY), (enabled(4096), Some(High), false));
        assert_eq!(plan("claude-haiku-4-5", effort(Low), ROOMY), (enabled(1024), None, false));
        assert_eq!(plan("claude-haiku-4-5", effort(Minimal), ROOMY), (enabled(1024), None, false));
        assert_eq!(plan("claude-3-5-haiku", effort(Low), ROOMY), ("{}".into(), None, true));
    }

    #[test]
    fn a_budget_leaves_room_for_the_answer() {
        let with = |max_tokens| Situation { max_tokens, ..ROOMY };
        assert_eq!(plan("claude-haiku-4-5", effort(Effort::High), with(4000)).0, enabled(3000));
        assert_eq!(plan("claude-haiku-4-5", effort(Effort::High), with(1025)).0, enabled(1024));
        assert_eq!(plan("claude-haiku-4-5", effort(Effort::High), with(1024)), ("{}".into(), None, true));
        let unasked = Situation { max_tokens: 4096, is_asked: false, ..ROOMY };
        let plan =
            Plan::of(Some(effort(Effort::Max)), &Family::of("claude-haiku-4-5"), unasked, &mut Losses::default());
        assert_eq!(plan.most_tokens(4096), 16384 + 4096);
    }

    #[test]
    fn what_does_not_go_with_thinking_stops_it() {
        let forced = Situation { forced: true, ..ROOMY };
        assert_eq!(plan("claude-haiku-4-5", effort(Effort::High), forced), ("{}".into(), None, true));
        let amid = Situation { is_amid_turn: true, ..ROOMY };
        assert_eq!(plan("claude-haiku-4-5", effort(Effort::High), amid), ("{}".into(), None, true));
        assert_eq!(plan("claude-opus-5", effort(Effort::High), amid).0, ADAPTIVE);
    }

    #[test]
    fn not_to_think_is_said_by_saying_nothing() {
        assert_eq!(plan("claude-opus-4-7", effort(Effort::None), ROOMY), ("{}".into(), None, false));
        assert_eq!(plan("claude-opus-5-5", effort(Effort::None), ROOMY), ("{}".into(), Some(Effort::Low), true));
        let told = Reasoning { told: Some(true), ..effort(Effort::Low) };
        assert_eq!(plan("claude-opus-5", told, ROOMY).0, r#"{"thinking":{"type":"adaptive","display":"summarized"}}"#);
    }
}
