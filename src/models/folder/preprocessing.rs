//! What `preprocessor_config.json` asks for: resize, crop, rescale, normalise.
//!
//! Only what leads to one fixed input size is taken; anything else is refused by name, because a
//! wrong normalisation or crop gives plausible nonsense and no error.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;

use super::Listing;

/// How a picture becomes the input of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// Geometry.
    pub resize: Resize,
    /// Interpolation.
    pub resample: Resample,
    /// What a byte is multiplied by.
    pub rescale_factor: f64,
    /// Subtracted after rescaling, by channel.
    pub mean: [f32; 3],
    /// Divided by after that, by channel.
    pub std: [f32; 3],
    /// Which channel comes first; `mean` and `std` are in this order too.
    pub channels: Channels,
    /// How the numbers lie.
    pub layout: Layout,
}

/// The order of the channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red first.
    #[default]
    Rgb,
    /// Blue first, as OpenCV and Caffe have it.
    Bgr,
}

/// How the numbers of an input lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Channel by channel: `[3, height, width]`.
    #[default]
    Nchw,
    /// Pixel by pixel: `[height, width, 3]`.
    Nhwc,
}

/// The geometry of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// To this size without keeping the aspect ratio.
    Stretch {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The shorter side to `edge`, then a crop from the middle.
    ShortestEdge {
        /// Pixels.
        edge: u32,
        /// Pixels.
        crop_width: u32,
        /// Pixels.
        crop_height: u32,
    },
    /// Bilinear to this size, perhaps through a JPEG, then a crop from the middle.
    ThroughJpeg {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// 1 to 100; none for no JPEG.
        quality: Option<u8>,
        /// Pixels.
        crop_width: u32,
        /// Pixels.
        crop_height: u32,
    },
}

/// Interpolation, by PIL's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resample {
    /// 0
    Nearest,
    /// 1
    Lanczos,
    /// 2
    Bilinear,
    /// 3
    Bicubic,
    /// 4
    Box,
    /// 5
    Hamming,
}

/// Above this an input is a mistake in the file, not a model (the largest known takes 1536).
const MAX_SIDE: u32 = 8192;

pub(super) fn read(listing: &mut Listing) -> Result<Preprocessing> {
    let raw: Raw = listing.json("preprocessor_config.json")?;
    raw.into_preprocessing().context("preprocessor_config.json")
}

#[derive(Deserialize)]
struct Raw {
    #[serde(alias = "feature_extractor_type")]
    image_processor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Size>,
    resample: Option<u8>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    crop_pct: Option<f64>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    do_pad: Option<bool>,
}

/// `224`, `{"height": 224, "width": 224}` or `{"shortest_edge": 256}`.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    One(u32),
    Both { height: u32, width: u32 },
    Shortest { shortest_edge: u32 },
}

impl Raw {
    fn into_preprocessing(self) -> Result<Preprocessing> {
        let (mean, std) = self.normalisation()?;
        Ok(Preprocessing {
            resize: self.resize()?.checked()?,
            resample: self.resample()?,
            rescale_factor: self.rescale_factor(),
            mean,
            std,
            channels: Channels::Rgb,
            layout: Layout::Nchw,
        })
    }

    fn resize(&self) -> Result<Resize> {
        if self.do_resize == Some(false) || self.do_pad == Some(true) {
            bail!("do_resize: false and do_pad: true give inputs of varying size: not supported");
        }
        let size = self.size.context("has no size")?;
        match (size, self.crop()) {
            (Size::Both { height, width }, None) => Ok(Resize::Stretch { width, height }),
            // Before sizes had names, one number meant a square, except in CLIP's processor.
            (Size::One(side), None) => Ok(Resize::Stretch { width: side, height: side }),
            (Size::Shortest { shortest_edge }, Some((crop_width, crop_height))) => {
                Ok(Resize::ShortestEdge { edge: shortest_edge, crop_width, crop_height })
            }
            (Size::One(edge), Some((crop_width, crop_height))) if self.is_clip() => {
                Ok(Resize::ShortestEdge { edge, crop_width, crop_height })
            }
            (Size::Shortest { shortest_edge }, None) => self.convnext(shortest_edge),
            (Size::Both { .. } | Size::One(_), Some(_)) => {
                bail!("a fixed size followed by a centre crop is not supported yet")
            }
        }
    }

