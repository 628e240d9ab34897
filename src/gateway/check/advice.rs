//! What is unwise in a configuration that works: where a fallback would not be one.

use std::{collections::BTreeMap, fmt, num::NonZeroU32};

use crate::{
    Ability, Dialect, Provider, Target,
    config::{Config, RouteConfig},
    rate_limit::Limits,
};

macro_rules! kinds {
    ($( #[doc = $doc:literal] $kind:ident $name:literal, )*) => {
        /// What advice is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum AdviceKind { $( #[doc = $doc] $kind, )* }

        impl AdviceKind {
            /// Every kind.
            pub const ALL: &'static [AdviceKind] = &[ $( AdviceKind::$kind, )* ];

            /// Its stable name: `"single_target"`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( AdviceKind::$kind => $name, )* }
            }

            /// What it says, as the documentation has it.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $( AdviceKind::$kind => $doc, )* }.trim()
            }
        }
    };
}

kinds! {
    /// Something in the file itself works and should not stay, such as a key that stands there.
    File "file",
    /// A route has one target only: when that fails, nobody answers.
    SingleTarget "single_target",
    /// All targets of a route are one account: what hits the account hits all of them.
    SameAccount "same_account",
    /// Nothing is said of what a model can do: it is taken as capable of everything.
    UnknownModel "unknown_model",
    /// A fallback has a smaller context window than the route's first target.
    SmallerWindow "smaller_window",
    /// A fallback answers with fewer tokens at most than the first target.
    SmallerOutput "smaller_output",
    /// A fallback lacks something that the first target can do.
    MissingAbility "missing_ability",
    /// A fallback's provider may be asked less often than the first one's.
    LowerLimits "lower_limits",
    /// Only one target of a route carries a tag: a request that asks for it has no fallback.
    LonelyTag "lonely_tag",
    /// A route does the same as the pattern that would serve its model without it.
    Redundant "redundant",
    /// A provider serves no route.
    UnusedProvider "unused_provider",
    /// A provider's base URL probably lacks the version of its API, or has one too many.
    Version "version",
}

/// Something that works and is unwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    kind: AdviceKind,
    route: Option<String>,
    target: Option<String>,
    message: String,
}

impl Advice {
    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> AdviceKind {
        self.kind
    }

    /// The route that it is about, if it is one.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.route.as_deref()
    }

    /// The target that it is about, if it is one.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// What is unwise.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(route) = &self.route {
            write!(f, "route {route:?}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// What is said of a configuration, in the order of its routes.
pub(super) fn of(config: &Config) -> Vec<Advice> {
    let of_file =
        |message: &String| Advice { kind: AdviceKind::File, route: None, target: None, message: message.clone() };
    let mut advice: Vec<_> = config.warnings.iter().map(of_file).collect();
    for route in &config.routes {
        let mut found = Found { advice: &mut advice, route };
        found.of_chain();
        found.of_models();
        found.of_fallbacks(config);
        found.of_tags();
        found.of_pattern(config);
    }
    advice.extend(of_providers(config));
    advice.extend(config.providers.values().filter_map(of_base_url));
    advice
}

/// Where what is found of one route is put.
struct Found<'a> {
    advice: &'a mut Vec<Advice>,
    route: &'a RouteConfig,
}

impl<'a> Found<'a> {
    fn say(&mut self, kind: AdviceKind, target: Option<&Target>, message: String) {
        let target = target.map(|target| target.id().to_string());
        self.advice.push(Advice { kind, route: Some(self.route.route.name().to_owned()), target, message });
    }

