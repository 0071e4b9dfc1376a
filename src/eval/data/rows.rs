//! Rows of any dataset that [`Source`] reads, and which of them count.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;

use crate::eval::data::Pictures;
use crate::eval::data::labels::shown;
use crate::filter::Filter;
use crate::filter::Names;
use crate::sample::Item;
use crate::shard;
use crate::source;
use crate::source::Items;
use crate::source::Mapping;
use crate::source::Source;

/// Columns of labels that are taken without being told, if there is one of them.
const LABELS: [&str; 6] = ["label", "labels", "class", "category", "fine_label", "cls"];

/// A dataset and the rows that count.
pub(super) struct Rows {
    source: Source,
    filter: Option<Filter>,
}

impl Rows {
    pub(super) fn open(
        inputs: &[String],
        config: &source::Config,
        filter: Option<&str>,
    ) -> Result<Rows> {
        let source = shard::open_source(inputs, config)?;
        let plan = source.plan();
        let Mapping { key, url, text, .. } = plan.mapping.clone();
        let names = Names { key, url, text };
        let over = |text| Filter::parse(text)?.over(names, &plan.extra);
        let filter = filter.map(over).transpose()?;
        Ok(Rows { source, filter })
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// All columns but that of the picture.
    pub(super) fn columns(&self) -> Vec<String> {
        let plan = self.source.plan();
        let mapped = [&plan.mapping.key, &plan.mapping.url, &plan.mapping.text];
        let extra = plan.extra.iter().map(|column| column.name.clone());
        mapped.into_iter().flatten().cloned().chain(extra).collect()
    }

    pub(super) fn ensure_column(&self, name: &str) -> Result<()> {
        let columns = self.columns();
        ensure!(
            columns.iter().any(|column| column == name),
            "there is no column {name}; there are {}",
            shown(&columns)
        );
        Ok(())
    }

    /// The column of labels: the one told, else the only one with a usual name.
    pub(super) fn label_column(&self, told: Option<&str>) -> Result<String> {
        if let Some(name) = told {
            self.ensure_column(name)?;
            return Ok(name.to_owned());
        }
        let columns = self.columns();
        let mut known = columns.iter().filter(|name| LABELS.contains(&name.as_str()));
        match (known.next(), known.next()) {
            (Some(name), None) => Ok(name.clone()),
            _ => bail!("say which column holds the labels (label_column): {}", shown(&columns)),
        }
    }

    /// What a row has in a column; nothing where it is null.
    pub(super) fn cell(&self, item: &Item, name: &str) -> Option<Value> {
        let mapping = &self.source.plan().mapping;
        let is = |column: &Option<String>| column.as_deref() == Some(name);
        match () {
            () if is(&mapping.text) => item.text_raw.clone().map(Value::String),
            () if is(&mapping.key) => Some(Value::String(item.key.clone())),
            () if is(&mapping.url) => item.url.clone().map(Value::String),
            () => item.extra.get(name).cloned().filter(|value| !value.is_null()),
        }
    }

    /// Every row that counts, with its number.
    pub(super) fn each(&self, work: impl FnMut(u64, Item) -> Result<()>) -> Result<()> {
        self.counted(self.source.items(self.all())?, work)
    }

    /// The same without pictures, and with this column at least.
    pub(super) fn each_of_words(
        &self,
        column: &str,
        work: impl FnMut(u64, Item) -> Result<()>,
    ) -> Result<()> {
        let mut columns = BTreeSet::from([column.to_owned()]);
        columns.extend(self.filter.iter().flat_map(|filter| filter.columns().iter().cloned()));
        self.counted(self.source.words(self.all(), &columns)?, work)
    }

    fn all(&self) -> Range<u64> {
        0..self.source.plan().rows
    }

    fn counted(
        &self,
        items: Items<'_>,
        mut work: impl FnMut(u64, Item) -> Result<()>,
    ) -> Result<()> {
        for (row, item) in (0..).zip(items) {
            let item = item?;
            let counts = self.filter.as_ref().map_or(Ok(true), |filter| filter.keeps(&item))?;
            if counts {
                work(row, item)?;
            }
        }
        Ok(())
    }

    /// The pictures of these rows, with their keys.
    pub(super) fn pictures(self, rows: Vec<(String, u64)>) -> Pictures {
        Pictures::of_rows(self.source, rows)
    }

    /// The names of classes that Hugging Face `datasets` notes for a column of numbers.
    pub(super) fn noted_classes(&self, column: &str) -> Result<Option<Vec<String>>> {
        let Some(note) = self.source.note("huggingface")? else { return Ok(None) };
        // What cannot be read is somebody else's note under the same name.
        let note: Value = serde_json::from_str(&note).unwrap_or_default();
        let names = &note["info"]["features"][column]["names"];
        Ok(serde_json::from_value(names.clone()).ok())
    }
}

/// The files of a part of a dataset: its folder, or parquet files whose names begin with its name,
/// as on the Hugging Face hub.
pub(super) fn inputs(data: &Path, split: Option<&str>) -> Result<Vec<String>> {
    let Some(split) = split else { return Ok(vec![data.display().to_string()]) };
    if data.join(split).is_dir() {
        return Ok(vec![data.join(split).display().to_string()]);
    }
    let mut files = Vec::new();
    for folder in [data.to_owned(), data.join("data")].iter().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {folder:?}"))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let rest = name.strip_prefix(split).unwrap_or_default();
            if rest.starts_with(['-', '.', '_']) && rest.ends_with(".parquet") {
                files.push(path.display().to_string());
            }
        }
    }
    files.sort();
    ensure!(
        !files.is_empty(),
        "{} has no folder {split} and no {split}-*.parquet; if a column says which rows are of it, \
         use a filter: where = \"split == '{split}'\"",
        data.display()
    );
    Ok(files)
}