    fn crop(&self) -> Option<(u32, u32)> {
        if self.do_center_crop != Some(true) {
            return None;
        }
        match self.crop_size? {
            Size::One(side) | Size::Shortest { shortest_edge: side } => Some((side, side)),
            Size::Both { height, width } => Some((width, height)),
        }
    }

    fn is_clip(&self) -> bool {
        self.image_processor_type.as_deref().is_some_and(|t| t.starts_with("CLIP"))
    }

    /// ConvNeXT's processor: below 384 pixels it resizes to `edge / crop_pct` and crops.
    fn convnext(&self, edge: u32) -> Result<Resize> {
        let Some(crop_pct) = self.crop_pct.filter(|p| *p > 0.1 && *p <= 1.0) else {
            bail!(
                "size.shortest_edge without do_center_crop gives inputs of varying size: not \
                   supported"
            );
        };
        if edge >= 384 {
            return Ok(Resize::Stretch { width: edge, height: edge });
        }
        let larger = (f64::from(edge) / crop_pct) as u32;
        Ok(Resize::ShortestEdge { edge: larger, crop_width: edge, crop_height: edge })
    }

    fn resample(&self) -> Result<Resample> {
        Ok(match self.resample.unwrap_or(2) {
            0 => Resample::Nearest,
            1 => Resample::Lanczos,
            2 => Resample::Bilinear,
            3 => Resample::Bicubic,
            4 => Resample::Box,
            5 => Resample::Hamming,
            other => bail!("resample {other} is not one of PIL's filters (0 to 5)"),
        })
    }

    fn rescale_factor(&self) -> f64 {
        match self.do_rescale {
            Some(false) => 1.0,
            _ => self.rescale_factor.unwrap_or(1.0 / 255.0),
        }
    }

    fn normalisation(&self) -> Result<([f32; 3], [f32; 3])> {
        if self.do_normalize == Some(false) {
            return Ok(([0.0; 3], [1.0; 3]));
        }
        let mean = self.image_mean.context("has no image_mean (and do_normalize is not false)")?;
        let std = self.image_std.context("has no image_std (and do_normalize is not false)")?;
        if !std.iter().all(|s| s.is_finite() && *s > 0.0) || !mean.iter().all(|m| m.is_finite()) {
            bail!("image_mean {mean:?} and image_std {std:?} cannot be divided by");
        }
        Ok((mean, std))
    }
}

impl Resize {
    /// Pixels of the input, width then height.
    pub fn output_size(self) -> (u32, u32) {
        match self {
            Resize::Stretch { width, height } => (width, height),
            Resize::ShortestEdge { crop_width, crop_height, .. }
            | Resize::ThroughJpeg { crop_width, crop_height, .. } => (crop_width, crop_height),
        }
    }

    pub(super) fn checked(self) -> Result<Resize> {
        let (width, height) = self.output_size();
        let fits = |side: u32| (1..=MAX_SIDE).contains(&side);
        match self {
            Resize::ShortestEdge { edge, .. } if edge < width.max(height) => {
                bail!("a crop of {width}x{height} does not fit a shortest edge of {edge}")
            }
            Resize::ThroughJpeg { width: whole_width, height: whole_height, .. }
                if whole_width < width
                    || whole_height < height
                    || !fits(whole_width)
                    || !fits(whole_height) =>
            {
                bail!("a crop of {width}x{height} does not fit {whole_width}x{whole_height} pixels")
            }
            _ if fits(width) && fits(height) => Ok(self),
            _ => bail!("an input of {width}x{height} pixels cannot be right"),
        }
    }
}
