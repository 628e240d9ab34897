//! What a provider's headers say is left of its rate limits.
//!
//! Three families of names are read: OpenAI's `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` (and those of the
//! providers that copied it, some of which name a day or a minute), Anthropic's
//! `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`, and the general
//! `[x-]ratelimit-{limit,remaining,reset}`. A reset is a duration (`"6m0s"`), a moment (RFC 3339, or seconds or milliseconds
//! since 1970), or a bare number of seconds. Of several windows about the same thing the tightest counts.

mod keys;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use self::keys::Left;
use crate::{Credentials, Provider, Target, TargetId, keyed::Keyed, retry_after};

/// When a window opens again that does not say so: that is how long nearly all of them are.
const USUAL_WINDOW: Duration = Duration::from_secs(60);

/// What is left of a provider's rate limits, as its latest response said it.
///
/// In the extensions of every response whose headers have any, and the latest of each target and provider in a
/// [`RateLimitsRegistry`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimits {
    /// What is left of the requests, where that is said.
    pub requests: Option<RateWindow>,
    /// What is left of the tokens, where that is said.
    pub tokens: Option<RateWindow>,
}

/// One window of a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateWindow {
    /// How many there may be in all.
    pub limit: Option<u64>,
    /// How many are left.
    pub remaining: u64,
    /// When it is full again: as the provider says, or in a minute.
    pub resets_at: Instant,
}

impl RateWindow {
    /// Which share of it is left, 0 to 1; all of it once it is past its reset.
    #[must_use]
    pub fn headroom(&self) -> f64 {
        let left = match (self.remaining, self.limit) {
            (0, _) => 0.0,
            (remaining, Some(limit)) if remaining < limit => remaining as f64 / limit as f64,
            _ => return 1.0,
        };
        if self.resets_at <= Instant::now() { 1.0 } else { left }
    }
}

impl RateLimits {
    /// Reads a response's headers; `None` where they say nothing of a rate limit.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<RateLimits> {
        let mut windows = [Partial::default(); WINDOWS.len()];
        let mut found = false;
        // One look at each name: a response has fewer of them than there are names to look up.
        for (name, value) in headers {
            let Some((window, member)) = parse_name(name.as_str()) else { continue };
            let Ok(text) = value.to_str().map(str::trim) else { continue };
            let partial = &mut windows[window];
            match member {
                Member::Limit => partial.limit = count(text),
                Member::Remaining => partial.remaining = count(text),
                Member::Reset => partial.reset = retry_after::until_reset(text),
            }
            found |= matches!(member, Member::Remaining);
        }
        if !found {
            return None;
        }
        let mut limits = RateLimits::default();
        for (partial, (_, subject)) in windows.into_iter().zip(WINDOWS) {
            let Some(window) = partial.window() else { continue };
            let slot = match subject {
                Subject::Requests => &mut limits.requests,
                Subject::Tokens => &mut limits.tokens,
            };
            if slot.is_none_or(|tightest: RateWindow| window.headroom() < tightest.headroom()) {
                *slot = Some(window);
            }
        }
        (limits != RateLimits::default()).then_some(limits)
    }

    /// Which share is left of what is left least of, 0 to 1.
    #[must_use]
    pub fn headroom(&self) -> f64 {
        [self.requests, self.tokens].iter().flatten().map(RateWindow::headroom).fold(1.0, f64::min)
    }
}

#[derive(Clone, Copy)]
enum Subject {
    Requests,
    Tokens,
}

#[derive(Clone, Copy)]
enum Member {
    Limit,
    Remaining,
    Reset,
}

/// What windows are called, and what they are about.
const WINDOWS: [(&str, Subject); 9] = [
    ("requests", Subject::Requests),
    ("tokens", Subject::Tokens),
    ("input-tokens", Subject::Tokens),
    ("output-tokens", Subject::Tokens),
    ("requests-minute", Subject::Requests),
    ("requests-day", Subject::Requests),
    ("tokens-minute", Subject::Tokens),
    ("tokens-day", Subject::Tokens),
    // One that does not say what it counts.
    ("", Subject::Requests),
];

