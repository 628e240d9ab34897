//! Which route a model name takes: the exact name, then the longest prefix.

use std::collections::HashMap;

use super::route::RouteConfig;

/// The name of a route, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pattern<'a> {
    /// That model.
    Exact(&'a str),
    /// Every model that begins so: `"fb-*"`; `"*"` has the empty prefix.
    Prefix(&'a str),
}

impl<'a> Pattern<'a> {
    pub(super) fn parse(name: &'a str) -> Result<Self, &'static str> {
        match name.split_once('*') {
            None if name.is_empty() => Err("a route's name must not be empty; \"*\" matches every model"),
            None => Ok(Pattern::Exact(name)),
            Some((prefix, "")) => Ok(Pattern::Prefix(prefix)),
            Some((_, rest)) if rest.contains('*') => Err("a pattern has one `*` only"),
            Some(_) => Err("the `*` of a pattern stands at its end"),
        }
    }
}

/// The routes of a gateway.
///
/// Of those that match a model, the exact name beats a pattern, and a longer prefix a shorter one: `"*"` comes last.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    routes: Vec<RouteConfig>,
    /// Indices into `routes`, as are those in `prefixes`.
    exact: HashMap<Box<str>, usize>,
    /// The longest first.
    prefixes: Vec<(Box<str>, usize)>,
}

impl Routes {
    /// The route that serves the model, if any does.
    #[must_use]
    pub fn find(&self, model: &str) -> Option<&RouteConfig> {
        self.find_index(model).map(|index| &self.routes[index])
    }

    /// The place of the route that serves the model, in the order of [`iter`](Self::iter).
    #[must_use]
    pub fn find_index(&self, model: &str) -> Option<usize> {
        let by_prefix =
            || self.prefixes.iter().find(|(prefix, _)| model.starts_with(&**prefix)).map(|(_, index)| index);
        self.exact.get(model).or_else(by_prefix).copied()
    }

    /// The routes, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, RouteConfig> {
        self.routes.iter()
    }

    pub(super) fn insert(&mut self, pattern: Pattern<'_>, route: RouteConfig) {
        let index = self.routes.len();
        self.routes.push(route);
        match pattern {
            Pattern::Exact(name) => {
                self.exact.insert(name.into(), index);
            }
            Pattern::Prefix(prefix) => {
                let place = self.prefixes.partition_point(|(other, _)| other.len() >= prefix.len());
                self.prefixes.insert(place, (prefix.into(), index));
            }
        }
    }
}

impl<'a> IntoIterator for &'a Routes {
    type Item = &'a RouteConfig;
    type IntoIter = std::slice::Iter<'a, RouteConfig>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Route, Target, config::Policy};

    #[test]
    fn a_pattern_has_one_star_at_its_end() {
        assert_eq!(Pattern::parse("gpt-4o"), Ok(Pattern::Exact("gpt-4o")));
        assert_eq!(Pattern::parse("fb-*"), Ok(Pattern::Prefix("fb-")));
        assert_eq!(Pattern::parse("*"), Ok(Pattern::Prefix("")));
        for wrong in ["", "**", "a*b", "*a", "a**", "*a*"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_exact_name_wins_then_the_longest_prefix() {
        let mut routes = Routes::default();
        let names = ["*", "fb-*", "fb-mini", "fb-mini-*", "gpt-4o", "f*"];
        for name in names {
            let route = Route::new(name, [Target::named("t")]).unwrap();
            routes.insert(Pattern::parse(name).unwrap(), RouteConfig { route, policy: Policy::default() });
        }
        for (model, name) in [
            ("fb-mini", "fb-mini"),
            ("fb-mini-2", "fb-mini-*"),
            ("fb-mini-", "fb-mini-*"),
            ("fb-min", "fb-*"),
            ("fb-", "fb-*"),
            ("fb", "f*"),
            ("gpt-4o", "gpt-4o"),
            ("gpt-4o-mini", "*"),
            ("", "*"),
        ] {
            assert_eq!(routes.find(model).unwrap().route.name(), name, "{model}");
        }
        assert!(routes.iter().map(|route| route.route.name()).eq(names));
    }

    #[test]
    fn without_a_star_a_model_may_have_no_route() {
        assert!(Routes::default().find("gpt-4o").is_none());
    }
}
