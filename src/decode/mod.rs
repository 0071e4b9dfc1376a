//! Encoded bytes to upright RGB, and to the sizes models want to see.
//!
//! The format is told from the first bytes, never from a name; dimensions are read and judged
//! before any pixel buffer is allocated. Nothing here knows a model or a network.

mod check;
mod clip;
mod jpeg;
mod pillow;
mod store;
mod view;

use std::io::Cursor;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use image::DynamicImage;
use image::ImageDecoder;
use image::ImageError;
use image::ImageFormat;
use image::ImageReader;
use image::metadata::Orientation;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Stage;

pub use clip::CLIP_MEAN;
pub use clip::CLIP_STD;
pub use clip::ClipTransform;
pub use store::Store;
pub use view::Filter;
pub use view::Fit;
pub use view::View;
pub use view::letterbox_fit;

/// An upright picture: RGB, 8 bits, row-major (height, width, 3).
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `3 * width * height` bytes.
    pub rgb: Vec<u8>,
}

/// What a picture must be like to stay on the path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Shorter side in pixels; below it a picture is an icon or a tracking pixel.
    pub min_side: u32,
    /// Width times height; checked in the header, before allocation.
    pub max_pixels: u64,
    /// Longer over shorter side.
    pub max_aspect: f32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { min_side: 32, max_pixels: 50_000_000, max_aspect: 20.0 }
    }
}

/// Bytes of a pixel at most: RGBA of 16 bits.
const DEEPEST_PIXEL: u64 = 8;

/// What decoders may allocate beside the pixels: tables, compressed strips, metadata.
const DECODER_OVERHEAD: u64 = 64 << 20;

impl Limits {
    /// Decoders that unpack something before the pixels (compressed metadata, a frame larger than
    /// its screen) are stopped by this.
    fn of_decoders(&self) -> image::Limits {
        let mut limits = image::Limits::no_limits();
        let pixels = self.max_pixels.saturating_mul(DEEPEST_PIXEL);
        limits.max_alloc = Some(pixels.saturating_add(DECODER_OVERHEAD));
        limits
    }
}

/// How the bytes were encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    /// The format, told from the bytes.
    pub format: ImageFormat,
    /// Whether showing the bytes as they are shows the same upright, opaque picture and nothing
    /// more, in a form that every reader takes: 8 bits, RGB or grey, one frame.
    pub as_shown: bool,
}

/// Decodes to upright RGB over white; the first frame of animations.
///
/// # Errors
/// Whatever is wrong with the bytes is a reject, a decoder that panics on them included.
pub fn upright(bytes: &[u8], limits: &Limits) -> Result<(Pixels, Encoding), Reject> {
    surviving(|| decode(bytes, limits))
}

/// Decoders are large, and what they read is hostile: a panic in one is the end of one picture, not
/// of the run. (Nothing outlives the panic that could be half done: the work owns all it changes.)
fn surviving<T>(work: impl FnOnce() -> Result<T, Reject>) -> Result<T, Reject> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(reject(Reason::Corrupt, format!("the decoder panicked: {words}")))
    })
}

fn decode(bytes: &[u8], limits: &Limits) -> Result<(Pixels, Encoding), Reject> {
    let Opened { format, turned, picture } = open(bytes, limits)?;
    let plain = check::plain(bytes, format, picture.color());
    let (pixels, opaque) = over_white(picture)?;
    check::not_blank(&pixels)?;
    Ok((pixels, Encoding { format, as_shown: plain && opaque && !turned }))
}

/// A decoded file.
struct Opened {
    format: ImageFormat,
    /// Whether its metadata asked for another orientation than that of its pixels.
    turned: bool,
    /// Upright, in the colours of the file.
    picture: DynamicImage,
}

fn open(bytes: &[u8], limits: &Limits) -> Result<Opened, Reject> {
    let format = check::format_of(bytes)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.of_decoders());
    let mut decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    check::dimensions(width, height, limits)?;
    check::whole(bytes, format)?;
    // Metadata that cannot be read is no reason to lose the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(refused)?;
    let turned = orientation != Orientation::NoTransforms;
    picture.apply_orientation(orientation);
    Ok(Opened { format, turned, picture })
}

fn refused(error: ImageError) -> Reject {
    let reason = match &error {
        ImageError::Unsupported(_) => Reason::UnsupportedFormat,
        _ => Reason::Corrupt,
    };
    reject(reason, error.to_string())
}

/// Alpha over white, as a page would show it, and whether there was none; a picture with no opaque
/// pixel at all is blank.
fn over_white(picture: DynamicImage) -> Result<(Pixels, bool), Reject> {
    let (width, height) = (picture.width(), picture.height());
    if !picture.color().has_alpha() {
        return Ok((Pixels { width, height, rgb: picture.into_rgb8().into_raw() }, true));
    }
    let rgba = picture.into_rgba8().into_raw();
    let mut alphas = rgba.iter().skip(3).step_by(4);
    let opaque = alphas.clone().all(|&alpha| alpha == 255);
    if alphas.all(|&alpha| alpha == 0) {
        return Err(reject(Reason::Blank, "fully transparent"));
    }
    let mut rgb = vec![0; rgba.len() / 4 * 3];
    for (shown, pixel) in rgb.chunks_exact_mut(3).zip(rgba.chunks_exact(4)) {
        let alpha = u32::from(pixel[3]);
        for (shown, &ink) in shown.iter_mut().zip(pixel) {
            *shown = ((u32::from(ink) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        }
    }
    Ok((Pixels { width, height, rgb }, opaque))
}

fn reject(reason: Reason, detail: impl Into<String>) -> Reject {
    Reject::new(Stage::Decode, reason, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_panics_is_the_end_of_one_picture() {
        let numbers: Vec<u8> = Vec::new();
        let reject = surviving(|| Ok(numbers[3])).unwrap_err();
        assert_eq!((reject.stage, reject.reason), (Stage::Decode, Reason::Corrupt));
        assert!(reject.detail.contains("index out of bounds"), "{}", reject.detail);
    }
}
