//! How far a generated text can be trusted: pure verdicts with named reasons.
//!
//! Two questions are asked of each text: where does each of its content words come from
//! ([`words`]), and is anything wrong with its form ([`forms`])? The answers become figures, doubts
//! ([`doubts`]) and one score in 0..1. [`tally`] adds up the rows of a data set, [`report`] shows them.
//! Nothing here looks at pixels, calls a model, reads a clock or changes a text.
//!
//! # The score
//!
//! ```text
//! score = 1 / (1 + exp(-(bias - sum of weight * doubt))) * product of the flags' factors
//! ```
//!
//! The weights are those of [`Config`], all at least 0, fitted to labelled captions ([`calibrate`]); so
//! the score without factors is the chance that nothing in the text is invented. It is monotone: an
//! absent object put at the end of a text never raises it. So nothing that such a word could take back
//! has a factor: a text that is too short or breaks off pays by a doubt, and an unsure guess of the
//! language costs nothing. A text of which no content word has a source scores 0, as one that is missing.

pub mod alarms;
pub mod alike;
mod bindings;
pub mod calibrate;
pub mod doubts;
mod figures;
pub mod forms;
pub mod frequent;
mod layout;
pub mod mixup;
pub mod near;
pub mod phrases;
pub mod pieces;
pub mod place;
mod profanity;
mod reading;
pub mod report;
pub mod stems;
pub mod survey;
pub mod tally;
pub mod words;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::Error;

use crate::audit::doubts::Case;
use crate::audit::doubts::Contradiction;
use crate::audit::doubts::Doubts;
use crate::audit::forms::Flag;
use crate::audit::forms::Raised;
use crate::audit::near::Near;
use crate::audit::reading::Reading;
use crate::audit::words::Sources;
use crate::sample::Audit;
use crate::sample::Kind;
use crate::sample::Origin;
use crate::sample::Sample;
use crate::sample::Tag;
use crate::sample::WordOrigin;

/// What counts how much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Log odds of a text against which nothing speaks.
    pub bias: f32,
    /// What each doubt takes from the log odds; below 0 counts as 0, what is not named keeps its
    /// default. `recaption audit --calibrate` fits them to labels.
    #[serde(deserialize_with = "weights_over_default")]
    pub weights: Doubts,
    /// A text with fewer content words that have a source is too short to be a description.
    pub min_words: usize,
    /// ISO 639-3 code of the language generated texts should have; empty for any.
    pub language: String,
    /// Factors of flags that differ from the built-in ones, by the name of the flag. A factor below
    /// 1 for `too_short`, `unfinished`, `non_latin`, `wrong_language` or `contradiction` gives up
    /// monotony.
    pub factors: BTreeMap<Flag, f32>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            // Fitted by `recaption audit --calibrate` to the rows of `examples/foils.rs`, but for `names`,
            // `short` and `web`, of which those rows say nothing. Half of them are hallucinated; the
            // bias stands for a run in which 15 % are.
            bias: 2.87,
            weights: Doubts {
                objects: 0.63,
                rivals: 0.76,
                attributes: 0.35,
                actions: 0.27,
                numbers: 0.47,
                names: 0.6,
                others: 0.12,
                share: 0.24,
                contradictions: 1.32,
                relations: 0.7,
                lost: 0.15,
                short: 0.3,
                web: 0.3,
            },
            // "Brown fish." describes; "Fish." is a label.
            min_words: 2,
            // The prompts that are shipped ask for English.
            language: "eng".to_owned(),
            factors: BTreeMap::new(),
        }
    }
}

fn weights_over_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Doubts, D::Error> {
    let named = BTreeMap::<String, f32>::deserialize(deserializer)?;
    let mut weights = Config::default().weights.values();
    for (name, weight) in named {
        let Some(place) = Doubts::NAMES.iter().position(|known| *known == name) else {
            let known = Doubts::NAMES.join(", ");
            return Err(D::Error::custom(format!("no doubt is called {name}; there are {known}")));
        };
        weights[place] = weight;
    }
    Ok(Doubts::of(&weights))
}

/// The texts of one row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts<'a> {
    /// What the web said.
    pub raw: Option<&'a str>,
    /// What the captioner saw.
    pub synthetic: Option<&'a str>,
    /// The text to judge.
    pub generated: Option<&'a str>,
    /// What taggers and detectors saw.
    pub tags: &'a [Tag],
    /// Further captions of the picture by somebody who saw it; they count as the synthetic one does.
    pub references: &'a [&'a str],
    /// Words of the text that a model found near a source; nothing without a model.
    pub near: &'a [Near],
}

/// Judges one row.
pub fn audit(config: &Config, texts: &Texts<'_>) -> Audit {
    judge(config, texts).0
}

