//! Seal and open: AES-256-GCM in a COSE_Encrypt0 envelope (RFC 9052), so that any language can open it.
//!
//! The nonce is random, the key id travels as `kid`, and the external associated data is a CBOR array of everything
//! that says what the sealed bytes are, so that a row moved, swapped or relabelled does not open.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use coset::cbor::value::Value;
use coset::{CoseEncrypt0, CoseEncrypt0Builder, HeaderBuilder, TaggedCborSerializable, iana};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::event::{Header, Metadata, NewEvent, Opened, SealedEvent, SourceVersion};
use crate::keyring::{DataKey, SubjectKey};

/// What an event's associated data starts with. A new layout gets a new name.
const EVENT_CONTEXT: &str = "nexus-event-1";
/// What a read model row's associated data starts with.
const ROW_CONTEXT: &str = "nexus-row-1";
const NONCE_BYTES: usize = 12;
/// What our envelopes start with: tag, array of three, protected header, a map of two whose first entry is the key id.
const BEFORE_KEY_ID: [u8; 9] = [0xd0, 0x83, 0x43, 0xa1, 0x01, 0x03, 0xa2, 0x04, 0x50];

/// Why an envelope did not open. Says nothing about what may be inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The bytes are not a COSE_Encrypt0 envelope of ours.
    #[error("not an envelope")]
    Malformed,
    /// The envelope, or the header beside it, names another key.
    #[error("sealed with another key")]
    OtherKey,
    /// The seal is broken: wrong key bytes, changed bytes, or a header that is not the one it was sealed under.
    #[error("the seal does not hold")]
    Broken,
    /// The seal holds, and what is inside is not an event.
    #[error("the content is not an event")]
    Content,
}

/// Seals the bytes of an event under its header. The header's key id must be the key's.
pub fn seal(key: &SubjectKey, header: &Header, plain: &[u8]) -> Vec<u8> {
    seal_bound(key, &event_binding(header), plain)
}

/// Opens the bytes of an event, if they were sealed with this key under exactly this header.
pub fn open(key: &SubjectKey, header: &Header, sealed: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let data_key = key.named(header.key_id).ok_or(EnvelopeError::OtherKey)?;
    open_bound(data_key, &event_binding(header), &parse(sealed)?)
}

/// Opens an event of the log or the topic into payload and metadata.
pub fn open_event(key: &SubjectKey, event: &SealedEvent) -> Result<Opened, EnvelopeError> {
    let plain = zeroize::Zeroizing::new(open(key, &event.header, &event.sealed)?);
    serde_json::from_slice(&plain).map_err(|_| EnvelopeError::Content)
}

/// The bytes that go inside an event's envelope.
pub(crate) fn content(event: &NewEvent, metadata: &Metadata) -> Result<Vec<u8>, EnvelopeError> {
    #[derive(Serialize)]
    struct Content<'a> {
        payload: &'a RawValue,
        metadata: &'a Metadata,
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<&'a SourceVersion>,
    }
    let content = Content { payload: &event.payload, metadata, source: event.source.as_ref() };
    serde_json::to_vec(&content).map_err(|_| EnvelopeError::Content)
}

pub(crate) fn seal_row(key: &SubjectKey, context: &str, plain: &[u8]) -> Vec<u8> {
    seal_bound(key, &row_binding(key.subject(), key.id(), context), plain)
}

pub(crate) fn open_row(key: &SubjectKey, context: &str, sealed: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let envelope = parse(sealed)?;
    // Nothing stands beside a row that names its key, as a header does for an event; a false name opens nothing.
    let key_id = Uuid::from_slice(&envelope.unprotected.key_id).map_err(|_| EnvelopeError::Malformed)?;
    let data_key = key.named(key_id).ok_or(EnvelopeError::OtherKey)?;
    open_bound(data_key, &row_binding(key.subject(), key_id, context), &envelope)
}

