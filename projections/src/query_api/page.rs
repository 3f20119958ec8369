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

/// How many rows are read at a time once some of a page are not shown.
const REFILL: i64 = 200;

/// Reads rows from a key on until one more than the limit are shown, or there are no more. What is hidden leaves no trace:
/// no page is short because of it.
pub async fn fill<R, K: Clone, F>(
    limit: i64,
    mut key: Option<K>,
    read: impl Fn(Option<K>, i64) -> F,
    key_of: impl Fn(&R) -> K,
    shows: impl Fn(&R) -> bool,
) -> Result<Vec<R>, Problem>
where
    F: Future<Output = Result<Vec<R>, Problem>>,
{
    let (mut shown, mut wanted) = (Vec::new(), limit + 1);
    loop {
        let rows = read(key.clone(), wanted).await?;
        let ended = i64::try_from(rows.len()).is_ok_and(|found| found < wanted);
        key = rows.last().map(&key_of);
        shown.extend(rows.into_iter().filter(&shows));
        if ended || i64::try_from(shown.len()).is_ok_and(|found| found > limit) {
            return Ok(shown);
        }
        wanted = REFILL.max(limit + 1);
    }
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
