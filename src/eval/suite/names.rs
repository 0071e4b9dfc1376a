//! Names of results and of their files.

use std::path::Path;

/// A file name of a name: what some file system could take amiss becomes a dash.
pub fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
    name.chars().map(plain).collect()
}

/// A name for each of these, which are called so and lie there. Where several paths have the same
/// name, it is instead the end of the path that tells it from the others: `a/test` and `b/test`.
pub fn told_apart(named: &[(&str, &Path)]) -> Vec<String> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let named: Vec<(&str, Vec<String>)> =
        named.iter().map(|(name, path)| (*name, parts(&real(path)))).collect();
    let one = |(name, path): &(&str, Vec<String>)| {
        let same = named.iter().filter(|(other, _)| other == name);
        let rivals: Vec<&Vec<String>> =
            same.map(|(_, other)| other).filter(|o| *o != path).collect();
        if rivals.is_empty() {
            return (*name).to_owned();
        }
        let end =
            |path: &[String], length: usize| path[path.len().saturating_sub(length)..].join("/");
        let is_own = |length: &usize| rivals.iter().all(|o| end(o, *length) != end(path, *length));
        end(path, (1..path.len()).find(is_own).unwrap_or(path.len()))
    };
    named.iter().map(one).collect()
}

/// The folders of a path, and what a file there is called.
fn parts(path: &Path) -> Vec<String> {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let folders = path.parent().into_iter().flat_map(Path::iter).filter(|part| *part != "/");
    folders.chain(name).map(|part| part.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(named: &[(&str, &str)]) -> Vec<String> {
        let named: Vec<(&str, &Path)> =
            named.iter().map(|(name, path)| (*name, Path::new(path))).collect();
        told_apart(&named)
    }

    #[test]
    fn only_what_would_be_called_the_same_is_told_apart_by_its_folders() {
        assert_eq!(apart(&[("x", "/a/x"), ("y", "/b/y")]), ["x", "y"]);
        assert_eq!(apart(&[("x", "/a/x"), ("x", "/b/x"), ("z", "/z")]), ["a/x", "b/x", "z"]);
        assert_eq!(apart(&[("x", "/a/c/x.pt"), ("x", "/b/c/x.pt")]), ["a/c/x", "b/c/x"]);
        assert_eq!(apart(&[("imagenet", "/sets/v1"), ("imagenet", "/sets/v2")]), ["v1", "v2"]);
        assert_eq!(apart(&[("x", "/x"), ("x", "/a/x")]), ["x", "a/x"]);
        // One place is one thing, whatever is done with it.
        assert_eq!(apart(&[("x", "/a/x"), ("x", "/a/x")]), ["x", "x"]);
        assert_eq!(apart(&[("x", "/a/x"), ("x", "/a/x"), ("x", "/b/x")]), ["a/x", "a/x", "b/x"]);
    }

    #[test]
    fn a_name_becomes_a_file_name() {
        assert_eq!(file_name("a/b: c_d-1.5"), "a-b--c_d-1.5");
    }
}