/// The id of the key that an envelope of ours names, without reading all of it.
pub(crate) fn key_id(sealed: &[u8]) -> Option<Uuid> {
    Uuid::from_slice(sealed.strip_prefix(&BEFORE_KEY_ID)?.get(..16)?).ok()
}

fn event_binding(header: &Header) -> Vec<u8> {
    binding(vec![
        Value::from(EVENT_CONTEXT),
        Value::from(header.aggregate_type.as_str()),
        Value::from(header.aggregate_id.as_bytes().as_slice()),
        Value::from(header.sequence),
        Value::from(header.event_type.as_str()),
        Value::from(header.event_version.as_str()),
        Value::from(header.subject.as_bytes().as_slice()),
        Value::from(header.key_id.as_bytes().as_slice()),
    ])
}

fn row_binding(subject: Uuid, key_id: Uuid, context: &str) -> Vec<u8> {
    binding(vec![
        Value::from(ROW_CONTEXT),
        Value::from(context),
        Value::from(subject.as_bytes().as_slice()),
        Value::from(key_id.as_bytes().as_slice()),
    ])
}

/// Definite-length arrays, shortest integers: ciborium writes the canonical form of these types (RFC 8949, 4.2.1).
fn binding(items: Vec<Value>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    coset::cbor::ser::into_writer(&Value::Array(items), &mut bytes)
        .expect("CBOR is written to memory, which can't fail");
    bytes
}

fn seal_bound(key: &SubjectKey, binding: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).expect("the operating system's random source works or nothing may be sealed");
    key.count_seal(&nonce);
    let cipher = Aes256Gcm::new((&*key.current().bytes).into());
    CoseEncrypt0Builder::new()
        .protected(HeaderBuilder::new().algorithm(iana::Algorithm::A256GCM).build())
        .unprotected(HeaderBuilder::new().key_id(key.id().as_bytes().to_vec()).iv(nonce.to_vec()).build())
        .create_ciphertext(plain, binding, |msg, aad| {
            cipher.encrypt(&Nonce::from(nonce), Payload { msg, aad }).expect("AES-GCM refuses only above 64 GiB")
        })
        .build()
        .to_tagged_vec()
        .expect("an envelope of our own making always serializes")
}

fn parse(sealed: &[u8]) -> Result<CoseEncrypt0, EnvelopeError> {
    let envelope = CoseEncrypt0::from_tagged_slice(sealed).map_err(|_| EnvelopeError::Malformed)?;
    let algorithm = coset::RegisteredLabelWithPrivate::Assigned(iana::Algorithm::A256GCM);
    if envelope.protected.header.alg == Some(algorithm) { Ok(envelope) } else { Err(EnvelopeError::Malformed) }
}

fn open_bound(key: &DataKey, binding: &[u8], envelope: &CoseEncrypt0) -> Result<Vec<u8>, EnvelopeError> {
    if envelope.unprotected.key_id != key.id.as_bytes() {
        return Err(EnvelopeError::OtherKey);
    }
    let nonce: [u8; NONCE_BYTES] =
        envelope.unprotected.iv.as_slice().try_into().map_err(|_| EnvelopeError::Malformed)?;
    let cipher = Aes256Gcm::new((&*key.bytes).into());
    envelope.decrypt_ciphertext(
        binding,
        || EnvelopeError::Malformed,
        |msg, aad| cipher.decrypt(&Nonce::from(nonce), Payload { msg, aad }).map_err(|_| EnvelopeError::Broken),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_id_stands_at_a_fixed_place() {
        let key = SubjectKey::generate(Uuid::new_v4());
        let sealed = seal_row(&key, "row", b"{}");
        assert_eq!(key_id(&sealed), Some(key.id()));
        assert!(key.opens_row(&sealed) && !SubjectKey::generate(key.subject()).opens_row(&sealed));
        assert_eq!(key_id(&sealed[1..]), None);
        assert_eq!(key_id(&sealed[..20]), None);
    }
}
