//! Every tensor of a model: official name, shape, dtype, in the order of the official checkpoints.

use candle_core::DType;
use candle_core::Shape;

use super::Config;
use super::mix::DECAY_RANK;
use super::mix::MIX_RANK;

/// A tensor as a checkpoint names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The official name, such as `image_model.layers.0.att.key.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// As published: F32, and BF16 for two tensors of every text block.
    pub dtype: DType,
}

/// All of them: 517 for the published models.
pub fn all(config: &Config) -> Vec<Named> {
    let mut list = List { prefix: String::new(), found: Vec::new() };
    list.push("logit_scale", ());
    text(config, &mut list);
    image(config, &mut list);
    list.found
}

struct List {
    prefix: String,
    found: Vec<Named>,
}

impl List {
    fn push(&mut self, name: &str, shape: impl Into<Shape>) {
        self.push_as(name, shape, DType::F32);
    }

    fn push_as(&mut self, name: &str, shape: impl Into<Shape>, dtype: DType) {
        let name = format!("{}{name}", self.prefix);
        self.found.push(Named { name, shape: shape.into(), dtype });
    }

    fn norm(&mut self, name: &str, c: usize) {
        self.push(&format!("{name}.weight"), c);
        self.push(&format!("{name}.bias"), c);
    }
}

fn text(config: &Config, list: &mut List) {
    let c = config.n_embd;
    list.push("text_model.emb.weight", (config.vocab_size, c));
    for i in 0..config.n_layer {
        list.prefix = format!("text_model.blocks.{i}.");
        norms(i, c, list);
        let order = ["receptance", "key", "value", "output", "gate"];
        time_mix(config.text_heads(), c, DType::BF16, order, list);
        list.push("ffn.time_maa_k", (1, 1, c));
        list.push("ffn.time_maa_r", (1, 1, c));
        channel_mix(c, config.dim_ffn, list);
    }
    list.prefix.clear();
    list.norm("text_model.ln_out", c);
}

fn image(config: &Config, list: &mut List) {
    let (c, p) = (config.image_embed_dims, config.image_patch_size);
    list.push("image_model.pos_embed", (1, config.image_tokens(), c));
    list.push("image_model.patch_embed.projection.weight", (c, 3, p, p));
    list.push("image_model.patch_embed.projection.bias", c);
    for i in 0..config.image_depth {
        list.prefix = format!("image_model.layers.{i}.");
        norms(i, c, list);
        let order = ["key", "value", "receptance", "gate", "output"];
        time_mix(config.image_num_heads, c, DType::F32, order, list);
        list.push("ffn.spatial_mix_k", (1, 1, c));
        list.push("ffn.spatial_mix_r", (1, 1, c));
        channel_mix(c, config.image_hidden_rate * c, list);
    }
    list.prefix.clear();
    list.norm("image_model.ln1", c);
}

fn norms(i: usize, c: usize, list: &mut List) {
    list.norm("ln1", c);
    list.norm("ln2", c);
    if i == 0 {
        list.norm("ln0", c);
    }
}

/// `base`: dtype of the decay and the bonus; `order`: of the projections.
fn time_mix(heads: usize, c: usize, base: DType, order: [&str; 5], list: &mut List) {
    for mix in ["x", "w", "k", "v", "r", "g"] {
        list.push(&format!("att.time_maa_{mix}"), (1, 1, c));
    }
    list.push("att.time_maa_w1", (c, 5 * MIX_RANK));
    list.push("att.time_maa_w2", (5, MIX_RANK, c));
    list.push_as("att.time_decay", (1, 1, c), base);
    list.push("att.time_decay_w1", (c, DECAY_RANK));
    list.push("att.time_decay_w2", (DECAY_RANK, c));
    list.push_as("att.time_faaaa", (heads, c / heads), base);
    for projection in order {
        list.push(&format!("att.{projection}.weight"), (c, c));
    }
    list.norm("att.ln_x", c);
}

fn channel_mix(c: usize, hidden: usize, list: &mut List) {
    list.push("ffn.key.weight", (hidden, c));
    list.push("ffn.receptance.weight", (c, c));
    list.push("ffn.value.weight", (c, hidden));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lists were read off the official modules.
    #[test]
    fn names_shapes_and_dtypes_are_the_published_ones_in_their_order() {
        let lists = [
            ("b32", include_str!("../../tests/data/model/rwkv_clip_keys_B32.tsv"), 149_561_601),
            ("b16", include_str!("../../tests/data/model/rwkv_clip_keys_B16.tsv"), 148_181_121),
        ];
        for (preset, list, parameters) in lists {
            let found = all(&Config::preset(preset).unwrap());
            let lines: Vec<&str> = list.lines().skip(1).collect();
            assert_eq!(found.len(), lines.len());
            for (found, line) in found.iter().zip(lines) {
                let dims: Vec<String> = found.shape.dims().iter().map(usize::to_string).collect();
                let shape = if dims.is_empty() { "scalar".to_owned() } else { dims.join("x") };
                let dtype = if found.dtype == DType::BF16 { "bfloat16" } else { "float32" };
                assert_eq!(format!("{}\t{shape}\t{dtype}", found.name), line);
            }
            let total: usize = found.iter().map(|found| found.shape.elem_count()).sum();
            assert_eq!(total, parameters);
        }
    }
}
