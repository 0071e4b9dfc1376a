//! What a picture is recognised by: a hash of 64 bits and a thumbnail.

use anyhow::Result;
use fast_image_resize::Resizer;

use crate::decode::Filter;
use crate::decode::Pixels;
use crate::decode::View;

/// Side of a thumbnail in pixels. At 32 a drawing with sharp edges is no longer found when it was
/// made smaller by a fifth; at 16 a third more star polygons are taken for each other.
const SIDE: usize = 24;

/// Side of the blocks in which thumbnails are compared, in pixels.
const BLOCK: usize = 3;

const BLOCKS: usize = (SIDE / BLOCK) * (SIDE / BLOCK);

/// Bytes of one block: its pixels lie together, so that a comparison can stop after few of them.
const BLOCK_BYTES: usize = BLOCK * BLOCK * 3;

/// Contrast below which a picture is as good as blank, in grey levels: no reason to find that two
/// of them differ.
const LEAST_CONTRAST: f32 = 1.0;

/// Width over height may differ by this much between copies; a side of 32 that was rounded is 3%
/// off.
const MAX_STRETCH: f32 = 1.04;

/// What a picture is recognised by.
#[derive(Clone, Debug)]
pub struct Print {
    /// 8 rows of 8 bits, most significant first; a bit says whether it gets brighter to the right.
    /// (Hashes of frequencies were tried: on clip art, which is often symmetric, they change in
    /// twenty bits when a picture is only saved again.)
    pub phash: u64,
    /// Tells apart what the hash does not.
    pub thumb: Thumb,
}

impl Print {
    /// The print of an upright picture.
    ///
    /// # Errors
    /// When the pixels do not fill their width and height.
    pub fn of(pixels: &Pixels, resizer: &mut Resizer) -> Result<Print> {
        let stretch = |width, height| View::Stretch { width, height, filter: Filter::Box };
        let small = stretch(SIDE as u32, SIDE as u32).apply(pixels, resizer)?;
        let smaller = stretch(9, 8).apply(&small, resizer)?;
        let thumb = Thumb::new(&small, pixels.width, pixels.height);
        Ok(Print { phash: gradients(&smaller), thumb })
    }
}

fn gradients(pixels: &Pixels) -> u64 {
    let luma: Vec<u32> = pixels
        .rgb
        .chunks_exact(3)
        .map(|p| 299 * u32::from(p[0]) + 587 * u32::from(p[1]) + 114 * u32::from(p[2]))
        .collect();
    let pairs = luma.chunks_exact(9).flat_map(|row| row.windows(2));
    // Rounded, so that what JPEG does to a plain ground is no gradient.
    pairs.fold(0, |bits, pair| bits << 1 | u64::from(pair[1] / 1000 > pair[0] / 1000))
}

/// A small copy of a picture, 1.7 kB.
#[derive(Clone, Debug)]
pub struct Thumb {
    /// Block after block, each row after row, RGB.
    rgb: Box<[u8; BLOCKS * BLOCK_BYTES]>,
    /// Mean square of the distances from the mean colour.
    variance: f32,
    /// Of the picture, pixels.
    width: u32,
    /// Of the picture, pixels.
    height: u32,
}

impl Thumb {
    /// `small` is `SIDE` by `SIDE`.
    fn new(small: &Pixels, width: u32, height: u32) -> Thumb {
        let mut rgb = Box::new([0; BLOCKS * BLOCK_BYTES]);
        for (i, pixel) in small.rgb.chunks_exact(3).enumerate() {
            let (x, y) = (i % SIDE, i / SIDE);
            let block = y / BLOCK * (SIDE / BLOCK) + x / BLOCK;
            let at = block * BLOCK_BYTES + 3 * (y % BLOCK * BLOCK + x % BLOCK);
            rgb[at..at + 3].copy_from_slice(pixel);
        }
        Thumb { variance: variance(&rgb[..]), rgb, width, height }
    }

