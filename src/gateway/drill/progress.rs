//! How far a drill is.

use indicatif::{ProgressBar, ProgressStyle};

use super::{Drill, Phase};

/// How far a drill is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// In which phase it is.
    pub phase: Phase,
    /// How many requests are done in that phase.
    pub done: u64,
}

/// A bar on standard error, where that is a terminal, to be given to [`Drill::run`].
pub fn progress_bar(drill: &Drill) -> impl Fn(Progress) + Send + Sync + 'static {
    let bar = match drill.settings().requests {
        Some(requests) => ProgressBar::new(requests),
        None => ProgressBar::new_spinner(),
    };
    let template = match drill.settings().requests {
        Some(_) => "  {msg:7} [{bar:40}] {pos}/{len}",
        None => "  {msg:7} {spinner} {pos}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    move |progress: Progress| {
        bar.set_message(progress.phase.name());
        bar.set_position(progress.done);
        if progress.phase == Phase::After && bar.length() == Some(progress.done) {
            bar.finish_and_clear();
        }
    }
}
