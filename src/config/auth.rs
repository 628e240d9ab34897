//! `[auth]`: who may call the gateway, and how much.

use std::{collections::BTreeSet, fmt, num::NonZeroU32, sync::Arc};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{
    reader::Table,
    secret::{from_file, from_text, from_variable},
    value::Value,
};
use crate::rate_limit::Limits;

/// A key shorter than this can be guessed by trying.
const SHORT: usize = 16;
/// The longest name: it stands in logs and labels.
const LONGEST_NAME: usize = 64;

/// Who may call. Without any key, whoever reaches the gateway may.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AuthSettings {
    /// The keys with which clients ask for answers.
    pub keys: Vec<ClientKey>,
    /// The keys that open what is for operators; where there are none, `keys` do.
    pub admin_keys: Vec<ClientKey>,
}

impl AuthSettings {
    pub(crate) fn may_listen(&self, address: std::net::SocketAddr) -> Result<(), &'static str> {
        match address.ip().to_canonical().is_loopback() || !self.keys.is_empty() {
            true => Ok(()),
            false => {
                Err("is not a loopback address: without `keys` under [auth], anyone who reaches it could use the \
                 providers' keys")
            }
        }
    }
}

/// A key that a client sends, known by its digest only: the key itself is forgotten as soon as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientKey {
    /// What logs, metrics and limits call it: as given, or by its place in the list, `key-1`.
    pub name: Arc<str>,
    /// Whether it was given that name. One by its place may be another key's after a reload.
    pub is_named: bool,
    /// Its digest.
    pub digest: KeyDigest,
    /// Names of routes, or beginnings of names with a `*`, that it may ask; `None` for all.
    pub routes: Option<Vec<Box<str>>>,
    /// What may be asked with it.
    pub limits: Limits,
}

impl ClientKey {
    /// Whether it may ask the route of that name.
    #[must_use]
    pub fn allows(&self, route: &str) -> bool {
        self.routes.as_ref().is_none_or(|allowed| allowed.iter().any(|allowed| covers(allowed, route)))
    }
}

