//! Which rows are trained on: those of which the filter is true, and that have a text.

use std::collections::BTreeSet;

use anyhow::Result;
use anyhow::ensure;

use crate::filter::Filter;
use crate::filter::Names;
use crate::source::Format;
use crate::source::Plan;
use crate::source::Source;
use crate::train::data::DataConfig;
use crate::train::data::LeftOut;
use crate::train::data::REFINED;
use crate::train::data::fingerprint::Fingerprint;
use crate::train::data::texts_of;

/// What is trained on.
pub(super) struct Picked {
    /// Numbers in the source, ascending.
    pub(super) rows: Vec<u32>,
    pub(super) left_out: LeftOut,
    pub(super) fingerprint: String,
}

/// How many rows pass between two reports of progress.
const REPORT_EACH: u32 = 1_000;

/// One pass over all rows, without their pictures.
pub(super) fn rows(
    config: &DataConfig,
    source: &Source,
    progress: &mut dyn FnMut(u64),
) -> Result<Picked> {
    let plan = source.plan();
    let over =
        |text: &Option<String>| text.as_deref().map(|text| filter_over(text, plan)).transpose();
    let (filter, except) = (over(&config.filter)?, over(&config.except)?);
    let columns = columns_of([&filter, &except]);
    let mut left_out = LeftOut::default();
    let (mut rows, mut hash) = (Vec::new(), Fingerprint::new(config, plan)?);
    for (row, item) in (0u32..).zip(source.words(0..plan.rows, &columns)?) {
        let item = item?;
        let texts = texts_of(&item);
        let is_wanted = filter.as_ref().map_or(Ok(true), |filter| filter.keeps(&item))?;
        let has_texts = config.require.iter().all(|&text| texts[text as usize].is_some());
        if !is_wanted || except.as_ref().map_or(Ok(false), |except| except.keeps(&item))? {
            left_out.filter += 1;
        } else if !has_texts || config.texts.total(&texts) <= 0.0 {
            left_out.no_text += 1;
        } else {
            rows.push(row);
            hash.push(row, &item, &texts);
        }
        if row % REPORT_EACH == REPORT_EACH - 1 {
            progress(u64::from(row) + 1);
        }
    }
    progress(plan.rows);
    let LeftOut { filter, no_text } = left_out;
    ensure!(
        !rows.is_empty(),
        "no row is left to train on: of {} rows, the filter leaves out {filter}, and {no_text} lack a \
         text that is wanted",
        plan.rows
    );
    Ok(Picked { rows, left_out, fingerprint: hash.finish() })
}

fn columns_of(filters: [&Option<Filter>; 2]) -> BTreeSet<String> {
    let filters = filters.into_iter().flatten();
    let filtered = filters.flat_map(|filter| filter.columns().iter().cloned());
    filtered.chain(REFINED.map(str::to_owned)).collect()
}

fn filter_over(text: &str, plan: &Plan) -> Result<Filter> {
    let mapping = plan.mapping.clone();
    let filter = Filter::parse(text)?;
    // Such keys are hashes of pictures, which are not read where rows are picked.
    let has_keys = plan.format != Format::Parquet || mapping.key.is_some();
    ensure!(
        has_keys || !filter.columns().contains("key"),
        "the filter {text:?} reads key, but the data have no column of keys"
    );
    let names = Names { key: mapping.key, url: mapping.url, text: mapping.text };
    filter.over(names, &plan.extra)
}
