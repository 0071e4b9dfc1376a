use proptest::prelude::ProptestConfig;
use proptest::prelude::prop_assert;
use proptest::proptest;
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

fn draws(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn picture(width: u32, height: u32, seed: u64) -> Pixels {
    let (mut draws, count) = (draws(seed), 3 * width as usize * height as usize);
    Pixels { width, height, rgb: (0..count).map(|_| draws.random()).collect() }
}

/// The window stretched to a square by the definition of a triangle filter, in f64: each pixel is the
/// mean of the picture's pixels, weighed by how near they are to its place in the window.
fn twin(pixels: &Pixels, window: Window, side: usize, is_mirrored: bool) -> Vec<f32> {
    let weights = |place: usize, from: u32, length: u32, whole: u32| -> Vec<f64> {
        let scale = f64::from(length) / side as f64;
        let (centre, reach) = (f64::from(from) + (place as f64 + 0.5) * scale, scale.max(1.0));
        let near = |n: u32| (1.0 - (f64::from(n) + 0.5 - centre).abs() / reach).max(0.0);
        let all: Vec<f64> = (0..whole).map(near).collect();
        let sum: f64 = all.iter().sum();
        all.into_iter().map(|weight| weight / sum).collect()
    };
    let ink = |x: u32, y: u32, channel: usize| {
        let at = y as usize * pixels.width as usize + x as usize;
        f64::from(pixels.rgb[3 * at + channel])
    };
    let mut planes = Vec::new();
    for channel in 0..3 {
        for y in 0..side {
            for x in 0..side {
                let x = if is_mirrored { side - 1 - x } else { x };
                let columns = weights(x, window.left, window.width, pixels.width);
                let rows = weights(y, window.top, window.height, pixels.height);
                let of_row = |y: u32| -> f64 {
                    columns.iter().zip(0..).map(|(weight, x)| weight * ink(x, y, channel)).sum()
                };
                let value: f64 = rows.iter().zip(0..).map(|(weight, y)| weight * of_row(y)).sum();
                let level = (value as f32 / 255.0 - CLIP_MEAN[channel]) / CLIP_STD[channel];
                planes.push(level);
            }
        }
    }
    planes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Within two of 256 levels: each of the two passes rounds to bytes and its weights to 16 bits.
    #[test]
    fn a_picture_is_what_its_twin_says(
        width in 1u32..40, height in 1u32..40, side in 1u32..24, seed: u64,
    ) {
        let pixels = picture(width, height, seed);
        let augment = Augment::default();
        let mut out = vec![0.0; 3 * (side * side) as usize];
        augment.apply(&pixels, side, &mut draws(seed), &mut Resizer::new(), &mut out).unwrap();
        let mut same = draws(seed);
        let window = augment.window(width, height, &mut same);
        let is_mirrored = same.random_bool(augment.flip);
        for (out, twin) in out.iter().zip(twin(&pixels, window, side as usize, is_mirrored)) {
            prop_assert!((out - twin).abs() < 2.0 / 255.0 / 0.26, "{out} {twin} {window:?}");
        }
    }

    #[test]
    fn windows_are_inside_and_of_the_size_that_was_asked_for(
        width in 1u32..3000, height in 1u32..3000, seed: u64,
    ) {
        let augment = Augment::default();
        let window = augment.window(width, height, &mut draws(seed));
        prop_assert!(window.width >= 1 && window.left + window.width <= width);
        prop_assert!(window.height >= 1 && window.top + window.height <= height);
        let aspect = f64::from(width) / f64::from(height);
        if (0.9..1.1).contains(&aspect) && width.min(height) > 64 {
            let area = f64::from(window.width * window.height) / f64::from(width * height);
            let aspect = f64::from(window.width) / f64::from(window.height);
            prop_assert!((0.68..=1.0).contains(&area), "{area}");
            prop_assert!((0.8..=1.25).contains(&aspect), "{aspect}");
        }
    }
}

/// What a strip cannot give is not drawn for ever: all of its shorter side, as near as may be.
#[test]
fn a_strip_is_cut_to_the_nearest_aspect() {
    let augment = Augment::default();
    for (width, height, expected) in
        [(400, 100, (125, 100)), (100, 400, (100, 125)), (1, 9, (1, 1))]
    {
        let windows: Vec<Window> =
            (0..50).map(|seed| augment.window(width, height, &mut draws(seed))).collect();
        assert!(windows.iter().all(|window| (window.width, window.height) == expected));
        let lefts: std::collections::BTreeSet<_> =
            windows.iter().map(|window| (window.left, window.top)).collect();
        assert!(lefts.len() > 5, "{lefts:?}");
    }
}

/// 20,000 windows against the definition: area and logarithm of the aspect are uniform, given that the
/// window fits; the place is uniform, too.
#[test]
fn windows_are_distributed_as_the_definition_says() {
    let augment = Augment { min_area: 0.3, ..Augment::default() };
    let (side, count) = (1000u32, 20_000);
    let mut ours = draws(1);
    let windows: Vec<Window> = (0..count).map(|_| augment.window(side, side, &mut ours)).collect();
    let area = |window: &Window| f64::from(window.width * window.height) / 1e6;
    let aspect = |window: &Window| (f64::from(window.width) / f64::from(window.height)).ln();
    let mut twins = Vec::new();
    let mut theirs = draws(2);
    while twins.len() < count {
        let area = 0.3 + 0.7 * theirs.random::<f64>();
        let aspect = (0.8f64.ln() + (1.25f64 / 0.8).ln() * theirs.random::<f64>()).exp();
        if (area * aspect).sqrt() <= 1.0 && (area / aspect).sqrt() <= 1.0 {
            twins.push((area, aspect.ln()));
        }
    }
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / count as f64;
    let areas = (mean(&mut windows.iter().map(area)), mean(&mut twins.iter().map(|t| t.0)));
    assert!((areas.0 - areas.1).abs() < 0.006, "{areas:?}");
    let spread = (
        mean(&mut windows.iter().map(|w| aspect(w).abs())),
        mean(&mut twins.iter().map(|t| t.1.abs())),
    );
    assert!((spread.0 - spread.1).abs() < 0.002, "{spread:?}");
    let lefts = windows.iter().filter(|w| w.width + 9 < side);
    let lefts = lefts.map(|w| f64::from(w.left) / f64::from(side - w.width)).collect::<Vec<_>>();
    let left = lefts.iter().sum::<f64>() / lefts.len() as f64;
    assert!((left - 0.5).abs() < 0.01, "{left}");
}

#[test]
fn half_of_the_pictures_are_mirrored_and_none_if_told() {
    // Black on the left, white on the right.
    let rgb = (0..300).map(|n| if n % 30 < 15 { 0 } else { 255 }).collect();
    let pixels = Pixels { width: 10, height: 10, rgb };
    let mirrored = |flip: f64| {
        let (augment, mut draws) = (Augment { flip, ..Augment::default() }, draws(3));
        let mut is_mirrored = || {
            let mut out = [0.0; 12];
            augment.apply(&pixels, 2, &mut draws, &mut Resizer::new(), &mut out).unwrap();
            out[0] > out[1]
        };
        (0..1000).filter(|_| is_mirrored()).count()
    };
    assert_eq!((mirrored(0.0), mirrored(1.0)), (0, 1000));
    assert!((440..560).contains(&mirrored(0.5)), "{}", mirrored(0.5));
}

#[test]
fn settings_that_no_window_fits_are_refused() {
    let of = |change: fn(&mut Augment)| {
        let mut augment = Augment::default();
        change(&mut augment);
        augment.check().err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(of(|_| ()), "");
    assert!(of(|a| a.min_area = 0.0).contains("areas"));
    assert!(of(|a| a.max_area = 1.5).contains("areas"));
    assert!(of(|a| a.min_aspect = 2.0).contains("aspects"));
    assert!(of(|a| a.flip = f64::NAN).contains("flip"));
    assert!(of(|a| a.min_aspect = f64::NAN).contains("aspects"));
}
