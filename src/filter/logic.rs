//! `and`, `or`, `not` and brackets with three truths, as in SQL: true, false, and nobody knows.

use anyhow::Result;
use anyhow::ensure;

/// Parts that are joined by words.
#[derive(Debug, PartialEq)]
pub(super) enum Tree<T> {
    Or(Vec<Tree<T>>),
    And(Vec<Tree<T>>),
    Not(Box<Tree<T>>),
    Leaf(T),
}

/// Brackets within brackets; nobody writes more, and each costs stack.
const DEEPEST: usize = 64;

/// Reads an expression; `leaf` reads what has none of the words.
pub(super) fn parse<T>(text: &str, leaf: &mut dyn FnMut(&str) -> Result<T>) -> Result<Tree<T>> {
    joined(text, DEEPEST, leaf)
}

impl<T> Tree<T> {
    /// Every leaf.
    pub(super) fn each<'a>(&'a self, work: &mut dyn FnMut(&'a T)) {
        match self {
            Tree::Or(parts) | Tree::And(parts) => parts.iter().for_each(|part| part.each(work)),
            Tree::Not(part) => part.each(work),
            Tree::Leaf(leaf) => work(leaf),
        }
    }

    /// What is true of the whole, by what is true of each leaf. What can no longer change it is not
    /// looked at.
    pub(super) fn truth(
        &self,
        of: &mut dyn FnMut(&T) -> Result<Option<bool>>,
    ) -> Result<Option<bool>> {
        match self {
            Tree::Or(parts) => settled(parts, true, of),
            Tree::And(parts) => settled(parts, false, of),
            Tree::Not(part) => Ok(part.truth(of)?.map(|truth| !truth)),
            Tree::Leaf(leaf) => of(leaf),
        }
    }
}

/// One part that is so settles the whole; else it is the opposite, if that is known of all.
fn settled<T>(
    parts: &[Tree<T>],
    by: bool,
    of: &mut dyn FnMut(&T) -> Result<Option<bool>>,
) -> Result<Option<bool>> {
    let mut whole = Some(!by);
    for part in parts {
        match part.truth(of)? {
            Some(truth) if truth == by => return Ok(Some(by)),
            Some(_) => {}
            None => whole = None,
        }
    }
    Ok(whole)
}

fn joined<T>(text: &str, depth: usize, leaf: &mut dyn FnMut(&str) -> Result<T>) -> Result<Tree<T>> {
    ensure!(depth > 0, "brackets and `not` are more than {DEEPEST} deep");
    let plain = without_strings(text);
    for (word, tree) in [("or", Tree::Or as fn(_) -> _), ("and", Tree::And)] {
        let parts = split(text, &plain, word)?;
        if parts.len() > 1 {
            let parts = parts.into_iter().map(|part| joined(part, depth - 1, leaf));
            return Ok(tree(parts.collect::<Result<_>>()?));
        }
    }
    let (text, plain) = (text.trim(), plain.trim());
    ensure!(!text.is_empty(), "something is missing beside and, or, not, or between brackets");
    if let Some(rest) = plain.strip_prefix("not").filter(|rest| !rest.starts_with(is_name)) {
        let rest = &text[text.len() - rest.len()..];
        return Ok(Tree::Not(Box::new(joined(rest, depth - 1, leaf)?)));
    }
    match enclosed(text, plain) {
        Some(within) => joined(within, depth - 1, leaf),
        None => Ok(Tree::Leaf(leaf(text)?)),
    }
}

/// The parts between a word, where it stands outside of brackets.
fn split<'a>(text: &'a str, plain: &str, word: &str) -> Result<Vec<&'a str>> {
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0i32);
    for (at, letter) in plain.char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        ensure!(depth >= 0, "a bracket closes that was not opened");
        let (before, rest) = plain.split_at(at);
        let stands_alone = || {
            let after = rest.strip_prefix(word)?;
            let alone = !before.ends_with(is_name) && !after.starts_with(is_name);
            (alone && !before.ends_with('.')).then_some(())
        };
        if depth == 0 && stands_alone().is_some() {
            parts.push(&text[from..at]);
            from = at + word.len();
        }
    }
    ensure!(depth == 0, "a bracket is not closed");
    parts.push(&text[from..]);
    Ok(parts)
}

/// What stands between a bracket that opens the text and the one that closes it.
fn enclosed<'a>(text: &'a str, plain: &str) -> Option<&'a str> {
    let within = plain.strip_prefix('(')?.strip_suffix(')')?;
    let mut depth = 0i32;
    for letter in within.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    // A comma makes it a tuple and no bracket around a part.
    (!is_tuple(within)).then(|| &text[1..text.len() - 1])
}

fn is_tuple(within: &str) -> bool {
    let mut depth = 0i32;
    within.chars().any(|letter| {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth == 0
    })
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The text with a blank for each byte that stands within quotes: of the same length, so that places
/// in one are places in the other.
pub(super) fn without_strings(text: &str) -> String {
    let (mut quote, mut is_escaped) = (None, false);
    let mut plain = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(_) if byte == b'\\' => is_escaped = true,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if matches!(byte, b'\'' | b'"') => quote = Some(byte),
            None => {
                plain.push(byte);
                continue;
            }
        }
        plain.push(b'"');
    }
    String::from_utf8_lossy(&plain).into_owned()
}
