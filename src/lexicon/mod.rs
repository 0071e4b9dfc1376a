//! WordNet in the binary: which words mean the same, which mean more, which the opposite, and what
//! sort of thing a word stands for.
//!
//! `wordnet.txt.gz` is made by `examples/lexicon.rs` (origin and licence: `ORIGIN.md` beside it) and
//! read once, when the first word is asked for. [`entry()`] says all that is known of a word form; it
//! remembers what it was asked, since a data set has far more words than different ones.

mod entry;
mod forms;

use std::io::Read;
use std::sync::LazyLock;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use flate2::read::GzDecoder;
use hashbrown::HashMap;

pub use entry::Entry;
pub use entry::entry;

/// A part of speech that the lexicon has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Things and ideas.
    Noun,
    /// What is done.
    Verb,
    /// How things are.
    Adjective,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 3] = [Part::Noun, Part::Verb, Part::Adjective];

    fn of(letter: &str) -> Result<Part> {
        match letter {
            "n" => Ok(Part::Noun),
            "v" => Ok(Part::Verb),
            "a" => Ok(Part::Adjective),
            _ => bail!("no part of speech: {letter:?}"),
        }
    }
}

/// Number of a synset: one meaning, whatever the words for it.
pub type Meaning = u32;

/// Number of a lemma: one dictionary word, whatever its meanings.
pub type Lemma = u32;

/// WordNet's lexicographer files, as far as the audit asks for them.
mod category {
    pub(super) const TOP: u8 = 3;
    pub(super) const ANIMAL: u8 = 5;
    pub(super) const ARTIFACT: u8 = 6;
    pub(super) const BODY: u8 = 8;
    pub(super) const FOOD: u8 = 13;
    pub(super) const GROUP: u8 = 14;
    pub(super) const LOCATION: u8 = 15;
    pub(super) const OBJECT: u8 = 17;
    pub(super) const PERSON: u8 = 18;
    pub(super) const PHENOMENON: u8 = 19;
    pub(super) const PLANT: u8 = 20;
    pub(super) const SHAPE: u8 = 25;
    pub(super) const SUBSTANCE: u8 = 27;
}

/// What can be seen in a picture, if a noun of this category stands for it.
const SEEN: [u8; 11] = [
    category::ANIMAL,
    category::ARTIFACT,
    category::BODY,
    category::FOOD,
    category::GROUP,
    category::OBJECT,
    category::PERSON,
    category::PHENOMENON,
    category::PLANT,
    category::SHAPE,
    category::SUBSTANCE,
];

/// Those of them that are parts or surroundings of other things.
const BACKDROP: [u8; 6] = [
    category::BODY,
    category::GROUP,
    category::OBJECT,
    category::PHENOMENON,
    category::SHAPE,
    category::SUBSTANCE,
];

struct Synset {
    category: u8,
    is_instance: bool,
    parents: Box<[Meaning]>,
    related: Box<[Meaning]>,
    antonyms: Box<[Meaning]>,
}

/// A meaning of a lemma, and how often the lemma was met with it.
#[derive(Clone, Copy, Debug)]
struct Sense {
    part: Part,
    meaning: Meaning,
    count: u32,
}

struct Lexicon {
    synsets: Vec<Synset>,
    /// Number and senses of each lemma; within a part the most frequent first.
    lemmas: HashMap<Box<str>, (Lemma, Box<[Sense]>)>,
    /// Irregular forms and their lemmas.
    exceptions: HashMap<Box<str>, Vec<(Part, Box<str>)>>,
    /// Lemmas that mean what others mean, too.
    everyday: HashMap<&'static str, Vec<&'static str>>,
}

/// The lexicon that the binary carries.
fn wordnet() -> &'static Lexicon {
    static WORDNET: LazyLock<Lexicon> = LazyLock::new(|| {
        Lexicon::read(include_bytes!("wordnet.txt.gz"))
            .expect("a test reads the lexicon that the binary carries")
    });
    &WORDNET
}

impl Lexicon {
    fn read(packed: &[u8]) -> Result<Lexicon> {
        let mut text = String::new();
        GzDecoder::new(packed).read_to_string(&mut text)?;
        let mut lines = text.lines();
        let synsets = section(&mut lines, "synsets")?.map(synset).collect::<Result<Vec<_>>>()?;
        let lemmas = section(&mut lines, "lemmas")?.zip(0..);
        let lemmas = lemmas.map(|(line, number)| lemma(line, number)).collect::<Result<_>>()?;
        let mut exceptions = HashMap::<Box<str>, Vec<_>>::new();
        for line in section(&mut lines, "exceptions")? {
            let [part, form, lemma] = fields(line)?;
            exceptions.entry(form.into()).or_default().push((Part::of(part)?, lemma.into()));
        }
        let all = synsets.len();
        let known = |synset: &Synset| {
            [&synset.parents, &synset.related, &synset.antonyms]
                .into_iter()
                .all(|list| list.iter().all(|&other| (other as usize) < all))
        };
        if !synsets.iter().all(known) {
            bail!("the lexicon points to meanings that it has not");
        }
        let mut everyday = HashMap::<&str, Vec<&str>>::new();
        let lines = include_str!("everyday.txt").lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            let [word, like] = fields(line)?;
            everyday.entry(word).or_default().push(like);
        }
        Ok(Lexicon { synsets, lemmas, exceptions, everyday })
    }

    fn synset(&self, meaning: Meaning) -> &Synset {
        &self.synsets[meaning as usize]
    }
}

/// The lines of a section, which begins with its name and their number.
fn section<'t, 'l>(
    lines: &'l mut std::str::Lines<'t>,
    name: &str,
) -> Result<std::iter::Take<&'l mut std::str::Lines<'t>>> {
    let head = lines.next().and_then(|line| line.strip_prefix(name));
    let count = head.with_context(|| format!("the lexicon has no section {name}"))?;
    Ok(lines.take(count.trim().parse()?))
}

fn fields<const N: usize>(line: &str) -> Result<[&str; N]> {
    let fields: Vec<&str> = line.split(' ').collect();
    fields.try_into().map_err(|_| anyhow::anyhow!("a line of {N} words was expected: {line}"))
}

fn synset(line: &str) -> Result<Synset> {
    let mut parts = line.split(';');
    let category = parts.next().unwrap_or_default();
    let mut list = || -> Result<Box<[Meaning]>> {
        let numbers = parts.next().with_context(|| format!("too short: {line}"))?;
        numbers.split_whitespace().map(|number| Ok(number.parse()?)).collect()
    };
    Ok(Synset {
        category: category.trim_end_matches('!').parse()?,
        is_instance: category.ends_with('!'),
        parents: list()?,
        related: list()?,
        antonyms: list()?,
    })
}

/// A lemma with its number and senses.
type Numbered = (Box<str>, (Lemma, Box<[Sense]>));

fn lemma(line: &str, number: Lemma) -> Result<Numbered> {
    let mut words = line.split(' ');
    let lemma = words.next().unwrap_or_default();
    let mut senses = Vec::new();
    for list in words {
        let (letter, numbers) = list.split_at_checked(1).context("an empty part")?;
        let part = Part::of(letter)?;
        for number in numbers.split(',') {
            let (meaning, count) = number.split_once(':').unwrap_or((number, "0"));
            senses.push(Sense { part, meaning: meaning.parse()?, count: count.parse()? });
        }
    }
    Ok((lemma.into(), (number, senses.into())))
}
