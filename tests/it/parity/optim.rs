//! The schedule and the optimizer, against torch's `OneCycleLR`, `clip_grad_norm_` and `AdamW`.

use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use candle_core::Var;
use candle_core::backprop::GradStore;
use recaption::train::optim::AdamW;
use recaption::train::optim::AdamWConfig;
use recaption::train::optim::Path;
use recaption::train::schedule::OneCycle;
use recaption::train::schedule::Rates;
use serde_json::Value;

use super::assert_close;
use super::assert_close_values;
use super::json;
use super::tensors;
use super::values;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn cycle(about: &Value) -> OneCycle {
    OneCycle {
        max_lr: number(&about["max_lr"]),
        total_steps: about["total_steps"].as_u64().unwrap() as usize,
        pct_start: number(&about["pct_start"]),
    }
}

#[test]
fn the_schedule_is_torchs() {
    for run in json("lr_schedule.json")["runs"].as_array().unwrap() {
        let cycle = cycle(run);
        let mut seen = 0;
        for (_, rows) in run.as_object().unwrap().iter().filter(|(key, _)| key.contains("steps")) {
            for row in rows.as_array().into_iter().flatten() {
                let step = row[0].as_u64().unwrap() as usize;
                let Rates { lr, beta1 } = cycle.at(step);
                assert_close_values(&format!("lr {step}"), &[lr], &[number(&row[1])], 1e-9);
                assert_close_values(&format!("beta1 {step}"), &[beta1], &[number(&row[2])], 1e-9);
                seen += 1;
            }
        }
        assert!(seen >= 50, "only {seen} steps");
    }
}

/// Gradients that are given, not computed: the gradient of (var * given) is `given`.
fn gradients(vars: &[(String, Var)], given: &[Tensor]) -> GradStore {
    let products = vars
        .iter()
        .zip(given)
        .map(|((_, var), given)| (var.as_tensor() * given).unwrap().sum_all().unwrap());
    products.reduce(|sum, product| (sum + product).unwrap()).unwrap().backward().unwrap()
}

/// Observed: 4e-8 in f64 (the fixtures are rounded to f32), 2.1e-7 in f32.
#[test]
fn the_optimizer_is_torchs() {
    let about = json("optimizer.json");
    let all = tensors("optimizer.safetensors");
    let config = AdamWConfig {
        beta2: number(&about["beta2"]),
        eps: number(&about["eps"]),
        weight_decay: number(&about["weight_decay"]),
        max_norm: number(&about["clip_norm"]),
    };
    let mut names: Vec<&str> =
        all.keys().filter_map(|key| key.strip_prefix("p.")?.strip_suffix(".init")).collect();
    names.sort_unstable();
    assert!(!names.is_empty());
    for (dtype, tolerance) in [(DType::F64, 1e-6), (DType::F32, 2e-6)] {
        for path in [Path::Fused, Path::Ops] {
            let tensor = |key: String| all[&key].to_dtype(dtype).unwrap();
            let vars: Vec<(String, Var)> = names
                .iter()
                .map(|name| {
                    let initial = tensor(format!("p.{name}.init"));
                    ((*name).to_owned(), Var::from_tensor(&initial).unwrap())
                })
                .collect();
            let mut optimizer = AdamW::with_path(vars.clone(), config, path).unwrap();
            for log in about["log"].as_array().unwrap() {
                let step = log["step"].as_u64().unwrap() as usize;
                let rates = cycle(&about).at(step);
                assert_close_values("lr", &[rates.lr], &[number(&log["lr"])], 1e-9);
                let given: Vec<Tensor> =
                    names.iter().map(|name| tensor(format!("g.{name}.step{step}"))).collect();
                let norm = optimizer.step(&gradients(&vars, &given), rates).unwrap();
                let what = format!("{dtype:?} {path:?} step {step}");
                let expected = number(&log["grad_norm"]);
                assert_close_values(&format!("{what} norm"), &[norm], &[expected], 1e-6);
                for (name, var) in &vars {
                    let expected = &all[&format!("p.{name}.step{step}")];
                    let away = assert_close(&format!("{what} {name}"), var, expected, tolerance);
                    eprintln!("{what} {name}: {away:.1e}");
                }
            }
        }
    }
}

/// Large enough for several blocks of several threads, and not a multiple of anything.
const LONG: usize = 70_001;

fn some_vars(dtype: DType) -> Vec<(String, Var)> {
    let wave = |n: usize, shape: &[usize]| {
        let numbers: Vec<f64> = (0..n).map(|i| (i as f64 * 0.37).sin()).collect();
        let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap();
        Var::from_tensor(&tensor.to_dtype(dtype).unwrap()).unwrap()
    };
    vec![
        ("long".to_owned(), wave(LONG, &[LONG])),
        ("matrix".to_owned(), wave(35, &[5, 7])),
        ("scalar".to_owned(), wave(1, &[])),
    ]
}

/// Of step `step`, of all lengths: small ones, and every third time one that is clipped.
fn some_gradients(vars: &[(String, Var)], step: usize) -> GradStore {
    let given: Vec<Tensor> = vars
        .iter()
        .map(|(_, var)| {
            let scale = if step % 3 == 2 { 1.0 } else { 1e-3 };
            let wave =
                ((var.as_tensor() * (step as f64 + 3.0)).unwrap().cos().unwrap() * scale).unwrap();
            wave.detach()
        })
        .collect();
    gradients(vars, &given)
}

