//! Hostile and unusual pictures: each is a picture as defined here, or a reject with its reason.

use std::io::Cursor;
use std::path::Path;

use image::DynamicImage;
use image::ExtendedColorType;
use image::GrayImage;
use image::ImageEncoder;
use image::ImageFormat;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use proptest::prelude::*;
use recaption::decode;
use recaption::decode::Limits;
use recaption::decode::Pixels;
use recaption::sample::Reason;
use recaption::sample::Reject;

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];
const WHITE: [u8; 3] = [255; 3];

const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::WebP,
    ImageFormat::Gif,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
];

fn upright(bytes: &[u8]) -> Result<Pixels, Reject> {
    decode::upright(bytes, &Limits::default()).map(|(pixels, _)| pixels)
}

fn reason(bytes: &[u8]) -> Reason {
    upright(bytes).unwrap_err().reason
}

/// The middle of each quarter: left and right above, left and right below.
fn quarters(pixels: &Pixels) -> [[u8; 3]; 4] {
    let (w, h) = (pixels.width, pixels.height);
    [(w / 4, h / 4), (3 * w / 4, h / 4), (w / 4, 3 * h / 4), (3 * w / 4, 3 * h / 4)].map(
        |(x, y)| {
            let at = 3 * (y * w + x) as usize;
            [pixels.rgb[at], pixels.rgb[at + 1], pixels.rgb[at + 2]]
        },
    )
}

fn assert_close(found: [[u8; 3]; 4], expected: [[u8; 3]; 4], what: &str) {
    let far = |(a, b): (&u8, &u8)| a.abs_diff(*b) > 6;
    let wrong = found.as_flattened().iter().zip(expected.as_flattened()).any(far);
    assert!(!wrong, "{what}: {found:?}, not {expected:?}");
}

fn four(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let colours = [RED, GREEN, BLUE, WHITE];
        image::Rgb(colours[usize::from(2 * x >= width) + 2 * usize::from(2 * y >= height)])
    })
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/decode");
    std::fs::read(folder.join(name)).unwrap()
}

/// The bytes of a small picture, but the header says 60,000 x 60,000, or 16,000 x 16,000 in WebP, which cannot
/// say more.
fn bomb(format: ImageFormat) -> Vec<u8> {
    let mut bytes = encoded(four(40, 32), format);
    let side = 60_000u32;
    match format {
        ImageFormat::Png => {
            bytes[16..20].copy_from_slice(&side.to_be_bytes());
            bytes[20..24].copy_from_slice(&side.to_be_bytes());
            let mut crc = flate2::Crc::new();
            crc.update(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        }
        ImageFormat::Jpeg => {
            let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
            bytes[frame + 5..frame + 7].copy_from_slice(&(side as u16).to_be_bytes());
            bytes[frame + 7..frame + 9].copy_from_slice(&(side as u16).to_be_bytes());
        }
        ImageFormat::Gif => {
            bytes[6..8].copy_from_slice(&(side as u16).to_le_bytes());
            bytes[8..10].copy_from_slice(&(side as u16).to_le_bytes());
        }
        ImageFormat::Bmp => {
            bytes[18..22].copy_from_slice(&side.to_le_bytes());
            bytes[22..26].copy_from_slice(&side.to_le_bytes());
        }
        ImageFormat::WebP => {
            let at = 8 + bytes.windows(4).position(|name| name == b"VP8L").unwrap();
            // One byte of signature, then width - 1 and height - 1 in 14 bits each.
            let rest = u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap()) >> 28 << 28;
            bytes[at + 1..at + 5].copy_from_slice(&(rest | 15_999 << 14 | 15_999).to_le_bytes());
        }
        ImageFormat::Tiff => {
            let directory = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
            let entries = usize::from(u16::from_le_bytes([bytes[directory], bytes[directory + 1]]));
            for at in (0..entries).map(|entry| directory + 2 + 12 * entry) {
                let tag = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
                // Width, height, rows of a strip: with one strip the file is consistent.
                if [256, 257, 278].contains(&tag) {
                    let long =
                        [&4u16.to_le_bytes()[..], &[1, 0, 0, 0], &side.to_le_bytes()].concat();
                    bytes[at + 2..at + 12].copy_from_slice(&long);
                }
            }
        }
        _ => unreachable!(),
    }
    bytes
}

