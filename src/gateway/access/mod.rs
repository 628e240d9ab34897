//! Who may do what: keys, and what each of them may ask.

mod credential;
mod guard;
mod slot;

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use http::{Method, StatusCode, header, request::Parts};
use tokio::sync::OwnedSemaphorePermit;

pub(super) use self::{
    guard::guard,
    slot::{Held, HeldBody, Slots},
};
use crate::{
    Fault, FaultKind, Refusal, RequestContext,
    config::{ClientKey, Config, KeyDigest},
    rate_limit::{self, Asking, Limiter, Limits},
    shared_state::Fleet,
    statistics::Account,
};

/// When to come back for a call that is one too many at a time: somebody's has to end first.
const ANOTHER_MOMENT: Duration = Duration::from_secs(1);

/// The keys of a gateway.
///
/// A key is found by the SHA-256 of what was sent. How long that takes may depend on how much of the digest is that of some
/// key, and tells nothing: to choose the digest's beginning is to break SHA-256. Neither does it depend on how many keys
/// there are.
#[derive(Debug, Default)]
pub(super) struct Access {
    clients: HashMap<KeyDigest, Arc<Client>>,
    admins: HashMap<KeyDigest, Arc<Client>>,
}

/// Whoever has a certain key.
#[derive(Debug)]
pub(super) struct Client {
    name: Arc<str>,
    /// Whose answers are kept for it: by its own name, or else by what no other key is ever called.
    tenant: Arc<str>,
    /// By the route's place in the configuration; `None` for all.
    allowed: Option<Box<[bool]>>,
    limits: Limits,
    limiter: Option<Arc<Limiter>>,
    account: Arc<Account>,
    /// What replicas call it, where they keep its limits together.
    shared: Option<(Fleet, String)>,
}

impl Access {
    /// The keys of a configuration. What was asked so far with the same key, or with one in whose place another of the same name
    /// is now, counts on; towards its limits while these stay the same.
    pub(super) fn new(config: &Config, fleet: Option<&Fleet>, before: Option<&Access>) -> Self {
        let is_gone = |digest: &KeyDigest| config.auth.keys.iter().all(|key| key.digest != *digest);
        let known = |key: &ClientKey| {
            let clients = &before?.clients;
            // First by itself: without a name of its own it is called by its place, where another may have stood.
            clients.get(&key.digest).or_else(|| {
                let mut gone = clients.iter().filter(|(digest, _)| is_gone(digest));
                gone.find(|(_, client)| client.name == key.name).map(|(_, client)| client)
            })
        };
        let client = |key: &ClientKey| {
            let allowed = |_: &_| config.routes.iter().map(|route| key.allows(route.route.name())).collect();
            let known = known(key);
            let limiter = known.and_then(|same| same.limiter.clone().filter(|_| same.limits == key.limits));
            let client = Client {
                name: key.name.clone(),
                tenant: if key.is_named { key.name.clone() } else { key.digest.pseudonym().into() },
                allowed: key.routes.as_ref().map(allowed),
                limits: key.limits,
                limiter: limiter.or_else(|| Limiter::new(&key.limits).map(Arc::new)),
                account: known.map(|same| same.account.clone()).unwrap_or_default(),
                shared: fleet.map(|fleet| (fleet.clone(), format!("client/{}", key.digest.pseudonym()))),
            };
            (key.digest, Arc::new(client))
        };
        let all = |keys: &[ClientKey]| keys.iter().map(client).collect();
        Access { clients: all(&config.auth.keys), admins: all(&config.auth.admin_keys) }
    }

    /// Who asks for an answer; `None` where anybody may.
    pub(super) fn client(&self, parts: &Parts) -> Result<Option<&Arc<Client>>, Fault> {
        if self.clients.is_empty() {
            return not_from_another_site(parts).map(|()| None);
        }
        credential::sent(&parts.headers, parts.uri.query())
            .find_map(|key| self.clients.get(&KeyDigest::of(&key)))
            .map(Some)
            .ok_or_else(|| unknown_key(credential::sent(&parts.headers, parts.uri.query()).next().is_some()))
    }

    /// Where it is counted what is spent with a key.
    pub(super) fn account(&self, key: &ClientKey) -> Option<&Arc<Account>> {
        self.clients.get(&key.digest).map(|client| client.account())
    }

    /// Whether whoever asks may see and do what is for operators.
    fn admit_operator(&self, parts: &Parts) -> Result<(), Fault> {
        let keys = if self.admins.is_empty() { &self.clients } else { &self.admins };
        if keys.is_empty() {
            not_from_another_site(parts)?;
            // A name of another site may lead here: its pages would be taken for ours.
            let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
            return host.is_none_or(is_this_machine).then_some(()).ok_or_else(foreign_page);
        }
        let mut sent = credential::sent_by_operator(&parts.headers).map(|key| KeyDigest::of(&key)).peekable();
        let something = sent.peek().is_some();
        let mut is_client = false;
        for digest in sent {
            if keys.contains_key(&digest) {
                return Ok(());
            }
            is_client |= self.clients.contains_key(&digest);
        }
        match is_client {
            true => Err(Fault::new(FaultKind::BadRequest, "this key is not one for operators")
                .with_status(StatusCode::FORBIDDEN)
                .with_code("forbidden")),
            false => Err(unknown_key(something)),
        }
    }
}

