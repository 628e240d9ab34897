//! Takes the primary away under a bounded load, and tells what clients saw: a rehearsal of the outage that will come.
//!
//! ```
//! use tower_failover::gateway::{Paint, drill::{Drill, DrillSettings}};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = DrillSettings::default();
//! settings.requests = Some(20);
//! let drill = Drill::on_simulated_providers(settings).await?;
//! let report = drill.run(|_| {}).await?;
//! print!("{}", report.describe(Paint::Plain));
//! assert!(report.slo_held());
//! # Ok(()) }
//! ```
//!
//! A gateway is built from the configuration and served on a loopback port; a client asks it over real sockets, in three
//! phases: before, during and after the outage. The outage is [injected](crate::fault_injection) where the primary's
//! connections would be made. Nothing else is pretended: the other targets are asked in earnest, and cost what they cost.

mod announcement;
mod load;
mod phase;
mod progress;
mod report;
mod run;
mod settings;

pub use self::{
    phase::{Phase, PhaseReport},
    progress::{Progress, progress_bar},
    report::DrillReport,
    settings::{DrillError, DrillSettings},
};
use crate::{Target, config::Config, simulated::SimulatedProvider};

/// A drill, ready to be run, as often as is wanted.
#[derive(Debug)]
pub struct Drill {
    config: Config,
    settings: DrillSettings,
    /// The name of the route.
    route: String,
    /// The model that is asked for.
    model: String,
    primary: Target,
    /// Who is asked, where there is no configuration: kept, for they stop when they are dropped.
    simulated: Vec<SimulatedProvider>,
}
