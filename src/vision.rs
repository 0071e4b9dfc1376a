//! Captions of pictures by an endpoint with a vision model: the stored picture in, a sentence out.
//!
//! The same client as for texts asks: its limits, its memory, its bill. The picture is encoded again as a
//! small JPEG and sent within the request; an address from the web is never sent, because the server
//! would fetch it. A caption passes the same checks as a generated text. A picture without an acceptable
//! caption has none, as with a captioner in this process.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use fast_image_resize::Resizer;
use rayon::iter::IntoParallelRefIterator;
use rayon::iter::ParallelIterator;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::atomic_file::sha256;
use crate::chat::Appetite;
use crate::chat::Chat;
use crate::chat::Key;
use crate::chat::Message;
use crate::chat::Picture;
use crate::chat::Prompted;
use crate::chat::Purchases;
use crate::chat::Question;
use crate::chat::Remote;
use crate::chat::RemoteConfig;
use crate::chat::Reply;
use crate::chat::Role;
use crate::chat::Usage;
use crate::chat::Writer;
use crate::decode;
use crate::decode::Encoding;
use crate::decode::Limits;
use crate::decode::Store;
use crate::describe::Sources;
use crate::describe::prompt::Marks;
use crate::describe::reply;
use crate::sample::StoredImage;
use crate::sample::Synthetic;

/// Which endpoint captions pictures, and how; none without an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder with `system.txt` and `user.txt`; the built-in set `caption` if absent.
    pub prompts: Option<PathBuf>,
    /// Longer side of the pictures that are sent, in pixels. More cost more tokens.
    pub max_side: u32,
    /// A picture that is larger than this when encoded is not sent.
    pub max_bytes: usize,
    /// What a caption must be like.
    pub checks: reply::Config,
    /// The endpoint.
    pub remote: RemoteConfig,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            prompts: None,
            // What vision models look at as one tile.
            max_side: 448,
            // Ten times what a busy picture of this size comes to.
            max_bytes: 1 << 20,
            checks: reply::Config::default(),
            remote: RemoteConfig::default(),
        }
    }
}

impl Config {
    /// Whether an endpoint is named.
    pub fn is_on(&self) -> bool {
        !self.remote.base_url.is_empty() || !self.remote.endpoints.is_empty()
    }
}

/// Good enough for a model that looks at 448 pixels.
const JPEG_QUALITY: u8 = 90;

const FILES: [(&str, &str); 2] = [
    ("system.txt", include_str!("../prompts/caption/system.txt")),
    ("user.txt", include_str!("../prompts/caption/user.txt")),
];

/// Captions pictures; one for a whole run, shared by its threads.
pub struct Captioner {
    config: Config,
    writer: Remote,
    purchases: Arc<Purchases>,
    prefix: Arc<[Message]>,
    user: String,
    /// Hash over the prompt files.
    prompt: String,
    identity: Value,
}

impl Captioner {
    /// Opens the configured endpoint; sends nothing yet.
    ///
    /// # Errors
    /// When the settings cannot be meant, or a prompt file cannot be read.
    pub fn open(config: &Config, purchases: Arc<Purchases>) -> Result<Captioner> {
        let writer = Remote::open(&config.remote).context("in the section [vision.remote]")?;
        writer.pay_with(purchases.bill());
        let [system, user] = prompt_files(config.prompts.as_deref())?;
        let prompt = sha256(format!("{}\n{}", sha256(system.as_bytes()), user).as_bytes());
        let identity = json!({ "captioner": writer.identity(), "max_side": config.max_side });
        Ok(Captioner {
            config: config.clone(),
            writer,
            purchases,
            prefix: [Message { role: Role::System, content: system }].into(),
            user,
            prompt,
            identity,
        })
    }

