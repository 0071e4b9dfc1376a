//! The first copy of a picture within a shard stays: copies are found by bytes and by looks.
//!
//! Looks are compared in two steps. A 64-bit gradient hash finds candidates; a thumbnail confirms
//! them, because on drawings the hash alone takes a star with 30 points for one with 40. Shards
//! stay independent: copies across shards are a separate pass over the `sha256` and `phash` columns.

use std::collections::HashSet;

use anyhow::Context;
use anyhow::Result;
use fast_image_resize::Resizer;
use image_hasher::HashAlg;
use image_hasher::Hasher;
use image_hasher::HasherConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::decode::Filter;
use crate::decode::Pixels;
use crate::decode::View;
use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Stage;

/// What counts as a copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Reject pictures whose bytes came before.
    pub exact: bool,
    /// Reject pictures that look like one that came before.
    pub near: bool,
    /// Bits of the perceptual hash that may differ, of 64.
    pub max_distance: u32,
    /// Mean difference of the thumbnails' grey levels that is still the same picture, 0 to 255.
    pub max_difference: f32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            exact: true,
            near: true,
            // A picture that was encoded and scaled again is within 3 (measured); 6 leaves room.
            max_distance: 6,
            // Encoding again moves the mean by less than one level; another drawing by more.
            max_difference: 1.5,
        }
    }
}

/// Side of the thumbnail: 1 kB a picture.
const THUMB_SIDE: u32 = 32;

/// What a picture looks like, in a kilobyte.
#[derive(Clone, Debug, PartialEq)]
pub struct Print {
    /// 64-bit perceptual hash: signs of the horizontal gradients of a 9 x 8 picture.
    pub phash: u64,
    /// Luma of a 32 x 32 picture.
    thumb: Vec<u8>,
    /// Width over height.
    aspect: f32,
}

impl Print {
    /// Looks at an upright picture.
    ///
    /// # Errors
    /// When the picture cannot be resized, which an upright one can.
    pub fn of(pixels: &Pixels, resizer: &mut Resizer) -> Result<Print> {
        // Hashing the full picture costs more than decoding it.
        let small = stretched(pixels, 72, 64, resizer)?;
        let thumb = stretched(pixels, THUMB_SIDE, THUMB_SIDE, resizer)?;
        Ok(Print {
            phash: phash(small)?,
            thumb: thumb.rgb.chunks_exact(3).map(luma).collect(),
            aspect: pixels.width as f32 / pixels.height.max(1) as f32,
        })
    }

    /// Mean difference of grey levels.
    fn difference(&self, other: &Print) -> f32 {
        let pairs = self.thumb.iter().zip(&other.thumb);
        let sum: u32 = pairs.map(|(&a, &b)| u32::from(a.abs_diff(b))).sum();
        sum as f32 / self.thumb.len().max(1) as f32
    }

    fn is_like(&self, other: &Print, config: &Config) -> bool {
        // Scaling rounds sides: the aspect of a small picture moves by some percent.
        const ASPECT: f32 = 0.03;
        (self.phash ^ other.phash).count_ones() <= config.max_distance
            && (self.aspect / other.aspect - 1.0).abs() <= ASPECT
            && self.difference(other) <= config.max_difference
    }
}

fn stretched(pixels: &Pixels, width: u32, height: u32, resizer: &mut Resizer) -> Result<Pixels> {
    View::Stretch { width, height, filter: Filter::Bilinear }.apply(pixels, resizer)
}

fn luma(rgb: &[u8]) -> u8 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
    ((299 * r + 587 * g + 114 * b + 500) / 1000) as u8
}

fn phash(small: Pixels) -> Result<u64> {
    let picture = image::RgbImage::from_raw(small.width, small.height, small.rgb)
        .context("the resized picture has another size")?;
    let hasher: Hasher<[u8; 8]> =
        HasherConfig::with_bytes_type().hash_alg(HashAlg::Gradient).hash_size(8, 8).to_hasher();
    let hash = hasher.hash_image(&picture);
    Ok(hash.as_bytes().iter().fold(0, |all, &byte| all << 8 | u64::from(byte)))
}

/// The pictures of a shard so far.
pub struct Copies<'a> {
    config: &'a Config,
    exact: HashSet<String>,
    /// Looked through one by one: ten thousand comparisons of hashes take some microseconds, less
    /// than an index would save.
    prints: Vec<(Print, String)>,
}

impl<'a> Copies<'a> {
    /// No pictures yet.
    pub fn new(config: &'a Config) -> Copies<'a> {
        Copies { config, exact: HashSet::new(), prints: Vec::new() }
    }

    /// Whether this is the first copy, which is then remembered.
    ///
    /// # Errors
    /// A reject that names the earlier picture.
    pub fn first(&mut self, key: &str, sha256: &str, print: &Print) -> Result<(), Reject> {
        if self.config.exact && !self.exact.insert(sha256.to_owned()) {
            return Err(Reject::new(Stage::Dedup, Reason::Duplicate, sha256));
        }
        if self.config.near {
            let earlier = self.prints.iter().find(|(other, _)| print.is_like(other, self.config));
            if let Some((_, earlier)) = earlier {
                return Err(Reject::new(
                    Stage::Dedup,
                    Reason::NearDuplicate,
                    format!("of {earlier}"),
                ));
            }
            self.prints.push((print.clone(), key.to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(draw: impl Fn(u32, u32) -> u8) -> Print {
        let (width, height) = (120, 100);
        let mut rgb = Vec::new();
        for y in 0..height {
            for x in 0..width {
                rgb.extend([draw(x, y); 3]);
            }
        }
        Print::of(&Pixels { width, height, rgb }, &mut Resizer::new()).unwrap()
    }

    fn disc(radius: i32, grey: u8) -> Print {
        print(|x, y| {
            let (dx, dy) = (x as i32 - 60, y as i32 - 50);
            if dx * dx + dy * dy < radius * radius { grey } else { 255 }
        })
    }

    #[test]
    fn the_first_copy_stays_and_the_second_names_it() {
        let config = Config::default();
        let mut copies = Copies::new(&config);
        let (a, b, slightly) = (disc(30, 0), disc(20, 0), disc(30, 3));
        assert!(copies.first("a", "01", &a).is_ok());
        assert!(copies.first("b", "02", &b).is_ok());
        let exact = copies.first("c", "01", &a).unwrap_err();
        assert_eq!(exact.reason, Reason::Duplicate);
        let near = copies.first("d", "03", &slightly).unwrap_err();
        assert_eq!((near.reason, near.detail.as_str()), (Reason::NearDuplicate, "of a"));
    }

    #[test]
    fn what_is_switched_off_rejects_nothing() {
        let config = Config { exact: false, near: false, ..Config::default() };
        let mut copies = Copies::new(&config);
        for _ in 0..2 {
            assert!(copies.first("a", "01", &disc(30, 0)).is_ok());
        }
    }
}
