use super::*;

const PREPROCESSOR: &str = r#"{"size": {"height": 32, "width": 48}, "resample": 3,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
const TAGGER: &str = r#"{"architectures": ["ViTForImageClassification"], "model_type": "vit",
    "id2label": {"0": "cat", "1": "dog"}, "problem_type": "multi_label_classification"}"#;
const CAPTIONER: &str = r#"{"model_type": "vision-encoder-decoder", "eos_token_id": 2,
    "decoder": {"bos_token_id": 1}}"#;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn error(files: &[(&str, &str)]) -> String {
    format!("{:#}", ModelFolder::open(folder(files).path()).unwrap_err())
}

fn tagger_with(preprocessor: &str) -> Result<ModelFolder> {
    let files =
        [("config.json", TAGGER), ("preprocessor_config.json", preprocessor), ("model.onnx", "")];
    ModelFolder::open(folder(&files).path())
}

#[test]
fn a_classifier_is_a_tagger_whatever_its_files_say() {
    let opened = tagger_with(PREPROCESSOR).unwrap();
    let Kind::Tagger(tagger) = &opened.kind else { panic!("{:?}", opened.kind) };
    assert_eq!(tagger.labels, ["cat", "dog"]);
    assert_eq!(tagger.activation, Activation::Sigmoid);
    assert_eq!(tagger.preprocessing.resize, Resize::Stretch { width: 48, height: 32 });
    assert_eq!(tagger.preprocessing.resample, Resample::Bicubic);
    let names: Vec<_> = opened.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["config.json", "model.onnx", "preprocessor_config.json"]);
}

#[test]
fn the_label_changes_with_any_file_that_decides_the_output() {
    let hash = |opened: ModelFolder| opened.label.split('@').next_back().unwrap().to_owned();
    let one = hash(tagger_with(PREPROCESSOR).unwrap());
    assert_eq!(one.len(), 8);
    assert_eq!(one, hash(tagger_with(PREPROCESSOR).unwrap()));
    assert_ne!(one, hash(tagger_with(&PREPROCESSOR.replace("0.5", "0.4")).unwrap()));
}

#[test]
fn one_label_of_many_is_the_default_as_in_transformers() {
    let single = TAGGER.replace("multi_label", "single_label");
    let files = [
        ("config.json", single.as_str()),
        ("preprocessor_config.json", PREPROCESSOR),
        ("onnx/model.onnx", ""),
    ];
    let opened = ModelFolder::open(folder(&files).path()).unwrap();
    let Kind::Tagger(tagger) = opened.kind else { panic!() };
    assert_eq!(tagger.activation, Activation::Softmax);
    assert!(tagger.model.ends_with("onnx/model.onnx"));
}

