//! A GGUF file of 200 kB: two blocks of random weights and a tokenizer of single bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::path::PathBuf;

use candle_core::Device;
use candle_core::Tensor;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file;
use candle_core::quantized::gguf_file::Value;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

const WIDTH: usize = 64;
const KEYS: usize = 32;
/// A multiple of two blocks: the twin's scalar code for Q4_1 insists on pairs.
const FEED_FORWARD: usize = 128;
const BLOCKS: usize = 2;
const TEMPLATE: &str = "{{ '<|im_start|>' + role }}{{ text + '<|im_end|>' }}";

/// Tokens from here on are marks.
pub(super) const FIRST_MARK: u32 = 257;
pub(super) const START: u32 = 258;
pub(super) const END: u32 = 259;

/// What is to be written.
pub(super) struct Tiny {
    pub(super) metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Tensor>,
    dtype: GgmlDType,
}

impl Default for Tiny {
    fn default() -> Tiny {
        Tiny::of(GgmlDType::F32)
    }
}

impl Tiny {
    /// With matrices of this type.
    pub(super) fn of(dtype: GgmlDType) -> Tiny {
        Tiny { metadata: metadata(), tensors: tensors(), dtype }
    }

    pub(super) fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("tiny.gguf");
        let packed: Vec<(&str, QTensor)> =
            self.tensors.iter().map(|(name, tensor)| (name.as_str(), self.pack(tensor))).collect();
        let tensors: Vec<(&str, &QTensor)> = packed.iter().map(|(n, t)| (*n, t)).collect();
        let metadata: Vec<(&str, &Value)> =
            self.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let mut file = BufWriter::new(File::create(&path).unwrap());
        gguf_file::write(&mut file, &metadata, &tensors).unwrap();
        path
    }

    pub(super) fn bytes_of_tensors(&self) -> usize {
        self.tensors.values().map(|tensor| self.pack(tensor).storage_size_in_bytes()).sum()
    }

    /// Makes the row of a token no numbers.
    pub(super) fn spoil_token(&mut self, token: u32) {
        let words = &self.tensors["token_embd.weight"];
        let broken = Tensor::full(f32::NAN, (1, WIDTH), &Device::Cpu).unwrap();
        // Else every score would be spoilt through the tied projection.
        self.tensors.insert("output.weight".to_owned(), words.copy().unwrap());
        let words = self.tensors["token_embd.weight"].copy().unwrap();
        words.slice_set(&broken, 0, token as usize).unwrap();
        self.tensors.insert("token_embd.weight".to_owned(), words);
    }

    /// Fewer tokens in the network than in the tokenizer.
    pub(super) fn shrink_vocabulary(&mut self) {
        let words = self.tensors["token_embd.weight"].narrow(0, 0, 128).unwrap();
        self.tensors.insert("token_embd.weight".to_owned(), words.force_contiguous().unwrap());
    }

    fn pack(&self, tensor: &Tensor) -> QTensor {
        let dtype = if tensor.rank() == 1 { GgmlDType::F32 } else { self.dtype };
        QTensor::quantize(tensor, dtype).unwrap()
    }
}

fn metadata() -> BTreeMap<String, Value> {
    let text = |text: &str| Value::String(text.to_owned());
    let count = |count: usize| Value::U32(count as u32);
    let mut tokens: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    tokens.sort_unstable();
    let mut tokens: Vec<String> = tokens.into_iter().map(String::from).collect();
    tokens.extend(["ab", "<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned));
    let types = (0..tokens.len()).map(|i| Value::I32(if i >= FIRST_MARK as usize { 3 } else { 1 }));
    [
        ("general.architecture", text("llama")),
        ("general.name", text("tiny")),
        ("llama.block_count", count(BLOCKS)),
        ("llama.embedding_length", count(WIDTH)),
        ("llama.feed_forward_length", count(FEED_FORWARD)),
        ("llama.attention.head_count", count(4)),
        ("llama.attention.head_count_kv", count(2)),
        ("llama.rope.dimension_count", count(16)),
        ("llama.context_length", count(2048)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.token_type", Value::Array(types.collect())),
        ("tokenizer.ggml.tokens", Value::Array(tokens.iter().map(|token| text(token)).collect())),
        ("tokenizer.ggml.merges", Value::Array(vec![text("a b")])),
        ("tokenizer.ggml.eos_token_id", Value::U32(END)),
        ("tokenizer.chat_template", text(TEMPLATE)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn tensors() -> BTreeMap<String, Tensor> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut random = |dims: &[usize], middle: f32, spread: f32| {
        let count = dims.iter().product();
        let numbers: Vec<f32> =
            (0..count).map(|_| middle + spread * rng.random_range(-1.0..1.0)).collect();
        Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap()
    };
    let mut all = BTreeMap::new();
    all.insert("token_embd.weight".to_owned(), random(&[260, WIDTH], 0.0, 1.0));
    all.insert("output_norm.weight".to_owned(), random(&[WIDTH], 1.0, 0.2));
    for block in 0..BLOCKS {
        for (part, dims) in [
            ("attn_norm", vec![WIDTH]),
            ("attn_q", vec![WIDTH, WIDTH]),
            ("attn_k", vec![KEYS, WIDTH]),
            ("attn_v", vec![KEYS, WIDTH]),
            ("attn_output", vec![WIDTH, WIDTH]),
            ("ffn_norm", vec![WIDTH]),
            ("ffn_gate", vec![FEED_FORWARD, WIDTH]),
            ("ffn_up", vec![FEED_FORWARD, WIDTH]),
            ("ffn_down", vec![WIDTH, FEED_FORWARD]),
        ] {
            let middle = if dims.len() == 1 { 1.0 } else { 0.0 };
            all.insert(format!("blk.{block}.{part}.weight"), random(&dims, middle, 0.3));
        }
    }
    all
}
