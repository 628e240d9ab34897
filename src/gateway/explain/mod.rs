//! Says what would become of a request, target by target, without sending it.
//!
//! ```
//! use tower_failover::gateway::{Paint, explain::{Explanation, Question}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let request = r#"{"model": "any", "messages": [{"role": "user", "content": "Hello"}], "reasoning_effort": "low"}"#;
//! let explanation = Explanation::of(&Explanation::example(), request, &Question::default())?;
//! let tried: Vec<_> = explanation.verdicts().iter().filter(|verdict| verdict.would_be_tried()).collect();
//! // GPT-4o cannot be told how much to reason.
//! assert_eq!(tried.len(), 2);
//! print!("{}", explanation.describe(Paint::of_output()));
//! # Ok(()) }
//! ```
//!
//! What only a running gateway knows plays no part: open circuits, what is left of limits, how fast targets are.

mod guess;
mod report;

use std::{fmt, path::Path};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::{
    Cost, Dialect, Fault, Price, Provider, RequestContext, Requirements, Route, Target, Unmet, Usage,
    config::{Config, ConfigErrors, Policy, RouteConfig},
    continuation::Form,
    dialect::{self, translate},
    provider::rehearse,
    rate_limit::Limits,
};

/// What is asked besides the request's body.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Question {
    /// What the client speaks. Default: guessed from the members of the request.
    pub dialect: Option<Dialect>,
    /// The route, by its name or by a model that it serves. Default: the one that serves the request's model.
    pub route: Option<String>,
    /// Tags that every target must carry, as `x-failover-tags` says.
    pub tags: Vec<String>,
}

/// What would become of a request.
#[derive(Clone, Debug)]
pub struct Explanation {
    dialect: Dialect,
    guessed: bool,
    model: String,
    bytes: usize,
    streaming: bool,
    route: String,
    strategy: &'static str,
    needs: Requirements,
    verdicts: Vec<Verdict>,
}

/// What would become of a request at one target.
#[derive(Clone, Debug)]
pub struct Verdict {
    target: Target,
    input_tokens: u64,
    is_exact: bool,
    unmet: Option<Unmet>,
    untranslatable: Option<Fault>,
    translated: bool,
    losses: Vec<&'static str>,
    limits: Limits,
    input: Option<Cost>,
    most_output: Option<Cost>,
}

/// Why nothing can be said of a request.
#[derive(Clone, Debug)]
pub struct ExplainError(String);

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ExplainError {}

impl Explanation {
    /// Reads a configuration to explain with. No key is looked for, in the environment, in files or by commands, for nobody is
    /// asked: something else stands in for each.
    ///
    /// # Errors
    ///
    /// When the file has mistakes.
    pub fn read_config(file: &Path) -> Result<Config, ConfigErrors> {
        Config::load_without_secrets(file)
    }

    /// A configuration to try it with: a model of each of three vendors, for whatever is asked for.
    #[must_use]
    pub fn example() -> Config {
        let models = [
            ("openai", Dialect::OpenAiChat, "https://api.openai.com/v1", "gpt-4o"),
            ("anthropic", Dialect::AnthropicMessages, "https://api.anthropic.com", "claude-sonnet-4-5"),
            ("gemini", Dialect::Gemini, "https://generativelanguage.googleapis.com", "gemini-2.5-flash"),
        ];
        let targets = models.into_iter().filter_map(|(name, dialect, url, model)| {
            let provider = Provider::new(name, dialect, url).ok()?;
            Some(Target::new(&provider, model).with_known_capabilities().with_known_price())
        });
        let route = Route::new("*", targets.collect::<Vec<_>>());
        Config::from_parts(route.into_iter().map(|route| (route, Policy::default())).collect())
    }

    /// Decides as a gateway with that configuration would that knows nothing yet, and sends nothing.
    ///
    /// # Errors
    ///
    /// When the body is no request of its dialect, or no route serves it.
    pub fn of(config: &Config, body: impl Into<Bytes>, question: &Question) -> Result<Self, ExplainError> {
        let body = body.into();
        let text = std::str::from_utf8(&body);
        let text = text.map_err(|error| ExplainError(format!("the request is not UTF-8: {error}")))?;
        let dialect = question.dialect.unwrap_or_else(|| guess::dialect(text));
        // Gemini's requests name their model in the path.
        let named = question.route.as_deref().unwrap_or_default();
        let path = translate::path(dialect, named, false);
        let failed = |fault: Fault| ExplainError(fault.message().to_owned());
        let outline = match dialect::outline(dialect, &path, &body) {
            Some(outline) => outline.map_err(failed)?,
            None => return Err(ExplainError(format!("requests of {dialect} are not served"))),
        };
        let model = outline.model().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let model = if model.is_empty() { named.to_owned() } else { model };
        let route = route(config, question.route.as_deref(), &model)?;
        let streaming = outline.streaming();
        let context = RequestContext::new().with_dialect(dialect).with_outline(outline);
        let tags = question.tags.iter().map(|tag| tag.as_str().into()).collect();
        let context = context.with_requirements(Requirements { tags, ..Requirements::default() });
        let needs = context.requirements().cloned().unwrap_or_default();

        let targets = route.route.targets();
        let order = route.stack(&config.shared(), config.max_body).order(&context);
        let verdicts = order.into_iter().filter_map(|place| targets.get(place));
        let verdicts = verdicts.map(|target| Verdict::of(config, target, &context, &needs, &path, &body)).collect();
        Ok(Explanation {
            dialect,
            guessed: question.dialect.is_none(),
            model,
            bytes: body.len(),
            streaming,
            route: route.route.name().to_owned(),
            strategy: route.policy.choice.strategy.name(),
            needs,
            verdicts,
        })
    }

