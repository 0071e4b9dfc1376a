//! The picture as CLIP and RWKV-CLIP are evaluated on it.
//!
//! Shorter side to `size`, antialiased bicubic, in the file's own mode; the centre; only then RGB,
//! by dropping alpha; mean and deviation of CLIP's training pictures. This is torchvision's
//! `Resize`, `CenterCrop`, "convert to RGB", `ToTensor`, `Normalize` over Pillow, to the bit.
//! Training pictures are not made here: they are cropped at random.
//!
//! # What differs from the official transform
//! - EXIF orientation is applied, which Pillow leaves to its caller: a photograph on its side is
//!   nobody's wish.
//! - CMYK and more than 8 bits a channel become RGB or grey of 8 bits before they are resized. A GIF
//!   always counts as a palette, also where all its colours are grey; other formats than PNG and GIF
//!   never do.
//! - A picture of one colour is a picture here: an evaluation counts every file it was given.

use image::DynamicImage;
use image::ImageFormat;

use super::Limits;
use super::Pixels;
use super::check;
use super::open;
use super::pillow;
use super::pillow::Raster;
use super::pillow::Side;
use super::reject;
use super::surviving;
use crate::sample::Reason;
use crate::sample::Reject;

/// Mean of CLIP's training pictures: red, green, blue, of 1.
pub const CLIP_MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];

/// Standard deviation of CLIP's training pictures.
#[expect(clippy::excessive_precision, reason = "as they stand everywhere")]
pub const CLIP_STD: [f32; 3] = [0.26862954, 0.26130258, 0.27577711];

/// The evaluation transform.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipTransform {
    /// Pixels of each side of the result.
    pub size: u32,
}

impl ClipTransform {
    /// Encoded bytes to normalised pixels.
    ///
    /// # Shapes
    /// Result: (3, size, size), channel first.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes is a reject; the header is judged before pixels are allocated.
    pub fn of_bytes(&self, bytes: &[u8], limits: &Limits) -> Result<Vec<f32>, Reject> {
        surviving(|| {
            let opened = open(bytes, limits)?;
            let png = check::png_kind(bytes, opened.format);
            let has_alpha = png.is_none_or(|png| png.has_alpha);
            let is_gif = opened.format == ImageFormat::Gif;
            let is_indexed = is_gif || png.is_some_and(|png| png.is_indexed);
            let filter = if is_indexed { Filter::Nearest } else { Filter::Bicubic };
            self.of_raster(raster(opened.picture, has_alpha), filter)
        })
    }

    /// The same of pixels that are decoded already: upright, opaque.
    ///
    /// # Shapes
    /// Result: (3, size, size), channel first.
    ///
    /// # Errors
    /// When the pixels do not fill their width and height.
    pub fn of_pixels(&self, pixels: &Pixels) -> Result<Vec<f32>, Reject> {
        let (width, height) = (pixels.width as usize, pixels.height as usize);
        let all = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if all != Some(pixels.rgb.len()) || pixels.rgb.is_empty() {
            return Err(reject(Reason::Corrupt, "pixels do not fill width and height"));
        }
        let raster = Raster { width, height, channels: 3, bytes: pixels.rgb.clone() };
        self.of_raster(raster, Filter::Bicubic)
    }

    fn of_raster(&self, raster: Raster, filter: Filter) -> Result<Vec<f32>, Reject> {
        if self.size == 0 {
            return Err(reject(Reason::TooSmall, "a view of no size was asked for"));
        }
        let short = raster.width.min(raster.height);
        let (columns, rows) = (self.side(raster.width, short), self.side(raster.height, short));
        let is_to_size = (columns.whole, rows.whole) == (raster.width, raster.height);
        Ok(normalised(&match filter {
            // Pillow copies a picture that has its size already, and premultiplies nothing then.
            Filter::Bicubic if is_to_size => pillow::nearest(&raster, &columns, &rows),
            Filter::Nearest => pillow::nearest(&raster, &columns, &rows),
            Filter::Bicubic if raster.channels.is_multiple_of(2) => {
                under_alpha(raster, &columns, &rows)
            }
            Filter::Bicubic => pillow::bicubic(&raster, &columns, &rows),
        }))
    }

