//! Language models and how they are asked: endpoints and their limits, answers that are paid for once.
//!
//! Whoever wants something of a model (texts in `describe`, captions in `perceive`) renders [`Chat`]s and
//! judges replies; this module knows neither prompts nor pictures' meaning. A [`Writer`] turns chats into
//! replies, [`Remote`] is the one that asks OpenAI-compatible endpoints, and [`Purchases`] stands before
//! any of them, so that no answer is bought twice.
//!
//! ```text
//! purchases -> store, flights, claims    bought before? being asked now, here or by another process?
//!     |
//!   remote -> asking -> pool -> bill      as often as it takes, within what may be spent
//!               |         |
//!           endpoint    desk -> gate, limits    who may be asked, how much at once
//!               |
//!             wire                        one request, one answer
//! ```

mod asking;
pub mod bill;
pub mod cache;
mod claims;
pub mod config;
mod desk;
mod endpoint;
pub mod flights;
mod gate;
mod limits;
mod pool;
pub mod purchases;
pub mod remote;
pub mod store;
mod wire;
pub mod writer;

pub use crate::chat::bill::Bill;
pub use crate::chat::bill::Budget;
pub use crate::chat::bill::BudgetSpent;
pub use crate::chat::bill::Spent;
pub use crate::chat::bill::Statement;
pub use crate::chat::config::EndpointConfig;
pub use crate::chat::config::RemoteConfig;
pub use crate::chat::desk::Reached;
pub use crate::chat::desk::Usage;
pub use crate::chat::purchases::Purchases;
pub use crate::chat::purchases::Question;
pub use crate::chat::remote::Remote;
pub use crate::chat::store::Key;
pub use crate::chat::writer::Appetite;
pub use crate::chat::writer::Chat;
pub use crate::chat::writer::Message;
pub use crate::chat::writer::OnReply;
pub use crate::chat::writer::Picture;
pub use crate::chat::writer::Prompted;
pub use crate::chat::writer::Reply;
pub use crate::chat::writer::Role;
pub use crate::chat::writer::RowError;
pub use crate::chat::writer::Writer;
