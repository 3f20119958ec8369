//! Pages of lists: at most so many items, and where to go on.

use nexus_web::problem::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{QueryApi, cursor};

/// Items of a page when the caller does not say.
pub const LIST_LIMIT_DEFAULT: u32 = 50;
/// Items of a page at most.
pub const LIST_LIMIT_MAX: u32 = 500;

/// A page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The `cursor` of the next page; null at the end of the list.
    pub next: Option<String>,
}

/// Checks the caller's `limit`.
pub fn limit(asked: Option<u32>) -> Result<i64, Problem> {
    match asked {
        None => Ok(LIST_LIMIT_DEFAULT.into()),
        Some(limit) if (1..=LIST_LIMIT_MAX).contains(&limit) => Ok(limit.into()),
        Some(_) => Err(Problem::invalid_parameter("limit", format!("From 1 to {LIST_LIMIT_MAX}."))),
    }
}

/// Cuts rows that were read with one more than the limit; says whether there are more.
pub fn cut<R>(rows: &mut Vec<R>, limit: i64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    more
}

impl QueryApi {
    /// The cursor that continues the list named by `scope` after `key`.
    pub fn cursor(&self, scope: &str, key: &impl Serialize) -> String {
        cursor::encode(self.keyring(), scope, key)
    }

    /// The key in the caller's cursor, which must be one of this list.
    pub fn cursor_key<K: DeserializeOwned>(&self, scope: &str, cursor: Option<&str>) -> Result<Option<K>, Problem> {
        cursor.map(|cursor| cursor::decode(self.keyring(), scope, cursor)).transpose()
    }
}
