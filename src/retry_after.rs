//! How long a failed response asks to be left alone, and whether it asks to be tried again.
//!
//! Only failed responses are read: some providers put `retry-after` on good ones as well. Zero and the past are no
//! hint (Azure sends `retry-after-ms: 0` beside a real `retry-after`); whatever is longer than a year is a year.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What the headers say: [`asked`], else [`reset`].
pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    asked(headers).or_else(|| reset(headers))
}

/// What the headers ask for in so many words, in the order of OpenAI's and Anthropic's SDKs: milliseconds, then
/// `Retry-After` as seconds (with fractions, as they read it) or as an HTTP date.
pub(crate) fn asked(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = |name| seconds(number(text(headers, name)?)? * 1e-3);
    milliseconds("retry-after-ms").or_else(|| milliseconds("x-ms-retry-after-ms")).or_else(|| {
        let text = text(headers, header::RETRY_AFTER.as_str())?;
        match number(text) {
            Some(number) => seconds(number),
            None => until(httpdate::parse_http_date(text).ok()?),
        }
    })
}

/// When the exhausted windows of the provider's rate limits open again: the last of them, and only of those that have
/// nothing left. It is the hint of last resort, for a window is open some time before it is full again.
pub(crate) fn reset(headers: &HeaderMap) -> Option<Duration> {
    let exhausted = |remaining: &str| text(headers, remaining).and_then(number) == Some(0.0);
    let anthropic = ["requests", "tokens", "input-tokens", "output-tokens"].into_iter().filter_map(|window| {
        let family = format!("anthropic-ratelimit-{window}");
        exhausted(&format!("{family}-remaining")).then(|| date(text(headers, &format!("{family}-reset"))?))?
    });
    // Azure's bare integers under the same names have no unit, and so are no durations here.
    let openai = ["requests", "tokens"].into_iter().filter_map(|window| {
        exhausted(&format!("x-ratelimit-remaining-{window}"))
            .then(|| duration(text(headers, &format!("x-ratelimit-reset-{window}"))?))?
    });
    anthropic.chain(openai).max().or_else(|| {
        let left = text(headers, "x-ratelimit-remaining").and_then(number);
        if left.is_some_and(|left| left != 0.0) {
            return None;
        }
        until_number(number(text(headers, "x-ratelimit-reset")?)?)
    })
}

/// Seconds with Together, a moment in milliseconds with OpenRouter, and in seconds with many others.
fn until_number(reset: f64) -> Option<Duration> {
    match reset {
        1e11.. => moment(reset * 1e-3),
        1e9.. => moment(reset),
        _ => seconds(reset),
    }
}

/// How long a window's reset is off, however it is put; nothing where that cannot be read, and where it is past.
pub(crate) fn until_reset(text: &str) -> Option<Duration> {
    match number(text) {
        Some(number) => until_number(number),
        None => duration(text).or_else(|| date(text)),
    }
}

/// What the provider itself says about another try (`x-should-retry`), over anything that its error may mean.
pub(crate) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    text(headers, "x-should-retry")?.parse().ok()
}

/// What a message for people asks for: `"Please try again in 1m47.5s."`, `"retry after 20 seconds"`. In lower case.
pub(crate) fn in_text(text: &str) -> Option<Duration> {
    ["try again in ", "try again after ", "retry in ", "retry after "].into_iter().find_map(|cue| {
        let behind = text.match_indices(cue).map(|(at, _)| &text[at + cue.len()..]);
        behind.into_iter().find_map(|text| seconds(leading_duration(text).0?))
    })
}

/// A duration as Go and Protobuf write it: `"1h2m3s"`, `"47.5s"`, `"120ms"`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    match leading_duration(text) {
        (Some(duration), "") => seconds(duration),
        _ => None,
    }
}

