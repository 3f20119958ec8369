//! `docs/database-grants.md` says who may do what in the databases. Run with `NEXUS_UPDATE=1` to write it anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use nexus_testkit::TestDatabase;
use sqlx::PgPool;

const ABOUT: &str = "# Who may do what in the databases

Made from freshly migrated databases by `NEXUS_UPDATE=1 cargo test --release -p nexus-testkit --test grants`; a test fails when
it is out of date, so a new table or function without its grants is seen here first. What is not listed is not allowed. The
owner of everything is the role that migrates, and no service runs as it. Read models are shown by those of one version each.
`(a, b)` after a privilege means these columns only. Functions marked *definer* run with their owner's rights, and with a
search path of their own.

";

/// Everything that somebody other than its owner may do. Rows of one object and role are joined later.
const GRANTS: &str = "
    with objects as (
        select case c.relkind when 'S' then 'sequence' else 'table' end as kind,
            format('%s.%s', n.nspname, c.relname) as object, '' as columns, c.relowner as owner,
            aclexplode(coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::\"char\", c.relowner)))
                as acl
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'S')
        union all
        select 'table', format('%s.%s', n.nspname, c.relname), a.attname, c.relowner, aclexplode(a.attacl)
        from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
        where a.attacl is not null
        union all
        select case when p.prosecdef then 'function, definer' else 'function' end,
            format('%s.%s', n.nspname, p.proname), '', p.proowner,
            aclexplode(coalesce(p.proacl, acldefault('f', p.proowner)))
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        union all
        select 'schema', n.nspname, '', n.nspowner, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner)))
        from pg_namespace n
    )
    select kind, object, columns, coalesce(r.rolname, 'PUBLIC'), lower((acl).privilege_type), (acl).is_grantable
    from objects left join pg_roles r on r.oid = (acl).grantee
    where (acl).grantee <> owner and object !~ '^(pg_|information_schema)'
    order by 1, 2, 4, 5, 3";

type Row = (String, String, String, String, String, bool);

#[tokio::test]
async fn the_document_says_what_the_databases_do() {
    let mut text = ABOUT.to_owned();
    let databases = [
        ("nexus_log", TestDatabase::log().await),
        ("nexus_keys", TestDatabase::keys().await),
        ("nexus_read", TestDatabase::read().await),
    ];
    for (title, database) in &databases {
        let pool = database.pool().await;
        writeln!(text, "## {title}\n\n| object | | role | may |\n|---|---|---|---|").unwrap();
        for ((kind, object, role), privileges) in grants(&pool).await {
            writeln!(text, "| `{object}` | {kind} | {role} | {} |", privileges.join(", ")).unwrap();
        }
        text.push('\n');
        nothing_is_given_away(&pool).await;
    }
    let text = text.trim_end().to_owned() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/database-grants.md");
    if std::env::var_os("NEXUS_UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == text, "run this test with NEXUS_UPDATE=1");
}

/// By kind, object and role: the privileges, with their columns where they are limited to some.
async fn grants(pool: &PgPool) -> BTreeMap<(String, String, String), Vec<String>> {
    let rows: Vec<Row> = sqlx::query_as(GRANTS).fetch_all(pool).await.unwrap();
    let mut columns: BTreeMap<(String, String, String), BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for (kind, object, column, role, privilege, grantable) in rows {
        assert!(!grantable, "{role} may pass on {privilege} on {object}");
        columns.entry((kind, object, role)).or_default().entry(privilege).or_default().push(column);
    }
    let named = |(privilege, columns): (String, Vec<String>)| match columns.iter().all(String::is_empty) {
        true => privilege,
        false => {
            format!("{privilege} ({})", columns.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(", "))
        }
    };
    columns.into_iter().map(|(key, privileges)| (key, privileges.into_iter().map(named).collect())).collect()
}

/// What no table can say: nobody at run time is more than a role, and definers look nowhere but in their own schemas.
async fn nothing_is_given_away(pool: &PgPool) {
    let mighty: Vec<String> = sqlx::query_scalar(
        "select rolname::text from pg_roles where rolname like 'nexus%' and rolname <> 'nexus_migrator'
         and (rolsuper or rolcreatedb or rolcreaterole or rolbypassrls or rolreplication
            or exists (select from pg_auth_members where member = pg_roles.oid))",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(mighty.is_empty(), "{mighty:?} may more than their grants say");
    let trusting: Vec<String> = sqlx::query_scalar(
        "select p.proname::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
         where p.prosecdef and n.nspname !~ '^(pg_|information_schema)'
         and not exists (select from unnest(p.proconfig) as setting where setting like 'search_path=%')",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(trusting.is_empty(), "{trusting:?} run as their owner and look wherever the caller says");
    let owning: Vec<String> = sqlx::query_scalar(
        "select format('%s.%s', n.nspname, c.relname) from pg_class c
         join pg_namespace n on n.oid = c.relnamespace join pg_roles r on r.oid = c.relowner
         where r.rolname like 'nexus%' and r.rolname <> 'nexus_migrator'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(owning.is_empty(), "{owning:?} belong to a service");
}