    /// How far two pictures differ in the block where they differ most (root of the mean square),
    /// as a share of their contrast; `None` when it is more than `most`, or the shapes differ.
    /// Pictures of the same size may differ half as much, because nothing was resampled: this is
    /// what tells most star polygons of openclipart apart, and maps with and without borders.
    ///
    /// The mean over the whole picture was tried: it finds that a smiley with a tear is the smiley
    /// without. A difference in grey levels was tried: it finds that all small things on white are
    /// one.
    pub fn difference(&self, other: &Thumb, most: f32) -> Option<f32> {
        let stretch = self.aspect() / other.aspect();
        if !(1.0 / MAX_STRETCH..=MAX_STRETCH).contains(&stretch) {
            return None;
        }
        let same_size = (self.width, self.height) == (other.width, other.height);
        let most = if same_size { most / 2.0 } else { most };
        let contrast = ((self.variance + other.variance) / 2.0).sqrt().max(LEAST_CONTRAST);
        let cap = most * contrast;
        let mut worst = 0f32;
        let blocks = self.rgb.chunks_exact(BLOCK_BYTES).zip(other.rgb.chunks_exact(BLOCK_BYTES));
        for (ours, theirs) in blocks {
            worst = worst.max(root_mean_square(ours, theirs));
            if worst > cap {
                return None;
            }
        }
        Some(worst / contrast)
    }

    /// Width over height of the picture.
    fn aspect(&self) -> f32 {
        self.width as f32 / self.height as f32
    }
}

fn root_mean_square(ours: &[u8], theirs: &[u8]) -> f32 {
    let square = |(&a, &b): (&u8, &u8)| u32::from(a.abs_diff(b)).pow(2);
    let sum: u32 = ours.iter().zip(theirs).map(square).sum();
    (sum as f32 / BLOCK_BYTES as f32).sqrt()
}

/// Over the channels, each about its own mean.
fn variance(rgb: &[u8]) -> f32 {
    let count = (rgb.len() / 3) as f32;
    let of_channel = |channel: usize| {
        let values = || rgb.iter().skip(channel).step_by(3).map(|&v| f32::from(v));
        let mean = values().sum::<f32>() / count;
        values().map(|v| (v - mean).powi(2)).sum::<f32>() / count
    };
    (0..3).map(of_channel).sum::<f32>() / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, at: impl Fn(u32, u32) -> [u8; 3]) -> Print {
        let rgb = (0..width * height).flat_map(|i| at(i % width, i / width)).collect();
        Print::of(&Pixels { width, height, rgb }, &mut Resizer::new()).unwrap()
    }

    #[test]
    fn the_hash_reads_from_left_to_right_and_from_top_to_bottom() {
        let brighter = picture(90, 80, |x, _| [2 * x as u8; 3]);
        assert_eq!(brighter.phash, u64::MAX);
        let darker = picture(90, 80, |x, _| [200 - 2 * x as u8; 3]);
        assert_eq!(darker.phash, 0);
        let above = picture(90, 80, |x, y| if y < 10 { [2 * x as u8; 3] } else { [9; 3] });
        assert_eq!(above.phash, 0xff << 56);
    }

    #[test]
    fn the_size_of_a_picture_is_no_difference_but_its_shape_is() {
        let disc = |x: f32, y: f32| {
            if (x - 0.5).hypot(y - 0.5) < 0.3 { [200, 30, 30] } else { [255; 3] }
        };
        let at = |width: u32, height: u32| {
            picture(width, height, |x, y| disc(x as f32 / width as f32, y as f32 / height as f32))
        };
        let (large, small, wide) = (at(512, 512), at(256, 256), at(512, 256));
        assert!(large.thumb.difference(&small.thumb, 0.1).is_some());
        assert_eq!(large.thumb.difference(&wide.thumb, 1.0), None);
    }

    /// Two small things on white differ by less than one grey level in the mean.
    #[test]
    fn small_things_on_white_are_told_apart() {
        let thing = |left: u32, colour: [u8; 3]| {
            picture(256, 256, move |x, y| {
                if (left..left + 12).contains(&x) && (40..52).contains(&y) {
                    colour
                } else {
                    [255; 3]
                }
            })
        };
        let black = thing(40, [0; 3]);
        assert_eq!(black.thumb.difference(&black.thumb, 0.0), Some(0.0));
        assert_eq!(black.thumb.difference(&thing(52, [0; 3]).thumb, 0.5), None);
        assert_eq!(black.thumb.difference(&thing(40, [220, 0, 0]).thumb, 0.5), None);
    }
}
