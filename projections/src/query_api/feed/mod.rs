//! Live feeds: answers that go on, as server-sent events (<https://html.spec.whatwg.org/#server-sent-events>).
//!
//! A route brings a [`Source`], which looks at what is new and tells it. Here is what all feeds share: who may open how many
//! ([`Feeds`]), what wakes them ([`Woken`]: one task asks the database for all), how they go on after a break
//! ([`LastEventId`]), and when they end. A feed looks again every few seconds even if nothing wakes it, because access may
//! be withdrawn without any event of the patient's.

mod args;
mod hub;
mod last_event_id;
mod places;
mod state;
mod stream;

pub use args::FeedArgs;
pub(crate) use hub::{Hub, Woken};
pub(crate) use last_event_id::LastEventId;
pub(crate) use places::Feeds;
pub(crate) use state::{Paced, digest};
pub(crate) use stream::{FeedEvent, Out, Source, Stopping};
