//! What the first bytes, the header and the finished pixels must be like.

use image::ColorType;
use image::ImageFormat;

use super::Limits;
use super::Pixels;
use super::reject;
use crate::sample::Reason;
use crate::sample::Reject;

/// The raster format of the bytes, or what they are instead.
pub(super) fn format_of(bytes: &[u8]) -> Result<ImageFormat, Reject> {
    if bytes.is_empty() {
        return Err(reject(Reason::ImageEmpty, ""));
    }
    if let Ok(format) = image::guess_format(bytes) {
        return Ok(format);
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).to_ascii_lowercase();
    let head = head.trim_start_matches('\u{feff}').trim_start();
    let starts = |words: &[&str]| words.iter().any(|word| head.starts_with(word));
    Err(if starts(&["<!doctype html", "<html", "<head", "<body"]) {
        reject(Reason::NotAnImage, "HTML")
    } else if starts(&["<"]) && head.contains("<svg") {
        reject(Reason::NotRaster, "SVG text")
    } else if starts(&["{", "["]) {
        reject(Reason::NotAnImage, "JSON")
    } else {
        reject(Reason::NotAnImage, "unknown format")
    })
}

/// Judges the header, so that nothing has been allocated yet.
pub(super) fn dimensions(width: u32, height: u32, limits: &Limits) -> Result<(), Reject> {
    let size = format!("{width}x{height}");
    let (short, long) = (width.min(height), width.max(height));
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(reject(Reason::TooManyPixels, size));
    }
    if long as f32 / short.max(1) as f32 > limits.max_aspect {
        return Err(reject(Reason::ExtremeAspect, size));
    }
    if short < limits.min_side.max(1) {
        return Err(reject(Reason::TooSmall, size));
    }
    Ok(())
}

/// The JPEG decoder fills a missing end with grey instead of failing, so the end is looked for
/// here: a JPEG without an end-of-image marker after its scan is truncated, whatever share is left.
pub(super) fn whole(bytes: &[u8], format: ImageFormat) -> Result<(), Reject> {
    if format != ImageFormat::Jpeg || jpeg_ends(bytes) {
        return Ok(());
    }
    Err(reject(Reason::Corrupt, "truncated JPEG"))
}

/// Whether the bytes may be stored as they are: a format that every reader takes, 8 bits, RGB or
/// grey, one frame. (Alpha and orientation are judged where they are known.)
pub(super) fn plain(bytes: &[u8], format: ImageFormat, color: ColorType) -> bool {
    let eight_bits = color.bytes_per_pixel() == color.channel_count();
    eight_bits
        && match format {
            ImageFormat::Jpeg => jpeg_components(bytes).is_some_and(|n| n == 1 || n == 3),
            ImageFormat::Png => !png_is_animated(bytes),
            ImageFormat::WebP => !webp_is_animated(bytes),
            _ => false,
        }
}

/// What the header of a PNG says of its pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct PngKind {
    /// Indices of a palette, or single bits.
    pub(super) is_indexed: bool,
    /// An alpha for every pixel, not one transparent colour.
    pub(super) has_alpha: bool,
}

/// Decoders widen palettes and transparent colours to RGBA, after which they cannot be told from it.
pub(super) fn png_kind(bytes: &[u8], format: ImageFormat) -> Option<PngKind> {
    // Signature, length and name of the first chunk, two sides; then depth and colour type.
    let &[depth, color] = bytes.get(24..26)? else { return None };
    (format == ImageFormat::Png).then_some(PngKind {
        is_indexed: color == 3 || (color, depth) == (0, 1),
        has_alpha: matches!(color, 4 | 6),
    })
}

fn jpeg_ends(bytes: &[u8]) -> bool {
    let scan = jpeg_segments(bytes).find(|segment| segment.marker == SCAN);
    scan.is_some_and(|scan| bytes[scan.at..].windows(2).any(|pair| pair == [0xff, 0xd9]))
}

/// 1 for grey, 3 for colour, 4 for print.
fn jpeg_components(bytes: &[u8]) -> Option<u8> {
    let is_frame = |marker| matches!(marker, 0xc0..=0xcf) && ![0xc4, 0xc8, 0xcc].contains(&marker);
    let frame = jpeg_segments(bytes).find(|segment| is_frame(segment.marker))?;
    bytes.get(frame.at + 9).copied()
}

/// Start of scan; compressed data follow, and no segment that can be stepped over.
const SCAN: u8 = 0xda;

struct Segment {
    /// Where its 0xff is.
    at: usize,
    marker: u8,
}

/// The segments up to the first scan (an EXIF thumbnail has markers of its own inside one).
fn jpeg_segments(bytes: &[u8]) -> impl Iterator<Item = Segment> {
    let mut at = 2;
    std::iter::from_fn(move || {
        // Any number of fill bytes may come before a marker.
        while bytes.get(at..at + 2) == Some(&[0xff, 0xff]) {
            at += 1;
        }
        let &[0xff, marker, high, low] = bytes.get(at..at + 4)? else { return None };
        let segment = Segment { at, marker };
        at = match marker {
            SCAN => bytes.len(),
            _ => at + 2 + usize::from(u16::from_be_bytes([high, low])),
        };
        Some(segment)
    })
}

/// `acTL` comes before the first pixels or not at all.
fn png_is_animated(bytes: &[u8]) -> bool {
    let mut at = 8;
    while let Some(&[a, b, c, d, ref name @ ..]) = bytes.get(at..at + 8) {
        match name {
            b"acTL" => return true,
            b"IDAT" => return false,
            _ => at = at.saturating_add(u32::from_be_bytes([a, b, c, d]) as usize + 12),
        }
    }
    false
}

/// A flag of the extended header.
fn webp_is_animated(bytes: &[u8]) -> bool {
    bytes.get(12..16) == Some(b"VP8X") && bytes.get(20).is_some_and(|flags| flags & 2 != 0)
}

/// One colour says nothing.
pub(super) fn not_blank(pixels: &Pixels) -> Result<(), Reject> {
    let first = &pixels.rgb[..3];
    if pixels.rgb.chunks_exact(3).all(|p| p == first) {
        return Err(reject(Reason::Blank, "one colour"));
    }
    Ok(())
}