    fn targets(&self) -> &'a [Target] {
        self.route.route.targets()
    }

    fn of_chain(&mut self) {
        let targets = self.targets();
        if let [only] = targets {
            let message = format!("{} is the only target: when it fails, nobody answers", only.id());
            return self.say(AdviceKind::SingleTarget, None, message);
        }
        let mut providers = targets.iter().filter_map(Target::provider);
        let Some(first) = providers.next() else { return };
        if providers.all(|other| is_same_account(first, other)) {
            let message = format!(
                "all {} targets are one account ({}): its outage, quota or key takes all of them away",
                targets.len(),
                first.name(),
            );
            self.say(AdviceKind::SameAccount, None, message);
        }
    }

    fn of_models(&mut self) {
        for target in self.targets() {
            if target.model().is_some() && target.capabilities().is_unrestricted() {
                let why = match target.known_model() {
                    Some(known) if known.moves() => "its name may stand for another model tomorrow",
                    _ => "it is not in the table of known models",
                };
                let message = format!(
                    "nothing is said of what {} can do (`capabilities`), and {why}: it is taken as capable of everything",
                    target.id(),
                );
                self.say(AdviceKind::UnknownModel, Some(target), message);
            }
        }
    }

    fn of_fallbacks(&mut self, config: &Config) {
        let Some((first, fallbacks)) = self.targets().split_first() else { return };
        for fallback in fallbacks {
            let (ours, theirs) = (first.capabilities(), fallback.capabilities());
            let sizes = [
                (AdviceKind::SmallerWindow, "context window", ours.context_window(), theirs.context_window()),
                (AdviceKind::SmallerOutput, "most output", ours.max_output_tokens(), theirs.max_output_tokens()),
            ];
            for (kind, what, ours, theirs) in sizes {
                if let (Some(ours), Some(theirs)) = (ours, theirs) {
                    if theirs < ours {
                        let message = format!(
                            "the {what} of {} is {theirs} tokens, of {} {ours}: longer requests have no fallback there",
                            fallback.id(),
                            first.id(),
                        );
                        self.say(kind, Some(fallback), message);
                    }
                }
            }
            let lacks = |ability: &&Ability| ours.offers(**ability) && !theirs.offers(**ability);
            let missing: Vec<_> = Ability::ALL.iter().filter(lacks).map(|ability| ability.name()).collect();
            if !missing.is_empty() {
                let message = format!(
                    "{} lacks what {} can do: {}; requests that use it have no fallback there",
                    fallback.id(),
                    first.id(),
                    missing.join(", "),
                );
                self.say(AdviceKind::MissingAbility, Some(fallback), message);
            }
            self.of_limits(config, first, fallback);
        }
    }

    fn of_limits(&mut self, config: &Config, first: &Target, fallback: &Target) {
        let limits = |target: &Target| {
            let provider = target.provider()?;
            Some(config.provider_limits.get(provider.name()).copied().unwrap_or_default())
        };
        let (Some(ours), Some(theirs)) = (limits(first), limits(fallback)) else { return };
        let lower: Vec<_> = LIMITS
            .iter()
            .filter_map(|(name, of)| {
                let theirs = of(&theirs)?;
                // No limit of the first one's is the highest.
                match of(&ours) {
                    Some(ours) if theirs >= ours => None,
                    Some(ours) => Some(format!("{name} {theirs} instead of {ours}")),
                    None => Some(format!("{name} {theirs} instead of no limit")),
                }
            })
            .collect();
        if !lower.is_empty() {
            let message = format!(
                "{} may be asked less than {}: {}; it cannot carry all of its load",
                fallback.id(),
                first.id(),
                lower.join(", "),
            );
            self.say(AdviceKind::LowerLimits, Some(fallback), message);
        }
    }

    fn of_tags(&mut self) {
        let targets = self.targets();
        if targets.len() < 2 {
            return;
        }
        let mut carriers = BTreeMap::<&str, Vec<&Target>>::new();
        for target in targets {
            target.tags().iter().for_each(|tag| carriers.entry(tag).or_default().push(target));
        }
        for (tag, carriers) in carriers {
            if let [only] = carriers[..] {
                let message =
                    format!("only {} carries the tag {tag:?}: a request that asks for it has no fallback", only.id());
                self.say(AdviceKind::LonelyTag, Some(only), message);
            }
        }
    }

    /// Whether the route might as well not be there.
    fn of_pattern(&mut self, config: &Config) {
        let name = self.route.route.name();
        let prefix = name.strip_suffix('*');
        // The pattern with the longest prefix that is not this one: it would serve what this one does.
        let broader = config
            .routes
            .iter()
            .filter_map(|other| Some((other.route.name().strip_suffix('*')?, other)))
            .filter(|(theirs, _)| prefix != Some(*theirs) && prefix.unwrap_or(name).starts_with(theirs))
            .max_by_key(|(theirs, _)| theirs.len());
        let Some((_, broader)) = broader else { return };
        let same_targets = broader.route.targets().iter().map(Target::id).eq(self.targets().iter().map(Target::id));
        if same_targets && format!("{:?}", broader.policy) == format!("{:?}", self.route.policy) {
            let message = format!("does the same as {:?}, which would serve it too", broader.route.name());
            self.say(AdviceKind::Redundant, None, message);
        }
    }
}

