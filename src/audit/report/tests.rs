//! Pages of made reports: what is on them, and what never is.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::Digest;
use sha2::Sha256;

use super::*;
use crate::audit::Config;
use crate::audit::Texts;
use crate::audit::alike::Alike;
use crate::audit::alike::Pair;
use crate::audit::audit;
use crate::audit::mixup::MixedUp;
use crate::audit::mixup::Suspect;
use crate::audit::stems::Stems;
use crate::audit::survey::Worst;
use crate::audit::tally;
use crate::audit::tally::Tally;

const HOSTILE: &str =
    "<script>alert(1)</script>\"' onload=x src=http://evil.example/a.png {{ 123*1001 }}";

fn report_of(text: &str) -> Report {
    let tags = [Tag { label: text.to_owned(), score: 0.5, bbox: None, model: Arc::from(text) }];
    let texts = Texts {
        raw: Some(text),
        synthetic: Some(text),
        generated: Some(text),
        tags: &tags,
        references: &[],
        near: &[],
    };
    let audit = audit(&Config::default(), &texts);
    let mut tally = Tally::default();
    for row in 0..2 {
        let row = tally::Row {
            key: text,
            place: Place { shard: 0, row },
            texts,
            stems: &Stems::of(&texts),
            audit: &audit,
            fit: None,
            nsfw: None,
            model: Some(text),
            prompt: Some(text),
        };
        tally.add(&row);
    }
    let place = Place { shard: 0, row: 0 };
    let shown = Row {
        key: text.to_owned(),
        thumbnail: Some(b"\x89PNG\r\n\x1a\n<script>".to_vec()),
        text_raw: Some(text.to_owned()),
        text_synthetic: Some(text.to_owned()),
        text_generated: Some(text.to_owned()),
        writer: text.to_owned(),
        words: audit.words.clone(),
        tags: tags.to_vec(),
        score: audit.score,
        flags: vec![text.to_owned()],
        evidence: vec![text.to_owned()],
    };
    let own = || text.to_owned();
    Report {
        title: own(),
        subtitle: own(),
        facts: vec![Fact { name: own(), value: own() }],
        models: vec![Model { role: own(), name: own(), sha256: own() }],
        bill: Some(Bill {
            answers: 7_654_321,
            money: Some(own()),
            endpoints: vec![Endpoint { base_url: own(), out: Some(own()), ..Endpoint::default() }],
            ..Bill::default()
        }),
        funnel: vec![Stage { name: own(), entered: 1_234_567, rejected: 7 }],
        rejects: vec![Rejects {
            stage: own(),
            reason: own(),
            rows: 7,
            examples: vec![Rejected { key: own(), shard: 0, text_raw: Some(own()), detail: own() }],
        }],
        findings: Findings {
            summary: tally.summary(10),
            mixed_up: MixedUp { suspects: vec![Suspect::default()], ..MixedUp::default() },
            alike: Alike { pairs: vec![Pair::default()], ..Alike::default() },
            worst: vec![Worst { place, ..Worst::default() }],
        },
        sampled: vec![place],
        rows: BTreeMap::from([(place, shown)]),
    }
}

#[test]
fn markup_in_any_text_stays_text() {
    let report = report_of(HOSTILE);
    assert_eq!(report.places(), [Place::default(), Place { shard: 0, row: 1 }]);
    let page = render(&report).unwrap();
    // Among others in the cards, both sorts of pairs, the panels of lists and of rejected rows.
    assert!(page.matches("&lt;script&gt;alert(1)").count() > 60);
    let lower = page.to_lowercase();
    // Every tag of the page is one the template writes: no text opened another.
    for (at, _) in lower.match_indices('<') {
        let name: String = lower[at + 1..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || "/!".contains(*c))
            .collect();
        assert!(TAGS.contains(&name.trim_start_matches('/')), "<{name}");
    }
    for (at, _) in lower.match_indices("http:") {
        assert!(!lower[..at].ends_with("=\"") && !lower[..at].ends_with("=\'"));
    }
    assert!(!page.contains("123123"), "a template within a text was run");
}

const TAGS: [&str; 43] = [
    "!doctype", "html", "head", "meta", "title", "style", "body", "header", "main", "nav", "a",
    "section", "article", "h1", "h2", "h3", "p", "dl", "dt", "dd", "div", "span", "table", "thead",
    "tbody", "tr", "th", "td", "svg", "rect", "img", "ul", "li", "code", "footer", "ol", "strong",
    "mark", "path", "use", "image", "defs", "aside",
];

#[test]
fn the_page_asks_nobody_for_anything() {
    let page = render(&report_of("A red cat.")).unwrap();
    assert!(page.contains("default-src 'none'"));
    for forbidden in [
        "src=\"http",
        "src=http",
        "href=\"http",
        "url(",
        "@import",
        "<script",
        "style=\"",
        "javascript:",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    let style = page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next());
    let hash = BASE64.encode(Sha256::digest(style.unwrap()));
    assert!(page.contains(&format!("'sha256-{hash}'")), "the policy would forbid the style");
}

#[test]
fn an_empty_run_has_a_page_too() {
    let page = render(&Report { title: "empty".to_owned(), ..Report::default() }).unwrap();
    assert!(page.contains("<h1>empty</h1>") && !page.contains("knee"));
    assert!(!page.contains("NaN") && !page.contains("inf"));
}

#[test]
fn numbers_and_pictures_are_on_the_page() {
    let page = render(&report_of("A red cat.")).unwrap();
    assert!(page.contains("1\u{202f}234\u{202f}567"));
    assert!(page.contains("href=\"data:image/png;base64,"));
    let mut no_picture = report_of("A red cat.");
    let shown = no_picture.rows.values_mut().next().unwrap();
    shown.thumbnail = Some(b"<svg onload=alert(1)>".to_vec());
    assert!(!render(&no_picture).unwrap().contains("<image"));
}

#[test]
fn a_bill_has_its_sums_and_where_the_knee_is() {
    let mut report = report_of("A red cat.");
    let page = render(&report).unwrap();
    assert!(page.contains("7\u{202f}654\u{202f}321") && page.contains("given up: A red cat."));
    assert!(page.contains("0 answers · no knee up to 0 at once</span>"));
    let endpoint = &mut report.bill.as_mut().unwrap().endpoints[0];
    (endpoint.concurrency, endpoint.is_knee, endpoint.failed, endpoint.refused) = (48, true, 9, 3);
    let page = render(&report).unwrap();
    assert!(page.contains("9 failed, 3 of them refused · knee at 48 at once</span>"));
    let endpoint = &mut report.bill.as_mut().unwrap().endpoints[0];
    (endpoint.is_knee, endpoint.is_cap) = (false, true);
    assert!(render(&report).unwrap().contains("48 at once, which is the most</span>"));
}

#[test]
fn every_number_opens_a_panel_that_is_there() {
    for report in [report_of("A red cat."), Report::default()] {
        check_links(&render(&report).unwrap());
    }
    let page = render(&report_of("A red cat.")).unwrap();
    assert!(page.matches("href=\"#p").count() > 10 + 1);
}

fn check_links(page: &str) {
    let (mut links, mut ids) = (Vec::new(), Vec::new());
    for (start, found) in [("href=\"#", &mut links), (" id=\"", &mut ids)] {
        let pieces = page.split(start).skip(1);
        found.extend(pieces.filter_map(|piece| piece.split('"').next()));
    }
    for link in &links {
        assert!(ids.contains(link), "#{link}");
    }
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), ids.len(), "an id stands twice");
}
