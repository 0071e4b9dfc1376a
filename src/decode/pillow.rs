//! Pillow's 8-bit resampling, bit for bit, on pictures of any number of channels.
//!
//! `fast_image_resize` is five times as fast and near enough for looking at pictures, but goes down
//! before it goes across, and bytes are rounded and clipped in between: on hard edges it is up to 29
//! levels of 255 away. Two calls of it, across and then down, still are up to 2 away, because its
//! weights have 16 bits; and under alpha one level of a premultiplied colour is `255 / alpha` levels
//! of the colour. This is faster than Pillow itself, and cheaper than decoding a JPEG.
//!
//! Across first, then down, as every Pillow up to 12. (13 goes down first where a picture is more than
//! about twice as high as wide; published numbers are older.) Only what is kept of the resized picture
//! is computed.
//!
//! In Pillow: `src/libImaging/Resample.c`, `Geometry.c` (nearest), `Convert.c` (premultiplication).

use std::ops::Range;

/// Bytes of a picture, row-major (height, width, channels).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Raster {
    /// Pixels.
    pub(super) width: usize,
    /// Pixels.
    pub(super) height: usize,
    /// Bytes of a pixel, 1 to 4; the last one is alpha where there are two or four.
    pub(super) channels: usize,
    /// `width * height * channels` of them.
    pub(super) bytes: Vec<u8>,
}

/// One side of a resized picture.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Side {
    /// Pixels of the whole.
    pub(super) whole: usize,
    /// Those that are wanted.
    pub(super) kept: Range<usize>,
}

/// Antialiased bicubic, alpha like any other channel. Neither side may be empty.
pub(super) fn bicubic(raster: &Raster, columns: &Side, rows: &Side) -> Raster {
    resample(raster, columns, rows, &Kernel { support: 2.0, weight: cubic })
}

/// Antialiased bilinear, as [`bicubic`].
pub(super) fn bilinear(raster: &Raster, columns: &Side, rows: &Side) -> Raster {
    resample(raster, columns, rows, &Kernel { support: 1.0, weight: triangle })
}

fn resample(raster: &Raster, columns: &Side, rows: &Side, kernel: &Kernel) -> Raster {
    let columns = windows(raster.width, columns, kernel);
    let rows = windows(raster.height, rows, kernel);
    match raster.channels {
        1 => vertical(&horizontal::<1>(raster, &columns), &rows),
        2 => vertical(&horizontal::<2>(raster, &columns), &rows),
        3 => vertical(&horizontal::<3>(raster, &columns), &rows),
        _ => vertical(&horizontal::<4>(raster, &columns), &rows),
    }
}

/// The nearest pixel, in Pillow's arithmetic: a coordinate that is summed up, not multiplied.
pub(super) fn nearest(raster: &Raster, columns: &Side, rows: &Side) -> Raster {
    let (columns, rows) = (centres(raster.width, columns), centres(raster.height, rows));
    let mut bytes = Vec::with_capacity(columns.len() * rows.len() * raster.channels);
    for row in &rows {
        for column in &columns {
            let at = (row * raster.width + column) * raster.channels;
            bytes.extend_from_slice(&raster.bytes[at..at + raster.channels]);
        }
    }
    Raster { width: columns.len(), height: rows.len(), channels: raster.channels, bytes }
}

/// Colours times alpha, as Pillow's `RGBa` and `La`.
pub(super) fn premultiply(raster: &mut Raster) {
    each_with_alpha(raster, |ink, alpha| {
        let product = u32::from(ink) * u32::from(alpha) + 128;
        (((product >> 8) + product) >> 8) as u8
    });
}

/// Colours divided by alpha, cut off and not rounded.
pub(super) fn unpremultiply(raster: &mut Raster) {
    each_with_alpha(raster, |ink, alpha| match alpha {
        0 | 255 => ink,
        alpha => (255 * u32::from(ink) / u32::from(alpha)).min(255) as u8,
    });
}

fn each_with_alpha(raster: &mut Raster, change: impl Fn(u8, u8) -> u8) {
    for pixel in raster.bytes.chunks_exact_mut(raster.channels) {
        if let Some((&mut alpha, inks)) = pixel.split_last_mut() {
            inks.iter_mut().for_each(|ink| *ink = change(*ink, alpha));
        }
    }
}

fn centres(from: usize, side: &Side) -> Vec<usize> {
    let step = from as f64 / side.whole as f64;
    let places = std::iter::successors(Some(step * 0.5), |at| Some(at + step));
    let kept = places.skip(side.kept.start).take(side.kept.len());
    kept.map(|at| (at as usize).min(from - 1)).collect()
}

/// Bits after the point of a weight: 32, less 8 of the result and 2 for overshoot.
const PRECISION: u32 = 32 - 8 - 2;

/// What one target pixel is made of.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// How much a source pixel counts, by its distance.
struct Kernel {
    /// Beyond this distance nothing counts.
    support: f64,
    weight: fn(f64) -> f64,
}

fn windows(from: usize, side: &Side, kernel: &Kernel) -> Vec<Window> {
    let scale = from as f64 / side.whole as f64;
    let stretch = scale.max(1.0);
    let support = kernel.support * stretch;
    let window = |target: usize| {
        let centre = (target as f64 + 0.5) * scale;
        let start = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weight = |source| (kernel.weight)((source as f64 - centre + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (start..end).map(weight).collect();
        let total: f64 = weights.iter().sum();
        let fixed = |weight: &f64| {
            let scaled = weight / total * f64::from(1 << PRECISION);
            (scaled + if scaled < 0.0 { -0.5 } else { 0.5 }) as i32
        };
        Window { start, weights: weights.iter().map(fixed).collect() }
    };
    side.kept.clone().map(window).collect()
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys' cubic with a = -0.5.
fn cubic(x: f64) -> f64 {
    let (a, x) = (-0.5, x.abs());
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// The weights of a window sum up to one and their amounts to less than two: 32 bits are enough.
fn rounded(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}

/// The number of channels is known to the compiler, which makes this three times as fast.
fn horizontal<const C: usize>(raster: &Raster, windows: &[Window]) -> Raster {
    let mut bytes = Vec::with_capacity(windows.len() * raster.height * C);
    for row in raster.bytes.chunks_exact(raster.width * C) {
        let (pixels, _) = row.as_chunks::<C>();
        for Window { start, weights } in windows {
            let mut sums = [0; C];
            for (pixel, weight) in pixels[*start..].iter().zip(weights) {
                for (sum, &ink) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(ink) * weight;
                }
            }
            bytes.extend(sums.map(rounded));
        }
    }
    Raster { width: windows.len(), height: raster.height, channels: C, bytes }
}

fn vertical(raster: &Raster, windows: &[Window]) -> Raster {
    let row = raster.width * raster.channels;
    let mut bytes = Vec::with_capacity(row * windows.len());
    let mut sums = vec![0; row];
    for Window { start, weights } in windows {
        sums.fill(0);
        let rows = raster.bytes[start * row..].chunks_exact(row);
        for (inks, weight) in rows.zip(weights) {
            sums.iter_mut().zip(inks).for_each(|(sum, &ink)| *sum += i32::from(ink) * weight);
        }
        bytes.extend(sums.iter().map(|&sum| rounded(sum)));
    }
    Raster { width: raster.width, height: windows.len(), channels: raster.channels, bytes }
}
