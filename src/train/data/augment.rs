//! Pictures as a model is trained on them: a random window, stretched to a square, half of them
//! mirrored.
//!
//! Area and aspect of the window are those of the official training (NVIDIA DALI's random crop): drawn
//! anew until the window fits, at most a hundred times. No colours are changed.

use std::sync::LazyLock;

use anyhow::Result;
use anyhow::ensure;
use fast_image_resize::FilterType;
use fast_image_resize::PixelType;
use fast_image_resize::ResizeAlg;
use fast_image_resize::ResizeOptions;
use fast_image_resize::Resizer;
use fast_image_resize::images::Image;
use fast_image_resize::images::ImageRef;
use rand::Rng;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::decode::CLIP_MEAN;
use crate::decode::CLIP_STD;
use crate::decode::Pixels;

/// How pictures are changed at random.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Nothing is drawn: the evaluation transform.
    pub off: bool,
    /// Part of the picture's area that is seen, at least.
    pub min_area: f64,
    /// At most.
    pub max_area: f64,
    /// Width over height of what is seen, at least.
    pub min_aspect: f64,
    /// At most.
    pub max_aspect: f64,
    /// How often a picture is mirrored, 0 to 1.
    pub flip: f64,
}

impl Default for Augment {
    fn default() -> Augment {
        Augment {
            off: false,
            min_area: 0.7,
            max_area: 1.0,
            min_aspect: 0.8,
            max_aspect: 1.25,
            flip: 0.5,
        }
    }
}

/// A part of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// After so many windows that do not fit, none is drawn.
const ATTEMPTS: usize = 100;

impl Augment {
    pub(super) fn check(&self) -> Result<()> {
        let Augment { min_area, max_area, min_aspect, max_aspect, flip, .. } = *self;
        ensure!(
            0.0 < min_area && min_area <= max_area && max_area <= 1.0,
            "augment: areas are {min_area} to {max_area}, and have to be parts of the whole, 0 to 1"
        );
        ensure!(
            0.0 < min_aspect && min_aspect <= max_aspect && max_aspect.is_finite(),
            "augment: aspects are {min_aspect} to {max_aspect}, and have to be above 0, the smaller \
             first"
        );
        ensure!((0.0..=1.0).contains(&flip), "augment: flip is {flip}, and has to be 0 to 1");
        Ok(())
    }

    /// A random part of a picture, changed as the settings say.
    ///
    /// # Shapes
    /// out: (3, side, side)
    ///
    /// # Errors
    /// When the pixels do not fill their width and height.
    pub(super) fn apply(
        &self,
        pixels: &Pixels,
        side: u32,
        draws: &mut impl Rng,
        resizer: &mut Resizer,
        out: &mut [f32],
    ) -> Result<()> {
        let window = self.window(pixels.width, pixels.height, draws);
        let is_mirrored = draws.random_bool(self.flip);
        let square = stretched(pixels, window, side, resizer)?;
        normalise(&square, side as usize, is_mirrored, out);
        Ok(())
    }

    /// Which part of a picture is seen.
    pub(super) fn window(&self, width: u32, height: u32, draws: &mut impl Rng) -> Window {
        let (w, h) = (f64::from(width), f64::from(height));
        let sides = (0..ATTEMPTS).find_map(|_| {
            let area = w * h * draws.random_range(self.min_area..=self.max_area);
            let aspects = self.min_aspect.ln()..=self.max_aspect.ln();
            let aspect = draws.random_range(aspects).exp();
            let sides = ((area * aspect).sqrt().round(), (area / aspect).sqrt().round());
            let fits = (1.0..=w).contains(&sides.0) && (1.0..=h).contains(&sides.1);
            let aspects = self.min_aspect..=self.max_aspect;
            (fits && aspects.contains(&(sides.0 / sides.1))).then_some(sides)
        });
        let (w, h) = sides.unwrap_or_else(|| self.nearest(w, h));
        let (inner_width, inner_height) = (w as u32, h as u32);
        let left = draws.random_range(0..=width - inner_width);
        let top = draws.random_range(0..=height - inner_height);
        Window { left, top, width: inner_width, height: inner_height }
    }

    /// The largest part whose aspect is allowed.
    fn nearest(&self, w: f64, h: f64) -> (f64, f64) {
        let aspect = (w / h).clamp(self.min_aspect, self.max_aspect);
        ((h * aspect).round().clamp(1.0, w), (w / aspect).round().clamp(1.0, h))
    }
}

/// A part of a picture as a square, whatever its aspect: linear, and smoothed where it shrinks. At the
/// window's edge the filter reaches beyond it, as Pillow's `box` does; nothing is copied before.
fn stretched(pixels: &Pixels, window: Window, side: u32, resizer: &mut Resizer) -> Result<Vec<u8>> {
    let source = ImageRef::new(pixels.width, pixels.height, &pixels.rgb, PixelType::U8x3)?;
    let mut square = Image::new(side, side, PixelType::U8x3);
    let Window { left, top, width, height } = window;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(left.into(), top.into(), width.into(), height.into());
    resizer.resize(&source, &mut square, &options)?;
    Ok(square.into_vec())
}

/// What each of 256 inks is, by channel.
static LEVELS: LazyLock<[[f32; 256]; 3]> = LazyLock::new(|| {
    let level =
        |channel: usize, ink: usize| (ink as f32 / 255.0 - CLIP_MEAN[channel]) / CLIP_STD[channel];
    [0, 1, 2].map(|channel| std::array::from_fn(|ink| level(channel, ink)))
});

/// # Shapes
/// square: (side, side, 3) -> out: (3, side, side)
fn normalise(square: &[u8], side: usize, is_mirrored: bool, out: &mut [f32]) {
    for (channel, plane) in out.chunks_exact_mut(side * side).enumerate() {
        let levels = &LEVELS[channel];
        for (line, row) in plane.chunks_exact_mut(side).zip(square.chunks_exact(3 * side)) {
            let inks = row.iter().skip(channel).step_by(3).map(|&ink| levels[usize::from(ink)]);
            match is_mirrored {
                false => line.iter_mut().zip(inks).for_each(|(out, level)| *out = level),
                true => line.iter_mut().rev().zip(inks).for_each(|(out, level)| *out = level),
            }
        }
    }
}

#[cfg(test)]
mod tests;