/// Where no key is asked for, a page of any site that is open on this machine could ask: its browser says so. It could not read
/// the answers, but spend what they cost. Following a link is no such request.
fn not_from_another_site(parts: &Parts) -> Result<(), Fault> {
    let is = |name: &str, values: &[&str]| {
        parts.headers.get(name).is_some_and(|value| values.iter().any(|one| value == one))
    };
    let is_visit = parts.method == Method::GET && is("sec-fetch-mode", &["navigate"]);
    let origin = parts.headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let is_ours = |origin: &str| origin.split_once("://").is_some_and(|(_, host)| is_this_machine(host));
    // A page that tells no other site where it is (`no-referrer`, as ours) does not tell this one either, but its browser knows.
    let is_foreign = origin.is_some_and(|origin| !is_ours(origin)) && !is("sec-fetch-site", &["same-origin"]);
    match is_foreign || is("sec-fetch-site", &["cross-site", "same-site"]) && !is_visit {
        true => Err(foreign_page()),
        false => Ok(()),
    }
}

fn foreign_page() -> Fault {
    Fault::new(FaultKind::BadRequest, "pages of other sites may not ask a gateway that has no keys")
        .with_status(StatusCode::FORBIDDEN)
        .with_code("forbidden")
}

/// Whether a host, with or without a port, is this machine by a name that no other site can have.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    name == "localhost" || name.ends_with(".localhost") || name.parse().is_ok_and(is_loopback)
}

fn unknown_key(something_was_sent: bool) -> Fault {
    let message = match something_was_sent {
        true => "the key that was sent is not one of this gateway",
        false => {
            "a key of this gateway is needed: send one as `Authorization: Bearer`, `x-api-key`, `api-key` or \
                  `x-goog-api-key`"
        }
    };
    Fault::new(FaultKind::BadRequest, message).with_status(StatusCode::UNAUTHORIZED).with_code("invalid_api_key")
}

impl Client {
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// Where it is counted what is spent with it.
    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Whether the route at that place of the configuration may be asked.
    pub(super) fn may_ask(&self, route: usize) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.get(route).copied().unwrap_or(false))
    }

    /// That it may not ask for that model.
    pub(super) fn forbidden(model: &str) -> Fault {
        Fault::new(FaultKind::BadRequest, format!("this key may not ask for the model `{model}`"))
            .with_status(StatusCode::FORBIDDEN)
            .with_code("model_not_allowed")
    }

    /// Takes what a request needs of the key's own limits.
    pub(super) fn take(&self, context: &RequestContext) -> Result<Option<OwnedSemaphorePermit>, Fault> {
        let Some(limiter) = &self.limiter else { return Ok(None) };
        limiter.take(|| context.requirements().map_or(0, rate_limit::tokens)).map_err(Self::used_up)
    }

    /// What a request that is within the key's limits here has to ask the other replicas for, if anything.
    pub(super) fn ask(&self, context: &RequestContext) -> Option<Asking> {
        let (fleet, name) = self.shared.as_ref().filter(|_| self.limiter.is_some())?;
        let mut portions = Vec::new();
        self.limits.portions(name, || context.requirements().map_or(0, rate_limit::tokens), &mut portions);
        rate_limit::ask(fleet, portions)
    }

    /// That a limit of the key's does not let a request through.
    pub(super) fn used_up(refusal: Refusal) -> Fault {
        Fault::new(FaultKind::RateLimited, "the limit of this key is used up")
            .with_code("rate_limit_exceeded")
            .with_retry_after(refusal.retry_after().unwrap_or(ANOTHER_MOMENT))
            .unsent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const A: &str = "a-key-that-is-long-enough";
    const B: &str = "b-key-that-is-long-enough";
    const C: &str = "c-key-that-is-long-enough";

    fn access(keys: &[&str], before: Option<&Access>) -> Access {
        let keys: Vec<_> = keys.iter().map(|key| format!("{{ {key}, requests_per_minute = 1 }}")).collect();
        let toml = format!(
            "[auth]\nkeys = [{}]\n[providers.p]\ndialect = 'openai-chat'\nbase_url = 'http://h'\n\
             [routes.r]\ntargets = [{{ provider = 'p' }}]\n",
            keys.join(", ")
        );
        Access::new(&Config::from_toml(&toml, Path::new("test.toml"), &|_| None).unwrap(), None, before)
    }

    /// Whether the key's only request of this minute was still there.
    fn may_ask(access: &Access, key: &str) -> bool {
        access.clients[&KeyDigest::of(key.as_bytes())].take(&RequestContext::new()).is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_counts_for_the_key_and_not_for_its_place_in_the_list() {
        let plain = |key: &str| format!("value = '{key}'");
        let named = |key: &str| format!("value = '{key}', name = 'team'");
        let before = access(&[&plain(A), &plain(B)], None);
        assert!(may_ask(&before, A) && !may_ask(&before, A));
        let without = access(&[&plain(B)], Some(&before));
        assert!(may_ask(&without, B), "it stands where the other stood");
        let more = access(&[&plain(C), &plain(A)], Some(&before));
        assert!(may_ask(&more, C) && !may_ask(&more, A));
        // A key that is changed is its owner's still.
        let before = access(&[&named(A)], None);
        assert!(may_ask(&before, A));
        assert!(!may_ask(&access(&[&named(B)], Some(&before)), B));
    }
}