    /// What would become of it at each target of its route, in the order in which they would be tried.
    #[must_use]
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// What the request needs.
    #[must_use]
    pub fn requirements(&self) -> &Requirements {
        &self.needs
    }

    /// Whether any target would be tried.
    #[must_use]
    pub fn would_be_sent(&self) -> bool {
        self.verdicts.iter().any(Verdict::would_be_tried)
    }
}

fn route<'c>(config: &'c Config, name: Option<&str>, model: &str) -> Result<&'c RouteConfig, ExplainError> {
    let names = || config.routes.iter().map(|route| route.route.name()).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => {
            let by_name = config.routes.iter().find(|route| route.route.name() == name);
            let found = by_name.or_else(|| config.routes.find(name));
            found.ok_or_else(|| ExplainError(format!("there is no route {name:?}; there are: {}", names())))
        }
        None if model.is_empty() => {
            Err(ExplainError(format!("the request names no model; name a route (--route) of: {}", names())))
        }
        None => config.routes.find(model).ok_or_else(|| {
            let why = "is not served here: it would be answered with 404 model_not_found; there are";
            ExplainError(format!("the model {model:?} {why}: {}", names()))
        }),
    }
}

impl Verdict {
    fn of(
        config: &Config,
        target: &Target,
        context: &RequestContext,
        needs: &Requirements,
        path: &str,
        body: &Bytes,
    ) -> Self {
        let counted = context.counted_requirements(target, false);
        let needs = counted.as_ref().unwrap_or(needs);
        let unmet = needs.check_target(target, context.dialect()).err();
        let provider = target.provider();
        let translated = provider.map(Provider::dialect) != context.dialect();
        let attempt = context.attempt_for(target.clone(), false, Form::AsAsked, None);
        let mut request = Request::new(Full::new(body.clone()));
        if let Ok(uri) = path.try_into() {
            *request.uri_mut() = uri;
        }
        request.extensions_mut().insert(attempt.clone());
        // What it cannot be told of a request that it never gets is of no interest.
        let untranslatable = if unmet.is_none() { rehearse(request).err() } else { None };
        let losses = attempt.attempt().into_iter().flat_map(|attempt| attempt.losses().collect::<Vec<_>>()).collect();
        let cost = |input, output| {
            let usage = Usage { input, output, estimated: true, ..Usage::default() };
            move |price: &Price| price.cost(&usage)
        };
        Verdict {
            input_tokens: needs.input_tokens,
            is_exact: needs.least_input_tokens.is_none(),
            unmet,
            untranslatable,
            translated,
            losses,
            limits: provider
                .and_then(|provider| config.provider_limits.get(provider.name()))
                .copied()
                .unwrap_or_default(),
            input: target.price().map(cost(needs.input_tokens, 0)),
            most_output: needs.max_output_tokens.and_then(|most| target.price().map(cost(0, most))),
            target: target.clone(),
        }
    }

    /// How many tokens its input has there, and whether that was counted to the token; else it is an estimate.
    #[must_use]
    pub fn input_tokens(&self) -> (u64, bool) {
        (self.input_tokens, self.is_exact)
    }

    /// The target.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether it would be sent there, once its turn comes.
    #[must_use]
    pub fn would_be_tried(&self) -> bool {
        self.unmet.is_none() && self.untranslatable.is_none()
    }

    /// What the target lacks, if that is why it is refused.
    #[must_use]
    pub fn unmet(&self) -> Option<&Unmet> {
        self.unmet.as_ref()
    }

    /// Why the request cannot be put in the target's dialect, if that is so.
    #[must_use]
    pub fn untranslatable(&self) -> Option<&Fault> {
        self.untranslatable.as_ref()
    }

    /// What of the request the target would not be told.
    #[must_use]
    pub fn losses(&self) -> &[&'static str] {
        &self.losses
    }

    /// What its input would about cost there, where the price is known.
    #[must_use]
    pub fn input_cost(&self) -> Option<Cost> {
        self.input
    }

    /// The most that its answer could cost there, where the price is known and the request says how long it may be.
    #[must_use]
    pub fn most_output_cost(&self) -> Option<Cost> {
        self.most_output
    }
}
