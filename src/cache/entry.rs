//! An answer that is kept.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{key::Key, shape::Shape};
use crate::{Cost, Usage, shared_state::SharedValue, usage::Worth};

/// The form in which entries are shared. Whoever changes the form changes this: others take what they do not know for none.
const VERSION: u8 = 1;
/// How much of the digest stands before the rest: enough to tell what was written here from all else.
const CHECK: usize = 16;

/// No answer has more headers than that, or so many bytes of them; nor did one cost more tokens, or dollars, than these. Whoever says
/// so wrote something else.
const MOST_HEADERS: usize = 256;
const LONGEST_HEADERS: usize = 256 << 10;
const MOST_TOKENS: u64 = 1 << 32;
const MOST_DOLLARS: f64 = 1e6;

/// What an entry takes besides its bytes, about.
const OVERHEAD: usize = 512;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) shape: Shape,
    pub(super) body: Bytes,
    /// What it had cost.
    pub(super) worth: Worth,
    pub(super) stored: Instant,
    /// How long it is fresh.
    pub(super) ttl: Duration,
    /// How long it may be given after that, where nobody can answer.
    pub(super) stale: Duration,
}

impl Entry {
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.stored)
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.age(now) < self.ttl
    }

    /// Whether it may be given where nobody can answer.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.age(now) < self.ttl.saturating_add(self.stale)
    }

    /// How much memory it takes.
    pub(super) fn weight(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64);
        self.body.len() + headers.sum::<usize>() + OVERHEAD
    }
}

