//! Every step inside the towers against the official ones; `tests/it/parity` compares what comes out.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;

use super::Config;
use super::Mode;
use super::RwkvClip;
use super::block::Block;
use super::checkpoint;
use super::kernels::Shift;
use super::kernels::tests::far;
use super::kernels::wkv;

/// The folder of fixtures, as `tests/it/parity` finds it.
fn folder() -> PathBuf {
    let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/parity");
    std::env::var_os("RECAPTION_PARITY_DIR").map_or(ours, PathBuf::from)
}

fn tensors(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder().join(name), &Device::Cpu).unwrap()
}

/// Holds every tensor of the trace that has one of these names, without its batch axis.
struct Trace(HashMap<String, Tensor>);

impl Trace {
    fn compare(&mut self, name: &str, found: &Tensor) {
        let Some(expected) = self.0.remove(name) else { return };
        let distance = far(&found.get(0).unwrap(), &expected);
        // f32 against f64; the norms before and after the operator magnify round-off.
        assert!(distance < 5e-4, "{name}: {distance:e}");
    }

    /// Follows x through a block.
    fn block(&mut self, name: &str, block: &Block, x: &Tensor, shift: Shift) -> Tensor {
        let x = match &block.ln0 {
            Some(norm) => norm.forward(x).unwrap(),
            None => x.clone(),
        };
        if block.ln0.is_some() {
            let tower = name.split('.').next().unwrap();
            self.compare(&format!("{tower}.ln0"), &x);
        }
        let normed = block.ln1.forward(&x).unwrap();
        self.compare(&format!("{name}.ln1"), &normed);
        self.compare(&format!("{name}.att.shift"), &shift.apply(&normed).unwrap());
        let [r, k, v, w, g] = block.att.projections(&normed, shift).unwrap();
        let y = wkv(&r, &k, &v, &w, &block.att.faaaa).unwrap();
        let g = candle_nn::ops::silu(&g).unwrap();
        for (part, found) in [("r", r), ("k", k), ("v", v), ("w", w), ("g", g), ("wkv", y)] {
            self.compare(&format!("{name}.att.{part}"), &found);
        }
        let att = block.att.forward(&normed, shift).unwrap();
        self.compare(&format!("{name}.att"), &att);
        let x = (x + att).unwrap();
        let ffn = block.ffn.forward(&block.ln2.forward(&x).unwrap(), shift).unwrap();
        self.compare(&format!("{name}.ffn"), &ffn);
        let x = (x + ffn).unwrap();
        self.compare(name, &x);
        x
    }
}

#[test]
fn every_step_inside_the_towers() {
    if !folder().join("trace.safetensors").exists() {
        eprintln!("skipped: {} has no trace.safetensors", folder().display());
        return;
    }
    let text = std::fs::read_to_string(folder().join("config.json")).unwrap();
    let config = Config::from_json(&text).unwrap();
    let path = folder().join("model.safetensors");
    let model: RwkvClip = checkpoint::load(&path, &config, DType::F32, &Device::Cpu).unwrap();
    let inputs = tensors("inputs.safetensors");
    let mut trace = Trace(tensors("trace.safetensors"));

    let image = inputs["image.square"].narrow(0, 0, 1).unwrap();
    let (patches, rows, columns) = model.image.patches(&image).unwrap();
    trace.compare("image.patch_embed", &patches);
    let shift = Shift::Grid { rows, columns, head: config.image_head() };
    let mut x = patches.broadcast_add(&model.image.pos_embed).unwrap();
    for (i, layer) in model.image.layers.iter().enumerate() {
        x = trace.block(&format!("image.layers.{i}"), layer, &x, shift);
    }
    trace.compare("image.ln1", &model.image.tokens(&image, Mode::Inference).unwrap());

    let ids = inputs["tokens"].get(0).unwrap();
    let mut x = model.text.emb.index_select(&ids, 0).unwrap().unsqueeze(0).unwrap();
    for (i, block) in model.text.blocks.iter().enumerate() {
        let shift = Shift::Line { head: config.head_size };
        x = trace.block(&format!("text.blocks.{i}"), block, &x, shift);
    }
    assert!(trace.0.is_empty(), "nothing was compared with {:?}", trace.0.keys());
}
