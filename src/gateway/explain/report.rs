//! An explanation, for people and for programs.

use serde_json::{Value, json};

use super::{Explanation, Verdict};
use crate::{
    Cost, Need, Provider, Requirements,
    gateway::terminal::{Align, Cell, Look, Paint, table},
};

/// What only a running gateway knows.
const UNKNOWN_HERE: &str = "Open circuits, what is left of limits, and how fast targets are, are not known here.";

impl Explanation {
    /// The explanation for people.
    #[must_use]
    pub fn describe(&self, paint: Paint) -> String {
        let guessed = if self.guessed { " (guessed)" } else { "" };
        let stream = if self.streaming { "a stream" } else { "no stream" };
        let model = if self.model.is_empty() { "no model".into() } else { format!("model {:?}", self.model) };
        let mut text =
            format!("Request: {}{guessed}, {model}, {} bytes, {stream}\n", self.dialect, thousands(self.bytes as u64));
        text += &format!("Needs:   {}\n", needs(&self.needs).join(", "));
        text += &format!("Route:   {:?}, {}\n\n", self.route, self.strategy);
        text += &self.table(paint);
        let tried = self.verdicts.iter().filter(|verdict| verdict.would_be_tried()).count();
        text += "\n";
        text += &match tried {
            0 => paint.word(Look::Bad, "No target would be asked: the answer is 400 no_capable_target."),
            tried => paint.word(
                Look::Good,
                &format!(
                    "{tried} of {} targets would be asked, in this order, until one answers.",
                    self.verdicts.len()
                ),
            ),
        };
        text + "\n" + UNKNOWN_HERE + "\n"
    }

    fn table(&self, paint: Paint) -> String {
        let columns = [
            ("", Align::Right),
            ("target", Align::Left),
            ("", Align::Left),
            ("window", Align::Right),
            ("input costs", Align::Right),
            ("output at most", Align::Right),
            ("why, and what is lost", Align::Left),
        ];
        let mut turn = 0;
        let rows: Vec<_> = self
            .verdicts
            .iter()
            .map(|verdict| {
                let (number, word) = match verdict.would_be_tried() {
                    true => {
                        turn += 1;
                        (turn.to_string(), Cell::new(Look::Good, "try"))
                    }
                    false => ("-".to_owned(), Cell::new(Look::Bad, "refuse")),
                };
                let window = verdict.target.capabilities().context_window().map_or("?".to_owned(), thousands);
                vec![
                    number.into(),
                    verdict.target.id().as_str().into(),
                    word,
                    window.into(),
                    dollars(verdict.input).into(),
                    dollars(verdict.most_output).into(),
                    verdict.remarks().join("; ").into(),
                ]
            })
            .collect();
        table(paint, &columns, &rows)
    }

    /// The same for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Requirements { input_tokens, max_output_tokens, tags, languages, .. } = &self.needs;
        let mut turn = 0;
        let targets: Vec<_> = self
            .verdicts
            .iter()
            .map(|verdict| {
                turn += usize::from(verdict.would_be_tried());
                verdict.to_json(verdict.would_be_tried().then_some(turn))
            })
            .collect();
        json!({
            "request": {
                "dialect": self.dialect.name(),
                "guessed": self.guessed,
                "model": self.model,
                "bytes": self.bytes,
                "streaming": self.streaming,
            },
            "needs": {
                "input_tokens": input_tokens,
                "max_output_tokens": max_output_tokens,
                "abilities": self.needs.abilities.iter().map(|ability| ability.name()).collect::<Vec<_>>(),
                "features": self.needs.features.iter().map(|feature| feature.name()).collect::<Vec<_>>(),
                "tags": tags,
                "languages": languages,
            },
            "route": self.route,
            "strategy": self.strategy,
            "sent": self.would_be_sent(),
            "targets": targets,
        })
    }
}

