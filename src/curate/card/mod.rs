//! The card of a run: `README.md` for Hugging Face and `croissant.json`, written into its folder.
//!
//! Numbers come from markers and rows. What only people know (licence, address, creator) is an argument
//! or is left out, never guessed.

mod croissant;
mod facts;
mod features;
mod readme;

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::atomic_file;
use crate::curate::card::facts::Facts;

/// What only people know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Name of the data set; that of the folder by itself.
    pub name: Option<String>,
    /// Licence as the Hub names it, as `cc-by-4.0`.
    pub license: Option<String>,
    /// Where the data set can be found.
    pub url: Option<String>,
    /// Who made it.
    pub creator: Option<String>,
    /// The day it came out, as `2026-05-01`.
    pub published: Option<String>,
}

/// What a run's card is called.
pub const README: &str = "README.md";
/// What its Croissant description is called.
pub const CROISSANT: &str = "croissant.json";

/// Before the hashes of both files, at the end of the card. Somebody's edit is known by them.
const MARK: &str = "<!-- written by recaption card: ";

/// Writes both files; their paths.
///
/// # Errors
/// When a file is there that this did not write, unless `force`; when the run cannot be read.
pub fn write(run: &Path, about: &About, force: bool) -> Result<[PathBuf; 2]> {
    let facts = Facts::read(run, about)?;
    let croissant = serde_json::to_string_pretty(&croissant::of(&facts, about))? + "\n";
    let text = readme::of(&facts, about);
    let [own, other] = [&text, &croissant].map(|text| atomic_file::sha256(text.as_bytes()));
    let card = format!("{text}{MARK}{own} {other} -->\n");
    let [card_path, croissant_path] = [run.join(README), run.join(CROISSANT)];
    if !force {
        ensure_ours(&card_path, &croissant_path)?;
    }
    atomic_file::write(&croissant_path, croissant.as_bytes())?;
    atomic_file::write(&card_path, card.as_bytes())?;
    Ok([card_path, croissant_path])
}

/// Both files are absent, or as they were written here.
fn ensure_ours(card: &Path, croissant: &Path) -> Result<()> {
    let (card_now, croissant_now) = (read(card)?, read(croissant)?);
    let (text, mark) = card_now.as_deref().and_then(|c| c.rsplit_once(MARK)).unwrap_or_default();
    let hashes = mark.trim_end().trim_end_matches(" -->").split_once(' ').unwrap_or_default();
    let checks = [(card, card_now.as_ref().map(|_| text), hashes.0)];
    let checks = checks.into_iter().chain([(croissant, croissant_now.as_deref(), hashes.1)]);
    for (path, text, hash) in checks {
        let is_ours = text.is_none_or(|text| atomic_file::sha256(text.as_bytes()) == hash);
        ensure!(
            is_ours,
            "{} was not written by this command, or was edited since; --force replaces it",
            path.display()
        );
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
