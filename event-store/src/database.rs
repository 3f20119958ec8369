//! Where a database is. Beyond this machine it is spoken to over verified TLS or not at all.

use nexus_web::transport::{PlaintextRefused, refuse_plaintext};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// Why a database's URL can't be used. Says nothing of what is in it but the host.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    #[error("not the URL of a PostgreSQL database")]
    Url(#[source] sqlx::Error),
    #[error(transparent)]
    Plaintext(#[from] PlaintextRefused),
}

/// Reads a URL with libpq's parameters. The files that `sslrootcert`, `sslcert` and `sslkey` name are read again for every
/// connection.
///
/// # Errors
/// If it is none, or leads beyond this machine without `sslmode=verify-full`.
pub fn database_options(url: &str) -> Result<PgConnectOptions, DatabaseUrlError> {
    let options: PgConnectOptions = url.parse().map_err(DatabaseUrlError::Url)?;
    let protected = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) || options.get_socket().is_some();
    refuse_plaintext(
        "the database",
        options.get_host(),
        protected,
        "add sslmode=verify-full&sslrootcert=… to its URL",
    )?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_elsewhere_needs_verified_tls() {
        for (url, passes) in [
            ("postgres://a:secret@127.0.0.1/log", true),
            ("postgres://a:secret@db.example.org/log", false),
            ("postgres://a:secret@db.example.org/log?sslmode=require", false),
            ("postgres://a:secret@db.example.org/log?sslmode=verify-ca", false),
            ("postgres://a:secret@db.example.org/log?sslmode=verify-full", true),
            ("127.0.0.1:5432", false),
        ] {
            let outcome = database_options(url);
            assert_eq!(outcome.is_ok(), passes, "{url}");
            assert!(!format!("{:?}", outcome.err()).contains("secret"), "{url}");
        }
    }
}
