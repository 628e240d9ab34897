//! How long a failed response asks to be left alone.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

/// Reads `retry-after-ms`, then `Retry-After` as seconds (fractions allowed, as OpenAI's and Anthropic's SDKs do) or
/// as an HTTP date. Zero is "no hint": Azure sends `retry-after-ms: 0` beside a real `retry-after`. Only for failed
/// responses: some providers put the header on good ones as well.
pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok()).map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(|text| seconds(text, 1e-3));
    milliseconds.or_else(|| {
        let text = text(header::RETRY_AFTER.as_str())?;
        seconds(text, 1.0).or_else(|| date(text, SystemTime::now()))
    })
}

fn seconds(text: &str, unit: f64) -> Option<Duration> {
    let duration = Duration::try_from_secs_f64(text.parse::<f64>().ok()? * unit).ok()?;
    (!duration.is_zero()).then_some(duration)
}

fn date(text: &str, now: SystemTime) -> Option<Duration> {
    let duration = httpdate::parse_http_date(text).ok()?.duration_since(now).ok()?;
    (!duration.is_zero()).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Option<Duration> {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
        from_headers(&headers.collect())
    }

    #[test]
    fn milliseconds_go_before_seconds_and_zero_is_no_hint() {
        assert_eq!(read(&[("retry-after-ms", "120.5"), ("retry-after", "9")]), Some(Duration::from_micros(120_500)));
        assert_eq!(read(&[("retry-after-ms", "0"), ("retry-after", "1")]), Some(Duration::from_secs(1)));
        assert_eq!(read(&[("retry-after", " 1.5 ")]), Some(Duration::from_millis(1500)));
        assert_eq!(read(&[("retry-after", "0")]), None);
    }

    #[test]
    fn dates_count_from_now_and_past_ones_are_no_hint() {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, date.parse().unwrap())]);
        let read_date = from_headers(&headers).unwrap();
        assert!((95..=100).contains(&read_date.as_secs()), "{read_date:?}");
        assert_eq!(read(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]), None);
    }

    #[test]
    fn nonsense_is_no_hint() {
        for text in ["", "soon", "-1", "NaN", "inf", "1e400"] {
            assert_eq!(read(&[("retry-after", text)]), None, "{text}");
        }
    }
}