/// The pixels are not there, so a decoder that went on to them would call the picture corrupt.
#[test]
fn a_bomb_is_refused_by_its_header() {
    for format in FORMATS {
        let bytes = bomb(format);
        let reject = upright(&bytes).unwrap_err();
        assert_eq!(reject.reason, Reason::TooManyPixels, "{format:?}: {reject}");
        assert!(bytes.len() < 70_000);
    }
}

#[test]
fn sides_are_judged_by_the_header_too() {
    let refuses = |width, height| reason(&encoded(four(width, height), ImageFormat::Png));
    assert_eq!(refuses(31, 100), Reason::TooSmall);
    assert_eq!(refuses(100, 31), Reason::TooSmall);
    assert_eq!(refuses(33 * 21, 33), Reason::ExtremeAspect);
    assert!(upright(&encoded(four(33 * 20, 33), ImageFormat::Png)).is_ok());
}

/// What comes after the first frame cannot matter: it is not even a frame.
#[test]
fn of_an_animation_only_the_first_frame_is_read() {
    let still = encoded(four(64, 64), ImageFormat::Gif);
    let first = upright(&still).unwrap();
    let mut broken = still.clone();
    let end = broken.pop();
    assert_eq!(end, Some(0x3b));
    broken.extend(b"\x2c and then nothing that is a frame");
    assert_eq!(upright(&broken).unwrap(), first);

    let mut long = still[..still.len() - 1].to_vec();
    let frame = still.windows(2).position(|pair| pair == [0x21, 0xf9]).unwrap();
    for _ in 0..20_000 {
        long.extend(&still[frame..still.len() - 1]);
    }
    long.push(0x3b);
    assert_eq!(upright(&long).unwrap(), first);
}

#[test]
fn animations_are_shown_by_their_first_frame_and_not_stored_as_they_are() {
    for name in ["animated.png", "animated.webp"] {
        let (pixels, encoding) = decode::upright(&fixture(name), &Limits::default()).unwrap();
        assert_eq!(quarters(&pixels), [RED, GREEN, BLUE, WHITE], "{name}");
        assert!(!encoding.as_shown, "{name}");
    }
}

#[test]
fn a_webp_of_many_frames_is_its_first_frame() {
    let bytes = fixture("animated.webp");
    let frame = bytes.windows(4).position(|name| name == b"ANMF").unwrap();
    let size = u32::from_le_bytes(bytes[frame + 4..frame + 8].try_into().unwrap()) as usize;
    let mut long = bytes[..frame].to_vec();
    for _ in 0..20_000 {
        long.extend(&bytes[frame..frame + 8 + size + size % 2]);
    }
    let riff = (long.len() - 8) as u32;
    long[4..8].copy_from_slice(&riff.to_le_bytes());
    assert_eq!(quarters(&upright(&long).unwrap()), [RED, GREEN, BLUE, WHITE]);
}

#[test]
fn what_is_no_raster_picture_is_told_by_its_bytes() {
    let jpeg = encoded(four(40, 32), ImageFormat::Jpeg);
    let cases: [(&[u8], Reason); 16] = [
        (b"", Reason::ImageEmpty),
        (b"<!DOCTYPE html><title>404</title>", Reason::NotAnImage),
        (b"\xef\xbb\xbf \n<html><svg></svg></html>", Reason::NotAnImage),
        (b"<!doctype html><body><svg width='9'>", Reason::NotAnImage),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Reason::NotRaster),
        (b"<?xml version='1.0'?><!DOCTYPE svg><svg/>", Reason::NotRaster),
        (b"<!-- drawn by hand --> <svg/>", Reason::NotRaster),
        (b"{\"error\": \"no <svg here\"}", Reason::NotAnImage),
        (b"%PDF-1.7 and so on", Reason::NotAnImage),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", Reason::UnsupportedFormat),
        (b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0", Reason::UnsupportedFormat),
        (b"\xff\xd8\xff", Reason::Corrupt),
        (b"\x89PNG\r\n\x1a\n", Reason::Corrupt),
        (b"GIF89a/*<script>alert(1)</script>*/=1;", Reason::TooManyPixels),
        (b"RIFF\x10\0\0\0WEBPVP8L", Reason::Corrupt),
        (&[b"\n", &jpeg[..]].concat(), Reason::NotAnImage),
    ];
    for (bytes, expected) in cases {
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(30)]);
        assert_eq!(reason(bytes), expected, "{head}");
    }
}

