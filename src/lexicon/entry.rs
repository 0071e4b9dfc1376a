//! What the lexicon knows of one word form.

use std::cell::RefCell;
use std::rc::Rc;

use hashbrown::HashMap;
use hashbrown::HashSet;

use crate::lexicon::BACKDROP;
use crate::lexicon::Lemma;
use crate::lexicon::Lexicon;
use crate::lexicon::Meaning;
use crate::lexicon::Part;
use crate::lexicon::SEEN;
use crate::lexicon::Sense;
use crate::lexicon::category;
use crate::lexicon::forms;
use crate::lexicon::wordnet;

/// A word form: its lemmas, its usual meanings and what lies around those.
#[derive(Debug, Default)]
pub struct Entry {
    /// Lemmas of which it is a form; empty for a word that the lexicon does not have.
    pub lemmas: Vec<Lemma>,
    /// Its usual meanings, sorted.
    pub meanings: Vec<Meaning>,
    /// Everything that is broader than a usual meaning, and by how many steps; sorted.
    pub broader: Vec<(Meaning, u8)>,
    /// Opposites of its meanings, or of what is one step broader (`tiny`: of `small`); sorted.
    pub opposites: Vec<Meaning>,
    /// Meanings that are derived from one of its own (`wood` for `wooden`); sorted.
    pub related: Vec<Meaning>,
    /// How often it was met as a noun, verb, adjective; 1 at least where it can be one.
    pub counts: [u32; 3],
    /// Whether, as a noun, it stands for something that can be seen.
    pub is_seen: bool,
    /// Whether what can be seen is rather part of something or of the surroundings than a thing of its
    /// own: `hand`, `sky`, `water`, `crowd`.
    pub is_backdrop: bool,
    /// Whether, as a noun, it only names places: `paris`.
    pub is_place: bool,
    /// Whether, as a noun, it stands for people.
    pub is_person: bool,
}

impl Entry {
    /// Whether the lexicon has the word.
    pub fn is_known(&self) -> bool {
        !self.lemmas.is_empty()
    }

    /// Whether it can be this part of speech.
    pub fn can_be(&self, part: Part) -> bool {
        self.counts[part as usize] > 0
    }

    /// Whether both are forms of one lemma.
    pub fn same(&self, other: &Entry) -> bool {
        self.lemmas.iter().any(|lemma| other.lemmas.contains(lemma))
    }

    /// Whether they have a usual meaning in common.
    pub fn synonym(&self, other: &Entry) -> bool {
        meet(&self.meanings, &other.meanings)
    }

    /// By how many steps this word is broader than the other, if it is.
    pub fn broader_than(&self, other: &Entry) -> Option<u8> {
        let above = |meaning: &Meaning| {
            let at = other.broader.binary_search_by_key(meaning, |(broad, _)| *broad).ok()?;
            Some(other.broader[at].1)
        };
        self.meanings.iter().filter_map(above).min()
    }

    /// Whether one says the contrary of the other.
    pub fn opposite(&self, other: &Entry) -> bool {
        meet(&self.opposites, &other.meanings) || meet(&other.opposites, &self.meanings)
    }

    /// Whether one is derived from the other.
    pub fn derived(&self, other: &Entry) -> bool {
        meet(&self.related, &other.meanings)
    }

    /// How near the meanings are, 0..1 (Wu and Palmer, 1994): twice the depth of what both are, over
    /// the sum of their own depths.
    pub fn nearness(&self, other: &Entry) -> f32 {
        let lexicon = wordnet();
        let mut best = 0.0_f32;
        for &(common, steps) in &self.broader {
            let Ok(at) = other.broader.binary_search_by_key(&common, |(broad, _)| *broad) else {
                continue;
            };
            let depth = f32::from(depth(lexicon, common));
            let far = f32::from(steps) + f32::from(other.broader[at].1);
            best = best.max(2.0 * depth / (2.0 * depth + far));
        }
        best
    }
}

