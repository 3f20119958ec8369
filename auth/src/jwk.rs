//! ES256 public keys as JSON (RFC 7517), and the fingerprints by which tokens are bound to them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The bytes of one coordinate of P-256.
const COORDINATE_BYTES: usize = 32;

/// A key that verifies ES256 signatures.
#[derive(Clone)]
pub(crate) struct PublicKey {
    pub id: Option<String>,
    pub decoding: DecodingKey,
    /// The RFC 7638 thumbprint, in base64url.
    pub thumbprint: String,
}

/// Only the members that matter for a P-256 key; a member that comes twice is refused by the parser.
#[derive(Deserialize)]
struct Members {
    kty: String,
    crv: Option<String>,
    kid: Option<String>,
    x: Option<String>,
    y: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    d: Option<IgnoredAny>,
}

impl PublicKey {
    /// Reads a key. `None` if it is of another kind or for another use, or if its private half was sent along.
    pub fn read(value: Value) -> Option<Self> {
        let members: Members = serde_json::from_value(value).ok()?;
        let fits = members.kty == "EC"
            && members.crv.as_deref() == Some("P-256")
            && members.usage.is_none_or(|usage| usage == "sig")
            && members.alg.is_none_or(|algorithm| algorithm == "ES256")
            && members.d.is_none();
        let (x, y) = (members.x?, members.y?);
        if !(fits && is_coordinate(&x) && is_coordinate(&y)) {
            return None;
        }
        let decoding = DecodingKey::from_ec_components(&x, &y).ok()?;
        Some(Self { id: members.kid, decoding, thumbprint: thumbprint(&x, &y) })
    }
}

/// The RFC 7638 thumbprint of the P-256 key with these coordinates.
pub(crate) fn thumbprint(x: &str, y: &str) -> String {
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
}

fn is_coordinate(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == COORDINATE_BYTES)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The key of RFC 9449 section 4.1 and its thumbprint from section 6.1.
    #[test]
    fn the_thumbprint_is_that_of_rfc_9449() {
        let key = json!({"kty": "EC", "crv": "P-256", "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
                         "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"});
        let read = PublicKey::read(key.clone()).unwrap();
        assert_eq!(read.thumbprint, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
        for (name, value) in [("d", json!("AAAA")), ("kty", json!("oct")), ("use", json!("enc")), ("x", json!("AAAA"))]
        {
            let mut other = key.clone();
            other[name] = value;
            assert!(PublicKey::read(other).is_none(), "{name}");
        }
    }
}