/// Which window a header is about, and what of it.
fn parse_name(name: &str) -> Option<(usize, Member)> {
    let (window, member) = if let Some(rest) = name.strip_prefix("anthropic-ratelimit-") {
        rest.rsplit_once('-')?
    } else {
        let rest = name.strip_prefix("x-").unwrap_or(name).strip_prefix("ratelimit-")?;
        let (member, window) = rest.split_once('-').unwrap_or((rest, ""));
        (window, member)
    };
    let member = match member {
        "limit" => Member::Limit,
        "remaining" => Member::Remaining,
        "reset" => Member::Reset,
        _ => return None,
    };
    let window = WINDOWS.iter().position(|(known, _)| *known == window)?;
    Some((window, member))
}

#[derive(Clone, Copy, Default)]
struct Partial {
    limit: Option<u64>,
    remaining: Option<u64>,
    reset: Option<Duration>,
}

impl Partial {
    fn window(self) -> Option<RateWindow> {
        let remaining = self.remaining?;
        let resets_at = Instant::now() + self.reset.unwrap_or(USUAL_WINDOW);
        Some(RateWindow { limit: self.limit.filter(|limit| *limit > 0), remaining, resets_at })
    }
}

/// A whole number; some have fractions, some fall below zero, and of a list (the drafts of the IETF had one) the first
/// counts.
fn count(text: &str) -> Option<u64> {
    let first = text.split([',', ';']).next().unwrap_or(text).trim();
    first.parse().ok().or_else(|| {
        let number: f64 = first.parse().ok()?;
        // What is not finite is no count; the cast keeps within bounds.
        number.is_finite().then_some(number.max(0.0) as u64)
    })
}

/// What is left of every provider's rate limits: share one between the routes that share providers. Cheap to clone, and
/// takes no lock.
///
/// Providers limit each model by itself. What they say in answers is kept by target, for whoever chooses between targets, and the
/// latest of them as the provider's. Where a provider has several keys, it is what is left with the one that has most left.
#[derive(Clone, Default)]
pub struct RateLimitsRegistry {
    inner: Arc<Registry>,
}

#[derive(Default)]
struct Registry {
    /// What a provider said last, of whichever model.
    providers: Keyed<String, Latest>,
    /// What was said last of all models of a provider.
    wholes: Keyed<String, Latest>,
    targets: Keyed<TargetId, Arc<ArcSwapOption<Left>>>,
}

/// What was said last.
type Latest = Arc<ArcSwapOption<RateLimits>>;

impl RateLimitsRegistry {
    /// What a provider's latest response said; `None` if none has said anything.
    #[must_use]
    pub fn latest(&self, provider: &str) -> Option<RateLimits> {
        let latest = self.inner.providers.all().get(provider)?.load();
        latest.as_deref().copied()
    }

    /// Which share is left of what the provider has left least of, 0 to 1; all of it where nothing is known.
    #[must_use]
    pub fn headroom(&self, provider: &str) -> f64 {
        self.latest(provider).map_or(1.0, |limits| limits.headroom())
    }