/// What the lexicon knows of a form in lower case; an expression of several words has `_` between
/// them.
pub fn entry(form: &str) -> Rc<Entry> {
    /// More forms than any language has in a data set's head; a flood of junk starts anew.
    const ROOM: usize = 200_000;
    thread_local! {
        static KNOWN: RefCell<HashMap<Box<str>, Rc<Entry>>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some(entry) = known.get(form) {
            return entry.clone();
        }
        if known.len() >= ROOM {
            known.clear();
        }
        let entry = Rc::new(look_up(wordnet(), form));
        known.insert(form.into(), entry.clone());
        entry
    })
}

fn look_up(lexicon: &Lexicon, form: &str) -> Entry {
    let mut entry = Entry::default();
    let (mut meanings, mut opposites, mut related) =
        (HashSet::new(), HashSet::new(), HashSet::new());
    let mut broader = HashMap::new();
    let (mut noun, mut seen, mut backdrop, mut places, mut people) = (0, 0, 0, 0, 0);
    let mut lemmas = forms::lemmas(lexicon, form);
    let own = lemmas.len();
    let like = |lemma: &str| lexicon.everyday.get(lemma).into_iter().flatten();
    for at in 0..own {
        let others: Vec<_> =
            like(&lemmas[at].1).flat_map(|like| forms::lemmas(lexicon, like)).collect();
        lemmas.extend(others.into_iter().filter(|(part, _)| *part != Part::Verb));
    }
    for (place, (part, lemma)) in lemmas.into_iter().enumerate() {
        let Some((number, senses)) = lexicon.lemmas.get(lemma.as_str()) else { continue };
        let senses: Vec<Sense> = senses.iter().filter(|s| s.part == part).copied().collect();
        let total: u32 = senses.iter().map(|sense| sense.count).sum();
        entry.counts[part as usize] += total.max(1);
        for sense in usual(&senses) {
            let synset = lexicon.synset(sense.meaning);
            meanings.insert(sense.meaning);
            above(lexicon, sense.meaning, &mut broader);
            opposites.extend(synset.antonyms.iter().copied());
            if part == Part::Adjective {
                let heads = synset.parents.iter().map(|&head| lexicon.synset(head));
                opposites.extend(heads.flat_map(|head| head.antonyms.iter().copied()));
            }
            related.extend(synset.related.iter().copied());
            if part == Part::Noun {
                let weight = sense.count.max(1);
                noun += weight;
                seen += if is_seen(lexicon, sense.meaning) { weight } else { 0 };
                backdrop += if BACKDROP.contains(&synset.category) { weight } else { 0 };
                let is_place = synset.is_instance && synset.category == category::LOCATION;
                places += if is_place { weight } else { 0 };
                people += if synset.category == category::PERSON { weight } else { 0 };
            }
        }
        if place < own && !entry.lemmas.contains(number) {
            entry.lemmas.push(*number);
        }
    }
    entry.is_seen = seen * 3 >= noun && noun > 0;
    entry.is_backdrop = backdrop * 2 > seen;
    entry.is_place = places == noun && noun > 0;
    entry.is_person = people * 2 > noun && noun > 0;
    entry.meanings = sorted(meanings);
    entry.opposites = sorted(opposites);
    entry.related = sorted(related);
    entry.broader = broader.into_iter().collect();
    entry.broader.sort_unstable();
    entry
}

/// Whether it can be seen. WordNet's topmost words (`food`, `animal`, `abstraction`) are of one category;
/// there, what is physical can.
fn is_seen(lexicon: &Lexicon, meaning: Meaning) -> bool {
    const PHYSICAL: Meaning = 1;
    let category = lexicon.synset(meaning).category;
    let is_physical = || {
        let mut broader = HashMap::new();
        above(lexicon, meaning, &mut broader);
        broader.contains_key(&PHYSICAL)
    };
    SEEN.contains(&category) || (category == category::TOP && is_physical())
}

/// The senses that a word is met with: the first, and others that come at least a fifth as often;
/// where nobody counted, the first two.
fn usual(senses: &[Sense]) -> impl Iterator<Item = &Sense> {
    const MOST: usize = 4;
    let first = senses.first().map_or(0, |sense| sense.count);
    let is_usual = move |(place, sense): &(usize, &Sense)| match first {
        0 => *place < 2,
        first => *place == 0 || sense.count * 5 >= first,
    };
    senses.iter().enumerate().take(MOST).filter(is_usual).map(|(_, sense)| sense)
}

