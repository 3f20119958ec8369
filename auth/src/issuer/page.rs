//! The page on which demo people sign in: plain HTML without a script, and it says what it is.

use axum::{
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Response},
};
use url::Url;

/// Where the page sends what was typed, and where the answer may lead.
pub(super) struct SignInPage<'a> {
    pub application: &'a str,
    pub action: String,
    pub redirect_uri: &'a Url,
    pub message: &'a str,
}

impl IntoResponse for SignInPage<'_> {
    fn into_response(self) -> Response {
        let message = if self.message.is_empty() {
            String::new()
        } else {
            format!("<p role=\"alert\"><strong>{}</strong></p>", escape(self.message))
        };
        let html = format!(
            r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sign in - NexusHealth demo</title></head>
<body>
<main>
<h1>NexusHealth demo sign-in</h1>
<p>This is the built-in issuer of one machine, for demo accounts only. It is not an identity provider for people:
no real person should ever type a password here.</p>
<p>The application <strong>{application}</strong> asks who you are.</p>
{message}
<form method="post" action="{action}">
<p><label>Account <input name="account" autocomplete="username" required autofocus></label></p>
<p><label>Secret <input name="secret" type="password" autocomplete="current-password" required></label></p>
<p><button>Sign in</button></p>
</form>
</main>
</body>
</html>
"#,
            application = escape(self.application),
            action = escape(&self.action),
        );
        let mut response = Html(html).into_response();
        // Browsers hold the redirect that answers a form to `form-action` as well.
        let target = self.redirect_uri.origin().ascii_serialization();
        let policy =
            format!("default-src 'none'; form-action 'self' {target}; frame-ancestors 'none'; base-uri 'none'");
        let policy = HeaderValue::from_str(&policy);
        let policy = policy.unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
