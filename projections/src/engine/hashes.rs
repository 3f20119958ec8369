//! Compares the rows of two runs without looking at what is secret in them.

use std::collections::BTreeMap;

use sqlx::PgPool;

/// For each table: how many rows, and a hash over them that does not depend on their order.
pub type Hashes = BTreeMap<String, (i64, String)>;

/// Columns that differ between two correct folds of the same log: sealing takes a fresh nonce each time.
const DIFFERENT_BY_NATURE: &str = "column_name = 'sealed' or column_name like 'sealed\\_%'";

/// The rows of each table of a schema, all columns but the sealed ones. Two folds of the same log with the same keys
/// come out the same.
pub async fn row_hashes(pool: &PgPool, schema: &str) -> Result<Hashes, sqlx::Error> {
    row_hashes_with(pool, schema, |_, _| None).await
}

/// The same, with an SQL expression in the place of the columns for which there is one; `null` leaves a column out.
pub async fn row_hashes_with(
    pool: &PgPool,
    schema: &str,
    mut instead: impl FnMut(&str, &str) -> Option<&'static str>,
) -> Result<Hashes, sqlx::Error> {
    let columns: Vec<(String, String)> = sqlx::query_as(&format!(
        "select columns.table_name::text, column_name::text
         from information_schema.columns join information_schema.tables using (table_schema, table_name)
         where table_schema = $1 and table_type = 'BASE TABLE' and not ({DIFFERENT_BY_NATURE})
         order by columns.table_name, column_name"
    ))
    .bind(schema)
    .fetch_all(pool)
    .await?;
    let mut expressions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (table, column) in columns {
        let expression = instead(&table, &column).map_or_else(|| format!("\"{column}\""), str::to_owned);
        expressions.entry(table).or_default().push(format!("({expression})::text"));
    }
    let mut hashes = Hashes::new();
    for (table, expressions) in expressions {
        let statement = format!(
            "select count(*), md5(coalesce(string_agg(row_hash, '' order by row_hash), '')) from
                 (select md5(array[{}]::text) as row_hash from \"{schema}\".\"{table}\") as rows",
            expressions.join(", ")
        );
        hashes.insert(table, sqlx::query_as(&statement).fetch_one(pool).await?);
    }
    Ok(hashes)
}