    /// A caption for each picture, in their order; none where no acceptable one was written.
    ///
    /// # Errors
    /// When no picture can be captioned (wrong key, full disk); captions bought until then are kept.
    pub fn caption(&self, pictures: &[&StoredImage]) -> Result<Vec<Option<Synthetic>>> {
        let sent: Vec<Option<Question>> =
            pictures.par_iter().map(|picture| self.question(picture)).collect();
        let questions: Vec<Question> = sent.iter().flatten().cloned().collect();
        let judge = |_: usize, reply: &Reply| self.accepted(reply).err();
        let mut answers = self.purchases.answers(&self.writer, &questions, &judge)?.into_iter();
        let mut caption = |question: &Option<Question>| {
            question.as_ref()?;
            let reply = answers.next()?.ok()?;
            let text = self.accepted(&reply).ok()?;
            let model = format!("{}@{}", reply.model, &self.prompt[..8]);
            Some(Synthetic { text, model: model.into() })
        };
        Ok(sent.iter().map(&mut caption).collect())
    }

    /// Everything that was answered about these pictures, also what was refused. Asks nothing.
    ///
    /// # Errors
    /// When the memory of answers cannot be read.
    pub fn kept(&self, pictures: &[&StoredImage]) -> Result<Vec<Reply>> {
        let questions = pictures.par_iter().filter_map(|picture| self.question(picture));
        let keys: Vec<Key> = questions.map(|question| question.key).collect();
        self.purchases.kept(&keys)
    }

    fn accepted(&self, reply: &Reply) -> Result<String, &'static str> {
        // There is no other source than the picture, and nothing that could be leaked.
        let (sources, marks) = (Sources::default(), Marks::default());
        reply::accept(&reply.text, &reply.finish_reason, &sources, &marks, &self.config.checks)
            .map_err(reply::Flaw::as_str)
    }

    fn question(&self, picture: &StoredImage) -> Option<Question> {
        let picture = self.encoded(picture)?;
        let chat = Chat {
            prefix: Arc::clone(&self.prefix),
            user: self.user.clone(),
            picture: Some(picture),
        };
        let prompted = Prompted { chat, ..Prompted::default() };
        Some(Question { key: Key::of(&self.identity, 0, &prompted), prompted, attempt: 0 })
    }

    /// Always encoded anew: what is sent is a picture and nothing that came with it.
    fn encoded(&self, picture: &StoredImage) -> Option<Picture> {
        let (pixels, encoding) = decode::upright(&picture.bytes, &Limits::default()).ok()?;
        let store = Store { max_side: self.config.max_side, jpeg_quality: JPEG_QUALITY };
        let encoding = Encoding { as_shown: false, ..encoding };
        let jpeg = store.store(&picture.bytes, &pixels, encoding, &mut Resizer::new()).ok()?;
        let fits = jpeg.bytes.len() <= self.config.max_bytes;
        fits.then_some(Picture { bytes: jpeg.bytes, media_type: "image/jpeg" })
    }

    /// How many threads should call [`caption`](Captioner::caption), with how many pictures each.
    pub fn appetite(&self) -> Appetite {
        // Pictures are larger than texts, and fewer of them are worked on at once.
        const AT_ONCE: usize = 32;
        let Appetite { threads, batch } = self.writer.appetite();
        Appetite { threads, batch: batch.min(AT_ONCE) }
    }

    /// One line: is the endpoint there, and has it the model.
    ///
    /// # Errors
    /// When it is not.
    pub fn probe(&self) -> Result<String> {
        self.writer.probe()
    }

    /// Asks nothing new; may be called from any thread.
    pub fn halt(&self) {
        self.writer.halt();
    }

    /// How each endpoint was used.
    pub fn usage(&self) -> Vec<Usage> {
        self.writer.usage()
    }

    /// Model, parameters and the hash of the prompt, for `run.json`. No secrets.
    pub fn provenance(&self) -> Value {
        json!({ "model": self.identity, "prompt": self.prompt, "checks": self.config.checks })
    }
}

fn prompt_files(folder: Option<&Path>) -> Result<[String; 2]> {
    let read = |(name, built_in): (&str, &str)| -> Result<String> {
        let Some(folder) = folder else { return Ok(built_in.trim().to_owned()) };
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read the prompt file {}", path.display()))?;
        Ok(text.trim().to_owned())
    };
    let [system, user] = FILES.map(read);
    Ok([system?, user?])
}