const CYCLE: OneCycle = OneCycle { max_lr: 1e-2, total_steps: 12, pct_start: 0.25 };

fn train(optimizer: &mut AdamW, vars: &[(String, Var)], steps: std::ops::Range<usize>) {
    for step in steps {
        optimizer.step(&some_gradients(vars, step), CYCLE.at(step)).unwrap();
    }
}

fn bits(vars: &[(String, Var)]) -> Vec<u64> {
    vars.iter().flat_map(|(_, var)| values(var)).map(f64::to_bits).collect()
}

#[test]
fn the_fused_step_is_the_plain_one() {
    for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 2e-6)] {
        let (fused, plain) = (some_vars(dtype), some_vars(dtype));
        let config = AdamWConfig::default();
        let mut one = AdamW::with_path(fused.clone(), config, Path::Fused).unwrap();
        let mut other = AdamW::with_path(plain.clone(), config, Path::Ops).unwrap();
        for step in 0..7 {
            let rates = CYCLE.at(step);
            let norm = one.step(&some_gradients(&fused, step), rates).unwrap();
            let expected = other.step(&some_gradients(&plain, step), rates).unwrap();
            assert_close_values("norm", &[norm], &[expected], tolerance);
        }
        for ((name, fused), (_, plain)) in fused.iter().zip(&plain) {
            assert_close(&format!("{dtype:?} {name}"), fused, plain, tolerance);
        }
    }
}

#[test]
fn a_training_that_was_stopped_goes_on_to_the_same_bits() {
    for path in [Path::Fused, Path::Ops] {
        let config = AdamWConfig::default();
        let whole = some_vars(DType::F32);
        train(&mut AdamW::with_path(whole.clone(), config, path).unwrap(), &whole, 0..9);

        let vars = some_vars(DType::F32);
        let mut first = AdamW::with_path(vars.clone(), config, path).unwrap();
        train(&mut first, &vars, 0..4);
        let state = first.state().unwrap();
        let kept: Vec<(String, Var)> = vars
            .iter()
            .map(|(name, var)| (name.clone(), Var::from_tensor(&var.copy().unwrap()).unwrap()))
            .collect();
        // What was taken out does not change with the training it was taken from.
        train(&mut first, &vars, 4..6);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.safetensors");
        candle_core::safetensors::save(&state, &file).unwrap();
        let state = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
        let mut second = AdamW::with_path(kept.clone(), config, path).unwrap();
        second.load_state(&state).unwrap();
        assert_eq!(second.steps(), 4);
        train(&mut second, &kept, 4..9);
        assert_eq!(bits(&kept), bits(&whole), "{path:?}");
    }
}

#[test]
fn a_norm_that_is_not_finite_is_told_and_changes_nothing() {
    for path in [Path::Fused, Path::Ops] {
        let vars = some_vars(DType::F32);
        let before = bits(&vars);
        let mut optimizer = AdamW::with_path(vars.clone(), AdamWConfig::default(), path).unwrap();
        for bad in [f64::NAN, f64::INFINITY] {
            let given: Vec<Tensor> =
                vars.iter().map(|(_, var)| var.affine(0.0, bad).unwrap().detach()).collect();
            let norm = optimizer.step(&gradients(&vars, &given), CYCLE.at(0)).unwrap();
            assert!(!norm.is_finite());
        }
        assert_eq!((optimizer.steps(), bits(&vars)), (0, before));
    }
}

#[test]
fn what_does_not_fit_is_named_and_changes_nothing() {
    let vars = some_vars(DType::F32);
    let before = bits(&vars);
    let mut optimizer = AdamW::new(vars.clone(), AdamWConfig::default()).unwrap();
    let message = |error: anyhow::Error| format!("{error:#}");

    let mut grads = some_gradients(&vars, 0);
    grads.remove(&vars[1].1);
    let error = message(optimizer.step(&grads, CYCLE.at(0)).unwrap_err());
    assert_eq!(error, "matrix has no gradient");
    grads.insert(&vars[1].1, vars[1].1.t().unwrap());
    let error = message(optimizer.step(&grads, CYCLE.at(0)).unwrap_err());
    assert!(error.starts_with("the gradient of matrix is ([7, 5], F32)"), "{error}");

    let mut state = optimizer.state().unwrap();
    let removed = state.remove("v.matrix").unwrap();
    let error = message(optimizer.load_state(&state).unwrap_err());
    assert_eq!(error, "the state has no v.matrix");
    state.insert("v.matrix".to_owned(), removed.to_dtype(DType::F64).unwrap());
    assert!(message(optimizer.load_state(&state).unwrap_err()).starts_with("v.matrix is"));
    state.insert("v.matrix".to_owned(), removed);
    state.insert("m.other".to_owned(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    assert!(message(optimizer.load_state(&state).unwrap_err()).contains("m.other"));

    let twice = vec![vars[0].clone(), vars[0].clone()];
    assert!(AdamW::new(twice, AdamWConfig::default()).is_err());
    let half = Var::zeros(3, DType::BF16, &Device::Cpu).unwrap();
    let error = AdamW::new(vec![("half".to_owned(), half)], AdamWConfig::default()).unwrap_err();
    assert!(message(error).starts_with("half is BF16"));
    assert_eq!((optimizer.steps(), bits(&vars)), (0, before));
}