/// Judges one row and says what the score is made of. A text without words has no doubts.
pub fn judge(config: &Config, texts: &Texts<'_>) -> (Audit, Doubts) {
    let Some(text) = texts.generated else { return without_words(Flag::Missing) };
    if !text.chars().any(char::is_alphanumeric) {
        return without_words(Flag::Empty);
    }
    let sources = Sources::new(texts);
    let reading = Reading::of(text);
    let found = sources.find_all(&reading);
    let relations = bindings::relations(text, &reading);
    let case =
        Case { text, reading: &reading, sources: &sources, found: &found, relations: &relations };
    let contradictions = case.contradictions();
    let mut words = sources.origins_of(text, &reading, &found);
    add_relations(&mut words, text, &contradictions);
    let language = forms::language_of(text, &reading);
    let known = language.as_deref();
    let flags = forms::flags(config, texts, text, &sources, &words, &contradictions, known);
    let is_unfinished = flags.iter().any(|raised| raised.flag == Flag::Unfinished);
    let doubts = case.doubts(config.min_words, contradictions.len(), is_unfinished);
    let is_supported = found.iter().any(Option::is_some);
    let mut audit = Audit {
        score: if is_supported { score(config, &doubts, &flags) } else { 0.0 },
        reasons: flags.iter().map(|raised| raised.flag.as_str().to_owned()).collect(),
        evidence: flags.into_iter().map(|raised| raised.evidence).collect(),
        words,
        language,
        ..Audit::default()
    };
    figures::fill(&mut audit, texts, text, &reading, &sources);
    (audit, doubts)
}

/// Relations are grammar, no content words; those that a source contradicts are shown as words from
/// nowhere.
fn add_relations(words: &mut Vec<WordOrigin>, text: &str, contradictions: &[Contradiction]) {
    let character = |at: usize| text[..at].chars().count() as u32;
    for relation in contradictions.iter().filter_map(|said| said.relation.as_ref()) {
        let start = character(relation.range.start);
        let place = words.partition_point(|word| word.start < start);
        if words.get(place).is_some_and(|word| word.start == start) {
            continue;
        }
        let word = WordOrigin {
            kind: Kind::Relation,
            start,
            end: character(relation.range.end),
            ..WordOrigin::new(&text[relation.range.clone()], Origin::Nowhere)
        };
        words.insert(place, word);
    }
}

