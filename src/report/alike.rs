//! Pictures whose hashes are alike, compared by their thumbnails as `refine` does within a shard.

use std::path::Path;

use anyhow::Result;
use fast_image_resize::Resizer;

use crate::audit::alike::Alike;
use crate::audit::place::Place;
use crate::dedup;
use crate::dedup::Print;
use crate::report::rows;
use crate::sample::Sample;
use crate::shard::Marker;

/// Of the candidates those that look the same indeed. Some hundred pictures are read, however many
/// candidates there were.
///
/// # Errors
/// When a shard cannot be read. A picture that cannot be decoded confirms nothing.
pub fn confirmed(run: &Path, markers: &[Marker], candidates: Alike) -> Result<Alike> {
    let pairs = &candidates.pairs;
    let places: Vec<Place> = pairs.iter().flat_map(|p| [p.place, p.other_place]).collect();
    let prints = rows::each(run, markers, &places, |sample| print(&sample).ok())?;
    let of = |place: &Place| prints.get(place)?.as_ref();
    let most = dedup::Config::default().max_difference;
    let is_same = pairs.iter().map(|pair| {
        let (one, other) = (of(&pair.place)?, of(&pair.other_place)?);
        Some(one.thumb.difference(&other.thumb, most).is_some())
    });
    let is_same: Vec<Option<bool>> = is_same.collect();
    Ok(candidates.confirmed(&is_same))
}

fn print(sample: &Sample) -> Result<Print> {
    let (pixels, _) = rows::upright(&sample.image.bytes)?;
    Print::of(&pixels, &mut Resizer::new())
}