impl Verdict {
    /// Why it is refused, what it would not be told, and which limits it has.
    fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<_> = self.unmet.iter().map(|unmet| format!("lacks {unmet}")).collect();
        remarks.extend(self.untranslatable.iter().map(|fault| fault.message().to_owned()));
        if self.would_be_tried() {
            if self.is_exact {
                remarks.push(format!("exactly {} tokens of input", thousands(self.input_tokens)));
            }
            if self.translated {
                let dialect = self.target.provider().map_or("another dialect", |provider| provider.dialect().name());
                remarks.push(format!("translated to {dialect}"));
            }
            if !self.losses.is_empty() {
                remarks.push(format!("not told: {}", self.losses.join(", ")));
            }
            let known = self.target.known_model();
            if self.target.capabilities().is_unrestricted() && known.is_none() {
                remarks.push("unknown model: taken as capable of everything".to_owned());
            }
            remarks.extend(self.limits().map(|(name, most)| format!("{name} {most}")));
        }
        remarks
    }

    fn limits(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let limits = &self.limits;
        let named = [
            ("requests_per_minute", limits.requests_per_minute),
            ("tokens_per_minute", limits.tokens_per_minute),
            ("max_concurrency", limits.max_concurrency),
        ];
        named.into_iter().filter_map(|(name, most)| Some((name, most?.get())))
    }

    fn to_json(&self, turn: Option<usize>) -> Value {
        let capabilities = self.target.capabilities();
        json!({
            "target": self.target.id().as_str(),
            "provider": self.target.provider().map(Provider::name),
            "dialect": self.target.provider().map(|provider| provider.dialect().name()),
            "known_model": self.target.known_model().map(|model| model.name()),
            "verdict": if self.would_be_tried() { "try" } else { "refuse" },
            "turn": turn,
            "unmet": self.unmet.iter().flat_map(|unmet| unmet.needs()).map(need).collect::<Vec<_>>(),
            "untranslatable": self.untranslatable.as_ref().map(|fault| fault.message()),
            "translated": self.translated,
            "input_tokens": self.input_tokens,
            "input_tokens_are": if self.is_exact { "exact" } else { "estimated" },
            "losses": self.losses,
            "context_window": capabilities.context_window(),
            "max_output_tokens": capabilities.max_output_tokens(),
            "limits": self.limits().map(|(name, most)| (name.to_owned(), most.into())).collect::<serde_json::Map<_, _>>(),
            "input_cost_usd": self.input.map(Cost::usd),
            "most_output_cost_usd": self.most_output.map(Cost::usd),
        })
    }
}

fn need(need: &Need) -> Value {
    let name = match need {
        Need::Ability(ability) => ability.name(),
        Need::Feature(feature) => feature.name(),
        Need::ContextWindow { .. } => "context_window",
        Need::MaxOutputTokens { .. } => "max_output_tokens",
        Need::Tag(_) => "tag",
        Need::Language(_) => "language",
        Need::TimeToFirstOutput { .. } => "max_ttft",
    };
    json!({ "need": name, "message": need.to_string() })
}

fn needs(needs: &Requirements) -> Vec<String> {
    let mut all = vec![format!("about {} tokens of input (estimated)", thousands(needs.input_tokens))];
    all.extend(needs.max_output_tokens.map(|most| format!("at most {} of output", thousands(most))));
    all.extend(needs.abilities.iter().map(|ability| ability.name().to_owned()));
    // Of a few things both are said: that a model can, and that its dialect has a word for it.
    let named = |name: &str| needs.abilities.iter().any(|ability| ability.name() == name);
    all.extend(needs.features.iter().map(|feature| feature.name()).filter(|name| !named(name)).map(str::to_owned));
    all.extend(needs.tags.iter().map(|tag| format!("tag {tag:?}")));
    all.extend(needs.languages.iter().map(|language| format!("language {language:?}")));
    all
}

fn dollars(cost: Option<Cost>) -> String {
    cost.map_or("?".to_owned(), |cost| format!("${:.6}", cost.usd()))
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::explain::Question;

    #[test]
    fn whether_tokens_were_counted_is_said_of_each_target() {
        let request = r#"{"model": "any", "messages": [{"role": "user", "content": "Hello"}]}"#;
        let explanation = Explanation::of(&Explanation::example(), request, &Question::default()).unwrap();
        let json = explanation.to_json();
        let said: Vec<_> = json["targets"].as_array().unwrap().iter().map(|it| &it["input_tokens_are"]).collect();
        let exact = if cfg!(feature = "tokenizer") { "exact" } else { "estimated" };
        assert_eq!(said, [exact, "estimated", "estimated"]);
        let text = explanation.describe(Paint::of_output());
        assert!(text.contains("(estimated)"), "{text}");
        assert_eq!(text.contains("exactly 8 tokens"), cfg!(feature = "tokenizer"), "{text}");
    }
}
