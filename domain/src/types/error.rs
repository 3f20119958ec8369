//! What the rules say when they refuse.

/// How a refusal is to be taken by the caller. The HTTP doors map it to a status; this crate knows nothing of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input can't be right, whatever the state.
    Invalid,
    /// The input is fine, but not in the state that things are in.
    Conflict,
    /// What the input speaks of does not exist.
    NotFound,
    /// The caller may not do this.
    Forbidden,
}

/// Every aggregate's error: a kind, a stable code, and a sentence without patient data (`Display`).
pub trait RuleError: std::error::Error + Send + Sync + 'static {
    fn kind(&self) -> ErrorKind;

    /// A stable, documented code such as `patient-deceased`.
    fn code(&self) -> &'static str;

    /// The JSON pointer (RFC 6901) of the element at fault, relative to the resource or body, if it is one element.
    fn pointer(&self) -> Option<&str> {
        None
    }
}

/// A resource that is not in the form that FHIR R4 or our own rules of sense demand. Names the element, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail} (at {pointer})")]
pub struct FormError {
    pub code: &'static str,
    /// JSON pointer (RFC 6901) into the resource.
    pub pointer: String,
    /// A sentence for people, free of patient data.
    pub detail: &'static str,
}

impl FormError {
    pub fn new(code: &'static str, pointer: impl Into<String>, detail: &'static str) -> Self {
        Self { code, pointer: pointer.into(), detail }
    }

    pub fn missing(pointer: impl Into<String>) -> Self {
        Self::new("required-element-missing", pointer, "A required element is missing.")
    }

    pub fn wrong_type(pointer: impl Into<String>) -> Self {
        Self::new("wrong-type", pointer, "The element has the wrong JSON type.")
    }

    pub fn unknown_code(pointer: impl Into<String>) -> Self {
        Self::new("unknown-code", pointer, "The code is not one of those allowed here.")
    }
}

impl RuleError for FormError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn code(&self) -> &'static str {
        self.code
    }

    fn pointer(&self) -> Option<&str> {
        Some(&self.pointer)
    }
}