type Limit = fn(&Limits) -> Option<NonZeroU32>;

const LIMITS: [(&str, Limit); 3] = [
    ("requests_per_minute", |limits| limits.requests_per_minute),
    ("tokens_per_minute", |limits| limits.tokens_per_minute),
    ("max_concurrency", |limits| limits.max_concurrency),
];

fn of_providers(config: &Config) -> impl Iterator<Item = Advice> {
    let serves = |name: &str| {
        let targets = config.routes.iter().flat_map(|route| route.route.targets());
        targets.filter_map(Target::provider).any(|provider| provider.name() == name)
    };
    config.provider_limits.keys().filter(move |name| !serves(name)).map(|name| Advice {
        kind: AdviceKind::UnusedProvider,
        route: None,
        target: None,
        message: format!("the provider {name:?} serves no route"),
    })
}

/// What is probably wrong with a base URL: SDKs differ in whether theirs has the version, and so do base URLs here.
fn of_base_url(provider: &Provider) -> Option<Advice> {
    let uri = provider.uri("/", None, None).ok()?;
    let path = uri.path().trim_end_matches('/');
    let wrong = match provider.dialect() {
        Dialect::OpenAiChat | Dialect::OpenAiResponses if path.is_empty() => {
            "has no path: servers of this dialect have their API under one, /v1 most often"
        }
        Dialect::AnthropicMessages if path.ends_with("/v1") => "ends in /v1, which is added to it: leave it out",
        Dialect::Gemini if path.ends_with("/v1beta") || path.ends_with("/v1") => {
            "ends in a version, which is added to it: leave it out"
        }
        _ => return None,
    };
    let message = format!("the base URL of the provider {:?} {wrong}", provider.name());
    Some(Advice { kind: AdviceKind::Version, route: None, target: None, message })
}

