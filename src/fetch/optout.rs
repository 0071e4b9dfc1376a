//! Whether a host asked, by `X-Robots-Tag`, that a picture not be used for this.
//!
//! The grammar in use is `[name:] directive, directive, ...` with a name that addresses one robot
//! and a few directives that carry a value. What cannot be read counts as an opt-out: somebody
//! wanted to say something, and guessing wrong would be at their cost.

use reqwest::header::HeaderMap;

use crate::fetch::config::Config;

/// Directives whose value follows after a colon, as a robot's name would precede one.
const WITH_VALUE: [&str; 4] =
    ["max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"];

/// Which directives are honoured, and under which name we are addressed. All in lower case.
#[derive(Clone, Debug)]
pub(crate) struct OptOut {
    name: String,
    directives: Vec<String>,
}

impl OptOut {
    pub(crate) fn new(config: &Config) -> OptOut {
        let mut directives: Vec<String> =
            config.opt_out_directives.iter().map(|d| d.trim().to_ascii_lowercase()).collect();
        if directives.iter().any(|d| d == "noindex") {
            // `none` is the short form of "noindex, nofollow".
            directives.push("none".into());
        }
        OptOut { name: config.user_agent_token.trim().to_ascii_lowercase(), directives }
    }

    /// The words that opt out, if any header says so.
    pub(crate) fn find(&self, headers: &HeaderMap) -> Option<String> {
        headers.get_all("x-robots-tag").iter().find_map(|value| match value.to_str() {
            Ok(text) => self.find_in(text),
            Err(_) => Some("unreadable X-Robots-Tag".into()),
        })
    }

    /// One header. A name holds for all directives after it, up to the next name: proxies join
    /// several headers into one.
    fn find_in(&self, text: &str) -> Option<String> {
        let text = text.to_ascii_lowercase();
        let mut for_us = true;
        let mut after_date = false;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if after_date && part.starts_with(|c: char| c.is_ascii_digit()) {
                // "unavailable_after: Saturday, 25 Jun 2010 15:00:00 GMT" has a comma of its own.
                continue;
            }
            let mut directive = part;
            if let Some((name, rest)) = part.split_once(':')
                && !WITH_VALUE.contains(&name.trim_end())
            {
                if !is_token(name.trim_end()) {
                    return Some(unreadable(part));
                }
                for_us = matches!(name.trim_end(), "*") || name.trim_end() == self.name;
                directive = rest.trim_start();
            }
            after_date = directive.starts_with("unavailable_after");
            match self.judge(directive) {
                Verdict::Unreadable => return Some(unreadable(part)),
                Verdict::OptOut if for_us => return Some(format!("X-Robots-Tag: {directive}")),
                Verdict::OptOut | Verdict::Other => {}
            }
        }
        None
    }

    fn judge(&self, directive: &str) -> Verdict {
        if self.directives.iter().any(|d| d == directive) {
            return Verdict::OptOut;
        }
        let name = directive.split_once(':').map_or(directive, |(name, _)| name.trim_end());
        let is_known = name != directive && WITH_VALUE.contains(&name);
        // "otherbot:" with nothing after it says nothing.
        if is_known || directive.is_empty() || is_token(directive) {
            Verdict::Other
        } else {
            Verdict::Unreadable
        }
    }
}

enum Verdict {
    OptOut,
    Other,
    Unreadable,
}

fn unreadable(part: &str) -> String {
    format!("unreadable X-Robots-Tag: {}", part.chars().take(80).collect::<String>())
}

/// A word, or a robot's name with a version or a wildcard.
fn is_token(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./*+".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opted_out(text: &str) -> bool {
        OptOut::new(&Config::default()).find_in(text).is_some()
    }

    #[test]
    fn directives_opt_out_in_any_case_and_position() {
        for text in [
            "noai",
            "NoAI",
            " NOINDEX ",
            "noimageai",
            "noimageindex",
            "noml",
            "none",
            "nofollow, noai",
            "nofollow,,noai",
            "max-snippet: 20, noai",
            "unavailable_after: Saturday, 25 Jun 2010 15:00:00 GMT, noai",
            "recaption: noai",
            "Recaption : NOAI",
            "*: noindex",
            "otherbot: nofollow, recaption: noai",
            "recaption: nofollow, noai",
            "max-image-preview:large, recaption: noindex",
        ] {
            assert!(opted_out(text), "{text:?}");
        }
    }

    #[test]
    fn other_words_and_other_robots_do_not() {
        for text in [
            "",
            ",",
            "all",
            "nofollow",
            "noarchive, nosnippet, notranslate",
            "max-image-preview:large",
            "max-snippet:-1, max-image-preview:large, max-video-preview:-1",
            "unavailable_after: 25 Jun 2010 15:00:00 PST",
            "unavailable_after: Saturday, 25 Jun 2010 15:00:00 GMT",
            "otherbot: noai",
            "otherbot: noai, noindex",
            "otherbot/2.1: none",
            "googlebot: noindex, bingbot: noai",
            "noaim",
        ] {
            assert!(!opted_out(text), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_counts_as_opted_out() {
        for text in
            ["noai;noindex", "no ai", "\"noai\"", "noai=1", ": noai", "otherbot: a; b: noai"]
        {
            assert!(opted_out(text), "{text:?}");
        }
    }

    #[test]
    fn names_and_directives_are_configurable() {
        let config = Config {
            user_agent_token: "MyBot".into(),
            opt_out_directives: vec!["NoAI".into()],
            ..Config::default()
        };
        let opt_out = OptOut::new(&config);
        assert!(opt_out.find_in("mybot: noai").is_some());
        assert!(opt_out.find_in("recaption: noai").is_none());
        assert!(opt_out.find_in("noindex").is_none());
        assert!(opt_out.find_in("none").is_none());
    }
}
