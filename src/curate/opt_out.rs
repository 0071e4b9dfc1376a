//! Lists of rows that are not to be used: a line a key, an address, a domain or a hash.
//!
//! ```text
//! # a comment
//! 000123                             a key, or a url as the row has it
//! key:000123                         a key
//! url:https://a.example/cat.jpg      a url
//! prefix:https://a.example/private/  all urls that begin so
//! domain:example.com                 all urls of this host and of hosts below it
//! sha256:9f86d081...                 all rows with the same original bytes
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use reqwest::Url;

use crate::sample::Sample;

/// The lines of one or several lists.
#[derive(Debug, Default)]
pub struct OptOut {
    lines: Vec<String>,
    keys: HashMap<String, usize>,
    urls: HashMap<String, usize>,
    domains: HashMap<String, usize>,
    hashes: HashMap<String, usize>,
    prefixes: Vec<(String, usize)>,
}

impl OptOut {
    /// Reads lists.
    ///
    /// # Errors
    /// When one cannot be read; names file and line of what cannot be meant.
    pub fn read(paths: &[PathBuf]) -> Result<OptOut> {
        let mut list = OptOut::default();
        for path in paths {
            list.add(path)?;
        }
        Ok(list)
    }

    /// All lines without comments, in order.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Which lines name a row, ascending.
    pub fn matches(&self, sample: &Sample) -> Vec<usize> {
        let mut found: Vec<usize> = self.keys.get(&sample.item.key).copied().into_iter().collect();
        found.extend(self.hashes.get(&sample.sha256));
        if let Some(url) = &sample.item.url {
            found.extend(self.urls.get(url));
            let begun = self.prefixes.iter().filter(|(prefix, _)| url.starts_with(prefix.as_str()));
            found.extend(begun.map(|(_, line)| line));
            found.extend(self.domains_of(url));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The lines of a host and of every domain that it is below.
    fn domains_of(&self, url: &str) -> Vec<usize> {
        if self.domains.is_empty() {
            return Vec::new();
        }
        let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_lowercase));
        let Some(host) = host else { return Vec::new() };
        let dots = host.match_indices('.').map(|(dot, _)| dot + 1);
        let above = [0].into_iter().chain(dots).map(|start| host[start..].trim_end_matches('.'));
        above.filter_map(|domain| self.domains.get(domain).copied()).collect()
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the list of opt-outs {name}"))?;
        for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                self.line(line).with_context(|| format!("{name}:{number}"))?;
            }
        }
        Ok(())
    }

    /// Of a line that comes twice, both would name the same rows: it counts once.
    fn line(&mut self, line: &str) -> Result<()> {
        let place = self.lines.len();
        let (kind, rest) =
            line.split_once(':').map_or(("", line), |(kind, rest)| (kind, rest.trim()));
        let known = ["key", "url", "prefix", "domain", "sha256"].contains(&kind);
        if known && rest.is_empty() {
            bail!("nothing stands after {kind}:");
        }
        let is_new = match kind {
            "key" => insert(&mut self.keys, rest, place),
            "url" => insert(&mut self.urls, rest, place),
            "domain" => insert(&mut self.domains, &domain(rest)?, place),
            "sha256" => insert(&mut self.hashes, &hash(rest)?, place),
            "prefix" => {
                let is_new = self.prefixes.iter().all(|(prefix, _)| prefix != rest);
                self.prefixes.extend(is_new.then(|| (rest.to_owned(), place)));
                is_new
            }
            _ => {
                // Both, so that neither is passed over when one of them comes in another form.
                let key = insert(&mut self.keys, line, place);
                insert(&mut self.urls, line, place) || key
            }
        };
        if is_new {
            self.lines.push(line.to_owned());
        }
        Ok(())
    }
}

fn insert(map: &mut HashMap<String, usize>, name: &str, place: usize) -> bool {
    let is_new = !map.contains_key(name);
    map.entry(name.to_owned()).or_insert(place);
    is_new
}

/// As urls spell it: lower-case, and names that are not ASCII in Punycode.
fn domain(name: &str) -> Result<String> {
    let bare = name.trim_start_matches("*.").trim_matches('.');
    // What a url has besides a host: "example.com/cats" is not to be taken for all of example.com.
    let is_host = !bare.contains(['/', '\\', '?', '#', '@']) && !bare.ends_with(':');
    let url = is_host.then(|| Url::parse(&format!("http://{bare}/")).ok()).flatten();
    let host =
        url.filter(|url| url.port().is_none()).and_then(|url| url.host_str().map(str::to_owned));
    host.with_context(|| {
        format!("{name:?} is no domain; write domain:example.com, or prefix: for a part of one")
    })
}

fn hash(hex: &str) -> Result<String> {
    let hex = hex.to_lowercase();
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("{hex:?} is no SHA-256: it has 64 hexadecimal digits");
    }
    Ok(hex)
}

#[cfg(test)]
mod tests;
