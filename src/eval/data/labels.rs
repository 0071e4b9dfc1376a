//! What rows say about their class, as the number of one.

use std::collections::BTreeSet;
use std::collections::HashMap;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;

/// Classes that a message lists.
const SHOWN: usize = 12;

/// The classes of labelled rows, and the class of each row.
///
/// Numbers are places in `names`. Words are looked for there; without names they are the names, in
/// the order of the alphabet.
pub(super) fn numbered(
    labels: &[(String, Option<Value>)],
    names: Option<Vec<String>>,
) -> Result<(Vec<String>, Vec<usize>)> {
    let names = names.map_or_else(|| distinct_words(labels), Ok)?;
    let classes = Classes::new(&names);
    let targets = labels.iter().map(|(key, label)| match label {
        None => bail!("row {key} has no label; leave out such rows with a filter (where)"),
        Some(Value::Number(number)) => {
            let whole = number.as_u64().and_then(|number| usize::try_from(number).ok());
            match whole.filter(|&place| place < names.len()) {
                Some(place) => Ok(place),
                None => bail!(
                    "row {key}: label {number} is none of {} classes, which are 0 to {}",
                    names.len(),
                    names.len().saturating_sub(1)
                ),
            }
        }
        Some(label) => classes.find(&word(label)).with_context(|| format!("row {key}")),
    });
    let targets = targets.collect::<Result<_>>()?;
    Ok((names, targets))
}

/// The first parts of a label that is a path.
pub(super) fn cut(label: Value, depth: Option<usize>) -> Value {
    match (label, depth) {
        (Value::String(path), Some(depth)) => {
            Value::String(path.split('/').take(depth.max(1)).collect::<Vec<_>>().join("/"))
        }
        (label, _) => label,
    }
}

fn distinct_words(labels: &[(String, Option<Value>)]) -> Result<Vec<String>> {
    let mut words = BTreeSet::new();
    for (key, label) in labels {
        ensure!(
            !matches!(label, Some(Value::Number(_))),
            "row {key}: the label is a number, and nothing says which classes there are; give \
             classes"
        );
        words.extend(label.as_ref().map(word));
    }
    Ok(words.into_iter().collect())
}

fn word(label: &Value) -> String {
    label.as_str().map_or_else(|| label.to_string(), str::to_owned)
}

/// Classes by their names.
pub(super) struct Classes<'a> {
    names: &'a [String],
    exact: HashMap<&'a str, Vec<usize>>,
    loose: HashMap<String, Vec<usize>>,
}

impl<'a> Classes<'a> {
    pub(super) fn new(names: &'a [String]) -> Classes<'a> {
        let (mut exact, mut loose) = (HashMap::new(), HashMap::new());
        for (place, name) in names.iter().enumerate() {
            exact.entry(name.as_str()).or_insert_with(Vec::new).push(place);
            loose.entry(loosely(name)).or_insert_with(Vec::new).push(place);
        }
        Classes { names, exact, loose }
    }

    /// The class of this name; where none has exactly it, case and what stands for a space do not count.
    pub(super) fn find(&self, name: &str) -> Result<usize> {
        let places = self.exact.get(name).or_else(|| self.loose.get(&loosely(name)));
        match places.map(Vec::as_slice) {
            Some([place]) => Ok(*place),
            Some(_) => bail!("label {name:?} is the name of several classes"),
            None => bail!("label {name:?} is none of the classes: {}", shown(self.names)),
        }
    }
}

fn loosely(name: &str) -> String {
    // No folder has a slash in its name, so those of published classes are written otherwise.
    name.to_lowercase().replace(['_', '-', '/'], " ")
}

/// Names for a message.
pub(super) fn shown(names: &[String]) -> String {
    let rest = names.len().saturating_sub(SHOWN);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}
