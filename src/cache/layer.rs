use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Cache,
    key::{CacheKey, ExactMatch, Key, KeyBuilder, KeyedRequest},
    store::CacheStore,
};

/// Answers again what was answered before: see the [module](crate::cache).
#[derive(Clone, Debug)]
pub struct CacheLayer {
    policy: Policy,
}

type Tenant = dyn Fn(&KeyedRequest<'_>) -> String + Send + Sync;

#[derive(Clone)]
pub(super) struct Policy {
    pub(super) store: CacheStore,
    scope: Arc<str>,
    pub(super) ttl: Duration,
    pub(super) stale_if_error: Duration,
    pub(super) tool_calls: bool,
    pub(super) max_entry: usize,
    pub(super) max_body: usize,
    pub(super) total: Option<Duration>,
    key: Arc<dyn CacheKey>,
    tenant: Option<Arc<Tenant>>,
}

impl Policy {
    /// What tells a request from all others of all routes and tenants; `None` where its answer is not to be kept.
    pub(super) fn key(&self, request: &KeyedRequest<'_>) -> Option<Key> {
        let own = self.key.key(request)?;
        let key = KeyBuilder::new()
            .with("route", self.scope.as_bytes())
            .with("dialect", request.dialect.name().as_bytes())
            .with("key", own.as_bytes());
        let key = match &self.tenant {
            Some(tenant) => key.with("tenant", tenant(request).as_bytes()),
            None => request.add_tenant(key),
        };
        Some(key.finish())
    }
}

impl CacheLayer {
    /// Keeps answers for so long, in a store of 256 MiB of its own.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        let policy = Policy {
            store: CacheStore::new(256 << 20),
            scope: "".into(),
            ttl,
            stale_if_error: Duration::ZERO,
            tool_calls: false,
            max_entry: 4 << 20,
            max_body: 32 << 20,
            total: None,
            key: Arc::new(ExactMatch::new()),
            tenant: None,
        };
        CacheLayer { policy }
    }

    /// Keeps answers in a store that others may share.
    #[must_use]
    pub fn with_store(mut self, store: &CacheStore) -> Self {
        self.policy.store = store.clone();
        self
    }

    /// Says what tells requests to this layer from those to others with the same store: the route's name, say.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<Arc<str>>) -> Self {
        self.policy.scope = scope.into();
        self
    }

    /// Keeps answers for so much longer, to be given where no target can answer. Not at all by default.
    #[must_use]
    pub fn with_stale_if_error(mut self, stale_if_error: Duration) -> Self {
        self.policy.stale_if_error = stale_if_error;
        self
    }

    /// Whether answers are kept that call tools: then the same request does the same thing again. Not by default.
    #[must_use]
    pub fn with_tool_calls(mut self, tool_calls: bool) -> Self {
        self.policy.tool_calls = tool_calls;
        self
    }

    /// How many bytes of an answer are recorded: a longer one passes and is not kept. 4 MiB by default.
    #[must_use]
    pub fn with_max_entry(mut self, bytes: usize) -> Self {
        self.policy.max_entry = bytes;
        self
    }

    /// How many bytes a request's body may have; a longer one is answered with 413. 32 MiB by default.
    #[must_use]
    pub fn with_max_body(mut self, bytes: usize) -> Self {
        self.policy.max_body = bytes;
        self
    }

    /// How long a request may take in all, where its context has no [`Deadline`](crate::Deadline). Those who wait for the answer
    /// of another one wait no longer than that. No bound by default.
    #[must_use]
    pub fn with_total(mut self, total: Duration) -> Self {
        self.policy.total = Some(total);
        self
    }

    /// Says which requests are the same.
    #[must_use]
    pub fn with_key(mut self, key: impl CacheKey) -> Self {
        self.policy.key = Arc::new(key);
        self
    }

    /// Says whose a request is: those of different tenants share nothing.
    ///
    /// Without it, that is the client's name in its [`RequestContext`](crate::RequestContext::client), or else the credentials in
    /// its headers.
    #[must_use]
    pub fn with_tenant(mut self, tenant: impl Fn(&KeyedRequest<'_>) -> String + Send + Sync + 'static) -> Self {
        self.policy.tenant = Some(Arc::new(tenant));
        self
    }
}

impl<S: Service<Request<Full<Bytes>>>> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        Cache::new(inner, Arc::new(self.policy.clone()))
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("scope", &self.scope)
            .field("ttl", &self.ttl)
            .field("stale_if_error", &self.stale_if_error)
            .field("tool_calls", &self.tool_calls)
            .finish_non_exhaustive()
    }
}
