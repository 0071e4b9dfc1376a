//! What is wrong with a reply beside its sources: it obeys one of them, or has nothing of any.

use std::collections::HashSet;
use std::sync::Arc;

use crate::describe::sources::Sources;
use crate::text;

/// Whether the reply gives orders itself, or says what a suspect raw text alone could have made it
/// say: then more than half of its content words, and there must be one, and any word of the suspect
/// must be known from what models saw.
pub(super) fn obeys(line: &str, sources: &Sources) -> bool {
    if text::injection::suspected(line) {
        return true;
    }
    let Some(suspect) = &sources.suspect else { return false };
    let tags = sources.tags.iter().map(|label| label.name.as_str());
    let seen: HashSet<Arc<str>> =
        tags.chain(sources.synthetic.as_deref()).flat_map(stems).collect();
    let of_suspect: HashSet<Arc<str>> = stems(suspect).collect();
    let said: Vec<Arc<str>> = stems(line).collect();
    let unseen: Vec<&Arc<str>> = said.iter().filter(|stem| !seen.contains(*stem)).collect();
    // "Yes" has no content word at all.
    said.is_empty()
        || unseen.iter().any(|stem| of_suspect.contains(*stem))
        || unseen.len() * 2 > said.len()
}

/// Whether no content word comes from anywhere, although a model saw something: a raw text alone may have
/// been put into English.
pub(super) fn is_unrelated(line: &str, sources: &Sources) -> bool {
    let seen =
        sources.tags.iter().map(|label| label.name.as_str()).chain(sources.synthetic.as_deref());
    let known: HashSet<Arc<str>> = seen.flat_map(stems).collect();
    if known.is_empty() {
        return false;
    }
    let raw: HashSet<Arc<str>> = sources.raw.as_deref().into_iter().flat_map(stems).collect();
    !stems(line).any(|stem| known.contains(&stem) || raw.contains(&stem))
}

fn stems(text: &str) -> impl Iterator<Item = Arc<str>> {
    text::content_words(text).into_iter().map(|word| word.stem)
}