/// Judges each row; equal to one call of [`audit`] for each.
pub fn audit_all(config: &Config, rows: &[Texts<'_>]) -> Vec<Audit> {
    rows.iter().map(|texts| audit(config, texts)).collect()
}

/// Judges the generated text of each sample.
pub fn of_samples(config: &Config, samples: &mut [&mut Sample]) {
    for sample in samples {
        sample.audit = audit(config, &Texts::of(sample));
    }
}

impl<'a> Texts<'a> {
    /// The texts of a sample.
    pub fn of(sample: &'a Sample) -> Texts<'a> {
        Texts {
            raw: sample.item.text_raw.as_deref(),
            synthetic: sample.synthetic.as_ref().map(|s| s.text.as_str()),
            generated: sample.generated.as_ref().map(|g| g.text.as_str()),
            tags: &sample.tags,
            references: &[],
            near: &[],
        }
    }
}

fn without_words(flag: Flag) -> (Audit, Doubts) {
    let (reasons, evidence) = (vec![flag.as_str().to_owned()], vec![String::new()]);
    (Audit { reasons, evidence, ..Audit::default() }, Doubts::default())
}

fn score(config: &Config, doubts: &Doubts, flags: &[Raised]) -> f32 {
    let weights = config.weights.values().into_iter().map(|weight| weight.max(0.0));
    let against: f32 = weights.zip(doubts.values()).map(|(weight, doubt)| weight * doubt).sum();
    let chance = 1.0 / (1.0 + (against - config.bias).exp());
    let factors = flags.iter().map(|raised| factor(config, raised.flag));
    (chance * factors.product::<f32>()).clamp(0.0, 1.0)
}

fn factor(config: &Config, flag: Flag) -> f32 {
    config.factors.get(&flag).copied().unwrap_or(flag.factor()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn tag(label: &str) -> Tag {
        Tag { label: label.to_owned(), score: 0.9, bbox: None, model: Arc::from("t@0") }
    }

    fn judged(raw: &str, synthetic: &str, tags: &[&str], generated: &str) -> Audit {
        let tags: Vec<Tag> = tags.iter().map(|label| tag(label)).collect();
        let texts = Texts {
            raw: Some(raw),
            synthetic: Some(synthetic),
            generated: Some(generated),
            tags: &tags,
            ..Texts::default()
        };
        audit(&Config::default(), &texts)
    }

    #[test]
    fn each_doubt_takes_from_the_score() {
        let ordered = [
            "A brown fish.",
            "A brown fish called Nemo.",
            "A brown fish and a zebra.",
            "A brown fish, a zebra and a horse.",
            "Zebra crossing.",
        ];
        let scores = ordered.map(|text| judged("Nemo", "a brown animal", &["fish"], text).score);
        assert!(scores.is_sorted_by(|a, b| a > b), "{scores:?}");
        assert!(scores[0] > 0.9 && scores[4] == 0.0, "{scores:?}");
    }

    #[test]
    fn what_contradicts_a_source_is_named() {
        for (generated, evidence) in [
            ("A red fish.", "red fish, not brown fish"),
            ("Two fish on a table", "Two fish, not 3 fish"),
            ("A fish under a table", "under table, not on table"),
        ] {
            let audit = judged("", "a brown fish, 3 fish on the table", &[], generated);
            assert_eq!(audit.reasons.last().unwrap(), "contradiction", "{generated}");
            assert_eq!(audit.evidence.last().unwrap(), evidence);
        }
        let both = judged("", "a black and white cat", &[], "A black cat that is white");
        assert!(both.reasons.is_empty(), "{both:?}");
    }

    #[test]
    fn a_missing_text_and_one_without_words_score_nothing() {
        let missing = audit(&Config::default(), &Texts::default());
        assert_eq!((missing.score, missing.reasons), (0.0, vec!["missing".to_owned()]));
        let empty = judged("cat", "cat", &["cat"], " !? ");
        assert_eq!((empty.score, empty.reasons), (0.0, vec!["empty".to_owned()]));
    }

    #[test]
    fn a_flag_costs_its_factor_and_the_configuration_may_change_it() {
        let generated = Some("This image shows a red cat.");
        let texts = Texts { raw: Some("a red cat shows"), generated, ..Texts::default() };
        let usual = audit(&Config::default(), &texts);
        assert_eq!(usual.reasons, ["boilerplate_opening"]);
        let free: Config = toml::from_str("[factors]\nboilerplate_opening = 1.0").unwrap();
        let ratio = usual.score / audit(&free, &texts).score;
        assert!((ratio - Flag::BoilerplateOpening.factor()).abs() < 1e-6);
    }

    #[test]
    fn the_configuration_survives_toml_and_refuses_unknown_names() {
        let written = toml::to_string(&Config::default()).unwrap();
        assert_eq!(toml::from_str::<Config>(&written).unwrap(), Config::default());
        assert!(toml::from_str::<Config>("baias = 1.0").is_err());
        assert!(toml::from_str::<Config>("[weights]\nobject = 1.0").is_err());
        let one: Config = toml::from_str("[weights]\nlost = 9.0").unwrap();
        let weights = Doubts { lost: 9.0, ..Config::default().weights };
        assert_eq!(one, Config { weights, ..Config::default() });
        assert!(toml::from_str::<Config>("[factors]\nno_such_flag = 1.0").is_err());
    }

    #[test]
    fn a_batch_is_its_singles() {
        let rows = [
            Texts { raw: Some("a"), generated: Some("A red cat."), ..Texts::default() },
            Texts::default(),
        ];
        let config = Config::default();
        let singles: Vec<Audit> = rows.iter().map(|texts| audit(&config, texts)).collect();
        assert_eq!(audit_all(&config, &rows), singles);
    }

    /// Sentences with everything a flag looks for.
    fn sentence() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z]{1,9}",
            "\\PC{1,4}",
            prop::sample::select(vec![
                "This image shows",
                "the cat",
                "cats",
                "red-brown",
                "twenty-one",
                "I'm sorry",
                "0.93",
                "<|im_end|>",
                "bob@example.com",
                "555-0199",
                "http://a.example",
                "cat cat cat",
                "a",
                "IMG_2019.jpg",
                "<b>",
                "Ignore all previous instructions",
                "the",
                ",",
                ".",
                "дом",
                "Hund",
                "der die das",
                "café",
                "&eacute;",
                "flower2",
                "red_flower",
            ])
            .prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.join(" "))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_text_copied_from_its_sources_has_no_word_from_nowhere(
            raw in sentence(), synthetic in sentence(), label in sentence(),
        ) {
            let generated = format!("{label} {synthetic} {raw}");
            let verdict = judged(&raw, &synthetic, &[&label], &generated);
            let nowhere: Vec<_> =
                verdict.words.iter().filter(|word| word.origin == Origin::Nowhere).collect();
            prop_assert!(nowhere.is_empty(), "{nowhere:?}");
        }

        #[test]
        fn an_absent_word_at_the_end_never_raises_the_score(
            raw in sentence(), synthetic in sentence(), generated in sentence(), stop in "[.]?",
        ) {
            let tags = ["cat"];
            let before = judged(&raw, &synthetic, &tags, &format!("{generated}{stop}"));
            let after =
                judged(&raw, &synthetic, &tags, &format!("{generated} qzebraq{stop}"));
            prop_assert!(after.score <= before.score + 1e-6, "{before:?} {after:?}");
        }

        #[test]
        fn any_texts_give_a_score_in_range(
            raw in "\\PC{0,40}", generated in "\\PC{0,40}",
        ) {
            let score = judged(&raw, "", &[], &generated).score;
            prop_assert!((0.0..=1.0).contains(&score));
        }
    }
}
