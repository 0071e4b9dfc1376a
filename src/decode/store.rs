//! The picture as a shard keeps it: the original bytes where they already are what is wanted.

use anyhow::Result;
use bytes::Bytes;
use fast_image_resize::Resizer;
use image::ExtendedColorType;
use image::ImageEncoder;
use image::ImageFormat;
use image::codecs::jpeg::JpegEncoder;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::decode::Encoding;
use crate::decode::Filter;
use crate::decode::Pixels;
use crate::decode::View;
use crate::sample::StoredImage;

/// What stored pictures are like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Longer side in pixels; larger pictures are made smaller, smaller ones never larger.
    pub max_side: u32,
    /// JPEG quality of pictures that had to be encoded again, 1 to 100.
    pub jpeg_quality: u8,
}

impl Default for Store {
    fn default() -> Store {
        // Twice what CLIP models read, and img2dataset's habit for quality.
        Store { max_side: 512, jpeg_quality: 95 }
    }
}

impl Store {
    /// The stored form of a picture that was decoded from `bytes`; its path is only an extension.
    ///
    /// # Errors
    /// When the encoder refuses the picture.
    pub fn store(
        &self,
        bytes: &Bytes,
        pixels: &Pixels,
        encoding: Encoding,
        resizer: &mut Resizer,
    ) -> Result<StoredImage> {
        let (original_width, original_height) = (pixels.width, pixels.height);
        let long = original_width.max(original_height);
        let stored = |bytes: Bytes, format, width, height| StoredImage {
            bytes,
            path: extension(format).to_owned(),
            width,
            height,
            original_width,
            original_height,
        };
        if encoding.as_shown && long <= self.max_side {
            return Ok(stored(bytes.clone(), encoding.format, original_width, original_height));
        }
        let scale = (f64::from(self.max_side) / f64::from(long)).min(1.0);
        let side = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
        let (width, height) = (side(original_width), side(original_height));
        let view = View::Stretch { width, height, filter: Filter::Bicubic };
        let jpeg = self.jpeg(&view.apply(pixels, resizer)?)?;
        Ok(stored(jpeg, ImageFormat::Jpeg, width, height))
    }

    fn jpeg(&self, pixels: &Pixels) -> Result<Bytes> {
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, self.jpeg_quality.clamp(1, 100)).write_image(
            &pixels.rgb,
            pixels.width,
            pixels.height,
            ExtendedColorType::Rgb8,
        )?;
        Ok(jpeg.into())
    }
}

fn extension(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "png",
        ImageFormat::WebP => "webp",
        _ => "jpg",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Limits;
    use crate::decode::upright;

    fn stored(width: u32, height: u32, format: ImageFormat) -> (Bytes, StoredImage) {
        let picture =
            image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        let bytes = Bytes::from(bytes.into_inner());
        let (pixels, encoding) = upright(&bytes, &Limits::default()).unwrap();
        let stored = Store::default().store(&bytes, &pixels, encoding, &mut Resizer::new());
        (bytes, stored.unwrap())
    }

    #[test]
    fn bytes_are_kept_when_nothing_has_to_change() {
        let (bytes, image) = stored(512, 40, ImageFormat::Png);
        assert_eq!((image.bytes, image.path.as_str()), (bytes, "png"));
    }

    #[test]
    fn large_pictures_and_other_formats_become_jpeg() {
        let (_, large) = stored(1024, 100, ImageFormat::Png);
        assert_eq!((large.width, large.height, large.path.as_str()), (512, 50, "jpg"));
        assert_eq!((large.original_width, large.original_height), (1024, 100));
        let (_, bmp) = stored(100, 60, ImageFormat::Bmp);
        assert_eq!((bmp.width, bmp.height, bmp.path.as_str()), (100, 60, "jpg"));
        let (pixels, _) = upright(&bmp.bytes, &Limits::default()).unwrap();
        assert_eq!((pixels.width, pixels.height), (100, 60));
    }
}
