//! Makes `src/lexicon/wordnet.txt.gz` out of the database files of WordNet 3.0.
//!
//! ```text
//! apt-get install wordnet-base
//! cargo run --release --example lexicon -- /usr/share/wordnet src/lexicon/wordnet.txt.gz
//! ```
//!
//! What is left out: definitions, adverbs, pointers that nothing here follows, the genera and families
//! of biology, people of history, and expressions of more than three words.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use flate2::Compression;
use flate2::GzBuilder;

/// The files of a part of speech: their ending, the letter of the part, its number in sense keys.
const PARTS: [(&str, char, u32); 3] = [("noun", 'n', 1), ("verb", 'v', 2), ("adj", 'a', 3)];

/// Part of speech and offset: how WordNet names a synset.
type Name = (char, u32);

struct Synset {
    name: Name,
    category: u8,
    is_instance: bool,
    parents: Vec<Name>,
    related: Vec<Name>,
    antonyms: Vec<Name>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, output] = &arguments[..] else {
        bail!("usage: lexicon FOLDER_OF_WORDNET OUTPUT.txt.gz");
    };
    let database = Path::new(database);
    let mut synsets = Vec::new();
    for (ending, part, _) in PARTS {
        let file = read(database, &format!("data.{ending}"))?;
        let lines = file.lines().filter(|line| !line.starts_with("  "));
        for line in lines {
            synsets
                .extend(synset(part, line).with_context(|| format!("in data.{ending}: {line}"))?);
        }
    }
    let numbers: HashMap<Name, usize> =
        synsets.iter().enumerate().map(|(number, synset)| (synset.name, number)).collect();
    let lemmas = lemmas(database, &numbers)?;
    let exceptions = exceptions(database, &lemmas)?;
    let text = written(&synsets, &numbers, &lemmas, &exceptions)?;
    // No time and no name in the header: the same database gives the same bytes.
    let mut packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    packed.write_all(text.as_bytes())?;
    let packed = packed.finish()?;
    fs::write(output, &packed)?;
    let (synsets, lemmas) = (synsets.len(), lemmas.len());
    println!("{output}: {synsets} synsets, {lemmas} lemmas, {} bytes", packed.len());
    Ok(())
}

fn read(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// A line of a data file; none for what is left out. The form is described in wndb(5).
fn synset(part: char, line: &str) -> Result<Option<Synset>> {
    let fields: Vec<&str> = line.split(" | ").next().unwrap_or_default().split(' ').collect();
    let number = |at: usize| -> Result<&str> { fields.get(at).copied().context("too short") };
    let category: u8 = number(1)?.parse()?;
    let count = usize::from_str_radix(number(3)?, 16)?;
    let words: Vec<&str> = (0..count).map(|word| number(4 + 2 * word)).collect::<Result<_>>()?;
    let mut at = 4 + 2 * count;
    let pointers: usize = number(at)?.parse()?;
    at += 1;
    let name = (part, number(0)?.parse()?);
    let (mut parents, mut related, mut antonyms, mut is_instance) = (vec![], vec![], vec![], false);
    for pointer in 0..pointers {
        let at = at + 4 * pointer;
        let other = number(at + 2)?.chars().next().context("no part of speech")?;
        let other = if other == 's' { 'a' } else { other };
        let target = (other, number(at + 1)?.parse()?);
        match number(at)? {
            // Adjectives have no broader words; those around a head come nearest to it.
            "@" => parents.push(target),
            "&" if number(2)? == "s" => parents.push(target),
            "@i" => {
                parents.push(target);
                is_instance = true;
            }
            "!" => antonyms.push(target),
            "+" | "\\" if other != 'r' => related.push(target),
            _ => {}
        }
    }
    let is_taxon = [5, 20].contains(&category)
        && words
            .iter()
            .all(|word| word.starts_with(|c: char| c.is_uppercase()) || word.contains("genus"))
        && (line.contains("family") || line.contains("genus") || line.contains("order"));
    let is_person_of_history = category == 18 && is_instance;
    let kept = !is_taxon && !is_person_of_history;
    Ok(kept.then_some(Synset { name, category, is_instance, parents, related, antonyms }))
}

/// Senses of each lemma by part of speech, the most frequent first, with how often each was counted.
type Lemmas = BTreeMap<String, Vec<(char, Vec<(usize, u32)>)>>;

fn lemmas(database: &Path, numbers: &HashMap<Name, usize>) -> Result<Lemmas> {
    let counts = counts(database)?;
    let mut lemmas = Lemmas::new();
    for (ending, part, digit) in PARTS {
        for line in read(database, &format!("index.{ending}"))?.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let lemma = fields.first().copied().unwrap_or_default();
            if line.starts_with("  ") || lemma.matches('_').count() > 2 {
                continue;
            }
            let pointers: usize = fields.get(3).context("too short")?.parse()?;
            let offsets = fields.get(6 + pointers..).context("too short")?;
            let mut senses = Vec::new();
            for (place, offset) in offsets.iter().enumerate() {
                let Some(&number) = numbers.get(&(part, offset.parse()?)) else { continue };
                let key = (lemma.to_owned(), digit, place as u32 + 1);
                senses.push((number, counts.get(&key).copied().unwrap_or(0)));
            }
            if !senses.is_empty() {
                lemmas.entry(lemma.to_owned()).or_default().push((part, senses));
            }
        }
    }
    Ok(lemmas)
}

