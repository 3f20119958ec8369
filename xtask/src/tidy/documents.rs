//! Documents that stay true: a page for every problem, and links that lead somewhere.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Finding, SourceFile};

const PROBLEMS_SOURCE: &str = "web/src/problem.rs";
const PROBLEMS_FOLDER: &str = "docs/problems/";

pub fn check(root: &Path, files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = check_problems(files);
    let documents = files.iter().filter(|file| file.path.ends_with(".md"));
    findings.extend(documents.flat_map(|document| check_links(root, document)));
    findings
}

/// Every problem type has a page and every page a problem type.
fn check_problems(files: &[SourceFile]) -> Vec<Finding> {
    let Some(source) = files.iter().find(|file| file.path == PROBLEMS_SOURCE) else {
        return vec![Finding::new(PROBLEMS_SOURCE, "the list of problem types is gone")];
    };
    let slugs = problem_slugs(&source.text);
    let pages: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix(PROBLEMS_FOLDER)?.strip_suffix(".md"))
        .filter(|name| *name != "README")
        .collect();
    let without_page = slugs
        .difference(&pages)
        .map(|slug| Finding::new(PROBLEMS_SOURCE, format!("`{slug}` has no page; write {PROBLEMS_FOLDER}{slug}.md")));
    let without_type = pages
        .difference(&slugs)
        .map(|page| Finding::new(format!("{PROBLEMS_FOLDER}{page}.md"), "describes no problem that there is"));
    without_page.chain(without_type).collect()
}

/// The table's lines read `NAME = "slug", STATUS, "Title";`.
fn problem_slugs(source: &str) -> BTreeSet<&str> {
    source
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.trim().split_once(" = \"")?;
            let is_row = name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
            let (slug, rest) = rest.split_once('"')?;
            (is_row && rest.starts_with(", ") && rest.ends_with("\";")).then_some(slug)
        })
        .collect()
}

fn check_links(root: &Path, document: &SourceFile) -> Vec<Finding> {
    let folder = Path::new(&document.path).parent().unwrap_or(Path::new(""));
    relative_links(&document.text)
        .filter(|link| !root.join(folder).join(link).exists())
        .map(|link| Finding::new(&document.path, format!("the link to {link} leads nowhere")))
        .collect()
}

/// Targets of `[text](target)` that are paths, without their fragments.
fn relative_links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', ' ', '\n']).next()?.split('#').next()?;
        let is_path = !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
        is_path.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn problems_and_pages_belong_together() {
        let source = file(PROBLEMS_SOURCE, "    NOT_FOUND = \"not-found\", NOT_FOUND, \"Not found\";\n");
        let page = file("docs/problems/not-found.md", "");
        let stray = file("docs/problems/gone.md", "");
        assert_eq!(check_problems(&[file(PROBLEMS_SOURCE, &source.text)]).len(), 1);
        assert_eq!(check_problems(&[file(PROBLEMS_SOURCE, &source.text), file(&page.path, "")]).len(), 0);
        assert_eq!(check_problems(&[source, page, stray]).len(), 1);
    }

    #[test]
    fn only_paths_are_followed() {
        let text = "[a](b.md) [c](https://d.e) [f](#g) [h](i.md#j)";
        assert_eq!(relative_links(text).collect::<Vec<_>>(), ["b.md", "i.md"]);
    }
}
