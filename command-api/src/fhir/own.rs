//! Which absolute URLs are this platform's own: what `https://api.example/fhir/Patient/1` names here is `Patient/1`.
//!
//! Only settings say so. A `Host` header is the sender's word, and whose data something is must not hang on it.

use std::sync::Arc;

/// The FHIR bases of both doors, as callers reach them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct OwnBases(Arc<[Base]>);

#[derive(Debug)]
struct Base {
    /// Scheme, host and port: letters of either case are the same.
    origin: String,
    /// As it is written.
    path: String,
}

impl OwnBases {
    pub fn new(urls: impl IntoIterator<Item = String>) -> Self {
        Self(urls.into_iter().filter_map(|url| Base::of(&url)).collect())
    }

    /// What comes behind one of our bases.
    pub fn strip<'a>(&self, text: &'a str) -> Option<&'a str> {
        if !text.get(..4)?.eq_ignore_ascii_case("http") {
            return None;
        }
        self.0.iter().find_map(|base| base.strip(text))
    }
}

impl Base {
    fn of(url: &str) -> Option<Self> {
        let url = url.trim_end_matches('/');
        let authority = url.find("://")? + 3;
        let path = url[authority..].find('/').map_or(url.len(), |at| authority + at);
        Some(Self { origin: url[..path].to_owned(), path: url[path..].to_owned() })
    }

    fn strip<'a>(&self, text: &'a str) -> Option<&'a str> {
        let (origin, rest) = text.split_at_checked(self.origin.len())?;
        let same = origin.eq_ignore_ascii_case(&self.origin);
        rest.strip_prefix(self.path.as_str()).filter(|_| same)?.strip_prefix('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_a_base_is_ours() {
        let own = OwnBases::new(["https://api.example:7402/fhir/".to_owned(), "nonsense".to_owned()]);
        assert_eq!(own.strip("https://api.example:7402/fhir/Patient/1"), Some("Patient/1"));
        assert_eq!(own.strip("HTTPS://API.example:7402/fhir/Patient?a=b"), Some("Patient?a=b"));
        for other in [
            "https://api.example:7402/FHIR/Patient/1",
            "https://api.example:7402/fhir2/Patient/1",
            "https://api.example:74021/fhir/Patient/1",
            "https://api.example/fhir/Patient/1",
            "http://api.example:7402/fhir/Patient/1",
            "https://api.example:7402/fhir",
            "Patient/1",
            "urn",
        ] {
            assert_eq!(own.strip(other), None, "{other}");
        }
    }
}
