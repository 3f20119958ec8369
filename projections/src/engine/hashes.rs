//! Compares the rows of two runs without looking at what is secret in them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgExecutor, PgPool};

/// For each table: how many rows, and a hash over them that does not depend on their order.
pub type Hashes = BTreeMap<String, (i64, String)>;

/// The columns of each table that can be compared.
pub(crate) type Columns = BTreeMap<String, BTreeSet<String>>;

/// What differs between two correct folds of the same log: sealing takes a fresh nonce each time, and a reactor's orders say
/// what has become of them.
const DIFFERENT_BY_NATURE: &str =
    "column_name = 'sealed' or column_name like 'sealed\\_%' or columns.table_name = 'orders'";

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
    let mut hashes = Hashes::new();
    for (table, columns) in columns(pool, schema).await? {
        let expression = |column: &String| {
            let instead = instead(&table, column);
            instead.map_or_else(|| format!("\"{column}\""), str::to_owned)
        };
        let statement = format!(
            "select count(*), md5(coalesce(string_agg(row_hash, '' order by row_hash), '')) from
                 (select {} as row_hash from \"{schema}\".\"{table}\") as rows",
            row_hash(columns.iter().map(expression))
        );
        hashes.insert(table, sqlx::query_as(&statement).fetch_one(pool).await?);
    }
    Ok(hashes)
}

/// An SQL expression for the hash of a row, from expressions for its columns.
pub(crate) fn row_hash(columns: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = columns.map(|column| format!("({column})::text")).collect();
    format!("md5(array[{}]::text)", texts.join(", "))
}

/// The columns of each table of a schema, all but the sealed ones.
pub(crate) async fn columns(on: impl PgExecutor<'_>, schema: &str) -> Result<Columns, sqlx::Error> {
    let rows: Vec<(String, String)> = sqlx::query_as(&format!(
        "select columns.table_name::text, column_name::text
         from information_schema.columns join information_schema.tables using (table_schema, table_name)
         where table_schema = $1 and table_type = 'BASE TABLE' and not ({DIFFERENT_BY_NATURE})"
    ))
    .bind(schema)
    .fetch_all(on)
    .await?;
    let mut columns = Columns::new();
    for (table, column) in rows {
        columns.entry(table).or_default().insert(column);
    }
    Ok(columns)
}

/// The columns of a table's primary key.
pub(crate) async fn primary_key(
    on: impl PgExecutor<'_>,
    schema: &str,
    table: &str,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select attname::text from pg_index join pg_attribute on attrelid = indrelid and attnum = any (indkey)
         where indisprimary and indrelid = format('%I.%I', $1::text, $2::text)::regclass order by attnum",
    )
    .bind(schema)
    .bind(table)
    .fetch_all(on)
    .await
}
