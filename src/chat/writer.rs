//! The trait behind which every language model stands, and the words spoken over it.
//!
//! A writer turns rendered chats into replies. It never renders a prompt, judges a reply, opens the
//! request store or decides what a row ends up with: [`Describer`](crate::describe::Describer) does
//! all of that, so that a new writer is one file.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;

use crate::chat::bill::Bill;
use crate::chat::bill::Spent;
use crate::chat::desk::Usage;

/// Something that answers chats: an endpoint, or a model in this process.
pub trait Writer: Send + Sync {
    /// `local` or `remote`; the `writer` of the rows it wrote.
    fn name(&self) -> &'static str;

    /// Model, revision and every parameter that could change a reply, but no secret and no limit
    /// of speed. Part of the request key: what differs here is asked again.
    fn identity(&self) -> serde_json::Value;

    /// How the pipeline should feed it.
    fn appetite(&self) -> Appetite;

    /// One line for `--dry-run`: does the endpoint answer, is the model there. An error says what to
    /// do next.
    fn probe(&self) -> Result<String>;

    /// Answers each chat of the batch, handing every reply over the moment it is there (so that it
    /// can be stored before anything else happens), in any order and from any thread, exactly once
    /// for each index unless an error ends the batch.
    ///
    /// A row that cannot be answered is a value, [`RowError`]. An `Err` of this function means that
    /// no row can be (wrong key, model file gone) and stops the run. An error of `on_reply` (full
    /// disk) ends the batch and is returned: answers that cannot be stored must not be bought.
    fn write(&self, batch: &[Prompted], on_reply: &OnReply<'_>) -> Result<()>;

    /// From now on this account is told what is spent, and says when to stop. Writers that cost nothing
    /// need none.
    fn pay_with(&self, _bill: Arc<Bill>) {}

    /// Begins nothing new; what is under way is finished. May be called from any thread.
    fn halt(&self) {}

    /// Whether anything would be asked.
    ///
    /// # Errors
    /// When nothing is any more; says why.
    fn ensure_open(&self) -> Result<()> {
        Ok(())
    }

    /// How each endpoint was used; nothing for a writer without any.
    fn usage(&self) -> Vec<Usage> {
        Vec::new()
    }
}

/// Takes the reply, or the error, of the chat at an index of the batch.
pub type OnReply<'a> = dyn Fn(usize, Result<Reply, RowError>) -> Result<()> + Sync + 'a;

/// A chat to be answered, with the seed of this attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompted {
    /// The messages.
    pub chat: Chat,
    /// Differs between the attempts of one row.
    pub seed: u64,
    /// JSON Schema of the answer. The chat asks for it in words too: not every server can be held to it.
    pub schema: Option<Arc<serde_json::Value>>,
}

/// A rendered conversation that ends with the user's turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chat {
    /// System message and worked examples: the same allocation for every row of a run, so that a
    /// writer can recognise it by pointer and keep its state.
    pub prefix: Arc<[Message]>,
    /// The last turn, the only one that differs between rows.
    pub user: String,
    /// A picture that belongs to it. Always bytes, never an address: a server must not be sent to fetch
    /// what a stranger wrote.
    pub picture: Option<Picture>,
}

/// An encoded picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// JPEG, PNG or WebP.
    pub bytes: Bytes,
    /// `image/jpeg` and so on.
    pub media_type: &'static str,
}

impl Chat {
    /// Every message in order, the user's last.
    pub fn messages(&self) -> impl Iterator<Item = (Role, &str)> {
        let prefix = self.prefix.iter().map(|m| (m.role, m.content.as_str()));
        prefix.chain(std::iter::once((Role::User, self.user.as_str())))
    }
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, without any chat-template tokens.
    pub content: String,
}

/// Who speaks; the names are those of every chat template and of the chat completions API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The instruction.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The word used in requests and chat templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// What a model said.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Exactly as it came.
    pub text: String,
    /// `stop`, `length`, or what the endpoint said.
    pub finish_reason: String,
    /// Completion tokens, where somebody counted them.
    pub tokens: Option<u32>,
    /// Tokens of the prompt, where somebody counted them.
    pub prompt_tokens: Option<u32>,
    /// What counts on the bill for tokens of the prompt and of the answer that nobody counted.
    pub estimated: (u32, u32),
    /// Money, by the configured prices.
    pub cost: f64,
    /// Model and revision, as exactly as the writer knows them.
    pub model: Arc<str>,
}

impl Reply {
    /// What it counts on a bill.
    pub fn spent(&self) -> Spent {
        let of = |counted: Option<u32>, estimated: u32| match counted {
            Some(counted) => (u64::from(counted), 0),
            None => (u64::from(estimated), u64::from(estimated)),
        };
        let (prompt_tokens, of_prompt) = of(self.prompt_tokens, self.estimated.0);
        let (completion_tokens, of_completion) = of(self.tokens, self.estimated.1);
        Spent {
            requests: 1,
            prompt_tokens,
            completion_tokens,
            estimated_tokens: of_prompt + of_completion,
            cost: self.cost,
        }
    }
}

/// Why one row has no reply.
#[derive(Clone, Debug, PartialEq)]
pub struct RowError {
    /// In words, without secrets.
    pub reason: String,
    /// Whether the same request may go better in another run.
    pub retryable: bool,
}

/// How many threads should call a writer, each with batches of how many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appetite {
    /// Callers at once.
    pub threads: usize,
    /// Rows of a call.
    pub batch: usize,
}
