//! Encoded bytes to upright RGB, and to the sizes models want to see.
//!
//! The format is told from the first bytes, never from a name; dimensions are read and judged
//! before any pixel buffer is allocated. Nothing here knows a model or a network.

mod check;
mod store;
mod view;

use std::io::Cursor;

use image::DynamicImage;
use image::ImageDecoder;
use image::ImageFormat;
use image::ImageReader;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Stage;

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

/// How the bytes were encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    /// The format, told from the bytes.
    pub format: ImageFormat,
    /// Whether showing the bytes as they are shows the same upright, opaque picture.
    pub as_shown: bool,
}

/// Decodes to upright RGB over white; the first frame of animations.
pub fn upright(bytes: &[u8], limits: &Limits) -> Result<(Pixels, Encoding), Reject> {
    let format = check::format_of(bytes)?;
    let corrupt = |e: image::ImageError| reject(Reason::Corrupt, e.to_string());
    let reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut decoder = reader.into_decoder().map_err(corrupt)?;
    let (width, height) = decoder.dimensions();
    check::dimensions(width, height, limits)?;
    check::whole(bytes, format)?;
    let orientation = decoder.orientation().map_err(corrupt)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(corrupt)?;
    let turned = orientation != image::metadata::Orientation::NoTransforms;
    picture.apply_orientation(orientation);
    let transparent = picture.color().has_alpha();
    let pixels = over_white(picture)?;
    check::not_blank(&pixels)?;
    let plain = matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP);
    Ok((pixels, Encoding { format, as_shown: plain && !turned && !transparent }))
}

/// Alpha over white, as a page would show it; a picture with no opaque pixel at all is blank.
fn over_white(picture: DynamicImage) -> Result<Pixels, Reject> {
    let (width, height) = (picture.width(), picture.height());
    if !picture.color().has_alpha() {
        return Ok(Pixels { width, height, rgb: picture.into_rgb8().into_raw() });
    }
    let rgba = picture.into_rgba8().into_raw();
    if rgba.chunks_exact(4).all(|p| p[3] == 0) {
        return Err(reject(Reason::Blank, "fully transparent"));
    }
    let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
    for p in rgba.chunks_exact(4) {
        let alpha = u32::from(p[3]);
        let blend = |c: u8| ((u32::from(c) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        rgb.extend([blend(p[0]), blend(p[1]), blend(p[2])]);
    }
    Ok(Pixels { width, height, rgb })
}

fn reject(reason: Reason, detail: impl Into<String>) -> Reject {
    Reject::new(Stage::Decode, reason, detail)
}
