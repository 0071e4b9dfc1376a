//! Rows picked by an expression over their columns: `audit.score > 0.6 and split == 'train'`.
//!
//! The expression is Jinja's, evaluated by `minijinja`. Nulls are those of SQL, which Jinja does not
//! have (there null is smaller than every number, so that `punsafe < 0.2` would keep the rows that
//! nobody rated): a comparison with null is neither true nor false, `and`, `or` and `not` pass that
//! on, and only rows for which the whole is true are kept. `x is none`, `x is not none` and
//! `x|default(0)` ask for the null itself. For this, `and`, `or`, `not` and brackets around them are
//! read here; what stands between them is Jinja's.

mod logic;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use minijinja::Environment;
use minijinja::Expression;
use minijinja::UndefinedBehavior;
use minijinja::Value as Word;
use minijinja::value::Serde;
use minijinja::value::ValueKind;
use regex::Regex;
use serde_json::Value;

use crate::filter::logic::Tree;
use crate::sample::ExtraColumn;
use crate::sample::Item;

/// Which rows are kept.
pub struct Filter {
    text: String,
    tree: Tree<Leaf>,
    columns: BTreeSet<String>,
    /// What a dataset calls the columns that items have under names of ours.
    own: Names,
}

/// What a dataset calls its keys, its addresses and the text of the web, where it has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The column of keys.
    pub key: Option<String>,
    /// The column of addresses.
    pub url: Option<String>,
    /// The column of texts.
    pub text: Option<String>,
}

/// A part of the expression without `and`, `or` and `not`.
struct Leaf {
    text: String,
    work: Expression<'static, 'static>,
    /// Every column that it reads, with its fields.
    paths: Vec<Vec<String>>,
    /// Whether it asks for null itself, and is to see it.
    sees_null: bool,
    /// A column and the kind of the literal that it is compared with.
    compared: Option<(Vec<String>, ValueKind)>,
}

/// Instructions an expression may take: a thousand times what ordinary ones need.
const FUEL: u64 = 100_000;

/// Columns that every item has.
const OURS: [&str; 3] = ["key", "url", "text_raw"];

/// How rows spell what is no number; it is as good as null, where no comparison holds either.
const NOT_A_NUMBER: &str = "NaN";

/// Columns that a message lists.
const SHOWN: usize = 60;

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    /// When it cannot be read, or reads no column at all.
    pub fn parse(text: &str) -> Result<Filter> {
        let named = || format!("the filter {text:?} cannot be read");
        let tree = logic::parse(text, &mut Leaf::parse).with_context(named)?;
        let mut columns = BTreeSet::new();
        tree.each(&mut |leaf| columns.extend(leaf.paths.iter().map(|path| path[0].clone())));
        ensure!(
            !columns.is_empty(),
            "the filter {text:?} reads no column, so that it keeps all rows or none; text stands in \
             quotes, as in split == 'train'"
        );
        Ok(Filter { text: text.to_owned(), tree, columns, own: Names::default() })
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The columns that it reads; of `audit.score`, `audit`.
    pub fn columns(&self) -> &BTreeSet<String> {
        &self.columns
    }

    /// The filter over a dataset with these columns beside the three that every item has.
    ///
    /// # Errors
    /// When it reads a column, or a field of one, that is not there.
    pub fn over(mut self, own: Names, extra: &[ExtraColumn]) -> Result<Filter> {
        self.own = own;
        let mut wrong = Ok(());
        self.tree.each(&mut |leaf| {
            for path in &leaf.paths {
                if wrong.is_ok() {
                    wrong = self.own.find(path, extra);
                }
            }
        });
        wrong.with_context(|| format!("the filter {:?} does not fit this data", self.text))?;
        Ok(self)
    }

    /// Whether the expression is true of this row; where nulls leave that open, it is not.
    ///
    /// # Errors
    /// When it cannot be evaluated: a number is asked of a text, or the like.
    pub fn keeps(&self, item: &Item) -> Result<bool> {
        let truth = self.tree.truth(&mut |leaf: &Leaf| leaf.truth(item, &self.own));
        let truth = truth.with_context(|| format!("the filter {:?}, row {}", self.text, item.key));
        Ok(truth? == Some(true))
    }
}

