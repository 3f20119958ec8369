//! Media types as clients write them: in any case, with parameters, with weights (RFC 9110, section 12.5).

use axum::http::{HeaderMap, header};

use crate::problem::Problem;

/// FHIR as JSON.
pub const FHIR_JSON: &str = "application/fhir+json";
/// JSON.
pub const JSON: &str = "application/json";
/// The version of FHIR that we speak, as the parameter `fhirVersion` has it.
const FHIR_VERSION: &str = "4.0";
/// A weight of one, in thousandths.
const WHOLE: u16 = 1_000;

/// A media type or range with what is said about it.
#[derive(Debug)]
pub(crate) struct Media<'a> {
    essence: &'a str,
    parameters: &'a str,
}

impl<'a> Media<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        Self { essence: essence.trim(), parameters }
    }

    pub(crate) fn is(&self, media_type: &str) -> bool {
        self.essence.eq_ignore_ascii_case(media_type)
    }

    /// The value of a parameter, without the quotes that it may have.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut parameters = self.parameters.split(';').filter_map(|parameter| parameter.split_once('='));
        let (_, value) = parameters.find(|(known, _)| known.trim().eq_ignore_ascii_case(name))?;
        let value = value.trim();
        Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
    }

    /// Whether it means another version of FHIR than ours.
    fn is_of_another_version(&self) -> bool {
        let version = self.parameter("fhirVersion");
        version.is_some_and(|version| version != FHIR_VERSION && !version.starts_with("4.0."))
    }

    /// How closely this range fits a media type; nothing if it does not.
    fn closeness(&self, media_type: &str) -> Option<u8> {
        let family = |range: &str| media_type.split('/').next().is_some_and(|own| own.eq_ignore_ascii_case(range));
        match self.essence.strip_suffix("/*") {
            _ if self.is_of_another_version() => None,
            _ if self.is(media_type) => Some(2),
            Some("*") => Some(0),
            Some(range) if family(range) => Some(1),
            _ => None,
        }
    }

    /// The weight in thousandths. One that can't be read is as good as none.
    fn weight(&self) -> u16 {
        let Some(weight) = self.parameter("q") else { return WHOLE };
        let weight = weight.parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight));
        // From 0 to 1,000, which fits.
        weight.map_or(WHOLE, |weight| (weight * f32::from(WHOLE)).round() as u16)
    }
}

/// Refuses a body that says to be anything but JSON in UTF-8, or FHIR of another version.
pub(crate) fn require_json_body(headers: &HeaderMap) -> Result<(), Problem> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = values.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    if values.next().is_some() {
        return Err(Problem::invalid_parameter("Content-Type", "It is given more than once."));
    }
    let media = Media::parse(value);
    // Bytes of another charset may happen to be UTF-8, and would then be read as something else.
    let charset = media.parameter("charset");
    let is_utf8 =
        charset.is_none_or(|name| ["utf-8", "utf8", "us-ascii"].iter().any(|ours| name.eq_ignore_ascii_case(ours)));
    if !(media.is(JSON) || media.is(FHIR_JSON)) {
        return Err(Problem::unsupported_media_type("application/json or application/fhir+json"));
    }
    if !is_utf8 || media.is_of_another_version() {
        return Err(Problem::unsupported_media_type("JSON in UTF-8, and FHIR of version 4.0"));
    }
    Ok(())
}

/// Refuses with 406 unless one of the media types would do. No `Accept` at all accepts everything.
pub fn require_accept(headers: &HeaderMap, offered: &[&str], named: &'static str) -> Result<(), Problem> {
    let acceptable = !has_ranges(headers) || offered.iter().any(|offer| weight_of(headers, offer) > 0);
    if acceptable { Ok(()) } else { Err(Problem::not_acceptable(named)) }
}

/// Refuses with 406 unless FHIR JSON would do: `_format`, where it is given, counts instead of `Accept`
/// (<https://hl7.org/fhir/R4/http.html#parameters>).
pub fn require_fhir_json(headers: &HeaderMap, format: Option<&str>) -> Result<(), Problem> {
    match format {
        None => require_accept(headers, &[FHIR_JSON, JSON], FHIR_JSON),
        Some(format) if is_fhir_json(format) => Ok(()),
        Some(_) => Err(Problem::not_acceptable(FHIR_JSON)),
    }
}

/// Whether a `_format` means FHIR JSON. A plus that nobody has escaped arrives as a space.
fn is_fhir_json(format: &str) -> bool {
    let media = Media::parse(format);
    ["json", JSON, FHIR_JSON, "application/fhir json"].iter().any(|name| media.is(name))
        && !media.is_of_another_version()
}

/// Whether a refusal is to be told in FHIR: it is asked for by name, and not less than our own form.
pub(crate) fn prefers_fhir_json(headers: &HeaderMap, query: &str) -> bool {
    let format = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "_format");
    if format.is_some_and(|(_, format)| is_fhir_json(&format)) {
        return true;
    }
    let weight = named_weight(headers, FHIR_JSON);
    weight > 0 && weight >= named_weight(headers, crate::problem::MEDIA_TYPE)
}

fn ranges(headers: &HeaderMap) -> impl Iterator<Item = Media<'_>> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(Media::parse).filter(|range| !range.essence.is_empty())
}

