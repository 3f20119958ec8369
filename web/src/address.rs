//! Addresses as routes know them.
//!
//! RFC 3986 has many ways to write one address. Those that mean the same become one before the request is routed: what is
//! escaped without need is not (section 6.2.2.2), and a slash at the end of a FHIR address, which several clients send, goes.
//! Who asked for what is known by the address as it came: a DPoP proof names that one.

use axum::{
    extract::{OriginalUri, Request},
    http::{Uri, uri::PathAndQuery},
};

use crate::outcome::is_fhir;

/// Gives the request the address that routes know. One that has it already is left as it is.
pub(crate) fn normalize<B>(request: &mut Request<B>) {
    let path = request.uri().path();
    if !(path.contains('%') || (path.ends_with('/') && path.len() > 1)) {
        return;
    }
    let Some(normal) = normalized(request.uri()) else { return };
    let original = std::mem::replace(request.uri_mut(), normal);
    request.extensions_mut().insert(OriginalUri(original));
}

fn normalized(uri: &Uri) -> Option<Uri> {
    let plain = unescape(uri.path());
    let path = match plain.strip_suffix('/') {
        Some(bare) if is_fhir(bare) => bare,
        _ => &plain,
    };
    if path == uri.path() {
        return None;
    }
    let target = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

/// Writes escaped letters, digits and the four other unreserved characters as they are, and nothing else.
fn unescape(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, from)) = rest.split_once('%') {
        plain.push_str(before);
        rest = match unreserved(from) {
            Some(character) => {
                plain.push(character);
                &from[2..]
            }
            None => {
                plain.push('%');
                from
            }
        };
    }
    plain + rest
}

fn unreserved(escape: &str) -> Option<char> {
    let digits = escape.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    let byte = u8::from_str_radix(digits, 16).ok()?;
    (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)).then_some(char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_becomes_one_address() {
        let table = [
            ("/fhir/", "/fhir"),
            ("/fhir/?_format=json", "/fhir?_format=json"),
            ("/fhir/%4Fbservation/%61%2D1/", "/fhir/Observation/a-1"),
            ("/%66hir/", "/fhir"),
            ("/fhir/Patient/x?name=%41%2f", "/fhir/Patient/x?name=%41%2f"),
            ("/fhir/Patient/..%2f..%2Fetc", "/fhir/Patient/..%2f..%2Fetc"),
            ("/fhir/Patient/%00%ff", "/fhir/Patient/%00%ff"),
            ("/fhir/Patient/%C3%A9%2", "/fhir/Patient/%C3%A9%2"),
            ("/fhir/Patient/%zz%", "/fhir/Patient/%zz%"),
            ("/fhir//", "/fhir/"),
            ("/v1/patients/", "/v1/patients/"),
            ("/docs/", "/docs/"),
            ("/", "/"),
            ("//fhir//Patient", "//fhir//Patient"),
        ];
        for (sent, routed) in table {
            let mut request = Request::builder().uri(sent).body(()).unwrap();
            normalize(&mut request);
            assert_eq!(request.uri().to_string(), routed, "{sent}");
            let kept = request.extensions().get::<OriginalUri>().map(|uri| uri.0.to_string());
            assert_eq!(kept, (sent != routed).then(|| sent.to_owned()), "{sent}");
        }
    }
}
