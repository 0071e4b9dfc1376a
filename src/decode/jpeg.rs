//! What a picture is after it was written as a JPEG and read again, without the JPEG in between.
//!
//! Packing coefficients into a file loses nothing, so only what loses is done: colours to luma and
//! halved chroma, the transform, rounding to the steps of the quality, and all of it back. To the bit
//! of libjpeg-turbo at its defaults (4:2:0, the accurate integer transform, smooth upsampling), which
//! is what Pillow has; an encoder and a decoder of other makers are some levels away, and that moves
//! what an old classifier says.
//!
//! The transform is that of Loeffler, Ligtenberg and Moschytz (ICASSP 1989) with 13 bits after the
//! point; the colours are those of JFIF.

use anyhow::Result;
use anyhow::ensure;

use super::Pixels;

/// Sides of pictures are multiples of this, so that no block is half outside.
const MULTIPLE: u32 = 16;

/// Steps of the luma at quality 50, row by row (ITU T.81, table K.1).
const LUMA: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

/// Steps of the chroma at quality 50 (table K.2).
const CHROMA: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// The picture as a JPEG of this quality would show it.
///
/// # Errors
/// When a side is no multiple of [`MULTIPLE`], or the pixels do not fill them.
pub(super) fn through(pixels: &Pixels, quality: u8) -> Result<Pixels> {
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let fits = |side: u32| side > 0 && side.is_multiple_of(MULTIPLE);
    ensure!(
        fits(pixels.width) && fits(pixels.height) && pixels.rgb.len() == 3 * width * height,
        "a picture of {width}x{height} pixels cannot pass through a JPEG here: its sides are to be \
         multiples of {MULTIPLE}"
    );
    let [luma, blue, red] = planes(&pixels.rgb);
    let luma = coded(&luma, width, &steps(&LUMA, quality));
    let chroma = steps(&CHROMA, quality);
    let [blue, red] = [blue, red]
        .map(|plane| doubled(&coded(&halved(&plane, width), width / 2, &chroma), width / 2));
    let rgb = luma.iter().zip(&blue).zip(&red).flat_map(|((y, b), r)| colour(*y, *b, *r)).collect();
    Ok(Pixels { rgb, ..*pixels })
}

/// Steps at a quality, as the Independent JPEG Group scales them.
fn steps(at_50: &[u8; 64], quality: u8) -> [i32; 64] {
    let quality = i32::from(quality.clamp(1, 100));
    let percent = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    at_50.map(|step| ((i32::from(step) * percent + 50) / 100).clamp(1, 255))
}

/// Luma, blue and red differences; 16 bits after the point.
fn planes(rgb: &[u8]) -> [Vec<u8>; 3] {
    const MIDDLE: i32 = (128 << 16) + 32767;
    let plane = |r: i32, g: i32, b: i32, add: i32| -> Vec<u8> {
        let (pixels, _) = rgb.as_chunks::<3>();
        let of = |p: &[u8; 3]| r * i32::from(p[0]) + g * i32::from(p[1]) + b * i32::from(p[2]);
        pixels.iter().map(|pixel| ((of(pixel) + add) >> 16) as u8).collect()
    };
    [
        plane(19595, 38470, 7471, 32768),
        plane(-11059, -21709, 32768, MIDDLE),
        plane(32768, -27439, -5329, MIDDLE),
    ]
}