    /// One side after the shorter one became `size`: truncated, and its middle, where Python rounds
    /// a half to the even neighbour.
    fn side(&self, side: usize, short: usize) -> Side {
        let size = self.size as usize;
        let whole = (u128::from(self.size) * side as u128 / short as u128) as usize;
        let start = ((whole - size) as f64 / 2.0).round_ties_even() as usize;
        Side { whole, kept: start..start + size }
    }
}

#[derive(Clone, Copy, Debug)]
enum Filter {
    /// What is made of indices or single bits has no colours in between.
    Nearest,
    Bicubic,
}

/// Pillow's mode of the file in 8 bits: L, LA, RGB or RGBA. A single transparent colour of a file
/// without an alpha channel is a note beside the picture for Pillow, and no channel.
fn raster(picture: DynamicImage, has_alpha: bool) -> Raster {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let color = picture.color();
    let (channels, bytes) = match (color.has_color(), color.has_alpha() && has_alpha) {
        (false, false) => (1, picture.into_luma8().into_raw()),
        (false, true) => (2, picture.into_luma_alpha8().into_raw()),
        (true, false) => (3, picture.into_rgb8().into_raw()),
        (true, true) => (4, picture.into_rgba8().into_raw()),
    };
    Raster { width, height, channels, bytes }
}

fn under_alpha(mut raster: Raster, columns: &Side, rows: &Side) -> Raster {
    pillow::premultiply(&mut raster);
    let mut small = pillow::bicubic(&raster, columns, rows);
    pillow::unpremultiply(&mut small);
    small
}

/// Three planes of what has one to four channels; grey is all three of them.
fn normalised(raster: &Raster) -> Vec<f32> {
    let mut planes = Vec::with_capacity(3 * raster.width * raster.height);
    for (plane, (mean, std)) in CLIP_MEAN.into_iter().zip(CLIP_STD).enumerate() {
        let channel = if raster.channels < 3 { 0 } else { plane };
        let levels: [f32; 256] = std::array::from_fn(|n| (n as f32 / 255.0 - mean) / std);
        let inks = raster.bytes[channel..].iter().step_by(raster.channels);
        planes.extend(inks.map(|&ink| levels[usize::from(ink)]));
    }
    planes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_shape_is_a_view(
            width in 1u32..600, height in 1u32..4, turn: bool, size in 1u32..40,
        ) {
            let (width, height) = if turn { (height, width) } else { (width, height) };
            let rgb = (0..3 * width * height).map(|n| (n * n) as u8).collect();
            let planes = ClipTransform { size }.of_pixels(&Pixels { width, height, rgb }).unwrap();
            prop_assert_eq!(planes.len(), (3 * size * size) as usize);
        }
    }

    #[test]
    fn a_thread_of_pixels_costs_no_more_than_its_middle() {
        let pixels = Pixels { width: 1, height: 50_000, rgb: vec![7; 150_000] };
        assert_eq!(ClipTransform { size: 224 }.of_pixels(&pixels).unwrap().len(), 3 * 224 * 224);
    }

    #[test]
    fn what_is_no_picture_is_a_reject() {
        let reason =
            |size, pixels: Pixels| ClipTransform { size }.of_pixels(&pixels).unwrap_err().reason;
        let wrong = Pixels { width: 9, height: 9, rgb: vec![0; 6] };
        assert_eq!(reason(224, wrong), Reason::Corrupt);
        assert_eq!(reason(224, Pixels { width: 0, height: 0, rgb: vec![] }), Reason::Corrupt);
        let right = Pixels { width: 1, height: 2, rgb: vec![0; 6] };
        assert_eq!(reason(0, right), Reason::TooSmall);
    }
}
