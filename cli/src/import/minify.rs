//! Takes the white space out of JSON without touching anything else: numbers keep their digits, names their order.

/// The same JSON on one line. Half of a pretty-printed bundle is indentation.
pub fn minify(json: &[u8]) -> Vec<u8> {
    let mut minified = Vec::with_capacity(json.len());
    let mut in_string = false;
    let mut escaped = false;
    for &byte in json {
        if in_string {
            minified.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            in_string = byte == b'"';
            minified.push(byte);
        }
    }
    minified
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_white_space_between_tokens_goes() {
        let json = "{ \"a b\\\" c\" :\n [ 1.50 , \"\\\\\" , \" x \" ]\t}";
        assert_eq!(minify(json.as_bytes()), br#"{"a b\" c":[1.50,"\\"," x "]}"#);
    }
}
