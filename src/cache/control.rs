//! What the client wants of a cache.

use std::time::Duration;

use http::{HeaderMap, header};

/// The directives of a request's `Cache-Control` that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<Duration>,
}

impl Control {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut control = Control::default();
        let mut said = false;
        for value in headers.get_all(header::CACHE_CONTROL) {
            let Ok(text) = value.to_str() else { continue };
            for directive in text.split(',') {
                said = true;
                let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
                match name.trim().to_ascii_lowercase().as_str() {
                    "no-store" => control.no_store = true,
                    "no-cache" => control.no_cache = true,
                    "only-if-cached" => control.only_if_cached = true,
                    "max-age" => {
                        // What cannot be read is as strict as can be.
                        let seconds = argument.trim().trim_matches('"').parse().unwrap_or(0);
                        let age = Duration::from_secs(seconds);
                        control.max_age = Some(control.max_age.map_or(age, |other| other.min(age)));
                    }
                    _ => {}
                }
            }
        }
        let pragma = || headers.get_all(header::PRAGMA).iter().any(|value| value.as_bytes() == b"no-cache");
        control.no_cache |= !said && pragma();
        control
    }

    /// Whether an answer of that age will do.
    pub(super) fn accepts(&self, age: Duration) -> bool {
        !self.no_cache && self.max_age.is_none_or(|most| age <= most && !most.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(values: &[&str]) -> Control {
        let mut headers = HeaderMap::new();
        values.iter().for_each(|value| _ = headers.append(header::CACHE_CONTROL, value.parse().unwrap()));
        Control::of(&headers)
    }

    #[test]
    fn directives_are_read_however_they_are_written() {
        assert_eq!(control(&[]), Control::default());
        assert_eq!(control(&["max-stale=5, no-transform"]), Control::default());
        assert!(control(&["No-Store"]).no_store);
        assert!(control(&["x", "a=1 , no-cache"]).no_cache);
        assert!(control(&["only-if-cached"]).only_if_cached);
        assert_eq!(control(&["max-age=\"60\", max-age=30"]).max_age, Some(Duration::from_secs(30)));
        assert_eq!(control(&["max-age=soon"]).max_age, Some(Duration::ZERO));
        let mut headers = HeaderMap::new();
        headers.insert(header::PRAGMA, "no-cache".parse().unwrap());
        assert!(Control::of(&headers).no_cache);
        headers.insert(header::CACHE_CONTROL, "max-age=9".parse().unwrap());
        assert!(!Control::of(&headers).no_cache);
    }

    #[test]
    fn an_answer_may_be_as_old_as_the_client_takes_it() {
        let age = Duration::from_secs;
        assert!(control(&[]).accepts(age(1_000_000)));
        assert!(control(&["max-age=60"]).accepts(age(60)));
        assert!(!control(&["max-age=60"]).accepts(age(61)));
        assert!(!control(&["max-age=0"]).accepts(age(0)));
        assert!(!control(&["no-cache"]).accepts(age(0)));
    }
}
