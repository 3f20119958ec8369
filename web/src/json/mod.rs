//! Reading JSON bodies: bounded before it is parsed, refused by place and never by value.
//!
//! A body is looked at in this order: media type, size, nesting, repeated members and reserved names, then form. `serde`'s messages quote
//! what they choke on, so none of them is passed on; see [`fault`].

pub(crate) mod fault;
mod scan;

pub use scan::{ScanFault, scan};

use axum::{
    Extension,
    body::Bytes,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    body::{self, Pace, Read},
    media::require_json_body,
    problem::{Fault, Problem},
    room::Room,
};

/// The most levels of nesting in any body. FHIR resources stay below 20.
pub const MAX_DEPTH: usize = 64;
/// The largest body of a route that does not ask for more, in bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// From this size on, a body is scanned where it keeps no other request waiting.
const SCANNED_ASIDE_FROM: usize = 256 * 1024;
/// What some programs begin a text with. It is no part of it, and a reader may pass over it (RFC 8259, section 8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bounds of a body. Routes that need other ones carry them as a layer: `.layer(limits.layer())`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonLimits {
    /// Of the text, whatever it is compressed to.
    pub bytes_max: usize,
    pub depth_max: usize,
    pub pace: Pace,
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self { bytes_max: BODY_BYTES_MAX, depth_max: MAX_DEPTH, pace: Pace::default() }
    }
}

impl JsonLimits {
    /// The usual depth and pace with another size.
    pub fn of_bytes(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// The same at another pace.
    pub fn at_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Puts these limits in force for a router or route. Call it on the inner router: the innermost one counts.
    pub fn layer(self) -> Extension<Self> {
        Extension(self)
    }
}

/// A JSON body of a known form, and the same as an answer.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

/// A JSON body that passed media type, size, nesting and repeated members, not parsed yet.
#[derive(Clone, Debug)]
pub struct RawJson(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for RawJson {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        read(request, None).await.map(|read| Self(read.bytes))
    }
}

/// The same as [`RawJson`], and the body takes its room from what there is of it.
pub async fn read(request: Request, room: Option<&Room>) -> Result<Read, Problem> {
    let limits = request.extensions().get::<JsonLimits>().copied().unwrap_or_default();
    require_json_body(request.headers())?;
    let (parts, body) = request.into_parts();
    let mut read = body::read(&parts.headers, body, limits.bytes_max, limits.pace, room).await?;
    if read.bytes.starts_with(BYTE_ORDER_MARK) {
        read.bytes = read.bytes.slice(BYTE_ORDER_MARK.len()..);
    }
    if read.bytes.len() < SCANNED_ASIDE_FROM {
        check(&read.bytes, limits)?;
    } else {
        let scanned = read.bytes.clone();
        let check = tokio::task::spawn_blocking(move || check(&scanned, limits));
        check.await.map_err(|_| Problem::internal())??;
    }
    Ok(read)
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let RawJson(body) = RawJson::from_request(request, state).await?;
        parse(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// Parses the text of a JSON object into a type. It is parsed a second time only to say where it is wrong.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    match serde_json::from_slice(text) {
        // A derived struct also reads itself from a list of its members' values; no body of ours means that.
        Ok(_) if !text.trim_ascii_start().starts_with(b"{") => Err(Problem::invalid_body(Fault::new(
            "",
            "wrong-type",
            "The value has the wrong type. Expected an object.",
        ))),
        Ok(value) => Ok(value),
        Err(error) => Err(explain::<T>(text, &error)),
    }
}

/// Checks the nesting of a text, that no object has a member twice, and none whose name means something to the parser.
pub fn check(text: &[u8], limits: JsonLimits) -> Result<(), Problem> {
    scan(text, limits.depth_max).map_err(|scan_fault| match scan_fault {
        ScanFault::TooDeep => Problem::too_deep(limits.depth_max),
        ScanFault::RepeatedMember { pointer } => {
            Problem::invalid_body(Fault::new(pointer, "repeated-member", "An object has this member more than once."))
        }
        ScanFault::ReservedName { pointer } => Problem::invalid_body(Fault::new(
            pointer,
            "reserved-name",
            "No member's name begins with a dollar sign here.",
        )),
    })
}

fn explain<T: DeserializeOwned>(text: &[u8], error: &serde_json::Error) -> Problem {
    if !error.is_data() {
        return Problem::malformed_json(error.line(), error.column());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) => Problem::invalid_body(fault::of_serde(error.path(), error.inner())),
        Ok(_) => Problem::malformed_json(error.line(), error.column()),
    }
}

#[cfg(test)]
mod tests;