/// Readers of JPEG stop at its end, so it is still a picture; it is not worth a guess at intent.
#[test]
fn a_picture_with_something_else_behind_it_is_the_picture() {
    for format in FORMATS {
        let bytes = encoded(four(40, 32), format);
        let polyglot = [&bytes[..], b"<html><script>alert(1)</script></html>PK\x03\x04"].concat();
        assert_eq!(upright(&polyglot).unwrap(), upright(&bytes).unwrap(), "{format:?}");
    }
}

#[test]
fn a_truncated_picture_is_corrupt() {
    for format in FORMATS {
        let bytes = encoded(noisy(60, 50), format);
        for share in [10, 50, 90] {
            let cut = &bytes[..bytes.len() * share / 100];
            assert_eq!(reason(cut), Reason::Corrupt, "{format:?} cut at {share}%");
        }
    }
}

fn noisy(width: u32, height: u32) -> RgbImage {
    let noise = |x: u32, y: u32, c: u32| (x * 37 + y * 101 + c * 59 + x * y * 7) as u8;
    RgbImage::from_fn(width, height, |x, y| image::Rgb([0, 1, 2].map(|c| noise(x, y, c))))
}

#[test]
fn every_orientation_is_applied_once() {
    let turned: [[usize; 4]; 8] = [
        [0, 1, 2, 3],
        [1, 0, 3, 2],
        [3, 2, 1, 0],
        [2, 3, 0, 1],
        [0, 2, 1, 3],
        [2, 0, 3, 1],
        [3, 1, 2, 0],
        [1, 3, 0, 2],
    ];
    for (orientation, corners) in (1u8..).zip(turned) {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        let picture = four(96, 64);
        encoder.write_image(&picture, 96, 64, ExtendedColorType::Rgb8).unwrap();
        let (pixels, encoding) = decode::upright(&bytes, &Limits::default()).unwrap();
        let size = if orientation < 5 { (96, 64) } else { (64, 96) };
        assert_eq!((pixels.width, pixels.height), size, "{orientation}");
        let colours = corners.map(|corner| [RED, GREEN, BLUE, WHITE][corner]);
        assert_close(quarters(&pixels), colours, &format!("orientation {orientation}"));
        assert_eq!(encoding.as_shown, orientation == 1);
    }
}

/// A TIFF directory with one entry: tag 0x112, a short.
fn exif(orientation: u8) -> Vec<u8> {
    let entry = [0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0];
    [&b"MM\0\x2a\0\0\0\x08\0\x01"[..], &entry, &[0; 4]].concat()
}

#[test]
fn orientation_without_sense_is_none() {
    for orientation in [0, 9, 255] {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        encoder.write_image(&four(96, 64), 96, 64, ExtendedColorType::Rgb8).unwrap();
        assert_close(quarters(&upright(&bytes).unwrap()), [RED, GREEN, BLUE, WHITE], "none");
    }
}

