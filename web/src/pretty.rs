//! JSON for people: what a FHIR route answers, in lines, for who asks for it by `_pretty=true`
//! (<https://hl7.org/fhir/R4/http.html#parameters>). Only the space between the tokens changes, so every digit stays.

use axum::{
    body::{Body, to_bytes},
    http::{Uri, header},
    response::{IntoResponse, Response},
};

use crate::{outcome::is_fhir, problem::Problem};

/// Answers longer than this are for no person, in bytes.
const BYTES_MAX: usize = 64 * 1024 * 1024;
const INDENT: &[u8] = b"  ";

/// Whether the answer to this request is for a person.
pub(crate) fn is_wanted(uri: &Uri) -> bool {
    is_fhir(uri.path()) && uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "_pretty=true"))
}

/// Puts the body of an answer into lines, if it is JSON.
pub(crate) async fn print(response: Response) -> Response {
    let media_type = response.headers().get(header::CONTENT_TYPE);
    if !media_type.is_some_and(|media_type| media_type.as_bytes().ends_with(b"json")) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // The bodies of these answers are there already.
    let Ok(body) = to_bytes(body, BYTES_MAX).await else { return Problem::internal().into_response() };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(in_lines(&body)))
}

/// Indents the text of a JSON value.
fn in_lines(json: &[u8]) -> Vec<u8> {
    let mut lines = Lines { text: Vec::with_capacity(json.len() * 2), depth: 0 };
    let (mut within_text, mut escaped) = (false, false);
    for (at, byte) in json.iter().copied().enumerate() {
        if within_text {
            lines.text.push(byte);
            within_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        within_text = byte == b'"';
        let next = || json[at + 1..].iter().find(|byte| !byte.is_ascii_whitespace());
        match byte {
            b'{' | b'[' => lines.open(byte, matches!(next(), Some(b'}' | b']'))),
            b'}' | b']' => lines.close(byte),
            b',' => lines.separate(),
            b':' => lines.text.extend_from_slice(b": "),
            byte if byte.is_ascii_whitespace() => {}
            byte => lines.text.push(byte),
        }
    }
    lines.text.push(b'\n');
    lines.text
}

struct Lines {
    text: Vec<u8>,
    depth: usize,
}

impl Lines {
    fn open(&mut self, bracket: u8, is_empty: bool) {
        self.text.push(bracket);
        self.depth += 1;
        if !is_empty {
            self.turn();
        }
    }

    fn close(&mut self, bracket: u8) {
        self.depth = self.depth.saturating_sub(1);
        if !matches!(self.text.last(), Some(b'{' | b'[')) {
            self.turn();
        }
        self.text.push(bracket);
    }

    fn separate(&mut self) {
        self.text.push(b',');
        self.turn();
    }

    fn turn(&mut self) {
        self.text.push(b'\n');
        self.text.extend(std::iter::repeat_n(INDENT, self.depth).flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_space_between_tokens_changes() {
        let json = r#"{"a":[1.50,{"b":"x, {\"y\": [\\\\\"]}"},[],{ }],"c": -0.10e-7,"d":null}"#;
        let lines = r#"{
  "a": [
    1.50,
    {
      "b": "x, {\"y\": [\\\\\"]}"
    },
    [],
    {}
  ],
  "c": -0.10e-7,
  "d": null
}
"#;
        assert_eq!(String::from_utf8(in_lines(json.as_bytes())).unwrap(), lines);
        assert_eq!(in_lines(lines.as_bytes()), lines.as_bytes());
        assert_eq!(in_lines(b"[]"), b"[]\n");
    }

    #[test]
    fn it_is_asked_for_on_fhir_routes() {
        for (uri, wanted) in [
            ("/fhir?_pretty=true", true),
            ("/fhir/Patient/1?_format=json&_pretty=true", true),
            ("/fhir?_pretty=false", false),
            ("/fhir", false),
            ("/v1/patients?_pretty=true", false),
        ] {
            assert_eq!(is_wanted(&uri.parse().unwrap()), wanted, "{uri}");
        }
    }
}