fn colour(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    let (y, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
    let [r, g, b] = [91881 * red, -22554 * blue - 46802 * red, 116_130 * blue]
        .map(|difference| (y + ((difference + 32768) >> 16)).clamp(0, 255) as u8);
    [r, g, b]
}

/// Means of two by two; halves are rounded down and up in turns.
fn halved(plane: &[u8], width: usize) -> Vec<u8> {
    let mut half = Vec::with_capacity(plane.len() / 4);
    for rows in plane.chunks_exact(2 * width) {
        let (upper, lower) = rows.split_at(width);
        let (upper, lower) = (upper.as_chunks::<2>().0, lower.as_chunks::<2>().0);
        for (column, (u, l)) in upper.iter().zip(lower).enumerate() {
            let sum: u16 = u.iter().chain(l).map(|&ink| u16::from(ink)).sum();
            half.push(((sum + 1 + (column as u16 & 1)) >> 2) as u8);
        }
    }
    half
}

/// Twice as wide and high: each pixel three parts of the nearest and one of the next, both ways.
fn doubled(plane: &[u8], width: usize) -> Vec<u8> {
    let rows: Vec<&[u8]> = plane.chunks_exact(width).collect();
    let mut whole = Vec::with_capacity(4 * plane.len());
    for (place, near) in rows.iter().enumerate() {
        for far in [place.saturating_sub(1), (place + 1).min(rows.len() - 1)] {
            let sums = near.iter().zip(rows[far]);
            let sums: Vec<u16> = sums.map(|(n, f)| 3 * u16::from(*n) + u16::from(*f)).collect();
            for (column, sum) in sums.iter().enumerate() {
                let before = sums[column.saturating_sub(1)];
                let after = sums[(column + 1).min(width - 1)];
                whole.push(((3 * sum + before + 8) >> 4) as u8);
                whole.push(((3 * sum + after + 7) >> 4) as u8);
            }
        }
    }
    whole
}

/// A plane after its blocks were transformed, rounded to steps, and transformed back.
fn coded(plane: &[u8], width: usize, steps: &[i32; 64]) -> Vec<u8> {
    let mut after = vec![0; plane.len()];
    for top in (0..plane.len() / width).step_by(8) {
        for left in (0..width).step_by(8) {
            let at = |row: usize| (top + row) * width + left;
            let mut block = [[0; 8]; 8];
            for (row, line) in block.iter_mut().enumerate() {
                let inks = &plane[at(row)..at(row) + 8];
                line.iter_mut().zip(inks).for_each(|(value, ink)| *value = i32::from(*ink) - 128);
            }
            let block = restored(&rounded(&transformed(&block), steps));
            for (row, line) in block.iter().enumerate() {
                after[at(row)..at(row) + 8].copy_from_slice(line);
            }
        }
    }
    after
}

type Block = [[i32; 8]; 8];

/// Bits after the point of the factors, and of values between the two directions.
const POINT: u32 = 13;
const BETWEEN: u32 = 2;

/// Rows, then columns; eight times the transform.
fn transformed(block: &Block) -> Block {
    let across = block.map(|row| forward(row).map(|value| descaled(value, POINT - BETWEEN)));
    let down = |column| forward(column).map(|value| descaled(value, POINT + BETWEEN));
    turned(&turned(&across).map(down))
}

/// To whole steps and back.
fn rounded(block: &Block, steps: &[i32; 64]) -> Block {
    let mut after = *block;
    for (value, step) in after.as_flattened_mut().iter_mut().zip(steps) {
        let eight = 8 * step;
        *value = value.signum() * ((value.abs() + eight / 2) / eight) * step;
    }
    after
}

/// Columns, then rows.
fn restored(block: &Block) -> [[u8; 8]; 8] {
    let down = |column| inverse(column).map(|value| descaled(value, POINT - BETWEEN));
    let level = |value| (descaled(value, POINT + BETWEEN + 3) + 128).clamp(0, 255) as u8;
    turned(&turned(block).map(down)).map(|row| inverse(row).map(level))
}

fn turned(block: &Block) -> Block {
    std::array::from_fn(|row| std::array::from_fn(|column| block[column][row]))
}

fn descaled(value: i32, bits: u32) -> i32 {
    (value + (1 << (bits - 1))) >> bits
}

fn forward(v: [i32; 8]) -> [i32; 8] {
    let [s0, s1, s2, s3] = [v[0] + v[7], v[1] + v[6], v[2] + v[5], v[3] + v[4]];
    let (even, rest) = ([s0 + s3, s1 + s2], [s0 - s3, s1 - s2]);
    let [second, sixth] = turn(rest);
    let [seventh, fifth, third, first] = odd([v[3] - v[4], v[2] - v[5], v[1] - v[6], v[0] - v[7]]);
    let [sum, difference] = [even[0] + even[1], even[0] - even[1]].map(|value| value << POINT);
    [sum, first, second, third, difference, fifth, sixth, seventh]
}

fn inverse(v: [i32; 8]) -> [i32; 8] {
    let [a, b] = turn([v[2], v[6]]);
    let [sum, difference] = [v[0] + v[4], v[0] - v[4]].map(|value| value << POINT);
    let even = [sum + a, difference + b, difference - b, sum - a];
    let [o3, o2, o1, o0] = odd([v[7], v[5], v[3], v[1]]);
    let odd = [o0, o1, o2, o3];
    std::array::from_fn(|at| if at < 4 { even[at] + odd[at] } else { even[7 - at] - odd[7 - at] })
}

/// The rotation of the even half.
fn turn([p, q]: [i32; 2]) -> [i32; 2] {
    let both = (p + q) * 4433;
    [both + p * 6270, both - q * 15137]
}

/// The odd half, which is its own inverse but for order.
fn odd([a, b, c, d]: [i32; 4]) -> [i32; 4] {
    let all = (a + c + b + d) * 9633;
    let (outer, inner) = (-(a + d) * 7373, -(b + c) * 20995);
    let (first, second) = (all - (a + c) * 16069, all - (b + d) * 3196);
    [
        a * 2446 + outer + first,
        b * 16819 + inner + second,
        c * 25172 + inner + first,
        d * 12299 + outer + second,
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fast_image_resize::Resizer;

    use super::*;
    use crate::decode::Limits;
    use crate::decode::View;
    use crate::decode::upright;

    fn picture(path: &str) -> Pixels {
        let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        upright(&bytes, &Limits { min_side: 1, ..Limits::default() }).unwrap().0
    }

    /// The fixtures are made by `tests/data/safety/make_safety.py`.
    #[test]
    fn a_picture_passes_through_as_with_pillow_to_the_bit() {
        let drawing = "examples/demo/images/20_istogramma_architetto_fr_01.png";
        let noise = "tests/data/safety/noise.png";
        for (file, expected, (width, height), quality, (crop_width, crop_height)) in [
            (noise, "noise_75", (64, 64), 75, (64, 64)),
            (noise, "noise_30", (32, 48), 30, (30, 40)),
            (drawing, "drawing_75", (96, 64), 75, (72, 40)),
        ] {
            let quality = Some(quality);
            let view = View::ThroughJpeg { width, height, quality, crop_width, crop_height };
            let seen = view.apply(&picture(file), &mut Resizer::new()).unwrap();
            let wanted = picture(&format!("tests/data/safety/{expected}.expected.png"));
            assert_eq!((seen.width, seen.height), (wanted.width, wanted.height));
            let far = seen.rgb.iter().zip(&wanted.rgb).map(|(a, b)| a.abs_diff(*b));
            assert_eq!(far.max(), Some(0), "{expected}");
        }
    }

    #[test]
    fn other_sides_and_too_few_pixels_are_errors() {
        for (width, height, bytes) in [(16, 15, 720), (0, 16, 0), (16, 16, 767)] {
            assert!(through(&Pixels { width, height, rgb: vec![0; bytes] }, 75).is_err());
        }
    }

    #[test]
    fn plain_ground_stays_what_it_is() {
        for ink in [0, 128, 255] {
            let plain = Pixels { width: 16, height: 32, rgb: vec![ink; 3 * 16 * 32] };
            assert_eq!(through(&plain, 75).unwrap().rgb, plain.rgb);
        }
    }
}
