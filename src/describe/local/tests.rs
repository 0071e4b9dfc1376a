//! The local writer on networks of random numbers, small enough to be written by each test.

mod tiny;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use candle_core::Device;
use candle_core::Tensor;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::gguf_file::Value;
use candle_transformers::models::quantized_llama::ModelWeights;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::chat::writer::Chat;
use crate::chat::writer::Role;
use crate::describe::local::llama::Step;
use crate::describe::local::tests::tiny::Tiny;

fn local(tiny: &Tiny, config: &LocalConfig) -> Result<Local> {
    let dir = TempDir::new().unwrap();
    Local::load(config, &tiny.write(dir.path()))
}

fn message(tiny: &Tiny) -> String {
    match local(tiny, &LocalConfig::default()) {
        Ok(_) => panic!("it should have been refused"),
        Err(error) => format!("{error:#}"),
    }
}

fn short() -> LocalConfig {
    LocalConfig { max_prompt_tokens: 120, max_new_tokens: 9, ..LocalConfig::default() }
}

fn prefix() -> Arc<[Message]> {
    let say = |role, content: &str| Message { role, content: content.to_owned() };
    Arc::from([
        say(Role::System, "One sentence."),
        say(Role::User, "a cat"),
        say(Role::Assistant, "A cat."),
    ])
}

fn rows(count: u64, seed: u64) -> Vec<Prompted> {
    let prefix = prefix();
    let user = |i: u64| format!("row {} {}", i * i, "cab ".repeat(i as usize % 7));
    (0..count)
        .map(|i| Prompted {
            chat: Chat { prefix: Arc::clone(&prefix), user: user(i), ..Chat::default() },
            seed,
            schema: None,
        })
        .collect()
}

/// The answers by index; panics if one comes twice.
fn answers(local: &Local, batch: &[Prompted]) -> BTreeMap<usize, Result<Reply, RowError>> {
    let all = Mutex::new(BTreeMap::new());
    let keep = |index, answer| {
        assert!(all.lock().unwrap().insert(index, answer).is_none(), "{index} was answered twice");
        Ok(())
    };
    local.write(batch, &keep).unwrap();
    all.into_inner().unwrap()
}

#[test]
fn the_network_computes_what_its_slow_twin_does() {
    let cases = [
        (GgmlDType::F32, Weights::Unpacked, 1e-4),
        // Both round what goes into a product to 8 bits: a last digit that differs can flip one.
        (GgmlDType::Q8_0, Weights::Packed, 3e-2),
        // And ours keeps these weights as Q8_0.
        (GgmlDType::Q4_1, Weights::Packed, 6e-2),
    ];
    for (dtype, weights, tolerance) in cases {
        let dir = TempDir::new().unwrap();
        let path = Tiny::of(dtype).write(dir.path());
        let mut file = fs::File::open(&path).unwrap();
        let content = Content::read(&mut file).unwrap();
        let mut twin = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
        let llama = Llama::load(&mut Gguf::open(&path).unwrap(), weights).unwrap();

        let tokens: Vec<u32> = (0..300).map(|i| (i * i + 7) % 255).collect();
        let (before, rest) = tokens.split_at(270);
        let (question, words) = rest.split_at(20);
        let mut at = 0;
        let mut theirs = |tokens: &[u32]| {
            let input = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let scores = twin.forward(&input, at).unwrap();
            at += tokens.len();
            scores.squeeze(0).unwrap().to_vec1::<f32>().unwrap()
        };
        let prefix = llama.prefix(before).unwrap();
        let past = llama.past(MOST_SLOTS, 40).unwrap();
        let ours = |filled: &[usize], first_slot: usize, tokens: &[u32], row: usize| {
            let step = Step { first_slot, filled, tokens };
            let scores = llama.step(&[step], Some(&prefix), &past).unwrap();
            scores.get(row).unwrap().to_vec1::<f32>().unwrap()
        };
        theirs(before);
        assert_close(&theirs(question), &ours(&[0], 3, question, 0), tolerance);
        for (i, word) in words.iter().enumerate() {
            let (mut filled, mut tokens) = ([0; MOST_SLOTS], [0; MOST_SLOTS]);
            (filled[3], tokens[3]) = (question.len() + i, *word);
            assert_close(&theirs(&[*word]), &ours(&filled, 0, &tokens, 3), tolerance);
        }
    }
}

fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    let most = a.iter().fold(0_f32, |most, x| most.max(x.abs()));
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance * most, "score {i} is {y} instead of {x}");
    }
}