impl Names {
    /// The name of ours that a column of the dataset has.
    fn ours<'a>(&self, name: &'a str) -> &'a str {
        let is = |own: &Option<String>| own.as_deref() == Some(name);
        match () {
            () if is(&self.key) => "key",
            () if is(&self.url) => "url",
            () if is(&self.text) => "text_raw",
            () => name,
        }
    }

    fn find(&self, path: &[String], extra: &[ExtraColumn]) -> Result<()> {
        let (name, fields) = path.split_first().context("a name has a first part")?;
        let mut data_type = match extra.iter().find(|column| column.name == *name) {
            Some(column) => &column.data_type,
            None if OURS.contains(&self.ours(name)) => &Value::Null,
            None => bail!("there is no column {name}; there are {}", self.list(extra)),
        };
        let mut so_far = name.clone();
        for field in fields {
            let known = data_type.get("struct").and_then(Value::as_array);
            let known = known.with_context(|| format!("column {so_far} has no fields"))?;
            let found = known.iter().find(|known| known["name"] == **field);
            let names = known.iter().filter_map(|known| known["name"].as_str());
            let names = || names.collect::<Vec<_>>().join(", ");
            let found = found
                .with_context(|| format!("{so_far} has no field {field}; it has {}", names()))?;
            (data_type, so_far) = (&found["type"], format!("{so_far}.{field}"));
        }
        Ok(())
    }

    fn list(&self, extra: &[ExtraColumn]) -> String {
        let own = [&self.key, &self.url, &self.text].into_iter().flatten().cloned();
        let own = own.filter(|name| !OURS.contains(&name.as_str()));
        let all: Vec<String> = OURS.iter().map(|name| (*name).to_owned()).chain(own).collect();
        let all = all.into_iter().chain(extra.iter().map(|column| column.name.clone()));
        let all: Vec<String> = all.collect();
        let rest = all.len().saturating_sub(SHOWN);
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        format!("{}{more}", all[..all.len().min(SHOWN)].join(", "))
    }
}

impl Leaf {
    fn parse(text: &str) -> Result<Leaf> {
        let work = JINJA.compile_expression_owned(text.to_owned());
        let work = work.with_context(|| format!("at {text:?}"))?;
        let split = |name: String| name.split('.').map(str::to_owned).collect::<Vec<String>>();
        let mut paths: Vec<_> = work.undeclared_variables(true).into_iter().map(split).collect();
        paths.sort();
        let bare = logic::without_strings(text);
        let sees_null = ASKS_FOR_NULL.is_match(&bare);
        Ok(Leaf { work, sees_null, compared: compared(text), paths, text: text.to_owned() })
    }

    /// Nothing where a column that it compares is null.
    fn truth(&self, item: &Item, own: &Names) -> Result<Option<bool>> {
        let is_null = |path: &Vec<String>| value(item, own, path).is_none();
        if !self.sees_null && self.paths.iter().any(is_null) {
            return Ok(None);
        }
        self.ensure_comparable(item, own)?;
        let names = self.paths.iter().map(|path| path[0].clone());
        let words = names.map(|name| {
            let word = value(item, own, std::slice::from_ref(&name));
            (name, word.map_or(Word::from(()), |value| Word::from(Serde(value))))
        });
        let words = Word::from_pairs(words);
        let found = self.work.eval(words).with_context(|| format!("at {:?}", self.text))?;
        Ok(Some(found.is_true()))
    }

    /// Jinja orders every text behind every number: of a table whose numbers are text, `width > 5`
    /// would keep all rows and say nothing.
    fn ensure_comparable(&self, item: &Item, own: &Names) -> Result<()> {
        let Some((path, literal)) = &self.compared else { return Ok(()) };
        let Some(value) = value(item, own, path) else { return Ok(()) };
        let name = path.join(".");
        match (Word::from(Serde(&value)).kind(), literal) {
            (ValueKind::String, ValueKind::Number) => bail!(
                "{name} is text here ({value}), which has no order with a number: write \
                 {name}|float or put the other side in quotes"
            ),
            (ValueKind::Number, ValueKind::String) => {
                bail!("{name} is a number here ({value}): leave the quotes of the other side away")
            }
            _ => Ok(()),
        }
    }
}

/// Alone in its Jinja: no templates, no loader.
static JINJA: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut jinja = Environment::new();
    jinja.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    jinja.set_fuel(Some(FUEL));
    jinja
});

/// Tests and filters that are made for nulls.
static ASKS_FOR_NULL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"\bis\s+(?:not\s+)?(?:none|defined|undefined)\b|\|\s*(?:default|d)\b")
});

/// A name compared with a number or a text.
static COMPARED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"^\s*([A-Za-z_][\w.]*)\s*(?:==|!=|<=|>=|<|>)\s*(?:(-?[\d.][\d._eE+-]*)|'[^']*'|"[^"]*")\s*$"#,
    )
});

fn pattern(pattern: &'static str) -> Regex {
    Regex::new(pattern).expect("constant patterns")
}

fn compared(leaf: &str) -> Option<(Vec<String>, ValueKind)> {
    let found = COMPARED.captures(leaf)?;
    let kind = if found.get(2).is_some() { ValueKind::Number } else { ValueKind::String };
    Some((found[1].split('.').map(str::to_owned).collect(), kind))
}

/// What a row has there; nothing where that is null.
fn value(item: &Item, own: &Names, path: &[String]) -> Option<Value> {
    let (name, fields) = path.split_first()?;
    let text = |text: &String| Value::String(text.clone());
    let mut value = match item.extra.get(name) {
        Some(value) => value.clone(),
        None => match own.ours(name) {
            "key" => text(&item.key),
            "url" => text(item.url.as_ref()?),
            "text_raw" => text(item.text_raw.as_ref()?),
            _ => return None,
        },
    };
    for field in fields {
        value = value.get_mut(field.as_str())?.take();
    }
    (!value.is_null() && value != NOT_A_NUMBER).then_some(value)
}

#[cfg(test)]
mod tests;
