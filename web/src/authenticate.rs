//! From the `Authorization` header to a [`Caller`]: plain bearer tokens (RFC 6750) and tokens that are bound to a key
//! (DPoP, RFC 9449).

use std::net::SocketAddr;

use axum::{
    extract::{OriginalUri, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use nexus_auth::{Caller, DpopConfig, Proof, ProofFault, TokenError, Verifier};

use crate::{problem::Problem, tls::TlsArgs};

/// The header that carries a proof.
const PROOF_HEADER: HeaderName = HeaderName::from_static("dpop");
/// The header that tells which nonce the next proof must carry.
const NONCE_HEADER: HeaderName = HeaderName::from_static("dpop-nonce");

/// The settings of a door about tokens that are bound to a key.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DpopArgs {
    /// Refuse plain bearer tokens: every token must be bound to a key of its holder (DPoP, RFC 9449).
    #[arg(long, env = "NEXUS_REQUIRE_DPOP")]
    pub require_dpop: bool,
    /// Demand a nonce of this process in every DPoP proof, so that none can be replayed at another process.
    #[arg(long, env = "NEXUS_DPOP_NONCES")]
    pub dpop_nonces: bool,
    /// The URL under which callers reach this door, which DPoP proofs must name; the listening address, with https:// if it
    /// has a certificate, when not given.
    #[arg(long, env = "NEXUS_PUBLIC_URL")]
    pub public_url: Option<String>,
}

impl DpopArgs {
    /// The settings as the verifier takes them, for a door that listens there.
    pub fn config(&self, listening: SocketAddr, tls: &TlsArgs) -> DpopConfig {
        let public_url = self.public_url.clone().unwrap_or_else(|| format!("{}://{listening}", tls.scheme()));
        DpopConfig { public_url, required: self.require_dpop, nonces: self.dpop_nonces }
    }
}

/// What a request shows of its caller.
enum Presented<'a> {
    Bearer(&'a str),
    Dpop { token: &'a str, proof: &'a str },
}

/// Turns the token into a [`Caller`], or refuses.
pub(crate) async fn authenticate(State(verifier): State<Verifier>, mut request: Request, next: Next) -> Response {
    let by_proof = has_scheme(request.headers(), "dpop");
    // A proof names the address as it was sent.
    let uri = request.extensions().get::<OriginalUri>().map_or(request.uri(), |original| &original.0);
    let (method, path) = (request.method().as_str(), uri.path());
    let mut response = match verify(&verifier, method, path, request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => {
            tracing::info!(reason = error.code(), "a request was not authenticated");
            refuse(&verifier, by_proof, error)
        }
    };
    if by_proof && let Some(nonce) = verifier.proof_nonce().and_then(|nonce| nonce.parse().ok()) {
        response.headers_mut().insert(NONCE_HEADER, nonce);
    }
    response
}

async fn verify(verifier: &Verifier, method: &str, path: &str, headers: &HeaderMap) -> Result<Caller, TokenError> {
    match read(headers)? {
        Presented::Bearer(token) => verifier.verify(token).await,
        Presented::Dpop { token, proof } => {
            verifier.verify_with_proof(token, &Proof { text: proof, method, path }).await
        }
    }
}

/// Exactly one `Authorization` header, and one proof where the scheme asks for it; two could mean different things to two
/// readers. A proof beside a bearer token is no reason to refuse: the token alone decides whether it needs one.
fn read(headers: &HeaderMap) -> Result<Presented<'_>, TokenError> {
    let value = only(headers, &header::AUTHORIZATION, TokenError::Missing, TokenError::Malformed)?;
    let (scheme, token) = value.split_once(' ').ok_or(TokenError::Malformed)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Presented::Bearer(token));
    }
    if !scheme.eq_ignore_ascii_case("dpop") {
        return Err(TokenError::Missing);
    }
    let proof = only(headers, &PROOF_HEADER, ProofFault::Missing.into(), ProofFault::Malformed.into())?;
    Ok(Presented::Dpop { token, proof })
}

fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    missing: TokenError,
    malformed: TokenError,
) -> Result<&'a str, TokenError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(missing)?;
    if values.next().is_some() { Err(malformed) } else { value.to_str().map_err(|_| malformed) }
}

fn has_scheme(headers: &HeaderMap, wanted: &str) -> bool {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value.and_then(|text| text.split_once(' ')).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(wanted))
}

/// The problem knows the challenge of plain bearer tokens; what is said about DPoP depends on the door.
fn refuse(verifier: &Verifier, by_proof: bool, error: TokenError) -> Response {
    let mut response = Problem::unauthenticated(error).into_response();
    let headers = response.headers_mut();
    if !verifier.accepts_proofs() || !headers.contains_key(header::WWW_AUTHENTICATE) {
        return response;
    }
    match error {
        TokenError::Missing if verifier.requires_proofs() => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE_DPOP));
        }
        TokenError::Missing => {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE_DPOP));
        }
        // A bound token that was sent without its proof is answered like this too: it is the proof that is asked for.
        _ if by_proof || matches!(error, TokenError::BadProof(_) | TokenError::NotBound) => {
            headers.insert(header::WWW_AUTHENTICATE, challenge(error));
        }
        _ => {}
    }
    response
}

const CHALLENGE_DPOP: &str = r#"DPoP realm="nexushealth", algs="ES256""#;

/// RFC 9449 section 7.1.
fn challenge(error: TokenError) -> HeaderValue {
    let code = match error {
        TokenError::BadProof(ProofFault::NonceNeeded) => "use_dpop_nonce",
        TokenError::BadProof(ProofFault::Missing) => "invalid_token",
        TokenError::BadProof(_) => "invalid_dpop_proof",
        _ => "invalid_token",
    };
    let text = format!(r#"{CHALLENGE_DPOP}, error="{code}", error_description="{}""#, error.code());
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(CHALLENGE_DPOP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_name_the_scheme_that_the_listener_speaks() {
        let url = |args: &DpopArgs, tls: &TlsArgs| args.config(([127, 0, 0, 1], 7401).into(), tls).public_url;
        let certified = TlsArgs { tls_cert_file: Some("door.pem".into()), ..TlsArgs::default() };
        assert_eq!(url(&DpopArgs::default(), &TlsArgs::default()), "http://127.0.0.1:7401");
        assert_eq!(url(&DpopArgs::default(), &certified), "https://127.0.0.1:7401");
        let proxied = DpopArgs { public_url: Some("https://api.example".to_owned()), ..DpopArgs::default() };
        assert_eq!(url(&proxied, &certified), "https://api.example");
    }
}
