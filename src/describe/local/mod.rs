//! The local writer's configuration.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// A GGUF model in this process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LocalConfig {
    /// The GGUF file.
    pub model: Option<PathBuf>,
    /// Threads that write at once, each with its own state.
    pub threads: usize,
    /// No reply is longer than this.
    pub max_new_tokens: usize,
}

impl Default for LocalConfig {
    fn default() -> LocalConfig {
        LocalConfig { model: None, threads: 1, max_new_tokens: 64 }
    }
}
