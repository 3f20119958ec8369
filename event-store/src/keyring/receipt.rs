//! Signatures under a receipt: ES256 in a compact JWS (RFC 7515), under a key of the installation.
//!
//! The signing key is derived from the installation's secret, which lies wrapped in the key store; nobody has to keep it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use serde_json::{Value, json};

use super::Keyring;

const DOMAIN: &str = "nexus-receipt-signing-key-1";
/// The `typ` of the signed receipts.
const TYPE: &str = "nexus-receipt+jws";

impl Keyring {
    /// Signs JSON, as a compact JWS that holds it.
    pub fn sign_receipt(&self, receipt: &Value) -> String {
        let key = self.signing_key();
        let header = json!({"alg": "ES256", "typ": TYPE, "kid": key_id(key.verifying_key())});
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(receipt.to_string()));
        let signature: Signature = key.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(signature.to_bytes()))
    }

    /// The JSON in a compact JWS, if this installation signed it.
    pub fn verify_receipt(&self, jws: &str) -> Option<Value> {
        let (signed, signature) = jws.trim().rsplit_once('.')?;
        let (header, receipt) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" || header["typ"] != TYPE {
            return None;
        }
        let signature = Signature::from_slice(&BASE64.decode(signature).ok()?).ok()?;
        self.signing_key().verifying_key().verify(signed.as_bytes(), &signature).ok()?;
        serde_json::from_slice(&BASE64.decode(receipt).ok()?).ok()
    }

    /// The public key for whoever checks receipts, as a JWK Set (RFC 7517).
    pub fn receipt_keys(&self) -> Value {
        let key = *self.signing_key().verifying_key();
        let point = key.to_encoded_point(false);
        let coordinate = |bytes: Option<&p256::FieldBytes>| bytes.map(|bytes| BASE64.encode(bytes)).unwrap_or_default();
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": key_id(&key),
            "x": coordinate(point.x()), "y": coordinate(point.y())
        }]})
    }

    /// Nearly every 32 bytes are a key of the curve; the few that are not are passed over.
    fn signing_key(&self) -> SigningKey {
        let mut tries = (0_u64..).map(|number| self.blind(DOMAIN, &number.to_string()));
        let key = tries.find_map(|bytes| SigningKey::from_slice(&bytes).ok());
        key.expect("one of very many hashes is below the order of the curve")
    }
}

/// The first half of the SHA-256 of the public point, in hexadecimal.
fn key_id(key: &VerifyingKey) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(&Sha256::digest(key.to_encoded_point(true).as_bytes())[..16])
}
