//! Which rows are asked about: those with the most tags.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::atomic_file::sha256;
use crate::instruct::Wish;
use crate::sample::Sample;
use crate::shard;
use crate::shard::Images;
use crate::shard::Marker;

/// The rows, and what they were chosen from.
pub(super) struct Choice {
    /// In the order of the run, without their pictures.
    pub(super) samples: Vec<Sample>,
    pub(super) rows: u64,
    pub(super) eligible: u64,
    pub(super) fewest_tags: usize,
}

/// The rows that come first, as many as are wished for; memory holds no others.
///
/// Rows with the same words would be asked, and learnt, the same. They have one rank, so that the map has a
/// place for the first of them only; and when that is dropped, the others rank too low as well.
struct Best {
    rows: usize,
    places: BTreeMap<Rank, (u32, usize)>,
}

/// Most tags first; then a hash of the words, so that the first rows of a run are not preferred.
type Rank = (usize, String);

impl Best {
    fn add(&mut self, rank: Rank, shard: u32, place: usize) {
        self.places.entry(rank).or_insert((shard, place));
        if self.places.len() > self.rows {
            self.places.pop_first();
        }
    }

    fn fewest_tags(&self) -> usize {
        self.places.first_key_value().map_or(0, |((tags, _), _)| *tags)
    }
}

/// Two passes over the words of a run.
pub(super) fn chosen(run: &Path, wish: &Wish) -> Result<Choice> {
    let markers = shard::all_finished(run)?;
    ensure!(!markers.is_empty(), "{} has no finished shard yet", run.display());
    let (mut rows, mut eligible) = (0, 0);
    let mut best = Best { rows: wish.rows, places: BTreeMap::new() };
    for marker in &markers {
        for (place, sample) in words(run, marker)?.enumerate() {
            let sample = sample.with_context(|| format!("in {}", marker.part.name))?;
            rows += 1;
            let Some(tags) = tags(&sample).filter(|tags| *tags >= wish.min_tags) else { continue };
            eligible += 1;
            best.add((tags, hash(&sample, wish.seed)), marker.shard, place);
        }
    }
    let fewest_tags = best.fewest_tags();
    Ok(Choice { samples: samples(run, &markers, best)?, rows, eligible, fewest_tags })
}

fn samples(run: &Path, markers: &[Marker], best: Best) -> Result<Vec<Sample>> {
    let mut places = BTreeMap::<u32, HashSet<usize>>::new();
    best.places.into_values().for_each(|(shard, place)| {
        places.entry(shard).or_default().insert(place);
    });
    let mut samples = Vec::new();
    for marker in markers {
        let Some(wanted) = places.get(&marker.shard) else { continue };
        let taken = words(run, marker)?.enumerate().filter(|(place, _)| wanted.contains(place));
        for (_, sample) in taken {
            samples.push(sample.with_context(|| format!("in {}", marker.part.name))?);
        }
    }
    Ok(samples)
}

fn words(run: &Path, marker: &Marker) -> Result<shard::Refined> {
    shard::refined(run, marker, Images::Skip)
}

/// Different labels of a row that has both texts.
fn tags(sample: &Sample) -> Option<usize> {
    sample.item.text_raw.as_ref()?;
    sample.synthetic.as_ref()?;
    let labels: HashSet<String> = sample.tags.iter().map(|tag| tag.label.to_lowercase()).collect();
    Some(labels.len())
}

/// Of all that a writer is told.
fn hash(sample: &Sample, seed: u64) -> String {
    let labels: Vec<&str> = sample.tags.iter().map(|tag| tag.label.as_str()).collect();
    let synthetic = sample.synthetic.as_ref().map(|synthetic| &synthetic.text);
    let told = format!("{seed} {:?} {synthetic:?} {labels:?}", sample.item.text_raw);
    sha256(told.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_once_and_the_same_words_have_one_place() {
        let mut best = Best { rows: 3, places: BTreeMap::new() };
        for place in 0..100_usize {
            // Each rank comes five times; those with the most tags come first and last.
            let rank = place % 20;
            best.add((rank.abs_diff(10), format!("{rank:02}")), 7, place);
            assert!(best.places.len() <= 3);
        }
        let kept: Vec<_> = best.places.iter().map(|((tags, _), at)| (*tags, *at)).collect();
        assert_eq!(kept, [(9, (7, 1)), (9, (7, 19)), (10, (7, 0))]);
        assert_eq!(best.fewest_tags(), 9);
    }
}
