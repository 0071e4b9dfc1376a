//! The operators alone: WKV6 with its gradients, shifts, resized positions.

use candle_core::Tensor;
use candle_core::Var;
use recaption::model;
use recaption::model::Shift;

use super::assert_close;
use super::tensors;

#[test]
fn wkv_and_its_gradients() {
    let all = tensors("wkv.safetensors");
    let mut cases: Vec<&str> = all.keys().filter_map(|name| name.strip_suffix(".y")).collect();
    cases.sort_unstable();
    assert!(cases.len() >= 6, "{cases:?}");
    for case in cases {
        let part = |name: &str| all[&format!("{case}.{name}")].clone();
        let vars = ["r", "k", "v", "w", "u"].map(|name| Var::from_tensor(&part(name)).unwrap());
        let [r, k, v, w, u] = vars.each_ref().map(|var| var.as_tensor());
        let y = model::wkv(r, k, v, w, u).unwrap();
        // Observed: 6e-7 at most; f32 against f64.
        assert_close(&format!("{case}.y"), &y, &part("y"), 1e-4);
        let Some(upstream) = all.get(&format!("{case}.gy")) else { continue };
        let grads = y.mul(upstream).unwrap().sum_all().unwrap().backward().unwrap();
        for (name, var) in ["gr", "gk", "gv", "gw", "gu"].into_iter().zip(&vars) {
            let expected = part(name);
            let found = grads.get(var).unwrap();
            // Where decays hardly act their gradient is next to nothing, made of differences.
            assert_close(&format!("{case}.{name}"), found, &expected, 1e-3);
        }
    }
}

#[test]
fn shifts_are_exact() {
    let all = tensors("shift_pos.safetensors");
    let numbers = |name: &str| -> Vec<usize> {
        all[name].to_vec1::<i64>().unwrap().into_iter().map(|n| n as usize).collect()
    };
    let mut cases = 0;
    for name in all.keys() {
        let (case, shift) = if let Some(case) = name.strip_suffix(".grid_heads_headdim") {
            let sizes = numbers(name);
            (case, Shift::Grid { rows: sizes[0], columns: sizes[1], head: sizes[3] })
        } else if let Some(case) = name.strip_suffix(".heads_headdim") {
            (case, Shift::Line { head: numbers(name)[1] })
        } else {
            continue;
        };
        let found = shift.apply(&all[&format!("{case}.x")]).unwrap();
        assert_close(case, &found, &all[&format!("{case}.y")], 0.0);
        cases += 1;
    }
    assert!(cases >= 4);
}

#[test]
fn positions_are_resized_as_torch_does() {
    let all = tensors("shift_pos.safetensors");
    let (name, source) = all.iter().find(|(name, _)| name.starts_with("pos_src_")).unwrap();
    let grid = grid(name.trim_start_matches("pos_src_")).0;
    let mut cases = 0;
    for (name, expected) in &all {
        let Some(size) = name.strip_prefix("pos_").and_then(|n| n.strip_suffix(".y")) else {
            continue;
        };
        let (rows, columns) = self::grid(size);
        let found: Tensor = model::resize_positions(source, grid, rows, columns).unwrap();
        assert_close(name, &found, expected, 1e-6);
        cases += 1;
    }
    assert!(cases >= 4);
}

/// "3x5" -> (3, 5)
fn grid(size: &str) -> (usize, usize) {
    let (rows, columns) = size.split_once('x').unwrap();
    (rows.parse().unwrap(), columns.parse().unwrap())
}
