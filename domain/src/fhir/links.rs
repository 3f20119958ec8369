//! Links: everything in a resource that may lead to another one, which is more than its references.
//!
//! The rules of a transaction (<https://hl7.org/fhir/R4/http.html#trules>) follow elements of type `uri`, `url`, `oid` and
//! `uuid`, and `<a href>` and `<img src>` of narratives. Elements of type `canonical` name a definition, wherever it is.
//! So do a few of type `uri`: what a definition says of its own `url`, the `url` of an extension, the `system` of a code
//! or an identifier. They are no links here: a code would lose its meaning.

use serde_json::{Map, Value};

use super::Resource;

/// Where a link stands, which says how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// `Reference.reference`.
    Reference,
    /// An element that takes any URL, or a link of a narrative.
    Url,
    /// An element that takes `urn:uuid:…` and nothing else.
    Uuid,
}

/// Names of elements of type `uri` or `url` that no ending tells: `Consent.policy.uri`, `MessageHeader.source.endpoint`,
/// `Endpoint.address`, `Provenance.policy`.
const URL_NAMES: &[&str] = &["uri", "endpoint", "address", "policy"];

/// What a link becomes; nothing to leave it.
type Replace<'a> = dyn FnMut(Link, &str) -> Option<String> + 'a;

/// Replaces links: `replace` answers the new text, or nothing to leave it.
pub fn rewrite_links(resource: &mut Resource, replace: &mut Replace<'_>) {
    rewrite_object(resource.members_mut(), true, replace);
}

/// `names_itself`: the `url` of this object says what it is and not where something else is.
fn rewrite_object(object: &mut Map<String, Value>, names_itself: bool, replace: &mut Replace<'_>) {
    for (name, child) in object {
        match child {
            Value::String(text) if name == "div" => rewrite_narrative(text, replace),
            Value::String(text) => rewrite_text(name, text, names_itself, replace),
            Value::Object(child) => rewrite_object(child, itself(name, child), replace),
            Value::Array(items) => rewrite_items(name, items, replace),
            _ => {}
        }
    }
}

fn rewrite_items(name: &str, items: &mut [Value], replace: &mut Replace<'_>) {
    for item in items {
        match item {
            Value::String(text) => rewrite_text(name, text, false, replace),
            Value::Object(child) => rewrite_object(child, itself(name, child), replace),
            Value::Array(items) => rewrite_items(name, items, replace),
            _ => {}
        }
    }
}

fn itself(name: &str, object: &Map<String, Value>) -> bool {
    matches!(name, "extension" | "modifierExtension") || object.contains_key("resourceType")
}

fn rewrite_text(name: &str, text: &mut String, names_itself: bool, replace: &mut Replace<'_>) {
    let link = match name {
        "reference" => Link::Reference,
        "url" if names_itself => return,
        "url" => Link::Url,
        _ if URL_NAMES.contains(&name) => Link::Url,
        _ if name.ends_with("Uuid") => Link::Uuid,
        _ if ["Uri", "Url", "Oid"].iter().any(|ending| name.ends_with(ending)) => Link::Url,
        _ => return,
    };
    if let Some(new) = replace(link, text) {
        *text = new;
    }
}

/// Replaces the addresses of links and pictures. The rest of the markup stays letter by letter, whatever it is.
fn rewrite_narrative(div: &mut String, replace: &mut Replace<'_>) {
    if !div.contains("href") && !div.contains("src") {
        return;
    }
    let mut new = String::with_capacity(div.len());
    let mut rest = div.as_str();
    while let Some((start, end)) = next_address(rest) {
        let (before, address) = (&rest[..start], &rest[start..end]);
        new.push_str(before);
        match replace(Link::Url, &address.replace("&amp;", "&")) {
            Some(other) => new.push_str(&other.replace('&', "&amp;")),
            None => new.push_str(address),
        }
        rest = &rest[end..];
    }
    new.push_str(rest);
    *div = new;
}

/// Where the next address is between its quotation marks: that of `href` in an `a`, or `src` in an `img`.
fn next_address(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(open) = text[from..].find('<').map(|at| from + at + 1) {
        let tag = &text[open..];
        let tag = &tag[..end_of_tag(tag)];
        let name = match tag.split(|letter: char| letter.is_ascii_whitespace()).next() {
            Some("a") => "href",
            Some("img") => "src",
            _ => "",
        };
        if let Some((start, end)) = attribute(tag, name) {
            return Some((open + start, open + end));
        }
        from = open + tag.len();
    }
    None
}