/// The seconds that a text begins with, and what follows them.
fn leading_duration(text: &str) -> (Option<f64>, &str) {
    let (mut sum, mut rest) = (None, text);
    loop {
        let start = rest.trim_start_matches(' ');
        let (digits, behind) = split(start, |c| c.is_ascii_digit() || c == '.');
        let (unit, behind) = split(behind.trim_start_matches(' '), char::is_alphabetic);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" | "millisecond" | "milliseconds" => 1e-3,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            _ => return (sum, rest),
        };
        let Some(number) = number(digits) else { return (sum, rest) };
        sum = Some(sum.unwrap_or(0.0) + number * unit);
        rest = behind;
    }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn seconds(seconds: f64) -> Option<Duration> {
    let duration = Duration::try_from_secs_f64(seconds.min(YEAR.as_secs_f64())).ok()?;
    (!duration.is_zero()).then_some(duration)
}

/// A moment in seconds since 1970.
fn moment(seconds: f64) -> Option<Duration> {
    until(SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?)
}

/// A moment as RFC 3339 writes it.
fn date(text: &str) -> Option<Duration> {
    let utc = text.strip_suffix("+00:00").map(|text| format!("{text}Z"));
    until(humantime::parse_rfc3339(utc.as_deref().unwrap_or(text)).ok()?)
}

