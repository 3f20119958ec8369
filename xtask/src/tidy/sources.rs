//! Rules about single files: calls that have no place, exceptions without a reason, files that grew too long.

use super::{Finding, SourceFile};

const LINES_MAX: usize = 700;

/// Folders of code that serves requests or is linked into it: it logs, it does not print.
const SERVICES: [&str; 7] =
    ["domain/", "event-store/", "auth/", "web/", "command-api/", "projections/", "infra/local/"];

struct Ban {
    call: &'static str,
    folders: &'static [&'static str],
    instead: &'static str,
}

const DOMAIN: &[&str] = &["domain/"];
const BANS: [Ban; 9] = [
    Ban { call: "println!", folders: &SERVICES, instead: "log with `tracing`" },
    Ban { call: "eprintln!", folders: &SERVICES, instead: "log with `tracing`" },
    Ban { call: "SystemTime::now", folders: DOMAIN, instead: "the time comes with the command" },
    Ban { call: "Instant::now", folders: DOMAIN, instead: "the time comes with the command" },
    Ban { call: "Utc::now", folders: DOMAIN, instead: "the time comes with the command" },
    Ban { call: "Local::now", folders: DOMAIN, instead: "the time comes with the command" },
    Ban { call: "Uuid::new_v4", folders: DOMAIN, instead: "identifiers come with the command" },
    Ban { call: "Uuid::now_v7", folders: DOMAIN, instead: "identifiers come with the command" },
    Ban { call: "std::env::", folders: DOMAIN, instead: "settings come with the command" },
];

pub fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_code = file.path.ends_with(".rs") || file.path.ends_with(".sql");
    let lines = file.text.lines().count();
    if is_code && lines > LINES_MAX {
        findings.push(Finding::new(&file.path, format!("{lines} lines; look for the seam (at most {LINES_MAX})")));
    }
    if file.path.ends_with(".rs") && !file.path.starts_with("xtask/src/tidy/") {
        findings.extend(check_lines(file));
    }
    findings
}

fn check_lines(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut is_test = is_test_file(&file.path);
    for (index, line) in file.text.lines().enumerate() {
        // Test modules come last in a file.
        is_test |= line.trim_start().starts_with("#[cfg(test)]") && !file.text_after(index).starts_with("mod tests;");
        let fault = exception_without_reason(line, file.text_after(index), is_test)
            .or_else(|| banned(&file.path, line, is_test))
            .or_else(|| shown_secret(line));
        findings.extend(fault.map(|rule| Finding::new(format!("{}:{}", file.path, index + 1), rule)));
    }
    findings
}

impl SourceFile {
    /// The text that follows a line.
    fn text_after(&self, line: usize) -> &str {
        let start: usize = self.text.split_inclusive('\n').take(line + 1).map(str::len).sum();
        self.text[start..].trim_start()
    }
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/")
        || path.contains("/benches/")
        || path.contains("/examples/")
        || path.ends_with("/build.rs")
        || path.ends_with("/tests.rs")
        || path.ends_with("/testing.rs")
}

fn banned(path: &str, line: &str, is_test: bool) -> Option<String> {
    let code = line.trim_start();
    if is_test || code.starts_with("//") {
        return None;
    }
    let ban = BANS
        .iter()
        .find(|ban| ban.folders.iter().any(|folder| path.starts_with(folder)) && contains_call(code, ban.call))?;
    Some(format!("no `{}` here: {}", ban.call, ban.instead))
}

/// `println!` is not part of `eprintln!`.
fn contains_call(code: &str, call: &str) -> bool {
    code.match_indices(call).any(|(at, _)| !code[..at].ends_with(|before: char| before.is_alphanumeric()))
}

/// Addresses of databases hold passwords, and `--help` would show what the environment says of them.
fn shown_secret(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("env = \"NEXUS_")?;
    let (name, _) = rest.split_once('"')?;
    let is_secret = ["LOG_URL", "KEYS_URL", "READ_URL"].contains(&name)
        || ["PASSWORD", "SECRET", "TOKEN"].iter().any(|ending| name.ends_with(ending));
    (is_secret && !line.contains("hide_env_values = true"))
        .then(|| "`--help` would show a secret: hide_env_values = true".to_owned())
}

/// Shared code of tests may `allow`: each test file uses its own part of it.
fn exception_without_reason(line: &str, rest: &str, is_test: bool) -> Option<String> {
    let code = line.trim_start();
    let is_attribute = |name: &str| code.starts_with(&format!("#[{name}(")) || code.starts_with(&format!("#![{name}("));
    if is_attribute("allow") && !is_test {
        return Some("write `#[expect(…, reason = \"…\")]`: it tells when it is no longer needed".to_owned());
    }
    let attribute = || [code, rest.split(")]").next().unwrap_or_default()].concat();
    let is_complete = code.contains(")]");
    let has_reason = if is_complete { code.contains("reason") } else { attribute().contains("reason") };
    ((is_attribute("expect") || is_attribute("allow")) && !has_reason).then(|| "an exception needs a reason".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&SourceFile { path: path.to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn services_do_not_print_and_the_domain_has_no_clock() {
        assert_eq!(findings("web/src/a.rs", "println!(\"x\");"), 1);
        assert_eq!(findings("web/src/a.rs", "// println!(\"x\");"), 0);
        assert_eq!(findings("cli/src/a.rs", "println!(\"x\");"), 0);
        assert_eq!(findings("event-store/build.rs", "println!(\"x\");"), 0);
        assert_eq!(findings("domain/src/a.rs", "let now = Utc::now();"), 1);
        assert_eq!(findings("domain/src/a.rs", "#[cfg(test)]\nmod tests {\n let now = Utc::now();\n}"), 0);
        assert_eq!(findings("domain/src/a/tests.rs", "let now = Utc::now();"), 0);
        assert_eq!(findings("domain/src/a/mod.rs", "#[cfg(test)]\nmod tests;\nlet now = Utc::now();"), 1);
    }

    #[test]
    fn an_exception_says_why() {
        assert_eq!(findings("cli/src/a.rs", "#[allow(dead_code)]"), 1);
        assert_eq!(findings("cli/src/a.rs", "#[expect(dead_code)]"), 1);
        assert_eq!(findings("cli/src/a.rs", "#[expect(dead_code, reason = \"read by Drop\")]"), 0);
        assert_eq!(findings("cli/src/a.rs", "#[expect(\n    dead_code,\n    reason = \"read by Drop\"\n)]"), 0);
        assert_eq!(findings("cli/src/a.rs", "#[expect(\n    dead_code\n)]\nlet reason = 1;"), 1);
    }

    #[test]
    fn no_help_shows_a_secret() {
        assert_eq!(findings("web/src/a.rs", "#[arg(long, env = \"NEXUS_LOG_URL\")]"), 1);
        assert_eq!(findings("web/src/a.rs", "#[arg(long, env = \"NEXUS_LOG_URL\", hide_env_values = true)]"), 0);
        assert_eq!(findings("web/src/a.rs", "#[arg(long, env = \"NEXUS_VAULT_TOKEN_FILE\")]"), 0);
        assert_eq!(findings("web/src/a.rs", "#[arg(long, env = \"NEXUS_PROXY_PASSWORD\")]"), 1);
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(findings("cli/src/a.rs", &"\n".repeat(LINES_MAX)), 0);
        assert_eq!(findings("cli/src/a.rs", &"\n".repeat(LINES_MAX + 1)), 1);
    }
}
