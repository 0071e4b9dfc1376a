//! From pixels of the right size to the numbers a network takes.

use anyhow::Result;
use anyhow::ensure;

use crate::decode::Filter;
use crate::decode::Pixels;
use crate::decode::View;
use crate::models::folder::Channels;
use crate::models::folder::Layout;
use crate::models::folder::Preprocessing;
use crate::models::folder::Resample;
use crate::models::folder::Resize;

/// Ultralytics pads with this grey.
const LETTERBOX_FILL: u8 = 114;

/// What a network wants to see: a view of the picture, and a value for each byte of it.
#[derive(Clone, PartialEq)]
pub(crate) struct Input {
    pub(crate) view: View,
    pub(crate) width: usize,
    pub(crate) height: usize,
    channels: Channels,
    layout: Layout,
    /// By channel, in their order, and byte: rescaling and normalisation done once for all 256 values.
    table: Box<[[f32; 256]; 3]>,
}

impl Input {
    /// The input that a `preprocessor_config.json` asks for.
    pub(crate) fn of(preprocessing: &Preprocessing) -> Input {
        let filter = filter(preprocessing.resample);
        let (width, height) = preprocessing.resize.output_size();
        let view = match preprocessing.resize {
            Resize::Stretch { width, height } => View::Stretch { width, height, filter },
            Resize::ShortestEdge { edge, crop_width, crop_height } => {
                View::ShortestEdge { edge, crop_width, crop_height, filter }
            }
            Resize::ThroughJpeg { width, height, quality, crop_width, crop_height } => {
                View::ThroughJpeg { width, height, quality, crop_width, crop_height }
            }
        };
        let table = table(preprocessing.rescale_factor, preprocessing.mean, preprocessing.std);
        let Preprocessing { channels, layout, .. } = *preprocessing;
        let (width, height) = (width as usize, height as usize);
        Input { view, width, height, channels, layout, table }
    }

    /// The input of a YOLO detector: letterboxed, 0 to 1.
    pub(crate) fn letterbox(width: u32, height: u32) -> Input {
        let view = View::Letterbox { width, height, fill: LETTERBOX_FILL };
        let table = table(1.0 / 255.0, [0.0; 3], [1.0; 3]);
        let (width, height) = (width as usize, height as usize);
        Input { view, width, height, channels: Channels::Rgb, layout: Layout::Nchw, table }
    }

    /// The shape of one picture as the network takes it.
    pub(crate) fn shape(&self) -> [usize; 3] {
        match self.layout {
            Layout::Nchw => [3, self.height, self.width],
            Layout::Nhwc => [self.height, self.width, 3],
        }
    }

    /// Appends one picture.
    ///
    /// # Shapes
    /// `pixels` is `[height, width, 3]` bytes, what is appended has [`Input::shape`].
    pub(crate) fn append(&self, pixels: &Pixels, out: &mut Vec<f32>) -> Result<()> {
        let size = (pixels.width as usize, pixels.height as usize);
        ensure!(
            size == (self.width, self.height) && pixels.rgb.len() == 3 * self.width * self.height,
            "a view of {}x{} pixels was given where {}x{} was asked for",
            size.0,
            size.1,
            self.width,
            self.height
        );
        let places = match self.channels {
            Channels::Rgb => [0, 1, 2],
            Channels::Bgr => [2, 1, 0],
        };
        let planes = || places.iter().zip(self.table.iter());
        let (rgb, _) = pixels.rgb.as_chunks::<3>();
        match self.layout {
            Layout::Nchw => {
                for (&place, table) in planes() {
                    out.extend(rgb.iter().map(|pixel| table[usize::from(pixel[place])]));
                }
            }
            Layout::Nhwc => {
                let number = |pixel: &[u8; 3], place: usize, table: &[f32; 256]| {
                    table[usize::from(pixel[place])]
                };
                out.extend(rgb.iter().flat_map(|pixel| {
                    planes().map(move |(&place, table)| number(pixel, place, table))
                }));
            }
        }
        Ok(())
    }
}

/// The order of operations and roundings is that of transformers: the product in f64, rounded to
/// f32, then the mean and the standard deviation in f32.
fn table(factor: f64, mean: [f32; 3], std: [f32; 3]) -> Box<[[f32; 256]; 3]> {
    let mut table = Box::new([[0.0; 256]; 3]);
    for (channel, values) in table.iter_mut().enumerate() {
        for (byte, value) in values.iter_mut().enumerate() {
            *value = ((byte as f64 * factor) as f32 - mean[channel]) / std[channel];
        }
    }
    table
}

fn filter(resample: Resample) -> Filter {
    match resample {
        Resample::Nearest => Filter::Nearest,
        Resample::Lanczos => Filter::Lanczos3,
        Resample::Bilinear => Filter::Bilinear,
        Resample::Bicubic => Filter::Bicubic,
        Resample::Box => Filter::Box,
        Resample::Hamming => Filter::Hamming,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blue_comes_first_and_pixels_stay_together_where_that_is_asked_for() {
        let preprocessing = Preprocessing {
            resize: Resize::Stretch { width: 2, height: 1 },
            resample: Resample::Bilinear,
            rescale_factor: 1.0,
            mean: [104.0, 117.0, 123.0],
            std: [1.0, 1.0, 2.0],
            channels: Channels::Bgr,
            layout: Layout::Nhwc,
        };
        let input = Input::of(&preprocessing);
        let mut out = Vec::new();
        let pixels = Pixels { width: 2, height: 1, rgb: vec![125, 118, 104, 123, 117, 105] };
        input.append(&pixels, &mut out).unwrap();
        assert_eq!((input.shape(), out), ([1, 2, 3], vec![0.0, 1.0, 1.0, 1.0, 0.0, 0.0]));
        let planes = Input::of(&Preprocessing { layout: Layout::Nchw, ..preprocessing });
        let mut out = Vec::new();
        planes.append(&pixels, &mut out).unwrap();
        assert_eq!((planes.shape(), out), ([3, 1, 2], vec![0.0, 1.0, 1.0, 0.0, 1.0, 0.0]));
    }

    #[test]
    fn pixels_become_planes() {
        let input = Input::letterbox(2, 1);
        let pixels = Pixels { width: 2, height: 1, rgb: vec![255, 0, 51, 0, 255, 102] };
        let mut out = Vec::new();
        input.append(&pixels, &mut out).unwrap();
        assert_eq!(out, [1.0, 0.0, 0.0, 1.0, 0.2, 0.4]);
        let wrong = Pixels { width: 1, height: 1, rgb: vec![0; 3] };
        assert!(input.append(&wrong, &mut out).is_err());
    }
}
