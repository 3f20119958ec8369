//! The access log: who looked at whose data, durable before the data is.
//!
//! It is a log like that of the events, written by the same code into a schema of its own and published to a topic of its
//! own. [`batch`] is what is stored, [`recorder`] how it gets there. Reading is a read model's, in `projections`. This
//! crate knows no resource and no route; patients stand in it by their ids.

pub mod batch;
pub mod recorder;

mod lane;
mod queue;

pub use batch::{AGGREGATE_TYPE, Batch, EVENT_TYPE, EVENT_VERSION};
pub use recorder::Recorder;
