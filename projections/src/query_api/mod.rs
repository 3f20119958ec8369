//! The read door: HTTP in, rows of the read models out.
//!
//! Each read model brings its own routes; here is what they share: waiting for a caller's own write ([`After`]), opening
//! sealed rows ([`Sealed`]), pages and their cursors ([`page`]).

pub mod feed;
pub mod page;

mod access;
mod after;
mod config;
mod cursor;
mod erasure;
mod health;
mod lag_feed;
mod openapi;
mod parked;
mod router;
mod sealed;
mod served;
mod service;
mod state;
mod ward_feed;

pub use access::{Access, Part};
pub use after::{After, PositionOnly};
pub use config::QueryConfig;
pub use feed::FeedArgs;
pub use openapi::openapi;
pub use page::{LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX};
pub use router::router;
pub use sealed::Sealed;
pub use service::QueryService;
pub(crate) use state::database_problem;
pub use state::{QueryApi, Settings};
