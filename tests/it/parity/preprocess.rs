//! The evaluation transform, against torchvision's over Pillow.

use std::fs;
use std::path::Path;

use image::ImageFormat;
use recaption::decode::CLIP_MEAN;
use recaption::decode::CLIP_STD;
use recaption::decode::ClipTransform;
use recaption::decode::Limits;
use recaption::decode::upright;

use super::folder;
use super::json;
use super::relative_difference;
use super::tensors;
use super::values;

/// The resize is Pillow's to the bit, and so is the division after it: no difference was observed.
/// Another order of operations in f32 may cost this much.
const TOLERANCE: f64 = 1e-6;

fn no_limits() -> Limits {
    Limits { min_side: 1, max_pixels: 1 << 24, max_aspect: f32::MAX }
}

fn largest(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs());
    differences.fold(0.0, f64::max)
}

#[test]
fn the_transform_is_the_official_one() {
    let expected = tensors("preprocess.safetensors");
    let about = json("preprocess.json");
    let transform = ClipTransform { size: about["image_size"].as_u64().unwrap() as u32 };
    for image in about["images"].as_array().unwrap() {
        let file = image["file"].as_str().unwrap();
        let stem = Path::new(file).file_stem().unwrap().to_str().unwrap();
        let bytes = fs::read(folder().join(file)).unwrap();
        let found = transform.of_bytes(&bytes, &no_limits()).unwrap();
        let expected = values(&expected[stem]);
        let away = largest(&found, &expected);
        eprintln!("{file}: {away:.1e}");
        assert!(away <= TOLERANCE, "{file}: {away:.3e} away");
    }
}

/// `tests/data/clip/make_clip.py` made these with Pillow: palettes, alpha, single bits, no resize.
#[test]
fn every_mode_of_a_file_is_resized_as_pillow_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/clip");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".py") || name.ends_with(".expected.png") {
            continue;
        }
        let golden = image::open(path.with_extension("expected.png")).unwrap().into_rgb8();
        let transform = ClipTransform { size: golden.width() };
        let found = transform.of_bytes(&fs::read(&path).unwrap(), &no_limits()).unwrap();
        let expected: Vec<f64> = (0..3)
            .flat_map(|c| golden.pixels().map(move |pixel| (c, pixel.0[c])))
            .map(|(c, ink)| f64::from((f32::from(ink) / 255.0 - CLIP_MEAN[c]) / CLIP_STD[c]))
            .collect();
        let away = largest(&found, &expected);
        assert!(away <= TOLERANCE, "{name}: {away:.3e} away");
        seen += 1;
    }
    assert_eq!(seen, 15);
}

#[test]
fn decoded_pixels_and_encoded_bytes_are_one_picture() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/clip/odd.png");
    let bytes = fs::read(path).unwrap();
    let (pixels, _) = upright(&bytes, &no_limits()).unwrap();
    let transform = ClipTransform { size: 48 };
    let of_bytes = transform.of_bytes(&bytes, &no_limits()).unwrap();
    assert_eq!(transform.of_pixels(&pixels).unwrap(), of_bytes);
}

#[test]
fn a_picture_of_one_colour_is_not_refused_and_bad_bytes_are() {
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(9, 5, image::Rgb([255; 3]))
        .write_to(&mut png, ImageFormat::Png)
        .unwrap();
    let transform = ClipTransform { size: 4 };
    let found = transform.of_bytes(png.get_ref(), &no_limits()).unwrap();
    let white = |c: usize| f64::from((1.0 - CLIP_MEAN[c]) / CLIP_STD[c]);
    let expected: Vec<f64> = (0..3).flat_map(|c| [white(c); 16]).collect();
    let found: Vec<f64> = found.into_iter().map(f64::from).collect();
    assert!(relative_difference(&found, &expected) < TOLERANCE);
    for end in 0..png.get_ref().len() - 12 {
        assert!(transform.of_bytes(&png.get_ref()[..end], &no_limits()).is_err());
    }
    let limits = Limits { min_side: 6, ..no_limits() };
    assert!(transform.of_bytes(png.get_ref(), &limits).is_err());
}