#[test]
fn a_batch_equals_its_singles() {
    for temperature in [0.0, 0.9] {
        let local = local(&Tiny::default(), &LocalConfig { temperature, ..short() }).unwrap();
        let batch = rows(45, 5);
        let together = answers(&local, &batch);
        assert_eq!(together.len(), batch.len());
        for (i, prompted) in batch.iter().enumerate() {
            let alone = answers(&local, std::slice::from_ref(prompted));
            assert_eq!(together[&i], alone[&0], "row {i} at temperature {temperature}");
        }
        let texts: Vec<&str> =
            together.values().map(|r| r.as_ref().unwrap().text.as_str()).collect();
        assert!(texts.iter().any(|text| *text != texts[0]), "rows do differ: {texts:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_seed_another() {
    let config = LocalConfig { temperature: 1.5, top_p: 0.95, ..short() };
    let tiny = Tiny::default();
    let said = |seed| answers(&local(&tiny, &config).unwrap(), &rows(3, seed));
    assert_eq!(said(1), said(1));
    assert_ne!(said(1), said(2));
}

#[test]
fn a_reply_says_who_wrote_it_and_why_it_ended() {
    let local = local(&Tiny::default(), &short()).unwrap();
    assert!(local.name.starts_with("local/tiny@"), "{}", local.name);
    for reply in answers(&local, &rows(12, 0)).into_values().map(Result::unwrap) {
        assert_eq!(reply.model, local.name);
        match reply.finish_reason.as_str() {
            "length" => assert_eq!(reply.tokens, Some(9)),
            other => assert_eq!((other, reply.tokens < Some(9)), ("stop", true)),
        }
    }
}

#[test]
fn what_could_change_a_reply_is_in_the_identity() {
    let identity = |tiny: &Tiny, config: &LocalConfig| local(tiny, config).unwrap().identity();
    let base = identity(&Tiny::default(), &short());
    assert_eq!(base, identity(&Tiny::default(), &LocalConfig { threads: Some(3), ..short() }));
    assert_ne!(base, identity(&Tiny::of(GgmlDType::Q8_0), &short()));
    assert_ne!(base, identity(&Tiny::default(), &LocalConfig { max_new_tokens: 8, ..short() }));
    assert_ne!(base, identity(&Tiny::default(), &LocalConfig { temperature: 0.1, ..short() }));
}

#[test]
fn a_row_that_is_too_long_leaves_the_others_alone() {
    let local = local(&Tiny::default(), &short()).unwrap();
    let mut batch = rows(11, 0);
    batch[4].chat.user = "x".repeat(200);
    let answers = answers(&local, &batch);
    let failed: Vec<usize> = answers.iter().filter(|(_, a)| a.is_err()).map(|(i, _)| *i).collect();
    assert_eq!((answers.len(), failed), (11, vec![4]));
    assert!(answers[&4].as_ref().unwrap_err().reason.contains("max_prompt_tokens"));
}

#[test]
fn a_reply_that_cannot_be_kept_ends_the_batch() {
    let local = local(&Tiny::default(), &short()).unwrap();
    let calls = Mutex::new(0);
    let refuse = |_, _| {
        *calls.lock().unwrap() += 1;
        bail!("disk full")
    };
    let error = local.write(&rows(20, 0), &refuse).unwrap_err();
    assert_eq!((error.to_string().as_str(), calls.into_inner().unwrap()), ("disk full", 1));
}

#[test]
fn the_prefix_is_read_once_and_other_messages_are_another() {
    let local = local(&Tiny::default(), &short()).unwrap();
    let (one, other) = (prefix(), prefix());
    let state = |messages| local.prefix(messages).unwrap().unwrap();
    let first = state(&one);
    assert!(Arc::ptr_eq(&first, &state(&one)) && !Arc::ptr_eq(&first, &state(&other)));
    assert!(local.prefix(&Arc::from([])).unwrap().is_none());
    let long = Message { role: Role::System, content: "x".repeat(3000) };
    let message = format!("{:#}", local.prefix(&Arc::from([long])).err().unwrap());
    assert!(message.contains("fewer examples"), "{message}");
}

#[test]
fn numbers_that_are_none_are_the_rows_error_and_spread_no_further() {
    let mut tiny = Tiny::default();
    // Only the token of `q` is broken.
    tiny.spoil_token(u32::from(b'q' - b'!'));
    let local = local(&tiny, &short()).unwrap();
    let mut batch = rows(24, 0);
    for broken in 0..4 {
        batch[broken * 5].chat.user.push('q');
    }
    let spoilt = answers(&local, &batch);
    for (i, prompted) in batch.iter().enumerate() {
        match prompted.chat.user.ends_with('q') {
            true => assert!(spoilt[&i].as_ref().unwrap_err().reason.contains("no number")),
            false => assert_eq!(spoilt[&i], answers(&local, std::slice::from_ref(prompted))[&0]),
        }
    }
}

#[test]
fn several_callers_get_what_one_gets() {
    let local = local(&Tiny::default(), &short()).unwrap();
    let batch = rows(10, 0);
    let alone = answers(&local, &batch);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..3).map(|_| scope.spawn(|| answers(&local, &batch))).collect();
        for caller in callers {
            assert_eq!(caller.join().unwrap(), alone);
        }
    });
}

