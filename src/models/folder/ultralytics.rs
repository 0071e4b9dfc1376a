//! Detectors as Ultralytics exports them: everything is in the metadata of the one ONNX file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use super::Listing;
use super::onnx;

/// An object detector with the YOLO input and output.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector {
    /// The network.
    pub model: PathBuf,
    /// Name of each class, in order.
    pub labels: Vec<String>,
    /// Input width in pixels.
    pub width: u32,
    /// Input height in pixels.
    pub height: u32,
}

pub(super) fn read(listing: &mut Listing) -> Result<Detector> {
    let model = network(listing)?;
    let metadata = onnx::metadata(&model)?;
    let Some(names) = metadata.get("names") else {
        bail!(
            "there is no config.json that names a kind, and {} has no Ultralytics metadata \
             (names, task, imgsz): the kind of this model cannot be told. A safety classifier is \
             described by a recaption.json (`recaption models pull open-nsfw` brings one). {}",
            model.display(),
            listing.found()
        );
    };
    detector(model.clone(), names, &metadata)
        .with_context(|| format!("metadata of {}", model.display()))
}

fn detector(model: PathBuf, names: &str, metadata: &BTreeMap<String, String>) -> Result<Detector> {
    let task = metadata.get("task").map_or("nothing", String::as_str);
    ensure!(task == "detect", "task {task} is not supported yet, only detect");
    let imgsz = metadata.get("imgsz").context("has no imgsz")?;
    let (height, width) = image_size(imgsz)?;
    Ok(Detector { model, labels: class_names(names)?, width, height })
}

/// The only network of the folder, or `model.onnx` among several.
fn network(listing: &mut Listing) -> Result<PathBuf> {
    if listing.find_network("model").is_some() {
        return listing.network("model");
    }
    let full = |name: &&String| name.ends_with(".onnx") && !name.ends_with("_quantized.onnx");
    let stems: Vec<String> = listing.names.iter().filter(full).cloned().collect();
    match stems.as_slice() {
        [one] => listing.network(one.trim_end_matches(".onnx")),
        [] => listing.network("model"),
        many => bail!(
            "cannot choose between {}: leave one .onnx file, or name it model.onnx",
            many.join(", ")
        ),
    }
}

/// `[height, width]`, or one number for both.
fn image_size(text: &str) -> Result<(u32, u32)> {
    let numbers: Vec<u32> = text
        .trim_matches(['[', ']', '(', ')'])
        .split(',')
        .filter_map(|n| n.trim().parse().ok())
        .collect();
    let (height, width) = match numbers[..] {
        [side] => (side, side),
        [height, width] => (height, width),
        _ => bail!("imgsz {text:?} is not [height, width]"),
    };
    let fits = |side: u32| (32..=8192).contains(&side);
    ensure!(fits(height) && fits(width), "imgsz {text:?} cannot be right");
    Ok((height, width))
}

/// Class names in the form Python prints a dictionary: `{0: 'cat', 1: "dog's bowl"}`.
fn class_names(text: &str) -> Result<Vec<String>> {
    let mut names = BTreeMap::new();
    let mut rest = text.trim().strip_prefix('{').context("names is not a dictionary")?;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\n']);
        if rest.starts_with('}') {
            break;
        }
        let (id, after) = rest.split_once(':').context("names breaks off")?;
        let id: usize =
            id.trim().trim_matches(['"', '\'']).parse().context("a class id of names")?;
        let (name, after) = python_string(after.trim_start())?;
        names.insert(id, name);
        rest = after;
    }
    ensure!(!names.is_empty(), "names is empty");
    ensure!(names.keys().copied().eq(0..names.len()), "the class ids of names have gaps");
    Ok(names.into_values().collect())
}

/// A quoted string at the start of `text`, and what follows it.
fn python_string(text: &str) -> Result<(String, &str)> {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, c)| c).filter(|c| matches!(c, '\'' | '"'));
    let quote = quote.context("a class name of names has no quotes")?;
    let mut name = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            c if c == quote => return Ok((name, &text[at + c.len_utf8()..])),
            c => name.push(c),
        }
    }
    bail!("names breaks off inside a class name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_are_read_as_python_prints_them() {
        let names = class_names(r#"{0: 'cat', 1: "dog's bowl", 2: 'a, b: {c}', 3: 'it\'s'}"#);
        assert_eq!(names.unwrap(), ["cat", "dog's bowl", "a, b: {c}", "it's"]);
        assert_eq!(class_names(r#"{"0": "cat"}"#).unwrap(), ["cat"]);
        for broken in ["", "{", "{0", "{0: 'a", "{0: a}", "{1: 'a'}", "{}", "['a']"] {
            assert!(class_names(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn image_size_is_height_then_width() {
        assert_eq!(image_size("[320, 640]").unwrap(), (320, 640));
        assert_eq!(image_size("640").unwrap(), (640, 640));
        for broken in ["", "[1, 2, 3]", "[0, 0]", "[640, 99999]", "wide"] {
            assert!(image_size(broken).is_err(), "{broken}");
        }
    }
}
