//! The rules of the house that a program can check.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file, with the module it belongs to.
fn sources() -> Vec<(String, PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(root().join("src")).unwrap().to_owned();
                let top = below.components().next().unwrap().as_os_str().to_string_lossy();
                let module = top.trim_end_matches(".rs").trim_end_matches("_tests").to_owned();
                found.push((module, below, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().contains("tests"))
        || path.file_name().is_some_and(|name| name == "parity.rs")
}

/// The part of a file before its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// The table of ARCHITECTURE.md: what a module may import.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut table = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let names = |cell: &str| -> Vec<String> {
            cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        for module in names(cells[1]) {
            table.insert(module, names(cells[3]).into_iter().collect());
        }
    }
    table
}

#[test]
fn modules_import_what_the_table_allows_and_no_circle_is_possible() {
    let table = table();
    let order: Vec<&String> = {
        let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
        let at = |module: &String| text.find(&format!("| `{module}`")).unwrap();
        let mut modules: Vec<&String> = table.keys().collect();
        modules.sort_by_key(|module| at(module));
        modules
    };
    for (module, allowed) in &table {
        for import in allowed {
            let place = |name| order.iter().position(|other| *other == name);
            assert!(
                place(import) < place(module),
                "{module} may import {import}, which is below it"
            );
        }
    }
    let mut wrong = Vec::new();
    for (module, path, text) in sources().iter().filter(|(_, path, _)| !is_test(path)) {
        let Some(allowed) = table.get(module) else {
            assert!(["lib", "main"].contains(&module.as_str()), "{module} is not in the table");
            continue;
        };
        for line in without_tests(text).lines().filter(|line| !line.trim().starts_with("//")) {
            for rest in line.split("crate::").skip(1) {
                let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
                let import = &rest[..end.unwrap_or(rest.len())];
                if import != module && !allowed.contains(import) {
                    wrong.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_owns() {
    for (_, path, text) in sources().iter().filter(|(_, path, _)| !is_test(path)) {
        assert!(text.starts_with("//!"), "{} does not say what it owns", path.display());
    }
}

#[test]
fn nothing_in_the_library_unwraps() {
    for (_, path, text) in sources().iter().filter(|(_, path, _)| !is_test(path)) {
        for (number, line) in without_tests(text).lines().enumerate() {
            let is_code = !line.trim().starts_with("//");
            let unwraps = is_code && line.contains(".unwrap()");
            assert!(!unwraps, "{}:{}: {}", path.display(), number + 1, line.trim());
        }
    }
}