/// The `>` that ends a tag; one between quotation marks does not.
fn end_of_tag(tag: &str) -> usize {
    let mut quote = None;
    let ends = |letter: char| {
        match (quote, letter) {
            (None, '>') => return true,
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
        false
    };
    tag.find(ends).unwrap_or(tag.len())
}

/// The place of an attribute's value in a tag.
fn attribute(tag: &str, wanted: &str) -> Option<(usize, usize)> {
    let mut at = tag.find(|letter: char| letter.is_ascii_whitespace()).filter(|_| !wanted.is_empty())?;
    loop {
        let equals = at + tag[at..].find('=')?;
        let name = tag[at..equals].split_ascii_whitespace().next_back();
        let after = &tag[equals + 1..];
        let quote = after.trim_start().chars().next().filter(|letter| matches!(letter, '"' | '\''))?;
        let start = equals + 1 + after.find(quote)? + 1;
        let end = start + tag[start..].find(quote)?;
        if name == Some(wanted) {
            return Some((start, end));
        }
        at = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every link becomes its number, so that what was followed can be seen.
    fn followed(json: Value) -> Value {
        let mut resource = Resource::parse(json).unwrap();
        rewrite_links(&mut resource, &mut |link, text| text.contains("here").then(|| format!("{link:?}")));
        resource.into_json()
    }

    #[test]
    fn urls_are_followed_at_any_depth_and_names_are_not() {
        let all = followed(json!({
            "resourceType": "DocumentReference",
            "url": "here", "implicitRules": "here", "identifier": [{"system": "here", "value": "here"}],
            "meta": {"profile": ["here"]}, "instantiatesCanonical": ["here"], "instantiatesUri": ["here", "yonder"],
            "content": [{"attachment": {"url": "here", "title": "here"}}],
            "contained": [{"resourceType": "ValueSet", "url": "here", "relatedArtifact": [{"url": "here"}]}],
            "extension": [{"url": "here", "valueUrl": "here"}, {"url": "here", "valueUuid": "here"}],
            "modifierExtension": [{"url": "here", "valueCanonical": "here", "valueOid": "here"}],
            "context": {"source": {"reference": "here", "display": "here"}},
            "policy": ["here"], "note": [{"text": "here"}]
        }));
        assert_eq!(
            all,
            json!({
                "resourceType": "DocumentReference",
                "url": "here", "implicitRules": "here", "identifier": [{"system": "here", "value": "here"}],
                "meta": {"profile": ["here"]}, "instantiatesCanonical": ["here"], "instantiatesUri": ["Url", "yonder"],
                "content": [{"attachment": {"url": "Url", "title": "here"}}],
                "contained": [{"resourceType": "ValueSet", "url": "here", "relatedArtifact": [{"url": "Url"}]}],
                "extension": [{"url": "here", "valueUrl": "Url"}, {"url": "here", "valueUuid": "Uuid"}],
                "modifierExtension": [{"url": "here", "valueCanonical": "here", "valueOid": "Url"}],
                "context": {"source": {"reference": "Reference", "display": "here"}},
                "policy": ["Url"], "note": [{"text": "here"}]
            })
        );
    }

    #[test]
    fn a_narrative_keeps_everything_but_its_addresses() {
        for (before, after) in [
            (r#"<div><a href="here?x&amp;y">here</a> here</div>"#, r#"<div><a href="Url">here</a> here</div>"#),
            (
                r#"<img alt="a > b" src='here'/><a class='x' href = "here">"#,
                r#"<img alt="a > b" src='Url'/><a class='x' href = "Url">"#,
            ),
            (r#"<abbr href="here"><p src="here">"#, r#"<abbr href="here"><p src="here">"#),
            (r#"<a data-href="here" href="yonder">é</a>"#, r#"<a data-href="here" href="yonder">é</a>"#),
            (r#"<a href="here"#, r#"<a href="here"#),
            (r#"<a href=here>"#, r#"<a href=here>"#),
            ("href src < a", "href src < a"),
        ] {
            let all = followed(json!({"resourceType": "Basic", "text": {"status": "additional", "div": before}}));
            assert_eq!(all["text"]["div"], after);
        }
    }
}
