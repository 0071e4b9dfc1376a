//! The sizes of a model, under the names of the official `model_config` files.

use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde::Deserialize;
use serde::Serialize;

/// Sizes of both towers. Reads the official JSON files; what they say about options that no
/// RWKV-CLIP uses is read and must be off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Side of the square picture, pixels.
    pub input_size: usize,
    /// Blocks of the image tower.
    pub image_depth: usize,
    /// Channels of the image tower; also the size of embeddings.
    pub image_embed_dims: usize,
    /// Side of a patch, pixels: one token each.
    pub image_patch_size: usize,
    /// The image tower's hidden channels are this many times its channels.
    pub image_hidden_rate: usize,
    /// Heads of the image tower.
    pub image_num_heads: usize,
    /// Most dropped residual branches, a share: the last block's; in training, in the image tower.
    #[serde(default)]
    pub drop_path_rate: f64,
    /// Tokens of a text.
    pub ctx_len: usize,
    /// Ids.
    pub vocab_size: usize,
    /// Channels of a head of the text tower.
    pub head_size: usize,
    /// The text tower's group norm has an epsilon of 1e-5 times the square of this.
    #[serde(default = "eight")]
    pub head_size_divisor: usize,
    /// Blocks of the text tower.
    pub n_layer: usize,
    /// Channels of the text tower; equal to those of the image tower.
    pub n_embd: usize,
    /// Channels of the text tower's time mix; equal to `n_embd`.
    pub dim_att: usize,
    /// Hidden channels of the text tower.
    pub dim_ffn: usize,
    /// Whether the text tower starts from the recipe's own values (`init`).
    #[serde(default = "yes")]
    pub text_initialization: bool,
    /// "bf16" or "fp32": what the official implementation trains in. With "bf16" initial values of
    /// the text tower are rounded to it.
    #[serde(default = "bf16")]
    pub precision: String,
    #[serde(flatten)]
    unused: Unused,
}

/// Options of the official files that no published model switches on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Unused {
    #[serde(default, skip_serializing_if = "is_off")]
    image_output_cls_token: bool,
    #[serde(default, skip_serializing_if = "is_off")]
    image_with_cls_token: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    dropout: f64,
    #[serde(default, skip_serializing_if = "is_none")]
    pos_emb: usize,
    #[serde(default, skip_serializing_if = "is_none")]
    head_qk: usize,
    #[serde(default, skip_serializing_if = "is_none")]
    tiny_att_dim: usize,
    #[serde(default, skip_serializing_if = "is_none")]
    text_num_head: usize,
}

fn is_off(option: &bool) -> bool {
    !option
}

fn is_zero(option: &f64) -> bool {
    *option == 0.0
}

fn is_none(option: &usize) -> bool {
    *option == 0
}

fn eight() -> usize {
    8
}

fn yes() -> bool {
    true
}

fn bf16() -> String {
    "bf16".to_owned()
}

/// Pixels of a side at most: a typing error, not a model, is beyond it.
const LARGEST_INPUT: usize = 4_096;
/// Of any other size.
const LARGEST: usize = 1 << 20;
/// Blocks of a tower at most.
const DEEPEST: usize = 1_024;
/// What `precision` can be.
const PRECISIONS: [&str; 3] = ["bf16", "fp16", "fp32"];