    /// What every provider's latest response said, by its name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(String, RateLimits)> {
        let all = self.inner.providers.all();
        let known = all.iter().filter_map(|(name, latest)| Some((name.clone(), **latest.load().as_ref()?)));
        let mut known: Vec<_> = known.collect();
        known.sort_by(|(a, _), (b, _)| a.cmp(b));
        known
    }

    /// Takes note of what a provider said, of all of its models: [`ProviderLayer`](crate::ProviderLayer) takes note of what
    /// each response says of its target's.
    pub fn record(&self, provider: &str, limits: RateLimits) {
        let limits = Arc::new(limits);
        self.inner.wholes.with(provider, Latest::default, |latest| latest.store(Some(limits.clone())));
        self.said_last(provider, limits);
    }

    /// Takes note of what a target's provider said in an answer with the key at that [place](Credentials::place_of).
    pub(crate) fn record_of(&self, target: &Target, key: usize, limits: RateLimits) {
        let Some(provider) = target.provider() else { return };
        let rests = Some(provider.credentials()).filter(|keys| keys.rotate()).map(Credentials::rests);
        let rests = rests.unwrap_or_default();
        let best = self.inner.targets.with(target.id(), Default::default, |left| {
            left.rcu(|before| Some(Arc::new(Left::after(before.as_deref(), key, limits, &rests))));
            left.load().as_ref().and_then(|left| left.best())
        });
        self.said_last(provider.name(), Arc::new(best.unwrap_or(limits)));
    }

    fn said_last(&self, provider: &str, limits: Arc<RateLimits>) {
        self.inner.providers.with(provider, Latest::default, |latest| latest.store(Some(limits)));
    }

    /// What is left for a target, for whoever asks with every request; `None` of one that has no provider.
    pub(crate) fn watch(&self, target: &Target) -> Option<Watch> {
        let whole = self.inner.wholes.with(target.provider().map(Provider::name)?, Latest::default, Arc::clone);
        let own = self.inner.targets.with(target.id(), Default::default, Arc::clone);
        Some(Watch { own, whole })
    }
}

/// What is left for a target.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    own: Arc<ArcSwapOption<Left>>,
    whole: Latest,
}

impl Watch {
    /// Which share, 0 to 1; all of it where nothing is known.
    pub(crate) fn headroom(&self) -> f64 {
        let own = self.own.load().as_ref().map_or(1.0, |left| left.headroom());
        own.min(self.whole.load().as_ref().map_or(1.0, |limits| limits.headroom()))
    }

    /// What was said last of the target's model or, where nothing was, of all.
    #[cfg(feature = "gateway")]
    pub(crate) fn latest(&self) -> Option<RateLimits> {
        let own = self.own.load().as_ref().and_then(|left| left.best());
        own.or_else(|| self.whole.load().as_deref().copied())
    }
}

impl fmt::Debug for RateLimitsRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.snapshot()).finish()
    }
}

