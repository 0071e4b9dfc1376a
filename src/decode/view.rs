//! The sizes and shapes in which models want to see a picture.

use anyhow::Result;
use anyhow::ensure;
use fast_image_resize::FilterType;
use fast_image_resize::PixelType;
use fast_image_resize::ResizeAlg;
use fast_image_resize::ResizeOptions;
use fast_image_resize::Resizer;
use fast_image_resize::images::Image;
use fast_image_resize::images::ImageRef;

use super::Pixels;
use super::jpeg;
use super::pillow;
use super::pillow::Raster;
use super::pillow::Side;

/// Antialiased resampling filters, under Pillow's names.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Filter {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos3,
    Box,
    Hamming,
}

/// How a model wants to see a picture.
#[derive(Clone, Debug, PartialEq)]
pub enum View {
    /// Both sides to size, whatever the aspect.
    Stretch {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Filter.
        filter: Filter,
    },
    /// Shorter side to `edge`, then the centre cut out.
    ShortestEdge {
        /// Pixels.
        edge: u32,
        /// Pixels.
        crop_width: u32,
        /// Pixels.
        crop_height: u32,
        /// Filter.
        filter: Filter,
    },
    /// Bilinear, both sides to size, perhaps through a JPEG, then the centre cut out: as classifiers of
    /// the time of Caffe saw pictures. To the bit of Pillow, because a network that was fitted to
    /// the losses of a JPEG minds them.
    ThroughJpeg {
        /// Pixels before the cut; a multiple of 16 where there is a JPEG.
        width: u32,
        /// Pixels before the cut; a multiple of 16 where there is a JPEG.
        height: u32,
        /// Quality of the JPEG, 1 to 100; none for no JPEG.
        quality: Option<u8>,
        /// Pixels.
        crop_width: u32,
        /// Pixels.
        crop_height: u32,
    },
    /// Bilinear, aspect kept, centred on a plain ground.
    Letterbox {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Grey of the ground, 0..=255.
        fill: u8,
    },
}

/// Where a letterboxed picture lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Letterboxed pixels for one original pixel.
    pub gain: f32,
    /// Pixels of ground on the left.
    pub left: u32,
    /// Pixels of ground above.
    pub top: u32,
}

/// The place of a letterboxed picture, rounded as Ultralytics rounds it.
pub fn letterbox_fit(original_width: u32, original_height: u32, width: u32, height: u32) -> Fit {
    let (gain, w, h) = fitted(original_width, original_height, width, height);
    let ground = |whole: u32, part: u32| {
        ((f64::from(whole) - f64::from(part)) / 2.0 - 0.1).round_ties_even().max(0.0) as u32
    };
    Fit { gain: gain as f32, left: ground(width, w), top: ground(height, h) }
}

fn fitted(ow: u32, oh: u32, width: u32, height: u32) -> (f64, u32, u32) {
    let (ow, oh) = (f64::from(ow.max(1)), f64::from(oh.max(1)));
    let gain = (f64::from(height) / oh).min(f64::from(width) / ow);
    let side = |s: f64, cap: u32| ((s * gain).round_ties_even() as u32).clamp(1, cap);
    (gain, side(ow, width), side(oh, height))
}

impl View {
    /// The picture as this view shows it.
    ///
    /// # Errors
    /// When the pixels do not fill their width and height.
    pub fn apply(&self, pixels: &Pixels, resizer: &mut Resizer) -> Result<Pixels> {
        match *self {
            View::Stretch { width, height, filter } => {
                resize(pixels, width, height, filter, resizer)
            }
            View::ShortestEdge { edge, crop_width, crop_height, filter } => {
                let (w, h) = (u64::from(pixels.width.max(1)), u64::from(pixels.height.max(1)));
                // Truncated, as torchvision and transformers do.
                let long = |long: u64, short: u64| (u64::from(edge) * long / short) as u32;
                let (rw, rh) = if w <= h { (edge, long(h, w)) } else { (long(w, h), edge) };
                Ok(centre(&resize(pixels, rw, rh, filter, resizer)?, crop_width, crop_height))
            }
            View::ThroughJpeg { width, height, quality, crop_width, crop_height } => {
                let small = exactly(pixels, width, height)?;
                let seen = match quality {
                    Some(quality) => jpeg::through(&small, quality)?,
                    None => small,
                };
                Ok(centre(&seen, crop_width, crop_height))
            }
            View::Letterbox { width, height, fill } => {
                let (_, w, h) = fitted(pixels.width, pixels.height, width, height);
                let fit = letterbox_fit(pixels.width, pixels.height, width, height);
                let small = resize(pixels, w, h, Filter::Bilinear, resizer)?;
                Ok(place(&small, width, height, fit, fill))
            }
        }
    }
}

