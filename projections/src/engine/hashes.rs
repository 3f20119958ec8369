//! Compares the rows of two runs without looking at what is secret in them.

use std::collections::BTreeMap;

use sqlx::PgPool;

/// Columns that differ between two correct runs: sealed ones (fresh nonce) and times of writing.
const DIFFERENT_BY_NATURE: &str =
    "column_name = 'sealed' or column_name like 'sealed\\_%' or column_name = 'written_at'";

/// For each table of a schema: how many rows, and a hash over all their comparable columns, independent of their order.
pub async fn row_hashes(pool: &PgPool, schema: &str) -> Result<BTreeMap<String, (i64, String)>, sqlx::Error> {
    let tables: Vec<(String, String)> = sqlx::query_as(&format!(
        "select columns.table_name::text, string_agg(format('%I::text', column_name), ', ' order by column_name)
         from information_schema.columns join information_schema.tables using (table_schema, table_name)
         where table_schema = $1 and table_type = 'BASE TABLE' and not ({DIFFERENT_BY_NATURE})
         group by columns.table_name"
    ))
    .bind(schema)
    .fetch_all(pool)
    .await?;
    let mut hashes = BTreeMap::new();
    for (table, columns) in tables {
        let statement = format!(
            "select count(*), md5(coalesce(string_agg(row_hash, '' order by row_hash), '')) from
                 (select md5(array[{columns}]::text) as row_hash from \"{schema}\".\"{table}\") as rows"
        );
        hashes.insert(table, sqlx::query_as(&statement).fetch_one(pool).await?);
    }
    Ok(hashes)
}
