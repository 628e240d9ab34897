//! In which order a route's targets are tried.

mod adaptive;
mod cost;
mod latency;
mod order;
mod weighted;

use std::fmt;

pub use adaptive::Adaptive;
pub use cost::Cost;
pub use latency::Latency;
pub use order::Order;
pub use weighted::Weighted;

use crate::{RequestContext, RequestOutline, Route};

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
///
/// One that goes by how the targets do keeps their [pulses](crate::Statistics::pulses), which cost a few nanoseconds to read:
///
/// ```
/// use tokio::time::Instant;
/// use tower_failover::{
///     FailoverLayer, RequestContext, Route, Statistics, Target,
///     failover::{Order, Strategy},
///     statistics::Pulse,
/// };
///
/// /// The one that failed least in the last minute first.
/// #[derive(Debug)]
/// struct MostReliable(Vec<Pulse>);
///
/// impl Strategy for MostReliable {
///     fn order(&self, route: &Route, _: &RequestContext) -> Order {
///         let now = Instant::now();
///         Order::by(route, |place| 1.0 - self.0[place].success_rate(now).unwrap_or(1.0))
///     }
/// }
///
/// let route = Route::new("chat", [Target::named("a"), Target::named("b")]).unwrap();
/// let statistics = Statistics::default();
/// let strategy = MostReliable(statistics.pulses(&route));
/// let failover = FailoverLayer::new(&route).with_statistics(&statistics).with_strategy(strategy);
/// # let _ = failover;
/// ```
pub trait Strategy: fmt::Debug + Send + Sync + 'static {
    /// The order for one request.
    fn order(&self, route: &Route, request: &RequestContext) -> Order;

    /// Whether requests are meant for the route's first target, as long as that does well. Then whoever is put before it gets another
    /// one's traffic, and a [ramp](crate::FailoverLayer::with_ramp) holds there too; otherwise the first of the order is as good as
    /// any, and a ramp is for those behind it.
    fn is_meant_for_the_first(&self) -> bool {
        false
    }
}

/// Whether the request asks for a stream, as its attempts are counted.
fn is_streaming(request: &RequestContext) -> bool {
    request.outline().is_some_and(RequestOutline::streaming)
}
