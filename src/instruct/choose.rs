//! Which rows are asked about: those with the most tags.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;
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

/// Most tags first; then a hash, so that the first rows of a run are not preferred.
type Rank = (usize, String);

/// Two passes over the words of a run; memory holds the rows that are asked about.
pub(super) fn chosen(run: &Path, wish: &Wish) -> Result<Choice> {
    let markers = shard::all_finished(run)?;
    ensure!(!markers.is_empty(), "{} has no finished shard yet", run.display());
    let (mut rows, mut eligible) = (0, 0);
    let mut best: BinaryHeap<Reverse<(Rank, u32, usize)>> = BinaryHeap::new();
    let mut known = HashSet::new();
    for marker in &markers {
        for (place, sample) in words(run, marker)?.enumerate() {
            let sample = sample.with_context(|| format!("in {}", marker.part.name))?;
            rows += 1;
            let Some(tags) = tags(&sample).filter(|tags| *tags >= wish.min_tags) else { continue };
            // Rows with the same words would be asked, and learnt, the same.
            if !known.insert(same(&sample)) {
                continue;
            }
            eligible += 1;
            let hash = sha256(format!("{} {}", wish.seed, sample.item.key).as_bytes());
            best.push(Reverse(((tags, hash), marker.shard, place)));
            if best.len() > wish.rows {
                best.pop();
            }
        }
    }
    let fewest_tags = best.peek().map_or(0, |Reverse(((tags, _), ..))| *tags);
    let mut places = BTreeMap::<u32, HashSet<usize>>::new();
    best.into_iter().for_each(|Reverse((_, shard, place))| {
        places.entry(shard).or_default().insert(place);
    });
    let mut samples = Vec::new();
    for marker in &markers {
        let Some(wanted) = places.get(&marker.shard) else { continue };
        let taken = words(run, marker)?.enumerate().filter(|(place, _)| wanted.contains(place));
        for (_, sample) in taken {
            samples.push(sample.with_context(|| format!("in {}", marker.part.name))?);
        }
    }
    Ok(Choice { samples, rows, eligible, fewest_tags })
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

fn same(sample: &Sample) -> String {
    let labels: Vec<&str> = sample.tags.iter().map(|tag| tag.label.as_str()).collect();
    let synthetic = sample.synthetic.as_ref().map(|synthetic| &synthetic.text);
    sha256(format!("{:?} {synthetic:?} {labels:?}", sample.item.text_raw).as_bytes())
}