/// Every depth comes down to 8 bits, every alpha to white; what comes out differs from the bytes
/// then, so they are not stored as they are.
#[test]
fn depths_greys_and_alphas_have_one_meaning() {
    type Case = (&'static str, DynamicImage, [[u8; 3]; 2], bool);
    fn halves<P: image::Pixel>(left: P, right: P) -> image::ImageBuffer<P, Vec<P::Subpixel>> {
        image::ImageBuffer::from_fn(40, 40, |x, _| if x < 20 { left } else { right })
    }
    use image::{Luma, LumaA, Rgb, Rgba};
    let cases: [Case; 9] = [
        ("grey", halves(Luma([10u8]), Luma([200])).into(), [[10; 3], [200; 3]], true),
        ("grey, 16 bits", halves(Luma([257u16]), Luma([65_535])).into(), [[1; 3], [255; 3]], false),
        (
            "grey, alpha",
            halves(LumaA([0u8, 128]), LumaA([9, 255])).into(),
            [[127; 3], [9; 3]],
            false,
        ),
        (
            "grey, alpha, 16",
            halves(LumaA([0u16, 0]), LumaA([2570, 65_535])).into(),
            [WHITE, [10; 3]],
            false,
        ),
        ("16 bits", halves(Rgb([65_535u16, 0, 0]), Rgb([0, 0, 65_535])).into(), [RED, BLUE], false),
        (
            "alpha",
            halves(Rgba([255u8, 0, 0, 128]), Rgba([0, 0, 255, 0])).into(),
            [[255, 127, 127], WHITE],
            false,
        ),
        (
            "alpha, 16",
            halves(Rgba([65_535u16, 0, 0, 32_896]), Rgba([0, 0, 0, 0])).into(),
            [[255, 127, 127], WHITE],
            false,
        ),
        (
            "alpha that hides nothing",
            halves(Rgba([255u8, 0, 0, 255]), Rgba([0, 0, 255, 255])).into(),
            [RED, BLUE],
            true,
        ),
        ("colour", halves(Rgb([255u8, 0, 0]), Rgb([0, 0, 255])).into(), [RED, BLUE], true),
    ];
    for (name, picture, [left, right], as_shown) in cases {
        let bytes = encoded(picture, ImageFormat::Png);
        let (pixels, encoding) = decode::upright(&bytes, &Limits::default()).unwrap();
        assert_eq!(quarters(&pixels), [left, right, left, right], "{name}");
        assert_eq!(encoding.as_shown, as_shown, "{name}");
    }
}

#[test]
fn palettes_and_colour_keys_are_what_pillow_makes_of_them() {
    let quarters = |name| quarters(&upright(&fixture(name)).unwrap());
    assert_eq!(quarters("palette.png"), [RED, GREEN, BLUE, WHITE]);
    assert_eq!(quarters("palette_blue_transparent.png"), [RED, GREEN, WHITE, WHITE]);
    assert_eq!(quarters("grey_170_transparent.png"), [[0; 3], [85; 3], WHITE, WHITE]);
}

#[test]
fn the_colours_of_print_are_what_pillow_makes_of_them() {
    let (pixels, encoding) = decode::upright(&fixture("cmyk.jpg"), &Limits::default()).unwrap();
    assert_close(quarters(&pixels), [RED, GREEN, BLUE, WHITE], "CMYK");
    assert!(!encoding.as_shown, "few readers take it");
}

#[test]
fn one_colour_and_full_transparency_are_blank() {
    let grey = GrayImage::from_pixel(40, 40, image::Luma([7]));
    assert_eq!(reason(&encoded(grey, ImageFormat::Png)), Reason::Blank);
    let clear = image::RgbaImage::from_fn(40, 40, |x, y| image::Rgba([x as u8, y as u8, 0, 0]));
    assert_eq!(reason(&encoded(clear, ImageFormat::Png)), Reason::Blank);
}

/// Small pictures of every format and kind, to be damaged.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<(String, Vec<u8>)> = FORMATS
        .map(|format| {
            (
                format!("{format:?}"),
                encoded(DynamicImage::from(noisy(33, 32)).blur(2.0).into_rgb8(), format),
            )
        })
        .into();
    for name in ["cmyk.jpg", "animated.png", "animated.webp", "palette_blue_transparent.png"] {
        seeds.push((name.to_owned(), fixture(name)));
    }
    seeds
}

/// Whatever it is, it is a whole picture or a reject, and the decoder did not have to be caught.
fn assert_no_panic(bytes: &[u8], what: &str) {
    match upright(bytes) {
        Ok(pixels) => {
            let size = 3 * pixels.width as usize * pixels.height as usize;
            assert_eq!(pixels.rgb.len(), size, "{what}");
        }
        Err(reject) => assert!(!reject.detail.contains("panicked"), "{what}: {reject}"),
    }
}

#[test]
fn no_flipped_byte_and_no_cut_makes_a_decoder_panic() {
    for (name, bytes) in seeds() {
        // Raw pixels are not worth a decoding each.
        let step = (bytes.len() / 700).max(1);
        for at in (0..bytes.len()).filter(|at| *at < 200 || at % step == 0) {
            for flip in [0xff, 0x01, 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                assert_no_panic(&damaged, &format!("{name}, byte {at} ^ {flip:#x}"));
            }
            assert_no_panic(&bytes[..at], &format!("{name} cut at {at}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_damage_makes_a_decoder_panic(
        seed in 0usize..10,
        writes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        moved in any::<(prop::sample::Index, prop::sample::Index, u8)>(),
    ) {
        thread_local! {
            static SEEDS: Vec<(String, Vec<u8>)> = seeds();
        }
        let (name, mut bytes) = SEEDS.with(|seeds| seeds[seed].clone());
        for (at, value) in writes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // A piece of the file once more, somewhere else.
        let (from, to) = (moved.0.index(bytes.len()), moved.1.index(bytes.len()));
        let piece: Vec<u8> = bytes[from..].iter().take(usize::from(moved.2)).copied().collect();
        bytes.splice(to..to, piece);
        assert_no_panic(&bytes, &name);
    }
}
