//! What the README and the guides show: every configuration is read, every link leads somewhere, and code that is left to the
//! reader stands in an example that is built.
//!
//! Their Rust is run as doc-tests, their commands and their Python by `tests/sdk/test_documentation.py`.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::path::{Path, PathBuf};

use tower_failover::config::Config;

/// The README and all guides, with their texts.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guides = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = guides.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    pages.sort();
    pages.insert(0, root.join("README.md"));
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, text)
    };
    pages.into_iter().map(read).collect()
}

/// The blocks of code of a page: its language with what stands behind it, the line, and the code.
fn blocks(page: &str) -> Vec<(&str, usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```").filter(|language| !language.is_empty()) else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let code = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
        let code: Vec<_> = code.map(|line| line.get(indent..).unwrap_or_default()).collect();
        blocks.push((language, at + 1, code.join("\n")));
    }
    blocks
}

/// What a recipe leaves out: the providers of the quick start, and others that it names.
const PROVIDERS: &str = r#"
[providers.openai]
dialect = "openai-chat"
base_url = "https://api.openai.com/v1"
[providers.anthropic]
dialect = "anthropic-messages"
base_url = "https://api.anthropic.com"
[providers.gemini]
dialect = "gemini"
base_url = "https://generativelanguage.googleapis.com"
[providers.groq]
dialect = "openai-chat"
base_url = "https://api.groq.com/openai/v1"
[providers.azure]
dialect = "openai-chat"
base_url = "https://NAME.openai.azure.com/openai/deployments/{model}"
"#;
/// What a part without a route leaves out.
const ROUTE: &str = "\n[routes.\"any\"]\ntargets = [{ provider = \"openai\", model = \"gpt-4o\" }]\n";

/// A block as it could stand on this machine: with files of ours in the place of those that it names, and no program but one that
/// is everywhere.
fn here(block: &str, folder: &Path) -> String {
    let line = |line: &str| {
        let mut line = line.to_owned();
        if let Some(start) = line.find("command = [") {
            let end = start + line[start..].find(']').unwrap();
            line.replace_range(start..=end, "command = [\"echo\", \"a-key-that-a-command-tells\"]");
        }
        for name in ["file = \"", "certificate = \"", "key         = \"", "key = \""] {
            let Some(start) = line.find(name).map(|at| at + name.len()) else { continue };
            let end = start + line[start..].find('"').unwrap();
            let file = line[start..end].replace(['/', '…'], "_");
            // A key of its own each.
            std::fs::write(folder.join(&file), format!("a-key-in-the-file-{file}")).unwrap();
            line.replace_range(start..end, &file);
        }
        line
    };
    block.lines().map(|text| line(text) + "\n").collect()
}

/// A block as a whole file.
fn whole(block: &str) -> String {
    let has = |table: &str| block.lines().any(|line| line.starts_with(table));
    let providers = if has("[providers.") { "" } else { PROVIDERS };
    let route = if has("[routes.") { "" } else { ROUTE };
    format!("{block}\n{providers}{route}")
}

#[test]
fn every_configuration_that_is_shown_is_read() {
    let mut read = 0;
    for (path, page) in pages() {
        for (_, line, block) in blocks(&page).iter().filter(|(language, ..)| *language == "toml") {
            if block.contains("[dependencies]") {
                continue;
            }
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let text = whole(&here(block, folder));
            let variable = |name: &str| match name {
                "REDIS_URL" => Some("redis://127.0.0.1:6379".to_owned()),
                name => Some(format!("a-key-for-{name}")),
            };
            let config = Config::from_toml(&text, &folder.join("shown.toml"), &variable);
            assert!(config.is_ok(), "{}:{line}: {}\n{block}", path.display(), config.unwrap_err());
            read += 1;
        }
    }
    assert!(read >= 15, "only {read} were found");
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    for (path, page) in pages() {
        let text: String = page.split("```").step_by(2).collect();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") || (file.is_empty() && anchor.is_empty()) {
                continue;
            }
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", path.display());
            if !anchor.is_empty() && target.extension().is_some_and(|extension| extension == "md") {
                let headings = std::fs::read_to_string(&target).unwrap();
                let found = headings.lines().filter(|line| line.starts_with('#')).any(|line| slug(line) == anchor);
                assert!(found, "{}: {link} names no heading", path.display());
            }
        }
    }
}

/// A heading's name in links, as GitHub makes it.
fn slug(heading: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| kept(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn code_that_is_not_run_stands_in_an_example() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let sources = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let bare = |text: &str| -> String {
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        code.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect()
    };
    let examples: Vec<_> = sources
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| bare(&std::fs::read_to_string(path).unwrap()))
        .collect();
    for (path, page) in pages() {
        for (_, line, block) in blocks(&page).iter().filter(|(language, ..)| *language == "rust,ignore") {
            for statement in block.split(";\n").map(bare).filter(|statement| !statement.is_empty()) {
                let found = examples.iter().any(|example| example.contains(statement.trim_end_matches(';')));
                assert!(found, "{}:{line}: in no example: {statement}", path.display());
            }
        }
    }
}