/// Resizes to exactly `width` x `height`.
pub(crate) fn resize(
    pixels: &Pixels,
    width: u32,
    height: u32,
    filter: Filter,
    resizer: &mut Resizer,
) -> Result<Pixels> {
    let source = ImageRef::new(pixels.width, pixels.height, &pixels.rgb, PixelType::U8x3)?;
    let mut target = Image::new(width, height, PixelType::U8x3);
    let algorithm = match filter {
        Filter::Nearest => ResizeAlg::Nearest,
        Filter::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Filter::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
        Filter::Lanczos3 => ResizeAlg::Convolution(FilterType::Lanczos3),
        Filter::Box => ResizeAlg::Convolution(FilterType::Box),
        Filter::Hamming => ResizeAlg::Convolution(FilterType::Hamming),
    };
    resizer.resize(&source, &mut target, &ResizeOptions::new().resize_alg(algorithm))?;
    Ok(Pixels { width, height, rgb: target.into_vec() })
}

/// Resizes as Pillow does, to the bit.
fn exactly(pixels: &Pixels, width: u32, height: u32) -> Result<Pixels> {
    let (from_width, from_height) = (pixels.width as usize, pixels.height as usize);
    let is_whole = from_width > 0 && pixels.rgb.len() == 3 * from_width * from_height;
    ensure!(is_whole && from_height > 0, "the pixels do not fill their width and height");
    let raster =
        Raster { width: from_width, height: from_height, channels: 3, bytes: pixels.rgb.clone() };
    let side = |whole: u32| Side { whole: whole as usize, kept: 0..whole as usize };
    let small = pillow::bilinear(&raster, &side(width), &side(height));
    Ok(Pixels { width, height, rgb: small.bytes })
}

fn place(small: &Pixels, width: u32, height: u32, fit: Fit, fill: u8) -> Pixels {
    let mut rgb = vec![fill; 3 * width as usize * height as usize];
    let row = 3 * small.width as usize;
    for (y, line) in small.rgb.chunks_exact(row).enumerate() {
        let at = 3 * ((y + fit.top as usize) * width as usize + fit.left as usize);
        rgb[at..at + row].copy_from_slice(line);
    }
    Pixels { width, height, rgb }
}

/// Cuts out the centre; what lies outside the picture is black, as in the reference transforms.
fn centre(pixels: &Pixels, width: u32, height: u32) -> Pixels {
    let mut rgb = vec![0; 3 * width as usize * height as usize];
    let left = (i64::from(pixels.width) - i64::from(width)) / 2;
    let top = (i64::from(pixels.height) - i64::from(height)) / 2;
    for y in 0..i64::from(height) {
        for x in 0..i64::from(width) {
            let (sx, sy) = (x + left, y + top);
            let inside = (0..i64::from(pixels.width)).contains(&sx)
                && (0..i64::from(pixels.height)).contains(&sy);
            if inside {
                let from = 3 * (sy as usize * pixels.width as usize + sx as usize);
                let to = 3 * (y as usize * width as usize + x as usize);
                rgb[to..to + 3].copy_from_slice(&pixels.rgb[from..from + 3]);
            }
        }
    }
    Pixels { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letterbox_keeps_the_aspect_and_centres() {
        let pixels = Pixels { width: 250, height: 236, rgb: vec![9; 3 * 250 * 236] };
        let fit = letterbox_fit(250, 236, 160, 160);
        assert_eq!((fit.left, fit.top), (0, 4));
        let view = View::Letterbox { width: 160, height: 160, fill: 114 };
        let shown = view.apply(&pixels, &mut Resizer::new()).unwrap();
        assert_eq!((shown.rgb[0], shown.rgb[3 * 160 * 80]), (114, 9));
    }
}