impl Config {
    /// The names [`Config::preset`] knows.
    pub const PRESETS: [&'static str; 4] = ["b32", "b16", "small", "tiny"];

    /// A named model: the published `b32` (149.6 M parameters) and `b16` (148.2 M), and two for
    /// people without a GPU, `small` (22 M) and `tiny` (4 M; most of it the vocabulary).
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn preset(name: &str) -> Result<Config> {
        let b32 = Config {
            input_size: 224,
            image_depth: 12,
            image_embed_dims: 640,
            image_patch_size: 32,
            image_hidden_rate: 5,
            image_num_heads: 8,
            drop_path_rate: 0.3,
            ctx_len: 77,
            vocab_size: 49_408,
            head_size: 64,
            head_size_divisor: 8,
            n_layer: 6,
            n_embd: 640,
            dim_att: 640,
            dim_ffn: 2_240,
            text_initialization: true,
            precision: bf16(),
            unused: Unused::default(),
        };
        let sized = |width: usize, heads: usize, image_depth, n_layer| Config {
            image_embed_dims: width,
            image_depth,
            image_num_heads: heads,
            image_hidden_rate: 4,
            drop_path_rate: 0.1,
            n_embd: width,
            dim_att: width,
            n_layer,
            head_size: 32,
            dim_ffn: width * 7 / 2 / 32 * 32,
            ..b32.clone()
        };
        Ok(match name {
            "b32" => b32,
            "b16" => Config { image_patch_size: 16, ..b32 },
            "small" => sized(256, 8, 8, 4),
            "tiny" => Config {
                input_size: 64,
                image_patch_size: 8,
                drop_path_rate: 0.0,
                ..sized(64, 2, 4, 2)
            },
            _ => bail!("no preset {name:?}; there are {}", Config::PRESETS.join(", ")),
        })
    }

    /// A preset's name, or the path of a JSON (official `model_config`) or TOML file.
    ///
    /// # Errors
    /// When there is neither, or the file is not a configuration, with the reason.
    pub fn find(name: &str) -> Result<Config> {
        if Config::PRESETS.contains(&name) {
            return Config::preset(name);
        }
        let path = Path::new(name);
        let presets = Config::PRESETS.join(", ");
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("{name} is neither a preset ({presets}) nor a file that can be read")
        })?;
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        let config = if is_toml { Config::from_toml(&text) } else { Config::from_json(&text) };
        config.with_context(|| format!("{name} is not a model configuration"))
    }

    /// The official JSON form.
    ///
    /// # Errors
    /// When a field is missing, has another type, or asks for what no RWKV-CLIP has.
    pub fn from_json(text: &str) -> Result<Config> {
        serde_json::from_str::<Config>(text)?.checked()
    }

    /// The same fields in TOML.
    ///
    /// # Errors
    /// As [`Config::from_json`].
    pub fn from_toml(text: &str) -> Result<Config> {
        toml::from_str::<Config>(text)?.checked()
    }

    /// Tokens of a picture of `input_size`.
    pub fn image_tokens(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Tokens along a side of a picture of `input_size`.
    pub fn grid(&self) -> usize {
        self.input_size.div_ceil(self.image_patch_size)
    }

    /// Channels of a head of the image tower.
    pub fn image_head(&self) -> usize {
        self.image_embed_dims / self.image_num_heads
    }

    /// Heads of the text tower.
    pub fn text_heads(&self) -> usize {
        self.dim_att / self.head_size
    }

    /// Size of embeddings.
    pub fn embed_dim(&self) -> usize {
        self.image_embed_dims
    }

    fn checked(self) -> Result<Config> {
        let sizes = [
            ("input_size", self.input_size),
            ("image_depth", self.image_depth),
            ("image_embed_dims", self.image_embed_dims),
            ("image_patch_size", self.image_patch_size),
            ("image_hidden_rate", self.image_hidden_rate),
            ("image_num_heads", self.image_num_heads),
            ("ctx_len", self.ctx_len),
            ("vocab_size", self.vocab_size),
            ("head_size", self.head_size),
            ("head_size_divisor", self.head_size_divisor),
            ("n_layer", self.n_layer),
            ("n_embd", self.n_embd),
            ("dim_att", self.dim_att),
            ("dim_ffn", self.dim_ffn),
        ];
        for (name, size) in sizes {
            ensure!((1..=LARGEST).contains(&size), "{name} = {size}: 1 to {LARGEST} is possible");
        }
        for (name, depth) in [("image_depth", self.image_depth), ("n_layer", self.n_layer)] {
            ensure!(depth <= DEEPEST, "{name} = {depth}: 1 to {DEEPEST} is possible");
        }
        let precision = self.precision.as_str();
        ensure!(
            PRECISIONS.contains(&precision),
            "precision {precision:?} is none of {}",
            PRECISIONS.join(", ")
        );
        ensure!(self.input_size <= LARGEST_INPUT, "input_size is over {LARGEST_INPUT} pixels");
        let (width, heads) = (self.image_embed_dims, self.image_num_heads);
        ensure!(width % heads == 0, "image_embed_dims {width} does not divide into {heads} heads");
        let (width, head) = (self.dim_att, self.head_size);
        ensure!(width % head == 0, "dim_att {width} does not divide into heads of {head}");
        ensure!(self.dim_att == self.n_embd, "dim_att and n_embd must be equal");
        ensure!(
            self.n_embd == self.image_embed_dims,
            "the towers' embeddings must have one size: n_embd is {}, image_embed_dims {}",
            self.n_embd,
            self.image_embed_dims
        );
        ensure!((0.0..1.0).contains(&self.drop_path_rate), "drop_path_rate must be below 1");
        let unused = &self.unused;
        let on = [
            ("image_output_cls_token", unused.image_output_cls_token),
            ("image_with_cls_token", unused.image_with_cls_token),
            ("dropout", unused.dropout != 0.0),
            ("pos_emb", unused.pos_emb != 0),
            ("head_qk", unused.head_qk != 0),
            ("tiny_att_dim", unused.tiny_att_dim != 0),
            ("text_num_head", unused.text_num_head != 0),
        ];
        if let Some((name, _)) = on.iter().find(|(_, on)| *on) {
            bail!("{name} is on; no published RWKV-CLIP uses it, and neither does this code");
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_read_back_from_both_forms() {
        for name in Config::PRESETS {
            let config = Config::preset(name).unwrap().checked().unwrap();
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(Config::from_json(&json).unwrap(), config);
            let text = toml::to_string(&config).unwrap();
            assert_eq!(Config::from_toml(&text).unwrap(), config);
        }
    }

    #[test]
    fn the_published_sizes() {
        let b32 = Config::preset("b32").unwrap();
        assert_eq!((b32.image_tokens(), b32.image_head(), b32.text_heads()), (49, 80, 10));
        assert_eq!(Config::preset("b16").unwrap().image_tokens(), 196);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let text = serde_json::to_string(&Config::preset("tiny").unwrap()).unwrap();
        let cases = [
            ("\"image_num_heads\":2", "\"image_num_heads\":3", "does not divide into 3 heads"),
            ("\"n_embd\":64", "\"n_embd\":96", "dim_att and n_embd"),
            ("\"ctx_len\":77", "\"ctx_len\":0", "ctx_len = 0"),
            ("\"ctx_len\":77,", "", "missing field `ctx_len`"),
            ("\"ctx_len\":77", "\"ctx_len\":77,\"head_qk\":8", "head_qk is on"),
        ];
        for (from, to, wanted) in cases {
            assert!(text.contains(from), "{text}");
            let error = Config::from_json(&text.replace(from, to)).unwrap_err();
            assert!(format!("{error:#}").contains(wanted), "{error:#}");
        }
        let error = format!("{:#}", Config::find("b64").unwrap_err());
        assert!(error.contains("b32, b16, small, tiny"), "{error}");
    }
}
