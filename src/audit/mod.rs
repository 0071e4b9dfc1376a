//! How far a generated text can be trusted: pure verdicts with named reasons.
//!
//! Two questions are asked of each text: where does each of its content words come from
//! ([`words`]), and is anything wrong with its form ([`forms`])? One score in 0..1 joins the
//! answers. [`tally`] adds up the rows of a data set, [`report`] shows them. Nothing here looks at
//! pixels, calls a model, reads a clock or changes a text.
//!
//! # The score
//!
//! ```text
//! score = sum of weights of the words / max(words + 1 if unfinished, min_words) * product of factors
//! ```
//!
//! A word weighs what its origin weighs ([`Config::weight_tag`] and so on), a word from nowhere
//! nothing; each raised flag multiplies by its factor. The score is monotone: an absent word put at
//! the end of a text never raises it. So nothing that such a word could take back has a factor: a
//! text that is too short or breaks off pays in the divisor, with words it lacks, and an unsure
//! guess of the language costs nothing. A text that is missing or has no words scores 0.

pub mod alarms;
pub mod forms;
pub mod frequent;
mod layout;
pub mod mixup;
pub mod place;
pub mod report;
pub mod stems;
pub mod tally;
pub mod words;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::forms::Flag;
use crate::audit::words::Sources;
use crate::sample::Audit;
use crate::sample::Origin;
use crate::sample::Sample;
use crate::sample::Tag;
use crate::sample::WordOrigin;

/// What counts how much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Weight of a word that a tag supports, 0..1.
    pub weight_tag: f32,
    /// Weight of a word that the synthetic caption supports, 0..1.
    pub weight_synthetic: f32,
    /// Weight of a word that only the raw text supports, 0..1.
    pub weight_raw: f32,
    /// A text with fewer content words is judged as if the rest came from nowhere.
    pub min_words: usize,
    /// ISO 639-3 code of the language generated texts should have; empty for any.
    pub language: String,
    /// Factors of flags that differ from the built-in ones, by the name of the flag. A factor below
    /// 1 for `too_short`, `unfinished`, `non_latin` or `wrong_language` gives up monotony.
    pub factors: BTreeMap<Flag, f32>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            // Something that looked at the picture said so.
            weight_tag: 1.0,
            weight_synthetic: 1.0,
            // The web knows names and places that no model sees, but it did not look: worth keeping,
            // worth less than what was seen. A text that only copies the title scores this.
            weight_raw: 0.75,
            // "Brown fish." describes; "Fish." is a label.
            min_words: 2,
            // The prompts that are shipped ask for English.
            language: "eng".to_owned(),
            factors: BTreeMap::new(),
        }
    }
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
}

/// Judges one row.
pub fn audit(config: &Config, texts: &Texts<'_>) -> Audit {
    let Some(generated) = texts.generated else { return without_words(Flag::Missing) };
    if !generated.chars().any(char::is_alphanumeric) {
        return without_words(Flag::Empty);
    }
    let sources = Sources::new(texts);
    let words = sources.origins(generated);
    let flags = forms::flags(config, texts, generated, &sources, &words);
    Audit {
        score: score(config, &words, &flags),
        reasons: flags.iter().map(|flag| flag.as_str().to_owned()).collect(),
        evidence: vec![String::new(); flags.len()],
        words,
        ..Audit::default()
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
        }
    }
}

fn without_words(flag: Flag) -> Audit {
    Audit {
        reasons: vec![flag.as_str().to_owned()],
        evidence: vec![String::new()],
        ..Audit::default()
    }
}

fn score(config: &Config, words: &[WordOrigin], flags: &[Flag]) -> f32 {
    let supported: f32 = words.iter().map(|word| weight(config, word.origin)).sum();
    let lost = usize::from(flags.contains(&Flag::Unfinished));
    let expected = (words.len() + lost).max(config.min_words).max(1);
    let factor: f32 = flags.iter().map(|flag| factor(config, *flag)).product();
    (supported / expected as f32 * factor).clamp(0.0, 1.0)
}

fn weight(config: &Config, origin: Origin) -> f32 {
    let weight = match origin {
        Origin::Tag => config.weight_tag,
        Origin::Synthetic => config.weight_synthetic,
        Origin::Raw => config.weight_raw,
        Origin::Nowhere => 0.0,
    };
    weight.clamp(0.0, 1.0)
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
        };
        audit(&Config::default(), &texts)
    }

    #[test]
    fn what_the_picture_supports_counts_more_than_what_only_the_web_said() {
        let rows = [
            ("A brown fish.", 1.0),
            ("A brown fish called Nemo.", (1.0 + 1.0 + 0.75) / 4.0),
            ("A brown fish and a zebra.", 2.0 / 3.0),
            ("A Nemo.", 0.75 / 2.0),
            ("Zebra crossing.", 0.0),
        ];
        for (generated, wanted) in rows {
            let score = judged("Nemo", "a brown animal", &["fish"], generated).score;
            assert!((score - wanted).abs() < 1e-6, "{generated}: {score} instead of {wanted}");
        }
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
        assert!(toml::from_str::<Config>("weigth_tag = 1.0").is_err());
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