/// What the response's headers say, put into its extensions.
pub(crate) fn note(headers: &HeaderMap<HeaderValue>, extensions: &mut http::Extensions) -> Option<RateLimits> {
    let limits = RateLimits::from_headers(headers)?;
    extensions.insert(limits);
    Some(limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn read(pairs: &[(&str, &str)]) -> Option<RateLimits> {
        let headers = pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
        RateLimits::from_headers(&headers.collect())
    }

    fn window(limit: u64, remaining: u64, seconds: f64) -> Option<RateWindow> {
        let resets_at = Instant::now() + Duration::from_secs_f64(seconds);
        Some(RateWindow { limit: Some(limit), remaining, resets_at })
    }

    #[tokio::test(start_paused = true)]
    async fn openais_headers_are_read_and_the_scarcer_share_is_the_headroom() {
        let limits = read(&[
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("x-ratelimit-reset-requests", "6ms"),
            ("x-ratelimit-limit-tokens", "200000"),
            ("x-ratelimit-remaining-tokens", "50000"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ])
        .unwrap();
        assert_eq!((limits.requests, limits.tokens), (window(10_000, 9_999, 0.006), window(200_000, 50_000, 360.0)));
        assert_eq!(limits.headroom(), 0.25);
        tokio::time::advance(Duration::from_secs(361)).await;
        assert_eq!(limits.headroom(), 1.0, "whatever was spent is back");
    }

    #[tokio::test(start_paused = true)]
    async fn of_anthropics_token_windows_the_tightest_counts() {
        let soon = std::time::SystemTime::now() + Duration::from_secs(100);
        let soon = humantime::format_rfc3339_seconds(soon).to_string();
        let limits = read(&[
            ("anthropic-ratelimit-input-tokens-limit", "1000"),
            ("anthropic-ratelimit-input-tokens-remaining", "900"),
            ("anthropic-ratelimit-output-tokens-limit", "1000"),
            ("anthropic-ratelimit-output-tokens-remaining", "100"),
            ("anthropic-ratelimit-output-tokens-reset", &soon),
        ])
        .unwrap();
        let tokens = limits.tokens.unwrap();
        assert_eq!((limits.requests, tokens.remaining, limits.headroom()), (None, 100, 0.1));
        let left = tokens.resets_at - Instant::now();
        assert!((95..=100).contains(&left.as_secs()), "{left:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn general_names_bare_numbers_and_the_providers_that_name_a_period() {
        let general =
            read(&[("ratelimit-limit", "100, 100;w=60"), ("ratelimit-remaining", "5"), ("ratelimit-reset", "7")]);
        assert_eq!(general.unwrap().requests, window(100, 5, 7.0));
        let azure = read(&[("x-ratelimit-remaining-tokens", "5"), ("x-ratelimit-reset-tokens", "10")]).unwrap();
        assert_eq!(azure.tokens.unwrap().resets_at, Instant::now() + Duration::from_secs(10));
        let day = read(&[("x-ratelimit-limit-requests-day", "10"), ("x-ratelimit-remaining-requests-day", "1")]);
        assert_eq!(day.unwrap().headroom(), 0.1);
        for silent in [&[][..], &[("x-ratelimit-limit-requests", "5")], &[("x-ratelimit-remaining", "soon")]] {
            assert_eq!(read(silent), None, "{silent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_that_does_not_say_when_it_opens_is_not_empty_for_ever() {
        let limits = read(&[("x-ratelimit-remaining-requests", "0")]).unwrap();
        assert_eq!(limits.headroom(), 0.0);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(limits.headroom(), 1.0);
    }

    #[test]
    fn the_latest_word_of_each_provider_is_kept_and_clones_share_it() {
        let registry = RateLimitsRegistry::default();
        let clone = registry.clone();
        assert_eq!((clone.latest("a"), clone.headroom("a")), (None, 1.0));
        for remaining in ["9", "3"] {
            let headers = [("x-ratelimit-limit-requests", "10"), ("x-ratelimit-remaining-requests", remaining)];
            registry.record("a", read(&headers).unwrap());
        }
        assert_eq!(clone.headroom("a"), 0.3);
        assert_eq!(clone.snapshot().len(), 1);
    }

    #[test]
    fn whatever_the_headers_say_the_headroom_is_a_share() {
        const PREFIXES: &[&str] = &["x-ratelimit-", "ratelimit-", "anthropic-ratelimit-", "x-", ""];
        const NAMES: &[&str] = &[
            "limit-requests",
            "remaining-requests",
            "reset-requests",
            "remaining-tokens",
            "reset-tokens",
            "limit-tokens",
            "requests-remaining",
            "requests-reset",
            "tokens-limit",
            "remaining",
            "reset",
            "limit",
            "remaining-",
            "--",
        ];
        const PIECES: &[&str] =
            &["9", "0", "-", ".", "e", "s", "ms", "h", "m", "T", "Z", "2026-02-30", " ", ",", "99999999", "inf", "NaN"];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut headers = HeaderMap::new();
            for _ in 0..random.usize(1..6) {
                let name = [PREFIXES[random.usize(..PREFIXES.len())], NAMES[random.usize(..NAMES.len())]].concat();
                let mut value = Vec::new();
                for _ in 0..random.usize(..6) {
                    match random.u8(..5) {
                        0 => value.push(random.u8(..)),
                        _ => value.extend_from_slice(PIECES[random.usize(..PIECES.len())].as_bytes()),
                    }
                }
                let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&value)) else {
                    continue;
                };
                headers.insert(name, value);
            }
            if let Some(limits) = RateLimits::from_headers(&headers) {
                assert!((0.0..=1.0).contains(&limits.headroom()), "{headers:?}: {limits:?}");
                assert!(limits.requests.is_some() || limits.tokens.is_some());
            }
        }
    }
}
