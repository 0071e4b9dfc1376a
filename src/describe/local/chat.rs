//! From turns to tokens and back: the tokenizer of a GGUF file and the form of its chats.
//!
//! The marks between turns are inserted as token numbers; what is said is encoded with marks
//! switched off, so that no text, however written, can end a turn. The Jinja template of the file is
//! recognised by the marks it uses and not executed: templates rely on Python, and ours only have
//! system, user and assistant turns.

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use anyhow::ensure;
use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::Split;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::chat::writer::Message;
use crate::chat::writer::Role;
use crate::describe::local::gguf::guarded;
use crate::describe::local::gguf::optional;
use crate::describe::local::gguf::text;

/// How a model wants to be spoken to, and speaks.
pub(super) struct Dialect {
    tokenizer: Tokenizer,
    form: Form,
    start: u32,
    end: u32,
    /// After the role, only in Llama 3.
    header_end: Option<u32>,
    /// Before everything, if the model wants it.
    first: Option<u32>,
    /// Any of them ends a reply.
    stops: Vec<u32>,
}

/// The forms of chats that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `<|im_start|>role\ntext<|im_end|>\n`
    ChatMl,
    /// `<|start_header_id|>role<|end_header_id|>\n\ntext<|eot_id|>`
    Llama3,
}

impl Form {
    /// Its name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Form::ChatMl => "ChatML",
            Form::Llama3 => "Llama 3",
        }
    }

    fn of(template: &str) -> Result<Form> {
        match template {
            t if t.contains("<|im_start|>") && t.contains("<|im_end|>") => Ok(Form::ChatMl),
            t if t.contains("<|start_header_id|>") && t.contains("<|eot_id|>") => Ok(Form::Llama3),
            t if t.contains("[INST]") => bail!("its chat template is that of Llama 2 or Mistral"),
            "" => bail!("it has no chat template: is it a base model, not tuned for instructions?"),
            _ => bail!("its chat template is of no known form"),
        }
    }

    fn marks(self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            Form::ChatMl => ("<|im_start|>", "<|im_end|>", None),
            Form::Llama3 => ("<|start_header_id|>", "<|eot_id|>", Some("<|end_header_id|>")),
        }
    }
}

impl Dialect {
    /// Reads the tokenizer and recognises the template, for a network that knows so many tokens.
    pub(super) fn read(content: &Content, vocabulary: usize) -> Result<Dialect> {
        let form = Form::of(text(content, "tokenizer.chat_template").unwrap_or_default())
            .context("only models with a ChatML or Llama 3 chat template can be asked here")?;
        let tokenizer = tokenizer(content)?;
        let tokens = tokenizer.get_vocab_size(true);
        ensure!(
            tokens <= vocabulary,
            "its tokenizer has {tokens} tokens, its network only {vocabulary}"
        );
        let id = |mark: &str| {
            tokenizer.token_to_id(mark).with_context(|| format!("its vocabulary has no {mark}"))
        };
        let (start, end, header_end) = form.marks();
        let (start, end, header_end) = (id(start)?, id(end)?, header_end.map(id).transpose()?);
        let stops = stops(content, &tokenizer);
        // The only template of the two that begins with this token whatever the metadata say.
        let first = match form {
            Form::ChatMl => None,
            Form::Llama3 => Some(id("<|begin_of_text|>")?),
        };
        Ok(Dialect { form, start, end, header_end, first, stops, tokenizer })
    }

    /// The form of its chats.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// The tokens before the last turn.
    pub(super) fn prefix(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let mut ids = Vec::from_iter(self.first);
        for message in messages {
            self.turn(message.role, &message.content, &mut ids)?;
        }
        Ok(ids)
    }

    /// The tokens of the user's last turn, up to where the model begins to speak.
    pub(super) fn question(&self, user: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.turn(Role::User, user, &mut ids)?;
        self.open(Role::Assistant, "", &mut ids)?;
        Ok(ids)
    }

