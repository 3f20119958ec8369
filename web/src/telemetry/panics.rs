//! A panic is logged by its place. Its message is kept back unless it is a literal of the program: a formatted one may
//! hold whatever value the program choked on.

use std::panic::{self, PanicHookInfo};

/// Replaces the default hook, which prints the message to standard error.
pub(super) fn install_hook() {
    panic::set_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let message = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not shown)");
    metrics::counter!("panics_total").increment(1);
    tracing::error!(panic.location = location, panic.message = message, "the program panicked");
}