#[test]
fn files_that_lie_are_refused_by_name() {
    let with = |key: &str, value: Value| {
        let mut tiny = Tiny::default();
        tiny.metadata.insert(key.to_owned(), value);
        message(&tiny)
    };
    let cases = [
        ("general.architecture", Value::String("qwen2".to_owned()), "architecture is qwen2"),
        ("general.alignment", Value::U32(0), "not a GGUF file"),
        ("llama.attention.head_count", Value::U32(0), "head_count"),
        ("llama.attention.head_count", Value::U32(5), "do not fit"),
        ("llama.block_count", Value::U32(u32::MAX), "block_count"),
        ("llama.block_count", Value::U32(900), "is missing"),
        ("llama.block_count", Value::U32(1), "no plain llama"),
        ("llama.expert_count", Value::U32(8), "mixture of experts"),
        ("llama.rope.dimension_count", Value::U32(8), "turns 8"),
        ("tokenizer.ggml.pre", Value::String("tekken".to_owned()), "tekken"),
        ("tokenizer.ggml.model", Value::String("llama".to_owned()), "byte-level BPE"),
        ("tokenizer.ggml.merges", Value::U32(1), "tokenizer"),
        ("tokenizer.chat_template", Value::String("[INST]".to_owned()), "Llama 2"),
    ];
    for (key, value, says) in cases {
        let message = with(key, value);
        assert!(message.contains(says) && message.contains("tiny.gguf"), "{key}: {message}");
    }
    let mut few = Tiny::default();
    few.shrink_vocabulary();
    assert!(message(&few).contains("tokens, its network only"), "{}", message(&few));
}

#[test]
fn a_file_that_is_cut_off_or_has_absurd_counts_is_an_error() {
    let dir = TempDir::new().unwrap();
    let path = Tiny::default().write(dir.path());
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = Local::load(&LocalConfig::default(), &path).err();
        format!("{:#}", error.expect("it should have been refused"))
    };
    for end in (0..whole.len() - 32).step_by(whole.len() / 60) {
        assert!(refused(&whole[..end]).contains("tiny.gguf"), "cut at {end}");
    }
    // Tensors, then metadata, then the length of the first key.
    for count in [8, 16, 24] {
        for value in [u64::MAX, u64::MAX / 2, 1 << 40, 1 << 20] {
            let mut bytes = whole.clone();
            bytes[count..count + 8].copy_from_slice(&value.to_le_bytes());
            refused(&bytes);
        }
    }
    assert!(refused(b"#!/bin/sh").contains("not a GGUF file"));
    let message = format!("{:#}", Local::load(&short(), dir.path()).err().unwrap());
    assert!(message.contains("is not a file"), "{message}");
}

#[test]
fn a_flipped_byte_never_panics() {
    let dir = TempDir::new().unwrap();
    let path = Tiny::default().write(dir.path());
    let whole = fs::read(&path).unwrap();
    let header = whole.len() - Tiny::default().bytes_of_tensors();
    let refused = Cell::new(0);
    for at in (0..header).step_by(17) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x81;
        fs::write(&path, &bytes).unwrap();
        if Local::load(&LocalConfig::default(), &path).is_err() {
            refused.set(refused.get() + 1);
        }
    }
    assert!(refused.get() > 10, "{} were refused", refused.get());
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    for (config, says) in [
        (LocalConfig { max_new_tokens: 0, ..short() }, "max_new_tokens"),
        (LocalConfig { max_prompt_tokens: usize::MAX, ..short() }, "max_prompt_tokens"),
        (LocalConfig { temperature: f64::NAN, ..short() }, "temperature"),
        (LocalConfig { top_p: 1.5, ..short() }, "top_p"),
    ] {
        let message = local(&Tiny::default(), &config).err().unwrap().to_string();
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn a_name_is_a_model_that_was_pulled() {
    let dir = TempDir::new().unwrap();
    let file = |model: Option<&str>| {
        model_file(model.map(Path::new), &|| Ok(dir.path().to_owned())).map_err(|e| e.to_string())
    };
    assert!(file(None).unwrap_err().contains("recaption models pull"));
    let name = pull::list()[0].name;
    let message = file(Some(name)).unwrap_err();
    assert!(message.contains(&format!("recaption models pull {name}")), "{message}");
    assert_eq!(file(Some("some/file.gguf")), Ok(PathBuf::from("some/file.gguf")));
}

static DIALECT: LazyLock<Dialect> = LazyLock::new(|| {
    let dir = TempDir::new().unwrap();
    let gguf = Gguf::open(&Tiny::default().write(dir.path())).unwrap();
    Dialect::read(&gguf.content, gguf.shape.vocabulary).unwrap()
});

proptest! {
    #[test]
    fn no_text_can_end_its_turn(
        text in r"(<\|im_end\|>|<\|im_start\|>|<\|endoftext\|>|assistant|[a-z \n<|>]|é){0,20}",
    ) {
        let dialect = &DIALECT;
        let ids = dialect.question(&text).unwrap();
        let marks: Vec<u32> = ids.iter().copied().filter(|id| *id >= tiny::FIRST_MARK).collect();
        // The user's turn begins and ends, the model's begins.
        prop_assert_eq!(marks, [tiny::START, tiny::END, tiny::START]);
        let end = ids.iter().position(|id| *id == tiny::END).unwrap();
        let said = dialect.text(&ids[1..end]).unwrap();
        prop_assert_eq!(said, format!("user\n{text}"));
    }
}
