//! The rows that a page shows, with small pictures.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use bytes::Bytes;
use fast_image_resize::Resizer;
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use rayon::iter::IntoParallelIterator;
use rayon::iter::ParallelIterator;

use crate::audit;
use crate::audit::Config;
use crate::audit::Texts;
use crate::audit::place::Place;
use crate::audit::report::Row;
use crate::decode;
use crate::decode::Limits;
use crate::decode::Pixels;
use crate::decode::Store;
use crate::sample::Sample;
use crate::shard;
use crate::shard::Marker;

/// Rows that are shown for no other reason than chance.
const SAMPLED: usize = 24;

/// Longer side of pictures, in pixels: enough to know a thing, and some 4 kB each.
const SIDE: u32 = 128;

/// Rows that are read together with their pictures.
const TOGETHER: usize = 128;

/// Some rows of a run, the same ones each time.
pub(super) fn sampled(markers: &[Marker]) -> Vec<Place> {
    let rows: u64 = markers.iter().map(|marker| marker.refined).sum();
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let drawn = index::sample(&mut random, rows as usize, SAMPLED.min(rows as usize));
    let drawn: BTreeSet<u64> = drawn.into_iter().map(|row| row as u64).collect();
    let (mut places, mut before) = (Vec::new(), 0);
    for marker in markers {
        let within = drawn.range(before..before + marker.refined);
        let shard = marker.shard;
        places.extend(within.map(|row| Place { shard, row: (row - before) as u32 }));
        before += marker.refined;
    }
    places
}

/// These rows, judged by `rules` where there are some.
pub(super) fn shown(
    run: &Path,
    markers: &[Marker],
    places: &[Place],
    rules: Option<&Config>,
) -> Result<BTreeMap<Place, Row>> {
    each(run, markers, places, |mut sample| {
        if let Some(rules) = rules {
            sample.audit = audit::audit(rules, &Texts::of(&sample));
        }
        row(sample)
    })
}

/// What `of` makes of these rows and their pictures, on all cores.
pub(super) fn each<T: Send>(
    run: &Path,
    markers: &[Marker],
    places: &[Place],
    of: impl Fn(Sample) -> T + Sync,
) -> Result<BTreeMap<Place, T>> {
    let mut sorted = places.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut all = BTreeMap::new();
    for of_shard in sorted.chunk_by(|a, b| a.shard == b.shard) {
        let marker = markers.iter().find(|marker| marker.shard == of_shard[0].shard);
        let marker = marker.with_context(|| format!("shard {} is gone", of_shard[0].shard))?;
        for some in of_shard.chunks(TOGETHER) {
            let wanted: Vec<usize> = some.iter().map(|place| place.row as usize).collect();
            let samples = shard::refined_rows(run, marker, &wanted)?;
            let made: Vec<T> = samples.into_par_iter().map(&of).collect();
            all.extend(some.iter().copied().zip(made));
        }
    }
    Ok(all)
}

fn row(sample: Sample) -> Row {
    let (writer, text_generated) = match sample.generated {
        Some(generated) => (generated.writer.to_string(), Some(generated.text)),
        None => (String::new(), None),
    };
    Row {
        key: sample.item.key,
        thumbnail: thumbnail(&sample.image.bytes).ok(),
        text_raw: sample.item.text_raw,
        text_synthetic: sample.synthetic.map(|synthetic| synthetic.text),
        text_generated,
        writer,
        words: sample.audit.words,
        tags: sample.tags,
        score: sample.audit.score,
        flags: sample.audit.reasons,
        evidence: sample.audit.evidence,
    }
}

/// A small JPEG; what was stored can be decoded again, unless somebody changed it.
fn thumbnail(bytes: &Bytes) -> Result<Vec<u8>> {
    let (pixels, mut encoding) = upright(bytes)?;
    // Encoded again even if it is small, so that the page only holds JPEGs of ours.
    encoding.as_shown = false;
    let store = Store { max_side: SIDE, jpeg_quality: 75 };
    Ok(store.store(bytes, &pixels, encoding, &mut Resizer::new())?.bytes.to_vec())
}

/// The pixels of a stored picture, which was judged before.
pub(super) fn upright(bytes: &Bytes) -> Result<(Pixels, decode::Encoding)> {
    let limits = Limits { min_side: 1, max_aspect: f32::INFINITY, ..Limits::default() };
    decode::upright(bytes, &limits).map_err(|reject| anyhow::anyhow!("{reject}"))
}
