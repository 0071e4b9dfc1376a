//! Accuracy, retrieval and classifier weights, against the official evaluation with float logits.

use recaption::eval::metrics::Recalls;
use recaption::eval::metrics::accuracy;
use recaption::eval::metrics::classifier;
use recaption::eval::metrics::mean_per_class;
use recaption::eval::metrics::recalls;

use super::assert_close;
use super::assert_close_values;
use super::json;
use super::tensors;
use super::values;

/// The expected means were summed up in f32.
const TOLERANCE: f64 = 1e-6;

#[test]
fn accuracies_are_the_official_ones() {
    let (tensors, expected) = (tensors("eval.safetensors"), json("eval.json"));
    for set in ["c10", "c100"] {
        let logits = &tensors[&format!("{set}.logits")];
        let targets: Vec<usize> = values(&tensors[&format!("{set}.target")])
            .iter()
            .map(|&target| target as usize)
            .collect();
        let number = |name: &str| expected[set][name].as_f64().unwrap();
        let found = accuracy(logits, &targets).unwrap();
        assert_close_values(set, &[found], &[number("accuracy")], TOLERANCE);
        let found = mean_per_class(logits, &targets).unwrap();
        assert_close_values(set, &[found], &[number("mean_per_class")], TOLERANCE);
    }
}

#[test]
fn recalls_are_the_official_ones() {
    let expected = json("eval.json")["retrieval"].clone();
    let similarity = &tensors("eval.safetensors")["retrieval.similarity"];
    let captions = expected["captions_per_image"].as_array().unwrap();
    let image_of: Vec<usize> = captions
        .iter()
        .enumerate()
        .flat_map(|(image, count)| vec![image; count.as_u64().unwrap() as usize])
        .collect();
    let Recalls { image_to_text, text_to_image } =
        recalls(similarity, &image_of, &[1, 5, 10]).unwrap();
    for (way, found) in [("image_to_text", image_to_text), ("text_to_image", text_to_image)] {
        let percent: Vec<f64> = found.iter().map(|share| 100.0 * share).collect();
        let expected = ["r1", "r5", "r10"].map(|k| expected[way][k].as_f64().unwrap());
        assert_close_values(way, &percent, &expected, 1e-12);
    }
}

#[test]
fn classifier_weights_are_the_official_ones() {
    let tensors = tensors("eval.safetensors");
    let found = classifier(&tensors["classifier.text_features"]).unwrap();
    let away = assert_close("weights", &found, &tensors["classifier.weights"], TOLERANCE);
    eprintln!("classifier weights: {away:.1e}");
}