#[test]
fn a_captioner_takes_its_settings_from_three_files() {
    let files = [
        ("config.json", CAPTIONER),
        ("generation_config.json", r#"{"max_length": 28, "no_repeat_ngram_size": 3}"#),
        ("preprocessor_config.json", PREPROCESSOR),
        ("tokenizer.json", "{}"),
        ("encoder_model.onnx", ""),
        ("decoder_model.onnx", ""),
        ("decoder_with_past_model.onnx", ""),
        ("decoder_with_past_model_quantized.onnx", ""),
    ];
    let dir = folder(&files);
    let Kind::Captioner(c) = ModelFolder::open(dir.path()).unwrap().kind else { panic!() };
    assert_eq!((c.generation.start, c.generation.end.as_slice()), (1, [2].as_slice()));
    assert_eq!(c.generation.max_new_tokens, Some(27));
    assert_eq!(c.generation.ignored, ["no_repeat_ngram_size"]);
    let quantized = ModelFolder::open_as(dir.path(), Precision::Quantized).unwrap();
    let Kind::Captioner(c) = quantized.kind else { panic!() };
    let DecoderFiles::Pair { first, next } = c.decoder else { panic!() };
    assert!(first.ends_with("decoder_model.onnx"));
    assert!(next.ends_with("decoder_with_past_model_quantized.onnx"));
}

#[test]
fn an_error_says_what_is_missing_and_what_is_there() {
    let said = error(&[("config.json", TAGGER), ("model.onnx", "")]);
    assert!(said.contains("preprocessor_config.json is missing"), "{said}");
    assert!(said.contains("the folder holds config.json, model.onnx"), "{said}");
    let said = error(&[("config.json", CAPTIONER), ("preprocessor_config.json", PREPROCESSOR)]);
    assert!(said.contains("tokenizer.json is missing"), "{said}");
    let said = error(&[("config.json", &TAGGER[..40])]);
    assert!(said.contains("config.json is not the JSON that was expected (truncated"), "{said}");
    let said = format!("{:#}", ModelFolder::open(Path::new("no/such/folder")).unwrap_err());
    assert!(said.contains("no/such/folder: give the folder"), "{said}");
    assert!(error(&[]).contains("model.onnx is missing; the folder holds no files"));
}

#[test]
fn another_kind_is_refused_by_name() {
    let detr = r#"{"architectures": ["DetrForObjectDetection"], "model_type": "detr"}"#;
    let said = error(&[("config.json", detr), ("model.onnx", "")]);
    assert!(said.contains("not supported yet (config.json says model_type detr"), "{said}");
}

#[test]
fn a_folder_without_any_word_about_its_kind_is_refused() {
    // field 1 (ir_version) = 8, field 7 (graph) = 2 bytes, no metadata
    let said = error(&[("model.onnx", "\u{8}\u{8}\u{3a}\u{2}\u{0}\u{0}")]);
    assert!(said.contains("the kind of this model cannot be told"), "{said}");
    for broken in ["", "\u{3a}\u{7f}truncated graph", "not protobuf at all"] {
        let said = error(&[("model.onnx", broken)]);
        assert!(said.contains("is not a whole ONNX file"), "{broken}: {said}");
    }
}

#[test]
fn a_git_lfs_pointer_is_called_by_its_name() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    let files = [
        ("config.json", TAGGER),
        ("preprocessor_config.json", PREPROCESSOR),
        ("model.onnx", pointer),
    ];
    assert!(error(&files).contains("is a Git LFS pointer"));
}

#[test]
fn geometry_that_does_not_fix_the_input_size_is_refused() {
    let said = |text: &str| format!("{:#}", tagger_with(text).unwrap_err());
    let norm = r#""image_mean": [0,0,0], "image_std": [1,1,1]"#;
    let shortest = format!(r#"{{"size": {{"shortest_edge": 64}}, {norm}}}"#);
    assert!(said(&shortest).contains("varying size"));
    let padded = format!(r#"{{"size": 32, "do_pad": true, {norm}}}"#);
    assert!(said(&padded).contains("varying size"));
    let zero = r#"{"size": 32, "image_mean": [0,0,0], "image_std": [1,0,1]}"#;
    assert!(said(zero).contains("cannot be divided by"));
    let huge = format!(r#"{{"size": 99999, {norm}}}"#);
    assert!(said(&huge).contains("cannot be right"));
    assert!(said(r#"{"size": 32}"#).contains("has no image_mean"));
}

#[test]
fn clip_and_convnext_crop_from_the_middle() {
    let norm = r#""image_mean": [0,0,0], "image_std": [1,1,1]"#;
    let clip = format!(
        r#"{{"size": {{"shortest_edge": 256}}, "do_center_crop": true, "crop_size": 224, {norm}}}"#
    );
    let convnext = format!(r#"{{"size": {{"shortest_edge": 224}}, "crop_pct": 0.875, {norm}}}"#);
    for text in [clip, convnext] {
        let Kind::Tagger(tagger) = tagger_with(&text).unwrap().kind else { panic!() };
        let expected = Resize::ShortestEdge { edge: 256, crop_width: 224, crop_height: 224 };
        assert_eq!(tagger.preprocessing.resize, expected);
    }
}