/// Everything broader than a meaning, itself with no steps.
fn above(lexicon: &Lexicon, meaning: Meaning, found: &mut HashMap<Meaning, u8>) {
    let mut level = vec![meaning];
    for steps in 0..u8::MAX {
        let mut next = Vec::new();
        for meaning in level {
            let known = found.get(&meaning).is_some_and(|&before| before <= steps);
            if !known {
                found.insert(meaning, steps);
                next.extend(lexicon.synset(meaning).parents.iter().copied());
            }
        }
        if next.is_empty() {
            break;
        }
        level = next;
    }
}

/// Steps from the top.
fn depth(lexicon: &Lexicon, meaning: Meaning) -> u8 {
    let mut depth = 0;
    let mut at = meaning;
    // Cycles of verbs exist in WordNet; nothing is that deep.
    while let Some(&parent) = lexicon.synset(at).parents.first()
        && depth < 30
    {
        depth += 1;
        at = parent;
    }
    depth
}

fn sorted(meanings: HashSet<Meaning>) -> Vec<Meaning> {
    let mut meanings: Vec<Meaning> = meanings.into_iter().collect();
    meanings.sort_unstable();
    meanings
}

/// Whether two sorted lists have anything in common.
fn meet(one: &[Meaning], other: &[Meaning]) -> bool {
    let (mut i, mut j) = (0, 0);
    while i < one.len() && j < other.len() {
        match one[i].cmp(&other[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_joined_as_people_join_them() {
        type Test = fn(&Entry, &Entry) -> bool;
        let tests: [(&str, Test); 5] = [
            ("same", Entry::same),
            ("synonym", Entry::synonym),
            ("broader", |a, b| a.broader_than(b).is_some()),
            ("opposite", Entry::opposite),
            ("derived", Entry::derived),
        ];
        for (wanted, one, other) in [
            ("same", "geese", "goose"),
            ("same", "running", "ran"),
            ("same", "larger", "large"),
            ("synonym", "sofa", "couch"),
            ("synonym", "bike", "bicycle"),
            ("synonym", "plane", "airplanes"),
            ("synonym", "grey", "gray"),
            ("broader", "animal", "dogs"),
            ("broader", "vehicle", "truck"),
            ("broader", "food", "pizza"),
            ("opposite", "tiny", "large"),
            ("opposite", "hot", "cold"),
            ("opposite", "men", "woman"),
            ("derived", "snowy", "snow"),
            ("synonym", "wooden", "wood"),
            ("synonym", "people", "persons"),
        ] {
            let (a, b) = (entry(one), entry(other));
            for (name, test) in tests {
                if name == wanted {
                    assert!(test(&a, &b), "{one} {other}: not {name}");
                }
            }
        }
        for (one, other) in [("plan", "plane"), ("cat", "dog"), ("car", "care"), ("star", "stare")]
        {
            let (a, b) = (entry(one), entry(other));
            assert!(!a.same(&b) && !a.synonym(&b) && a.broader_than(&b).is_none(), "{one} {other}");
        }
    }

    #[test]
    fn what_can_be_seen_is_told_from_ideas() {
        for seen in ["dog", "tree", "man", "snow", "street", "crowd", "triangle", "hand", "food"] {
            assert!(entry(seen).is_seen, "{seen}");
        }
        for idea in ["happiness", "beauty", "history", "winter"] {
            assert!(!entry(idea).is_seen, "{idea}");
        }
        assert!(entry("paris").is_place && !entry("city").is_place);
        assert!(entry("qzebraq").lemmas.is_empty());
    }

    #[test]
    fn siblings_are_nearer_than_strangers() {
        let near = |one, other| entry(one).nearness(&entry(other));
        assert!(near("cat", "dog") > 0.8);
        assert!(near("cat", "dog") > near("cat", "truck"));
        assert_eq!(near("cat", "qzebraq"), 0.0);
    }
}