/// To be shared.
impl Entry {
    /// A version, a check of all that follows and of the key, the times, the form, the status, what it had cost, the headers, and
    /// the body.
    pub(super) fn encode(&self, key: &Key) -> Bytes {
        let mut out = Vec::with_capacity(self.weight());
        out.push(VERSION);
        out.extend_from_slice(&[0; CHECK]);
        for time in [self.ttl, self.stale] {
            out.extend_from_slice(&u64::try_from(time.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
        }
        out.push(match self.shape {
            Shape::Whole => 0,
            Shape::Array => 1,
            Shape::Stream { usage: false } => 2,
            Shape::Stream { usage: true } => 3,
        });
        out.extend_from_slice(&self.status.as_u16().to_le_bytes());
        encode_worth(self.worth, &mut out);
        for (name, value) in &self.headers {
            out.push(1);
            for text in [name.as_str().as_bytes(), value.as_bytes()] {
                out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                out.extend_from_slice(text);
            }
        }
        out.push(0);
        out.extend_from_slice(&self.body);
        let check = check(key, &out[1 + CHECK..]);
        out[1..=CHECK].copy_from_slice(&check);
        out.into()
    }

    /// What was shared; `None` for everything that this program did not write for that key.
    pub(super) fn decode(key: &Key, shared: &SharedValue) -> Option<Entry> {
        let (version, rest) = shared.value.split_first()?;
        let (sum, mut rest) = rest.split_at_checked(CHECK)?;
        if *version != VERSION || sum != check(key, rest) {
            return None;
        }
        let mut take = |length: usize| {
            let (part, behind) = rest.split_at_checked(length)?;
            rest = behind;
            Some(part)
        };
        let mut time = || Some(Duration::from_millis(u64::from_le_bytes(take(8)?.try_into().ok()?)));
        let (ttl, stale) = (time()?, time()?);
        let shape = match take(1)? {
            [0] => Shape::Whole,
            [1] => Shape::Array,
            [2] => Shape::Stream { usage: false },
            [3] => Shape::Stream { usage: true },
            _ => return None,
        };
        let status = StatusCode::from_u16(u16::from_le_bytes(take(2)?.try_into().ok()?)).ok()?;
        if status != StatusCode::OK {
            return None;
        }
        let worth = decode_worth(&mut take)?;
        let (mut headers, mut length_of_all) = (HeaderMap::new(), 0);
        while take(1)? == [1] {
            let mut text = || {
                let length = u32::from_le_bytes(take(4)?.try_into().ok()?);
                take(usize::try_from(length).ok()?)
            };
            let (name, value) = (text()?, text()?);
            length_of_all += name.len() + value.len();
            if headers.len() >= MOST_HEADERS || length_of_all > LONGEST_HEADERS {
                return None;
            }
            let (name, value) = (HeaderName::from_bytes(name).ok()?, http::HeaderValue::from_bytes(value).ok()?);
            headers.try_append(name, value).ok()?;
        }
        let headers = kept(&headers);
        let body = shared.value.slice_ref(rest);
        // Clocks differ, but all who share ask the same one how long it is still kept.
        let age = ttl.saturating_add(stale).saturating_sub(shared.remaining);
        let stored = Instant::now().checked_sub(age)?;
        Some(Entry { status, headers, shape, body, worth, stored, ttl, stale })
    }
}

/// What is not there, what was reported, and what was estimated.
const NONE: u8 = 0;
const REPORTED: u8 = 1;
const ESTIMATED: u8 = 2;

fn encode_worth(worth: Worth, out: &mut Vec<u8>) {
    let kind =
        |estimated: Option<bool>| estimated.map_or(NONE, |estimated| if estimated { ESTIMATED } else { REPORTED });
    out.push(kind(worth.usage.map(|usage| usage.estimated)));
    if let Some(Usage { input, cached_input, cache_write_input, output, reasoning, .. }) = worth.usage {
        let counts = [input, cached_input, cache_write_input, output, reasoning];
        counts.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
    }
    out.push(kind(worth.cost.map(Cost::is_estimated)));
    if let Some(cost) = worth.cost {
        out.extend_from_slice(&cost.usd().to_le_bytes());
    }
}

fn decode_worth<'a>(mut take: impl FnMut(usize) -> Option<&'a [u8]>) -> Option<Worth> {
    let mut worth = Worth::default();
    let kind = take(1)?[0];
    if kind != NONE {
        let mut count = || Some(u64::from_le_bytes(take(8)?.try_into().ok()?).min(MOST_TOKENS));
        worth.usage = Some(Usage {
            input: count()?,
            cached_input: count()?,
            cache_write_input: count()?,
            output: count()?,
            reasoning: count()?,
            estimated: kind == ESTIMATED,
        });
    }
    let kind = take(1)?[0];
    if kind != NONE {
        let dollars = f64::from_le_bytes(take(8)?.try_into().ok()?);
        // Not a number is none of them.
        let is_sane = (0.0..=MOST_DOLLARS).contains(&dollars);
        worth.cost = is_sane.then(|| Cost::new(dollars, kind == ESTIMATED));
    }
    Some(worth)
}

fn check(key: &Key, rest: &[u8]) -> [u8; CHECK] {
    let digest: [u8; 32] = Sha256::new().chain_update(key.as_bytes()).chain_update(rest).finalize().into();
    let mut check = [0; CHECK];
    check.copy_from_slice(&digest[..CHECK]);
    check
}

/// The headers that are said again with an answer: not those of a connection, of a client, or of how much the provider would
/// still take at that time.
pub(super) fn kept(headers: &HeaderMap) -> HeaderMap {
    const OF_ITS_TIME: [HeaderName; 12] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::RETRY_AFTER,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    let kept = headers.iter().filter(|(name, _)| !OF_ITS_TIME.contains(name) && !name.as_str().contains("ratelimit"));
    let mut copy = HeaderMap::with_capacity(headers.len());
    kept.for_each(|(name, value)| _ = copy.append(name.clone(), value.clone()));
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::KeyBuilder;

    #[tokio::test(start_paused = true)]
    async fn what_is_shared_is_read_as_it_was_and_anything_else_is_none() {
        let key = KeyBuilder::new().with("k", b"v").finish();
        let mut headers = HeaderMap::new();
        headers.append("x-a", "1".parse().unwrap());
        headers.append("x-a", "2".parse().unwrap());
        let (ttl, stale) = (Duration::from_secs(60), Duration::from_secs(600));
        let (shape, body) = (Shape::Stream { usage: true }, Bytes::from_static(b"data: x"));
        let usage =
            Usage { input: 7, cached_input: 6, cache_write_input: 5, output: 4, reasoning: 3, estimated: false };
        let worth = Worth { usage: Some(usage), cost: Some(Cost::new(0.25, true)) };
        let entry = Entry { status: StatusCode::OK, headers, shape, body, worth, stored: Instant::now(), ttl, stale };
        let value = entry.encode(&key);
        tokio::time::advance(Duration::from_secs(100)).await;
        let shared = |value: Bytes| SharedValue { value, remaining: Duration::from_secs(630) };
        let read = Entry::decode(&key, &shared(value.clone())).unwrap();
        assert_eq!((read.status, &read.headers, read.shape), (entry.status, &entry.headers, entry.shape));
        assert_eq!((&read.body, read.worth, read.ttl, read.stale), (&entry.body, worth, ttl, stale));
        assert_eq!(read.age(Instant::now()), Duration::from_secs(30));

        let other = KeyBuilder::new().with("k", b"w").finish();
        assert!(Entry::decode(&other, &shared(value.clone())).is_none(), "it stands under another key");
        for length in 0..value.len() {
            assert!(Entry::decode(&key, &shared(value.slice(..length))).is_none(), "{length}");
            let mut changed = value.to_vec();
            changed[length] ^= 1;
            assert!(Entry::decode(&key, &shared(changed.into())).is_none(), "{length}");
        }
    }

    /// What somebody wrote who knows the key and how a check is made.
    fn forged(key: &Key, status: u16, worth: &[u8], headers: &[(&[u8], &[u8])]) -> SharedValue {
        let mut out = vec![VERSION];
        out.extend_from_slice(&[0; CHECK]);
        out.extend_from_slice(&60_000u64.to_le_bytes());
        out.extend_from_slice(&0u64.to_le_bytes());
        out.push(0);
        out.extend_from_slice(&status.to_le_bytes());
        out.extend_from_slice(worth);
        for (name, value) in headers {
            out.push(1);
            for text in [name, value] {
                out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
                out.extend_from_slice(text);
            }
        }
        out.push(0);
        out.extend_from_slice(b"{}");
        let check = check(key, &out[1 + CHECK..]);
        out[1..=CHECK].copy_from_slice(&check);
        SharedValue { value: out.into(), remaining: Duration::from_secs(60) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forged_with_the_right_check_harms_nobody() {
        let key = KeyBuilder::new().with("k", b"v").finish();
        let free = [NONE, NONE];
        let decode = |status, worth: &[u8], headers: &[(&[u8], &[u8])]| {
            Entry::decode(&key, &forged(&key, status, worth, headers))
        };
        let told = [(&b"x-a"[..], &b"1"[..]), (b"content-length", b"7"), (b"set-cookie", b"a=b"), (b"upgrade", b"h2c")];
        let entry = decode(200, &free, &told).unwrap();
        assert_eq!(entry.headers.keys().collect::<Vec<_>>(), ["x-a"]);
        for status in [101, 204, 304, 401, 500] {
            assert!(decode(status, &free, &[]).is_none(), "{status}");
        }

        let names: Vec<_> = (0..40_000).map(|i| format!("x-{i}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_bytes(), &b"1"[..])).collect();
        assert!(decode(200, &free, &many[..MOST_HEADERS]).is_some());
        assert!(decode(200, &free, &many[..=MOST_HEADERS]).is_none());
        assert!(decode(200, &free, &many).is_none());
        assert!(decode(200, &free, &vec![(&b"x-a"[..], &b"1"[..]); 40_000]).is_none());
        assert!(decode(200, &free, &[(b"x-a", &vec![b'a'; LONGEST_HEADERS])]).is_none());

        let mut worth = vec![REPORTED];
        worth.extend_from_slice(&[0xff; 5 * 8]);
        worth.push(REPORTED);
        let cost = |dollars: f64| {
            let worth = [&worth[..], &dollars.to_le_bytes()].concat();
            decode(200, &worth, &[]).unwrap().worth
        };
        let usage = cost(1.0).usage.unwrap();
        assert_eq!((usage.input, usage.reasoning), (MOST_TOKENS, MOST_TOKENS));
        assert_eq!(cost(1.0).cost, Some(Cost::new(1.0, false)));
        for dollars in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            assert_eq!(cost(dollars).cost, None, "{dollars}");
        }
    }
}