/// Whether both are one account under two names, or one name.
fn is_same_account(one: &Provider, other: &Provider) -> bool {
    let place = |provider: &Provider| provider.uri("/", None, None).ok();
    let key = |provider: &Provider| provider.credentials().header().map(|(name, value)| (name.clone(), value.clone()));
    one.name() == other.name() || (place(one) == place(other) && key(one) == key(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const PROVIDERS: &str = r#"
        [providers.a]
        dialect = "openai-chat"
        base_url = "http://a.test/v1"
        api_key = { env = "KEY" }
        tags = ["eu", "us"]
        [providers.a2]
        dialect = "openai-chat"
        base_url = "http://a.test/v1/"
        api_key = { env = "KEY" }
        [providers.b]
        dialect = "openai-chat"
        base_url = "http://b.test/v1"
        tags = ["us"]
        requests_per_minute = 10
    "#;

    fn advice(routes: &str) -> Vec<(AdviceKind, String)> {
        let text = format!("{PROVIDERS}\n{routes}");
        let config = Config::from_toml(&text, Path::new("t.toml"), &|_| Some("sk-hush".into())).unwrap();
        let advice = of(&config);
        assert!(!format!("{advice:?}").contains("sk-hush"));
        let wanted = |advice: &&Advice| advice.kind() != AdviceKind::UnusedProvider;
        advice.iter().filter(wanted).map(|advice| (advice.kind(), advice.to_string())).collect()
    }

    const KNOWN: &str = "capabilities = { context_window = 100, max_output_tokens = 10 }";

    fn kinds(routes: &str) -> Vec<AdviceKind> {
        advice(routes).into_iter().map(|(kind, _)| kind).collect()
    }

    #[test]
    fn a_chain_that_is_no_chain_is_noticed() {
        let single = format!(r#"routes.x.targets = [{{ provider = "a", model = "m", {KNOWN} }}]"#);
        assert_eq!(kinds(&format!("[routes]\n{}", single.replace("routes.", ""))), [AdviceKind::SingleTarget]);
        let account = r#"[routes]
            x.targets = [{ provider = "a" }, { provider = "a2" }]"#;
        let said = advice(account);
        assert_eq!(said[0].0, AdviceKind::SameAccount);
        assert_eq!(
            said[0].1,
            "route \"x\": all 2 targets are one account (a): its outage, quota or key takes all of them away"
        );
        let fine = r#"[routes]
            x.targets = [{ provider = "b" }, { provider = "a2", tags = ["us"] }]"#;
        assert_eq!(kinds(fine), []);
    }

    #[test]
    fn a_fallback_that_offers_less_is_noticed() {
        let routes = r#"[routes]
            x.targets = [
              { provider = "a2", tags = ["us"], model = "large", capabilities = { context_window = 1000, max_output_tokens = 100 } },
              { provider = "b", model = "small", capabilities = { context_window = 100, max_output_tokens = 10, tools = false } },
            ]"#;
        use AdviceKind::{LowerLimits, MissingAbility, SmallerOutput, SmallerWindow};
        assert_eq!(kinds(routes), [SmallerWindow, SmallerOutput, MissingAbility, LowerLimits]);
        let said = advice(routes);
        assert!(said[2].1.contains("b/small lacks what a2/large can do: tools"), "{}", said[2].1);
        assert!(said[3].1.contains("requests_per_minute 10 instead of no limit"), "{}", said[3].1);
    }

    #[test]
    fn unknown_models_and_lonely_tags_are_noticed() {
        let routes = r#"[routes]
            x.targets = [{ provider = "b", model = "m" }, { provider = "a" }]"#;
        let said = advice(routes);
        assert_eq!(
            said.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
            [AdviceKind::UnknownModel, AdviceKind::LonelyTag]
        );
        assert!(said[1].1.contains("only a/* carries the tag \"eu\""), "{}", said[1].1);
    }

    #[test]
    fn a_route_that_changes_nothing_is_noticed() {
        let pair = r#"targets = [{ provider = "b" }, { provider = "a2", tags = ["us"] }]"#;
        assert_eq!(kinds(&format!("[routes.\"fb-*\"]\n{pair}\n[routes.\"fb-1\"]\n{pair}")), [AdviceKind::Redundant]);
        let other = format!("[routes.\"fb-*\"]\n{pair}\n[routes.\"fb-1\"]\n{pair}\nlast_resort = false");
        assert_eq!(kinds(&other), []);
    }

    #[test]
    fn a_provider_that_serves_nobody_is_noticed() {
        let text = format!("{PROVIDERS}\n[routes]\nx.targets = [{{ provider = \"a\" }}, {{ provider = \"b\" }}]");
        let config = Config::from_toml(&text, Path::new("t.toml"), &|_| Some("sk-hush".into())).unwrap();
        let unused: Vec<_> =
            of(&config).into_iter().filter(|advice| advice.kind() == AdviceKind::UnusedProvider).collect();
        assert_eq!(unused.iter().map(Advice::to_string).collect::<Vec<_>>(), ["the provider \"a2\" serves no route"]);
    }

    #[test]
    fn a_version_too_few_or_too_many_is_noticed() {
        for (dialect, url, noticed) in [
            ("openai-chat", "https://api.openai.com", true),
            ("openai-responses", "https://api.openai.com/", true),
            ("openai-chat", "https://api.openai.com/v1", false),
            ("openai-chat", "https://api.groq.com/openai/v1", false),
            ("anthropic-messages", "https://api.anthropic.com/v1", true),
            ("anthropic-messages", "https://api.anthropic.com", false),
            ("gemini", "https://generativelanguage.googleapis.com/v1beta/", true),
            ("gemini", "https://generativelanguage.googleapis.com", false),
        ] {
            let text = format!(
                "[providers.p]\ndialect = \"{dialect}\"\nbase_url = \"{url}\"\n[routes]\nx.targets = [{{ provider = \"p\" }}]"
            );
            let config = Config::from_toml(&text, Path::new("t.toml"), &|_| None).unwrap();
            let found = of(&config).iter().any(|advice| advice.kind() == AdviceKind::Version);
            assert_eq!(found, noticed, "{dialect} at {url}");
        }
    }
}