/// Whether an entry of a key's `routes` means that route.
fn covers(allowed: &str, route: &str) -> bool {
    allowed == route || allowed.strip_suffix('*').is_some_and(|prefix| route.starts_with(prefix))
}

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of what a client sent, or of a key that is read.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        KeyDigest(Sha256::digest(key).into())
    }

    /// From 64 hexadecimal digits, as `sha256sum` prints.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut digest = [0; 32];
        for (index, byte) in digest.iter_mut().enumerate() {
            let digits = text.get(2 * index..2 * index + 2)?;
            // `from_str_radix` would take a sign.
            *byte = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
        }
        Some(KeyDigest(digest))
    }

    /// What others may call the key: it tells nothing of it, not even its digest.
    #[cfg(feature = "gateway")]
    pub(crate) fn pseudonym(&self) -> String {
        let digest = Sha256::new().chain_update(b"tower-failover client ").chain_update(self.0).finalize();
        digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

/// Takes `[auth]`. `routes` are the names of those that the file has.
pub(super) fn read(root: &mut Table<'_>, routes: &[String]) -> AuthSettings {
    let Some(mut table) = root.take_table("auth") else { return AuthSettings::default() };
    let spot = table.spot().clone();
    let given = ["keys", "admin_keys"].map(|name| table.take(name));
    table.finish();
    if given.iter().all(Option::is_none) {
        spot.report("needs `keys`, `admin_keys` or both");
    }
    let [keys, admin_keys] = given;
    let mut seen = Seen::default();
    AuthSettings {
        keys: keys.map(|list| seen.read_all(list, "key", Some(routes))).unwrap_or_default(),
        // The same key may be in both lists.
        admin_keys: admin_keys.map(|list| Seen::default().read_all(list, "admin-key", None)).unwrap_or_default(),
    }
}

/// What the keys of a list are called, and what they are: each may be there once.
#[derive(Default)]
struct Seen {
    names: BTreeSet<Arc<str>>,
    digests: Vec<KeyDigest>,
}

impl Seen {
    fn read_all(&mut self, list: Value<'_>, name: &str, routes: Option<&[String]>) -> Vec<ClientKey> {
        let spot = list.spot().clone();
        let Some(entries) = list.array() else { return Vec::new() };
        if entries.is_empty() {
            spot.report("is empty: leave it out, or give a key");
        }
        let entries = entries.into_iter().enumerate();
        entries.filter_map(|(index, value)| self.read(value, &format!("{name}-{}", index + 1), routes)).collect()
    }

    fn read(&mut self, value: Value<'_>, default_name: &str, routes: Option<&[String]>) -> Option<ClientKey> {
        if !value.is_table() {
            return value
                .fail_type("where the key comes from: { env = \"…\" }, { file = \"…\" } or { sha256 = \"…\" }");
        }
        let mut table = value.table()?;
        let spot = table.spot().clone();
        let is_empty = table.is_empty();
        let sources = ["env", "file", "sha256", "value"].map(|name| table.take(name));
        let name = match table.take("name") {
            Some(value) => Some(read_name(&value)?),
            None => None,
        };
        let (allowed, limits) = match routes {
            Some(routes) => (read_routes(&mut table, routes), read_limits(&mut table)),
            None => (None, Limits::default()),
        };
        table.finish();
        let digest = match sources {
            [Some(variable), None, None, None] => digest_of(&variable, from_variable(&variable)?.key),
            [None, Some(file), None, None] => digest_of(&file, from_file(&file)?.key),
            [None, None, Some(hex), None] => {
                let digest = KeyDigest::from_hex(hex.string()?);
                digest.or_else(|| hex.spot().fail("is not the SHA-256 of a key: 64 hexadecimal digits"))?
            }
            [None, None, None, Some(text)] => digest_of(&text, from_text(&text)?.key),
            [None, None, None, None] if !is_empty => {
                return spot.fail("lacks the key: `env`, `file`, `sha256` or `value`");
            }
            _ => return spot.fail("needs exactly one of `env`, `file`, `sha256` and `value`"),
        };
        let is_named = name.is_some();
        let name: Arc<str> = name.as_deref().unwrap_or(default_name).into();
        if !self.names.insert(name.clone()) {
            return spot.fail(format_args!("another key is called {name:?}, too"));
        }
        if self.digests.contains(&digest) {
            return spot.fail("the same key is listed twice");
        }
        self.digests.push(digest);
        Some(ClientKey { name, is_named, digest, routes: allowed, limits })
    }
}

fn digest_of(value: &Value<'_>, key: SecretString) -> KeyDigest {
    let key = key.expose_secret();
    if key.len() < SHORT {
        value.spot().warn(format_args!("the key is shorter than {SHORT} characters, and can be guessed"));
    }
    KeyDigest::of(key.as_bytes())
}

fn read_name(value: &Value<'_>) -> Option<String> {
    let name = value.string()?;
    if name.len() > LONGEST_NAME || name.contains(char::is_control) {
        return value.spot().fail(format_args!("must have at most {LONGEST_NAME} bytes and no control characters"));
    }
    Some(name.to_owned())
}

fn read_routes(table: &mut Table<'_>, routes: &[String]) -> Option<Vec<Box<str>>> {
    let entries = table.take_array("routes")?;
    let allowed = entries.iter().filter_map(|value| {
        let name = value.string()?;
        if !routes.iter().any(|route| covers(name, route)) {
            let known = routes.iter().map(String::as_str);
            value.spot().report_unknown(format_args!("there is no route {name:?}"), name, known);
        }
        Some(name.into())
    });
    Some(allowed.collect())
}

fn read_limits(table: &mut Table<'_>) -> Limits {
    let mut limit = |name| table.take_u32(name).and_then(NonZeroU32::new);
    Limits {
        requests_per_minute: limit("requests_per_minute"),
        tokens_per_minute: limit("tokens_per_minute"),
        max_concurrency: limit("max_concurrency"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigErrors};
    use std::path::Path;

    const REST: &str = "[providers.p]\ndialect = 'openai-chat'\nbase_url = 'http://h'\n\
        [routes.'gpt-4o']\ntargets = [{ provider = 'p' }]\n[routes.'fb-*']\ntargets = [{ provider = 'p' }]\n";
    /// The SHA-256 of "abc".
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn read(root: &str) -> Result<Config, ConfigErrors> {
        let environment = |name: &str| (name == "KEY").then(|| "a-key-that-is-long-enough".to_owned());
        Config::from_toml(&format!("{root}\n{REST}"), Path::new("gateway.toml"), &environment)
    }

    fn errors(root: &str) -> Vec<String> {
        let errors = read(root).map(|_| ()).expect_err(root);
        errors.to_string().lines().map(|line| line.replace("gateway.toml:", "")).collect()
    }

    #[test]
    fn keys_come_from_anywhere_and_stay_as_digests() {
        let config = read(&format!(
            "[auth]\nkeys = [{{ env = 'KEY' }}, {{ sha256 = '{ABC}', name = 'team', routes = ['gpt-4o', 'f*'],\n\
             requests_per_minute = 60, tokens_per_minute = 1000, max_concurrency = 8 }}]\n\
             admin_keys = [{{ value = 'a-secret-that-stands-in-the-file' }}]"
        ))
        .unwrap();
        let [first, second] = &config.auth.keys[..] else { panic!("{:?}", config.auth) };
        assert_eq!((&*first.name, &*second.name, &*config.auth.admin_keys[0].name), ("key-1", "team", "admin-key-1"));
        assert_eq!(first.digest, KeyDigest::of(b"a-key-that-is-long-enough"));
        assert_eq!(second.digest, KeyDigest::of(b"abc"));
        assert_eq!(second.limits.requests_per_minute, NonZeroU32::new(60));
        assert!(second.allows("gpt-4o") && second.allows("fb-*") && !second.allows("gpt-4o-mini"));
        assert!(first.allows("gpt-4o-mini"));
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        let shown = format!("{config:?} {:?}", config.warnings);
        assert!(!shown.contains("long-enough") && !shown.contains("a-secret"), "{shown}");
    }

    #[test]
    fn what_is_wrong_with_keys_is_said_where_it_stands() {
        for (root, expected) in [
            ("[auth]", "1:2: auth: needs `keys`, `admin_keys` or both"),
            ("[auth]\nkeys = []", "2:8: auth.keys: is empty: leave it out, or give a key"),
            ("[auth]\nkeys = ['sk-secret']", "2:9: auth.keys[0]: expected where the key comes from"),
            ("[auth]\nkeys = [{ name = 'a' }]", "2:9: auth.keys[0]: lacks the key"),
            ("[auth]\nkeys = [{ sha256 = 'abc' }]", "is not the SHA-256 of a key: 64 hexadecimal digits"),
            ("[auth]\nkeys = [{ env = 'NONE' }]", "the environment variable NONE is not set"),
            ("[auth]\nkeys = [{ env = 'KEY' }, { env = 'KEY' }]", "2:26: auth.keys[1]: the same key is listed twice"),
            ("[auth]\nkeys = [{ env = 'KEY', routes = ['gpt-4'] }]", "did you mean `gpt-4o`?"),
            ("[auth]\nadmin_keys = [{ env = 'KEY', routes = ['gpt-4o'] }]", "unknown key"),
            ("[auth]\nadmin_keys = [{ env = 'KEY', file = 'x' }]", "needs exactly one of"),
            ("listen = '0.0.0.0:1'\n[auth]\nadmin_keys = [{ env = 'KEY' }]", "1:10: listen: is not a loopback address"),
        ] {
            let found = errors(root);
            assert!(found.len() == 1 && found[0].contains(expected), "{root}: {found:?}");
        }
        let named = format!("[auth]\nkeys = [{{ env = 'KEY', name = 'a' }}, {{ sha256 = '{ABC}', name = 'a' }}]");
        assert!(errors(&named)[0].contains("another key is called \"a\", too"));
    }

    #[test]
    fn with_a_key_any_address_may_be_listened_on() {
        let config = read("listen = '0.0.0.0:1'\n[auth]\nkeys = [{ env = 'KEY' }]").unwrap();
        assert_eq!(config.listen.port(), 1);
        assert_eq!(config.may_listen("[::]:80".parse().unwrap()), Ok(()));
        let open = read("").unwrap();
        assert!(open.may_listen("[::]:80".parse().unwrap()).is_err());
        assert_eq!(open.may_listen("[::ffff:127.0.0.1]:80".parse().unwrap()), Ok(()));
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        assert_eq!(KeyDigest::from_hex(&ABC.to_uppercase()), Some(KeyDigest::of(b"abc")));
        for wrong in ["", &ABC[1..], &format!("{ABC}0"), &ABC.replace("ba", "+a"), &ABC.replace("ba", "\u{e9}")] {
            assert_eq!(KeyDigest::from_hex(wrong), None, "{wrong}");
        }
    }
}