fn until(moment: SystemTime) -> Option<Duration> {
    let duration = moment.duration_since(SystemTime::now()).ok()?;
    (!duration.is_zero()).then_some(duration.min(YEAR))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(headers: &[(&str, &str)]) -> HeaderMap {
        let headers = headers.iter().map(|(name, value)| {
            (name.parse::<http::HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap())
        });
        headers.collect()
    }

    fn read(pairs: &[(&str, &str)]) -> Option<Duration> {
        from_headers(&headers(pairs))
    }

    fn ms(milliseconds: u64) -> Option<Duration> {
        Some(Duration::from_millis(milliseconds))
    }

    /// Whether that is about 100 s, by a clock that has gone on.
    fn about_100_s(found: Option<Duration>) -> bool {
        found.is_some_and(|found| (95..=100).contains(&found.as_secs()))
    }

    #[test]
    fn milliseconds_go_before_seconds_and_zero_is_no_hint() {
        assert_eq!(read(&[("retry-after-ms", "120.5"), ("retry-after", "9")]), Some(Duration::from_micros(120_500)));
        assert_eq!(read(&[("x-ms-retry-after-ms", "70"), ("retry-after", "9")]), ms(70));
        assert_eq!(read(&[("retry-after-ms", "0"), ("retry-after", "1")]), ms(1000));
        assert_eq!(read(&[("retry-after", " 1.5 ")]), ms(1500));
        assert_eq!(read(&[("retry-after", "0")]), None);
    }

    #[test]
    fn dates_count_from_now_and_past_ones_are_no_hint() {
        let soon = SystemTime::now() + Duration::from_secs(100);
        assert!(about_100_s(read(&[("retry-after", &httpdate::fmt_http_date(soon))])));
        assert_eq!(read(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]), None);
        for reset in [
            humantime::format_rfc3339_seconds(soon).to_string(),
            humantime::format_rfc3339_micros(soon).to_string().replace('Z', "+00:00"),
        ] {
            let found =
                read(&[("anthropic-ratelimit-tokens-remaining", "0"), ("anthropic-ratelimit-tokens-reset", &reset)]);
            assert!(about_100_s(found), "{reset}: {found:?}");
        }
    }

    #[test]
    fn nonsense_is_no_hint_and_the_absurd_is_a_year() {
        for text in ["", "soon", "-1", "NaN", "inf", "1e400"] {
            assert_eq!(read(&[("retry-after", text)]), None, "{text}");
        }
        for text in ["1e300", "99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(read(&[("retry-after", text)]), Some(YEAR), "{text}");
        }
        assert_eq!(duration("9999999999999999h"), Some(YEAR));
        assert_eq!(read(&[("x-ratelimit-reset", "1e300")]), None);
    }

    #[test]
    fn only_windows_with_nothing_left_are_waited_for_and_for_the_last_of_them() {
        let window = |requests_left, tokens_left| {
            read(&[
                ("x-ratelimit-remaining-requests", requests_left),
                ("x-ratelimit-reset-requests", "2m59.56s"),
                ("x-ratelimit-remaining-tokens", tokens_left),
                ("x-ratelimit-reset-tokens", "120ms"),
            ])
        };
        assert_eq!(window("14370", "0"), ms(120));
        assert_eq!(window("0", "17997"), ms(179_560));
        assert_eq!(window("0", "0"), ms(179_560));
        assert_eq!(window("1", "-1"), None);
        assert_eq!(
            read(&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "500")]),
            None,
            "Azure's"
        );
        assert_eq!(read(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "7.5")]), ms(7500));
        assert_eq!(read(&[("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "7.5")]), None);
        assert_eq!(read(&[("retry-after", "2"), ("x-ratelimit-reset", "7")]), ms(2000));
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + Duration::from_secs(100);
        assert!(about_100_s(read(&[("x-ratelimit-reset", &epoch.as_millis().to_string())])));
        assert!(about_100_s(read(&[("x-ratelimit-reset", &epoch.as_secs().to_string())])));
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, milliseconds) in
            [("1ms", 1), ("19.496s", 19_496), ("6m0s", 360_000), ("1h2m3s", 3_723_000), ("47.5s", 47_500), ("500us", 0)]
        {
            let expected = if milliseconds == 0 { Some(Duration::from_micros(500)) } else { ms(milliseconds) };
            assert_eq!(duration(text), expected, "{text}");
        }
        for text in ["", "0s", "5", "s", "1.2.3s", "3 apples", "1s!", "-1s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn messages_for_people_are_read() {
        for (text, milliseconds) in [
            ("limit 30000. please try again in 644ms. visit us", 644),
            ("please try again in 1m47.5s.", 107_500),
            ("please retry in 48.25s.", 48_250),
            ("please retry after 86400 seconds. contact us", 86_400_000),
            ("try again in 2 hours 5 minutes, or not", 7_500_000),
            ("please try again in a moment; please try again in 3 s", 3000),
        ] {
            assert_eq!(in_text(text), ms(milliseconds), "{text}");
        }
        for text in ["", "please try again in ", "try again in a while", "retry in 3 apples", "try again in 0s"] {
            assert_eq!(in_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_provider_may_say_whether_to_retry() {
        assert_eq!(should_retry(&headers(&[("x-should-retry", "true")])), Some(true));
        assert_eq!(should_retry(&headers(&[("x-should-retry", "false")])), Some(false));
        assert_eq!(should_retry(&headers(&[("x-should-retry", "maybe")])), None);
        assert_eq!(should_retry(&headers(&[])), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        const NAMES: &[&str] = &[
            "retry-after-ms",
            "x-ms-retry-after-ms",
            "retry-after",
            "anthropic-ratelimit-requests-reset",
            "x-ratelimit-reset-requests",
            "x-ratelimit-reset",
            "x-should-retry",
        ];
        const PIECES: &[&str] = &[
            "9",
            "0",
            "-",
            ".",
            "e",
            "s",
            "ms",
            "h",
            "T",
            ":",
            "Z",
            "+00:00",
            "2026-02-30",
            " ",
            "µ",
            "Wed, 21 Oct ",
            "99999999",
        ];
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..random.usize(..8) {
                match random.u8(..4) {
                    0 => bytes.push(random.u8(..)),
                    _ => bytes.extend_from_slice(PIECES[random.usize(..PIECES.len())].as_bytes()),
                }
            }
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            _ = (duration(&text), in_text(&format!("retry in {text}")));
            let Ok(value) = http::HeaderValue::from_bytes(&bytes) else { continue };
            let mut headers =
                headers(&[("anthropic-ratelimit-requests-remaining", "0"), ("x-ratelimit-remaining-requests", "0")]);
            headers.insert(NAMES[random.usize(..NAMES.len())], value);
            _ = (from_headers(&headers), should_retry(&headers));
        }
    }
}
