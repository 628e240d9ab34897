use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tower_service::Service;

use crate::{RequestContext, body, dialect, requirements_layer::RequirementsLayer};

/// A service that is told what its requests need: see the [module](crate::requirements_layer).
#[derive(Clone, Debug)]
pub struct WithRequirements<S> {
    inner: S,
    settings: RequirementsLayer,
}

impl<S> WithRequirements<S> {
    pub(super) fn new(inner: S, settings: RequirementsLayer) -> Self {
        WithRequirements { inner, settings }
    }
}

impl RequirementsLayer {
    /// The request's context with what its body says in it.
    fn context(&self, request: &mut Request<Full<Bytes>>) -> RequestContext {
        let mut context = request.extensions_mut().remove::<RequestContext>().unwrap_or_default();
        if let (None, Some(target)) = (context.target(), &self.target) {
            context = context.with_target(target.clone());
        }
        let from_path = || dialect::of_path(request.uri().path());
        let Some(dialect) = context.dialect().or_else(from_path).or(self.dialect) else { return context };
        // What cannot be read is for the service to answer.
        dialect::describe(context.clone(), dialect, request.uri().path(), &body::whole(request.body().clone()))
            .unwrap_or(context)
    }
}

impl<S> Service<Request<Full<Bytes>>> for WithRequirements<S>
where
    S: Service<Request<Full<Bytes>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        let context = self.settings.context(&mut request);
        request.extensions_mut().insert(context);
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ability, Dialect, Requirements, Target};

    fn context(layer: RequirementsLayer, path: &str, given: Option<RequestContext>) -> RequestContext {
        let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"12345678"}]}"#;
        let mut request = Request::post(path).body(Full::<Bytes>::from(body)).unwrap();
        given.into_iter().for_each(|context| _ = request.extensions_mut().insert(context));
        layer.context(&mut request)
    }

    #[test]
    fn what_the_body_says_is_added_to_what_was_asked_for() {
        let asked = Requirements { tags: ["eu".into()].into(), ..Requirements::default() };
        let given = RequestContext::new().with_requirements(asked).with_target(Target::named("given"));
        let layer = RequirementsLayer::new().with_target(Target::named("ours"));
        let context = context(layer, "/v1/chat/completions", Some(given.clone()));
        let needs = context.requirements().unwrap();
        assert!(needs.abilities.contains(Ability::Streaming) && needs.tags.contains("eu"));
        assert!(context.outline().unwrap().streaming());
        assert_eq!(context.target().unwrap().id().as_str(), "given");
        assert!(given.requirements().is_some(), "the caller's own clone is told too");
    }

    #[test]
    fn a_dialect_that_nothing_names_is_not_guessed() {
        let layer = RequirementsLayer::new().with_target(Target::named("ours"));
        let unknown = context(layer.clone(), "/ask", None);
        assert!(unknown.requirements().is_none() && unknown.target().is_some());
        let told = context(layer.with_dialect(Dialect::OpenAiChat), "/ask", None);
        assert!(told.requirements().unwrap().abilities.contains(Ability::Streaming));
    }
}