/// How often a sense was met in the texts that WordNet's makers tagged: by lemma, part and place.
fn counts(database: &Path) -> Result<HashMap<(String, u32, u32), u32>> {
    let mut counts = HashMap::new();
    for line in read(database, "cntlist.rev")?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [key, place, count] = fields[..] else { bail!("cntlist.rev: {line}") };
        let (lemma, rest) = key.split_once('%').context("no sense key")?;
        let part: u32 = rest[..1].parse()?;
        // 5 marks the satellites among adjectives.
        let part = if part == 5 { 3 } else { part };
        counts.insert((lemma.to_owned(), part, place.parse()?), count.parse()?);
    }
    Ok(counts)
}

/// Irregular forms of lemmas that are kept.
fn exceptions(database: &Path, lemmas: &Lemmas) -> Result<Vec<(char, String, String)>> {
    let mut exceptions = Vec::new();
    for (ending, part, _) in PARTS {
        for line in read(database, &format!("{ending}.exc"))?.lines() {
            let mut forms = line.split(' ');
            let form = forms.next().unwrap_or_default();
            let known = |lemma: &&str| lemmas.contains_key(*lemma) && !form.contains('_');
            exceptions.extend(forms.filter(known).map(|l| (part, form.to_owned(), l.to_owned())));
        }
    }
    Ok(exceptions)
}

fn written(
    synsets: &[Synset],
    numbers: &HashMap<Name, usize>,
    lemmas: &Lemmas,
    exceptions: &[(char, String, String)],
) -> Result<String> {
    let mut out = String::new();
    let list = |names: &[Name]| {
        let mut seen = HashSet::new();
        let known = names.iter().filter_map(|name| numbers.get(name)).filter(|n| seen.insert(**n));
        known.map(usize::to_string).collect::<Vec<_>>().join(" ")
    };
    writeln!(out, "synsets {}", synsets.len())?;
    for synset in synsets {
        let instance = if synset.is_instance { "!" } else { "" };
        let (parents, related, antonyms) =
            (list(&synset.parents), list(&synset.related), list(&synset.antonyms));
        writeln!(out, "{}{instance};{parents};{related};{antonyms}", synset.category)?;
    }
    writeln!(out, "lemmas {}", lemmas.len())?;
    for (lemma, parts) in lemmas {
        write!(out, "{lemma}")?;
        for (part, senses) in parts {
            write!(out, " {part}")?;
            for (place, (number, count)) in senses.iter().enumerate() {
                let comma = if place > 0 { "," } else { "" };
                let count = if *count > 0 { format!(":{count}") } else { String::new() };
                write!(out, "{comma}{number}{count}")?;
            }
        }
        writeln!(out)?;
    }
    writeln!(out, "exceptions {}", exceptions.len())?;
    for (part, form, lemma) in exceptions {
        writeln!(out, "{part} {form} {lemma}")?;
    }
    Ok(out)
}
