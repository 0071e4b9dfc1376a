//! Weights in all forms, whole and broken.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use recaption::model::Config;
use recaption::model::checkpoint;
use recaption::model::checkpoint::Dtypes;
use recaption::model::init;

use super::folder;
use super::optional;

fn config() -> Config {
    Config::from_json(&fs::read_to_string(folder().join("config.json")).unwrap()).unwrap()
}

fn error(path: &Path, config: &Config) -> String {
    let loaded = checkpoint::load(path, config, DType::F32, &Device::Cpu);
    format!("{:#}", loaded.err().expect("an error"))
}

fn equal(a: &HashMap<String, Tensor>, b: &HashMap<String, Tensor>) {
    assert_eq!(a.len(), b.len());
    for (name, tensor) in a {
        let numbers = |t: &Tensor| {
            t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(tensor.dtype(), b[name].dtype(), "{name}");
        assert_eq!(numbers(tensor), numbers(&b[name]), "{name}");
    }
}

#[test]
fn a_pickle_and_safetensors_hold_the_same_and_survive_a_round_trip() {
    let tensors = checkpoint::read(&folder().join("model.safetensors")).unwrap();
    checkpoint::check(&tensors, &config()).unwrap();
    if let Some(pickle) = optional("model.pt") {
        equal(&checkpoint::read(&pickle).unwrap(), &tensors);
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("again.safetensors");
    checkpoint::save(&tensors, &config(), Dtypes::Published, &path).unwrap();
    equal(&checkpoint::read(&path).unwrap(), &tensors);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn what_does_not_fit_is_named() {
    let config = Config::preset("tiny").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("model.safetensors");
    let weights = init::initial(&config, 1).unwrap();
    let broken = |change: &dyn Fn(&mut HashMap<String, Tensor>)| {
        let mut weights = weights.clone();
        change(&mut weights);
        candle_core::safetensors::save(&weights, &path).unwrap();
        error(&path, &config)
    };
    let name = "text_model.blocks.1.att.key.weight";
    let missing = broken(&|weights| {
        weights.remove(name);
    });
    assert!(missing.contains(&format!("{name} [64, 64] is missing")), "{missing}");
    let shaped = broken(&|weights| {
        let tensor = weights[name].narrow(0, 0, 32).unwrap().contiguous().unwrap();
        weights.insert(name.to_owned(), tensor);
    });
    assert!(shaped.contains("has shape [32, 64], the configuration says [64, 64]"), "{shaped}");
    let unexpected = broken(&|weights| {
        weights.insert("visual.proj".to_owned(), weights[name].clone());
    });
    assert!(unexpected.contains("visual.proj is unexpected"), "{unexpected}");
    let not_finite = broken(&|weights| {
        let tensor = (&weights[name] * f64::NAN).unwrap();
        weights.insert(name.to_owned(), tensor);
    });
    assert!(not_finite.contains(name) && not_finite.contains("not finite"), "{not_finite}");
}

#[test]
fn truncated_and_foreign_files_are_errors_wherever_they_end() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "model.pt"] {
        let Some(path) = optional(name) else { continue };
        let whole = fs::read(path).unwrap();
        let path = scratch.path().join(name);
        for part in 0..16 {
            fs::write(&path, &whole[..whole.len() * part / 16]).unwrap();
            let error = error(&path, &config());
            assert!(error.contains("is it whole?"), "{name}, {part}/16: {error}");
        }
        fs::write(&path, b"PK\x03\x04 this is no checkpoint at all").unwrap();
        assert!(error(&path, &config()).contains("cannot be read as a checkpoint"));
    }
    // Made by torch of one number that is expanded to 2^40.
    let larger =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/model/larger_than_its_file.pt");
    assert!(error(&larger, &config()).contains("is larger than its file"));
    let missing = scratch.path().join("none.pt");
    assert!(error(&missing, &config()).contains("cannot read"));
    assert!(error(scratch.path(), &config()).contains("is not a file"));
}
