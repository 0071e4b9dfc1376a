//! A row as it is counted, and its figures.

use crate::audit::Texts;
use crate::audit::place::Place;
use crate::audit::stems::Stems;
use crate::audit::tally::LENGTH_BINS;
use crate::audit::tally::drift::FIGURES;
use crate::sample::Audit;
use crate::sample::Fit;
use crate::sample::Origin;
use crate::sample::Sample;
use crate::text::words::words_of;

/// Figures of a row that have a distribution, with their range.
pub(super) const INDICATORS: [(&str, f64, f64); 11] = [
    ("facts kept", 0.0, 1.0),
    ("novelty", 0.0, 1.0),
    ("tags mentioned", 0.0, 1.0),
    ("words from nowhere", 0.0, 1.0),
    ("raw and synthetic agree", 0.0, 1.0),
    ("raw and generated agree", 0.0, 1.0),
    ("synthetic and generated agree", 0.0, 1.0),
    ("raw fits the picture", -0.2, 0.6),
    ("synthetic fits the picture", -0.2, 0.6),
    ("generated fits the picture", -0.2, 0.6),
    ("nsfw", 0.0, 1.0),
];

/// A row as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its key.
    pub key: &'a str,
    /// Where it is.
    pub place: Place,
    /// Its texts.
    pub texts: Texts<'a>,
    /// Their stems.
    pub stems: &'a Stems,
    /// The verdict.
    pub audit: &'a Audit,
    /// How well the texts fit the picture, where a model was asked.
    pub fit: Option<&'a Fit>,
    /// How unsafe the picture is, where a model was asked.
    pub nsfw: Option<f32>,
    /// Who wrote, and from which prompt.
    pub model: Option<&'a str>,
    /// See `model`.
    pub prompt: Option<&'a str>,
}

impl<'a> Row<'a> {
    /// The row of a sample.
    pub fn of(sample: &'a Sample, stems: &'a Stems, place: Place) -> Row<'a> {
        Row {
            key: &sample.item.key,
            place,
            texts: Texts::of(sample),
            stems,
            audit: &sample.audit,
            fit: sample.fit.as_ref(),
            nsfw: sample.safety.as_ref().map(|safety| safety.nsfw),
            model: sample.generated.as_ref().map(|generated| &*generated.model),
            prompt: sample.generated.as_ref().map(|generated| &*generated.prompt),
        }
    }

    pub(super) fn length(&self) -> u32 {
        let text = self.texts.generated.unwrap_or_default();
        // Rows of older runs were not counted.
        match self.audit.length_words {
            0 => words_of(text).take(LENGTH_BINS).count() as u32,
            words => words,
        }
    }

    /// Tags of different labels, with their stems.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&'a str, &'a [u64])> {
        let tags = self.texts.tags;
        let first = move |place: usize| {
            tags[..place].iter().all(|earlier| earlier.label != tags[place].label)
        };
        let stems = &self.stems.tags;
        let places = (0..tags.len().min(stems.len())).filter(move |&place| first(place));
        places.map(move |place| (tags[place].label.as_str(), stems[place].as_slice()))
    }

    fn coverage(&self) -> Option<f64> {
        self.texts.generated?;
        let mentioned = self.labels().map(|(_, stems)| self.stems.mentions(stems));
        let (mut all, mut found) = (0, 0);
        mentioned.for_each(|is_mentioned| {
            all += 1;
            found += u32::from(is_mentioned);
        });
        share(found, all)
    }

    /// Of content words, the share that no source has.
    fn nowhere(&self) -> Option<f64> {
        let words = &self.audit.words;
        let nowhere = words.iter().filter(|word| word.origin == Origin::Nowhere).count();
        share(nowhere as u32, words.len() as u32)
    }

    /// In the order of [`INDICATORS`].
    pub(super) fn indicators(&self) -> [Option<f64>; INDICATORS.len()] {
        let audit = self.audit;
        let (kept, lost) = (audit.kept.len() as u32, audit.lost.len() as u32);
        let of = |value: Option<f32>| value.map(f64::from);
        let fit = |of: fn(&Fit) -> Option<f32>| self.fit.and_then(of).map(f64::from);
        [
            share(kept, kept + lost),
            of(audit.novelty),
            self.coverage(),
            self.nowhere(),
            of(audit.raw_synthetic),
            of(audit.raw_generated),
            of(audit.synthetic_generated),
            fit(|fit| fit.raw),
            fit(|fit| fit.synthetic),
            fit(|fit| fit.generated),
            of(self.nsfw),
        ]
    }

    /// In the order of [`FIGURES`].
    pub(super) fn figures(&self, indicators: &[Option<f64>]) -> [Option<f64>; FIGURES.len()] {
        let audit = self.audit;
        let is = |is: bool| Some(f64::from(u8::from(is)));
        let written = self.texts.generated.is_some();
        [
            Some(f64::from(audit.score)),
            is(!written),
            is(!audit.reasons.is_empty()),
            indicators[3],
            share(audit.objects_nowhere, audit.objects),
            indicators[0],
            indicators[1],
            written.then(|| f64::from(self.length())),
            indicators[2],
        ]
    }
}

fn share(part: u32, whole: u32) -> Option<f64> {
    (whole > 0).then(|| f64::from(part) / f64::from(whole))
}
