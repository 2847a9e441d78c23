//! Every stable error code of the sources has a heading in `docs/errors`, and no heading is left without a code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const PREFIX: &str = "CDF-";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files below `directory` that end in `extension`; what was built is left out.
fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

/// Codes with four digits in a text.
fn codes(text: &str) -> impl Iterator<Item = String> + '_ {
    text.match_indices(PREFIX).filter_map(|(at, _)| {
        let rest = &text[at + PREFIX.len()..];
        let digits = rest.chars().take_while(char::is_ascii_digit).count();
        (digits == 4).then(|| format!("{PREFIX}{}", &rest[..digits]))
    })
}

/// Each code of the sources, with a file that has it.
fn in_sources() -> BTreeMap<String, PathBuf> {
    let mut sources = Vec::new();
    for directory in ["cli", "services", "shared", "examples", "loadtest"] {
        files(&root().join(directory), "rs", &mut sources);
    }
    assert!(sources.len() > 100, "the sources are not where they were: {} files", sources.len());
    let mut found = BTreeMap::new();
    for path in sources {
        let text = fs::read_to_string(&path).expect("a source is text");
        found.extend(codes(&text).map(|code| (code, path.clone())));
    }
    found
}

/// Each heading `## CDF-nnnn`, with its page.
fn in_documentation() -> Vec<(String, PathBuf)> {
    let mut pages = Vec::new();
    files(&root().join("docs/errors"), "md", &mut pages);
    let mut found = Vec::new();
    for path in pages {
        let text = fs::read_to_string(&path).expect("a page is text");
        let headings =
            text.lines().filter_map(|line| line.strip_prefix("## ")).filter(|title| title.starts_with(PREFIX));
        found.extend(headings.map(|title| (title.trim().to_owned(), path.clone())));
    }
    found
}

#[test]
fn every_error_code_has_a_heading_and_every_heading_a_code() {
    let (sources, headings) = (in_sources(), in_documentation());
    let documented: BTreeSet<&String> = headings.iter().map(|(code, _)| code).collect();
    let missing: Vec<_> = sources.iter().filter(|(code, _)| !documented.contains(code)).collect();
    assert!(missing.is_empty(), "without a heading in docs/errors: {missing:#?}");
    let left_over: Vec<_> = headings.iter().filter(|(code, _)| !sources.contains_key(code)).collect();
    assert!(left_over.is_empty(), "headings of codes that no source has: {left_over:#?}");
    assert_eq!(documented.len(), headings.len(), "a code has two headings");
}

#[test]
fn each_page_holds_the_codes_of_its_name() {
    for (code, path) in in_documentation() {
        let page = path.file_stem().unwrap_or_default().to_string_lossy();
        assert_eq!(page, format!("{}xxx", &code[..PREFIX.len() + 1]), "{code} is in {}", path.display());
    }
}
