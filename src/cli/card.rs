//! `recaption card`: a run described for people and for machines.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::curate::card;
use crate::curate::card::About;

#[derive(Args)]
pub(super) struct Card {
    /// The folder of a run.
    run: PathBuf,
    /// Name of the data set; that of the folder by itself.
    #[arg(long)]
    name: Option<String>,
    /// Its licence as the Hub names it, as cc-by-4.0.
    #[arg(long)]
    license: Option<String>,
    /// Where it can be found.
    #[arg(long)]
    url: Option<String>,
    /// Who made it.
    #[arg(long)]
    creator: Option<String>,
    /// The day it came out, as 2026-05-01.
    #[arg(long, value_name = "DATE")]
    published: Option<String>,
    /// Replace files that this command did not write, or that were edited since.
    #[arg(long)]
    force: bool,
}

impl Card {
    pub(super) fn run(self) -> Result<()> {
        let Card { run, name, license, url, creator, published, force } = self;
        let about = About { name, license, url, creator, published };
        for path in card::write(&run, &about, force)? {
            println!("{}", path.display());
        }
        let wanted = [
            ("--license", &about.license),
            ("--url", &about.url),
            ("--creator", &about.creator),
            ("--published", &about.published),
        ];
        let missing: Vec<&str> =
            wanted.into_iter().filter(|(_, value)| value.is_none()).map(|(flag, _)| flag).collect();
        if !missing.is_empty() {
            eprintln!("Croissant asks for more than a run knows: {}", missing.join(", "));
        }
        Ok(())
    }
}