fn has_ranges(headers: &HeaderMap) -> bool {
    ranges(headers).next().is_some()
}

/// The range that fits most closely decides, wherever it stands.
fn weight_of(headers: &HeaderMap, media_type: &str) -> u16 {
    let fitting = ranges(headers).filter_map(|range| Some((range.closeness(media_type)?, range.weight())));
    fitting.max().map_or(0, |(_, weight)| weight)
}

/// The weight of a media type that is named in full; 0 if it is not.
fn named_weight(headers: &HeaderMap, media_type: &str) -> u16 {
    let named = ranges(headers).filter(|range| range.closeness(media_type) == Some(2));
    named.map(|range| range.weight()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn with(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_closest_range_decides() {
        let table = [
            ("application/fhir+json", true),
            ("Application/FHIR+JSON", true),
            ("application/fhir+json;fhirVersion=4.0", true),
            ("application/fhir+json; FHIRVERSION=\"4.0.1\"; charset=UTF-8", true),
            ("application/fhir+json; fhirVersion=5.0", false),
            ("application/json", true),
            ("application/*", true),
            ("APPLICATION/*;q=0.1", true),
            ("*/*", true),
            ("text/html, */*;q=0.5", true),
            ("text/html", false),
            ("text/*", false),
            ("application/fhir+xml", false),
            ("application/fhir+json;q=0", false),
            ("application/fhir+json; Q=0.000", false),
            ("*/*;q=0", false),
            ("*/*;q=0, application/json;q=0.001", true),
            ("application/json;q=0, application/fhir+json;q=0, */*", false),
            ("application/json;q=0, */*", true),
            ("application/*;q=0, */*", false),
            ("application/fhir+json;q=nonsense", true),
            ("", true),
            (" , ", true),
        ];
        for (accept, good) in table {
            let headers = with(header::ACCEPT, &[accept]);
            assert_eq!(require_accept(&headers, &[FHIR_JSON, JSON], FHIR_JSON).is_ok(), good, "{accept}");
        }
        assert!(require_accept(&HeaderMap::new(), &[FHIR_JSON], FHIR_JSON).is_ok());
        assert!(require_accept(&with(header::ACCEPT, &["text/html", "*/*;q=0.1"]), &[FHIR_JSON], FHIR_JSON).is_ok());
    }

    #[test]
    fn a_format_counts_instead_of_accept() {
        let html = with(header::ACCEPT, &["text/html"]);
        for good in [
            "json",
            "JSON",
            "application/json",
            "application/fhir+json",
            "application/fhir json",
            "application/fhir+json;fhirVersion=4.0",
        ] {
            assert!(require_fhir_json(&html, Some(good)).is_ok(), "{good}");
        }
        let json = with(header::ACCEPT, &[FHIR_JSON]);
        for bad in ["xml", "application/fhir+xml", "ttl", "html", "", "*/*", "application/fhir+json;fhirVersion=3.0"] {
            assert_eq!(require_fhir_json(&json, Some(bad)).unwrap_err().slug(), "not-acceptable", "{bad}");
        }
    }

    #[test]
    fn bodies_are_json_in_utf8() {
        let table = [
            (&["application/json"][..], "ok"),
            (&["application/fhir+json;charset=UTF-8"], "ok"),
            (&["APPLICATION/JSON ; Charset=\"utf-8\""], "ok"),
            (&["application/fhir+json; fhirVersion=4.0; charset=utf8"], "ok"),
            (&["application/json; charset=us-ascii"], "ok"),
            (&["application/json; charset=iso-8859-1"], "unsupported-media-type"),
            (&["application/json; charset=utf-16"], "unsupported-media-type"),
            (&["application/fhir+json; fhirVersion=1.0"], "unsupported-media-type"),
            (&["application/json-seq"], "unsupported-media-type"),
            (&["application/*"], "unsupported-media-type"),
            (&["text/json"], "unsupported-media-type"),
            (&[""], "unsupported-media-type"),
            (&[], "unsupported-media-type"),
            (&["application/json", "application/json"], "invalid-parameter"),
        ];
        for (values, result) in table {
            let read = require_json_body(&with(header::CONTENT_TYPE, values));
            assert_eq!(read.map_or_else(|problem| problem.slug(), |()| "ok"), result, "{values:?}");
        }
    }

    #[test]
    fn refusals_are_told_in_fhir_to_who_names_it() {
        let table = [
            ("application/fhir+json", "", true),
            ("application/fhir+json; charset=utf-8, */*;q=0.1", "", true),
            ("application/fhir+xml;q=1.0, application/fhir+json;q=0.5", "", true),
            ("application/problem+json, application/fhir+json;q=0.9", "", false),
            ("application/problem+json, application/fhir+json", "", true),
            ("application/fhir+json;q=0", "", false),
            ("application/json", "", false),
            ("*/*", "", false),
            ("", "", false),
            ("", "_pretty=true&_format=json", true),
            ("application/problem+json", "_format=application%2Ffhir%2Bjson", true),
            ("", "_format=xml", false),
            ("application/fhir+json", "_format=xml", true),
        ];
        for (accept, query, wanted) in table {
            assert_eq!(prefers_fhir_json(&with(header::ACCEPT, &[accept]), query), wanted, "{accept} {query}");
        }
    }
}
