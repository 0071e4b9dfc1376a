//! From a word form to its lemmas: WordNet's own rules (morphy(7WN)) and its lists of exceptions.

use crate::lexicon::Lexicon;
use crate::lexicon::Part;

/// Endings of forms and what a lemma has in their place.
const RULES: [(Part, &[(&str, &str)]); 3] = [
    (
        Part::Noun,
        &[
            ("s", ""),
            ("ses", "s"),
            ("xes", "x"),
            ("zes", "z"),
            ("ches", "ch"),
            ("shes", "sh"),
            ("men", "man"),
            ("ies", "y"),
            ("ves", "f"),
            ("ves", "fe"),
        ],
    ),
    (
        Part::Verb,
        &[
            ("s", ""),
            ("ies", "y"),
            ("es", "e"),
            ("es", ""),
            ("ed", "e"),
            ("ed", ""),
            ("ied", "y"),
            ("ing", "e"),
            ("ing", ""),
        ],
    ),
    (
        Part::Adjective,
        &[("er", ""), ("est", ""), ("er", "e"), ("est", "e"), ("ier", "y"), ("iest", "y")],
    ),
];

/// The lemmas that a form in lower case may belong to, with the part of speech in which it does. The
/// form itself comes first, if it is one.
pub(super) fn lemmas(lexicon: &Lexicon, form: &str) -> Vec<(Part, String)> {
    let mut found: Vec<(Part, String)> = Vec::new();
    let mut add = |part: Part, lemma: &str| {
        let has = lexicon.lemmas.get(lemma).is_some_and(|(_, s)| s.iter().any(|s| s.part == part));
        if has && !found.iter().any(|(p, l)| *p == part && l == lemma) {
            found.push((part, lemma.to_owned()));
        }
    };
    for part in Part::ALL {
        add(part, form);
    }
    for (part, lemma) in lexicon.exceptions.get(form).into_iter().flatten() {
        add(*part, lemma);
    }
    for (part, rules) in RULES {
        for (ending, instead) in rules {
            let Some(root) = form.strip_suffix(ending) else { continue };
            // "ss" is no plural, and two letters are no root.
            if root.len() < 2 || (*ending == "s" && root.ends_with('s')) {
                continue;
            }
            add(part, &format!("{root}{instead}"));
            if part != Part::Noun && instead.is_empty() && is_doubled(root) {
                add(part, &root[..root.len() - 1]);
            }
        }
    }
    found
}

/// `runn` of `running`.
fn is_doubled(root: &str) -> bool {
    let bytes = root.as_bytes();
    matches!(bytes, [.., before, last] if before == last && last.is_ascii_alphabetic())
}
