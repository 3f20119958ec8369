//! Which pages of other origins may call a door from a browser (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! None, unless they are named: without `--cors-origin` no answer says a word about it. A wildcard can't be named, and
//! cookies never count. A preflight needs no token: which routes there are is in the API's own description.

use std::{str::FromStr, time::Duration};

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{
    pipeline::REQUEST_ID_HEADER,
    rate_limit::{RATE_LIMIT_HEADER, RATE_LIMIT_POLICY_HEADER},
    transport::is_this_machine,
};

/// What a page may send: all that the doors read, beside what browsers send anyway.
const SENT: [HeaderName; 13] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    HeaderName::from_static("dpop"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("nexus-position"),
    HeaderName::from_static("nexus-wait-ms"),
    HeaderName::from_static("nexus-purpose"),
    HeaderName::from_static("prefer"),
];
/// What a page may read, beside what browsers show anyway.
const SHOWN: [HeaderName; 11] = [
    header::ACCEPT_ENCODING,
    header::ETAG,
    header::LOCATION,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    REQUEST_ID_HEADER,
    RATE_LIMIT_HEADER,
    RATE_LIMIT_POLICY_HEADER,
    HeaderName::from_static("dpop-nonce"),
    HeaderName::from_static("idempotency-replayed"),
    HeaderName::from_static("nexus-position"),
];
/// The methods of our routes.
const METHODS: [Method; 3] = [Method::GET, Method::POST, Method::PUT];
/// How long a browser may remember a preflight.
const PREFLIGHT_LIFETIME: Duration = Duration::from_secs(600);

/// The settings of a door about browsers.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CorsArgs {
    /// An origin whose pages may call this door from a browser, such as https://app.example; repeat it, or separate several
    /// by commas. Without one, none may.
    #[arg(long = "cors-origin", env = "NEXUS_CORS_ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<Origin>,
}

/// Scheme, host and port, exactly as browsers write them (RFC 6454, section 6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// The text is no origin that can be let in.
#[derive(Debug, thiserror::Error)]
#[error(
    "an origin is https://host or https://host:port, in small letters, without a path and without the usual port; http:// is \
     for loopback only, and there is no wildcard"
)]
pub struct NotAnOrigin;

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let url = url::Url::parse(text).map_err(|_| NotAnOrigin)?;
        let is_safe = match url.scheme() {
            "https" => true,
            "http" => url.host_str().is_some_and(is_this_machine),
            _ => false,
        };
        if !is_safe || text.contains('*') || url.origin().ascii_serialization() != text {
            return Err(NotAnOrigin);
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| NotAnOrigin)
    }
}

impl CorsArgs {
    /// What answers preflights and marks answers; nothing if no origin is let in.
    pub(crate) fn layer(&self) -> Option<CorsLayer> {
        let origins: Vec<_> = self.cors_origins.iter().map(|origin| origin.0.clone()).collect();
        (!origins.is_empty()).then(|| {
            CorsLayer::new()
                .allow_origin(AllowOrigin::list(origins))
                .allow_methods(METHODS)
                .allow_headers(SENT)
                .expose_headers(SHOWN)
                .max_age(PREFLIGHT_LIFETIME)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_exact() {
        for good in
            ["https://app.example", "https://app.example:8443", "http://localhost:3000", "http://127.0.0.1:7410"]
        {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        let bad = [
            "*",
            "null",
            "",
            "https://*",
            "https://*.example",
            "app.example",
            "https://app.example/",
            "https://App.example",
            "https://app.example:443",
            "https://app.example/path",
            "https://user@app.example",
            "http://app.example",
            "file:///x",
            "https://",
        ];
        for bad in bad {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
