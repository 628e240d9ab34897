//! In which order a route's targets are tried.

mod order;
mod weighted;

use std::fmt;

pub use order::Order;
pub use weighted::Weighted;

use crate::{RequestContext, Route};

/// Puts a route's targets into the order in which a request tries them.
///
/// Guards refuse those that cannot or may not serve it, whatever the order: a strategy only prefers.
///
/// ```
/// use tower_failover::{
///     FailoverLayer, RequestContext, Route, Target,
///     failover::{Order, Strategy},
/// };
///
/// /// Long prompts to the second target first.
/// #[derive(Debug)]
/// struct LongPromptsSecond;
///
/// impl Strategy for LongPromptsSecond {
///     fn order(&self, route: &Route, request: &RequestContext) -> Order {
///         let tokens = request.requirements().map_or(0, |needs| needs.input_tokens);
///         let order = Order::as_listed(route);
///         if tokens > 10_000 { order.with_first(1) } else { order }
///     }
/// }
///
/// let route = Route::new("chat", [Target::named("fast"), Target::named("roomy")]).unwrap();
/// let failover = FailoverLayer::new(&route).with_strategy(LongPromptsSecond);
/// # let _ = failover;
/// ```
pub trait Strategy: fmt::Debug + Send + Sync + 'static {
    /// The order for one request.
    fn order(&self, route: &Route, request: &RequestContext) -> Order;
}
