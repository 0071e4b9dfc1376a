//! What the first bytes, the header and the finished pixels must be like.

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
    let head = head.trim_start();
    Err(if head.contains("<svg") {
        reject(Reason::NotRaster, "SVG text")
    } else if head.starts_with("<!doctype") || head.starts_with("<html") {
        reject(Reason::NotAnImage, "HTML")
    } else if head.starts_with('{') || head.starts_with('[') {
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
    if short < limits.min_side {
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

/// Walks the segments (an EXIF thumbnail has its own end marker inside one) to the first scan.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[marker_start, marker, high, low]) = bytes.get(at..at + 4) {
        if marker_start != 0xff {
            return false;
        }
        if marker == 0xda {
            return bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]);
        }
        at += if marker == 0xff { 1 } else { 2 + usize::from(u16::from_be_bytes([high, low])) };
    }
    false
}

/// One colour says nothing.
pub(super) fn not_blank(pixels: &Pixels) -> Result<(), Reject> {
    let first = &pixels.rgb[..3];
    if pixels.rgb.chunks_exact(3).all(|p| p == first) {
        return Err(reject(Reason::Blank, "one colour"));
    }
    Ok(())
}
