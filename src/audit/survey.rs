//! The rows of a data set looked at one after another: figures, mix-ups, pictures that look alike, the
//! worst rows. What one pass over a run finds, whoever makes it and by whichever verdicts.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::alike::Alike;
use crate::audit::alike::LookAlikes;
use crate::audit::mixup::MixUps;
use crate::audit::mixup::MixedUp;
use crate::audit::place::Place;
use crate::audit::stems::Stems;
use crate::audit::tally;
use crate::audit::tally::Summary;
use crate::audit::tally::Tally;
use crate::sample::Origin;
use crate::sample::Sample;

/// Rows that are named as the worst.
const WORST: usize = 20;

/// Texts and words that are listed.
const MOST: usize = 20;

/// Rows on their way to [`Findings`].
#[derive(Default)]
pub struct Survey {
    tally: Tally,
    /// Of the shard that is being read: rows of two shards are no neighbours.
    mix_ups: MixUps,
    shard: u32,
    mixed_up: MixedUp,
    alike: LookAlikes,
    worst: BinaryHeap<Ranked>,
}

/// What an audit of a run found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Findings {
    /// Figures of all rows.
    pub summary: Summary,
    /// Texts that fit another row better.
    pub mixed_up: MixedUp,
    /// Pictures that look alike, with texts that do not.
    #[serde(default)]
    pub alike: Alike,
    /// Rows with the lowest scores, the lowest first.
    pub worst: Vec<Worst>,
}

/// A row with a low score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worst {
    /// The score.
    pub score: f32,
    /// Where it is.
    pub place: Place,
    /// Its key.
    pub key: String,
    /// Its generated text.
    pub text: String,
    /// Its flags.
    pub reasons: Vec<String>,
    /// Its words from nowhere.
    pub nowhere: Vec<String>,
}

/// Ordered by score, so that the best of the worst is the first to go.
struct Ranked(Worst);

impl Survey {
    /// Takes the next row; those of one shard come together, in their order.
    pub fn add(&mut self, sample: &Sample, stems: &Stems, place: Place) {
        if place.shard != self.shard {
            self.mixed_up.merge(&std::mem::take(&mut self.mix_ups).finish());
            self.shard = place.shard;
        }
        self.tally.add(&tally::Row::of(sample, stems, place));
        self.mix_ups.add(&sample.item.key, place, stems);
        self.alike.add(sample, stems, place);
        self.rank(sample, place);
    }

    /// What was found; pictures that look alike are not [confirmed](Alike::confirmed) yet.
    pub fn finish(mut self) -> Findings {
        self.mixed_up.merge(&self.mix_ups.finish());
        let worst = self.worst.into_sorted_vec().into_iter().map(|ranked| ranked.0).collect();
        Findings {
            summary: self.tally.summary(MOST),
            mixed_up: self.mixed_up,
            alike: self.alike.finish(),
            worst,
        }
    }

    fn rank(&mut self, sample: &Sample, place: Place) {
        let Some(generated) = &sample.generated else { return };
        let words = sample.audit.words.iter();
        let nowhere = words.filter(|word| word.origin == Origin::Nowhere);
        self.worst.push(Ranked(Worst {
            score: sample.audit.score,
            place,
            key: sample.item.key.clone(),
            text: generated.text.clone(),
            reasons: sample.audit.reasons.clone(),
            nowhere: nowhere.map(|word| word.word.clone()).collect(),
        }));
        if self.worst.len() > WORST {
            self.worst.pop();
        }
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        let place = self.0.place.cmp(&other.0.place);
        self.0.score.total_cmp(&other.0.score).then(place)
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