    /// Whether the model has finished.
    pub(super) fn is_end(&self, token: u32) -> bool {
        token == self.end || self.stops.contains(&token)
    }

    /// What these tokens say.
    pub(super) fn text(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer.decode(tokens, true).map_err(|e| anyhow!("cannot decode a reply: {e}"))
    }

    fn turn(&self, role: Role, content: &str, ids: &mut Vec<u32>) -> Result<()> {
        self.open(role, content, ids)?;
        ids.push(self.end);
        match self.form {
            Form::ChatMl => self.encode("\n", ids),
            Form::Llama3 => Ok(()),
        }
    }

    fn open(&self, role: Role, content: &str, ids: &mut Vec<u32>) -> Result<()> {
        ids.push(self.start);
        match self.header_end {
            None => self.encode(&format!("{}\n{content}", role.as_str()), ids),
            Some(header_end) => {
                self.encode(role.as_str(), ids)?;
                ids.push(header_end);
                self.encode(&format!("\n\n{content}"), ids)
            }
        }
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let encoding = self.tokenizer.encode_fast(text, false);
        ids.extend(encoding.map_err(|e| anyhow!("cannot encode a prompt: {e}"))?.get_ids());
        Ok(())
    }
}

fn tokenizer(content: &Content) -> Result<Tokenizer> {
    let mut tokenizer = guarded(|| Ok(Tokenizer::from_gguf(content)?))
        .context("its tokenizer cannot be used: only byte-level BPE can")?;
    // candle 0.11 takes what it does not know for GPT-2, and puts a space before every text.
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer(text(content, "tokenizer.ggml.pre"))?));
    tokenizer.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
    tokenizer.set_encode_special_tokens(true);
    Ok(tokenizer)
}

/// How text is cut before its pieces are looked up, by the name llama.cpp gave it.
fn pre_tokenizer(name: Option<&str>) -> Result<Sequence> {
    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let parts = match name.unwrap_or("gpt-2") {
        "smollm" => vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()],
        "gpt-2" => vec![ByteLevel::new(false, true, true).into()],
        "llama-bpe" | "llama3" | "smaug-bpe" => {
            let pattern = SplitPattern::Regex(LLAMA3.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            let split = split.map_err(|e| anyhow!("cannot prepare the tokenizer: {e}"))?;
            vec![split.into(), ByteLevel::new(false, true, false).into()]
        }
        other => bail!(
            "its tokenizer cuts text as {other}, which is not known here (known: smollm, gpt-2, \
             llama-bpe, smaug-bpe)"
        ),
    };
    Ok(Sequence::new(parts))
}

fn stops(content: &Content, tokenizer: &Tokenizer) -> Vec<u32> {
    let keys = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
    let named = ["<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "<|im_start|>"];
    let by_key = keys.iter().filter_map(|key| u32::try_from(optional(content, key)?).ok());
    by_key.chain(named.iter().filter_map(|name| tokenizer.token_to_id(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_recognised_or_refused_by_name() {
        let chat_ml = "{{'<|im_start|>' + message['role'] }}{{ '<|im_end|>' }}";
        assert_eq!(Form::of(chat_ml).unwrap(), Form::ChatMl);
        let llama3 = "<|start_header_id|>{{ role }}<|end_header_id|> {{ text }}<|eot_id|>";
        assert_eq!(Form::of(llama3).unwrap(), Form::Llama3);
        for (template, says) in
            [("[INST] {{ text }} [/INST]", "Llama 2"), ("", "no chat template"), ("x", "no known")]
        {
            let message = Form::of(template).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn an_unknown_way_to_cut_text_is_refused() {
        assert!(pre_tokenizer(Some("smollm")).is_ok() && pre_tokenizer(Some("llama-bpe")).is_ok());
        assert!(pre_tokenizer(Some("tekken")).unwrap_err().to_string().contains("tekken"));
    }
}
