//! The local writer with a really trained model, fetched the way users fetch it.
//!
//! The network and the tokenizer are tested beside the code; here the whole path runs once: pull,
//! open by name, prompt, reply, checks, store. What it writes is weak, and no test says otherwise.

use std::sync::Arc;

use recaption::describe::Config;
use recaption::describe::Describer;
use recaption::describe::Request;
use recaption::describe::WriterKind;
use recaption::models::pip;
use recaption::models::pull;
use recaption::sample::Tag;

const MODEL: &str = "smollm2-135m";

#[test]
fn a_pulled_model_writes_sentences_that_pass_the_checks() {
    let cache = pip::cache_root().unwrap();
    let file = pull::pull(MODEL, &cache, &mut |line| println!("{line}")).unwrap();
    assert_eq!(pull::find(MODEL, &cache), Some(file));

    let mut config = Config { writer: WriterKind::Local, ..Config::default() };
    config.local.model = Some(MODEL.into());
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("requests.sqlite");
    let describer = Describer::open(&config, &store, "run").unwrap();
    assert!(describer.probe().unwrap().contains("134 million weights (f32), ChatML"));

    let tag = |label: &str| Tag {
        label: label.to_owned(),
        score: 0.9,
        bbox: None,
        model: Arc::from("m"),
    };
    let tags = [[tag("penguin")], [tag("bulb")], [tag("map")], [tag("fish")]];
    let raws = ["Emperor Penguin", "Lightbulb", "Spanish Regions", "Brown Fish<|im_end|>"];
    let requests: Vec<Request<'_>> = std::iter::zip(raws, &tags)
        .map(|(raw, tags)| Request { key: raw, raw: Some(raw), synthetic: None, tags })
        .collect();
    let answers = describer.describe(&requests).unwrap();
    let written: Vec<_> = answers
        .iter()
        .filter_map(|answer| answer.generated.as_ref())
        .filter(|generated| &*generated.writer == "local")
        .collect();
    assert!(written.len() >= 3, "{answers:#?}");
    for generated in written {
        assert!(generated.model.ends_with("@b179c952"), "{}", generated.model);
        assert_eq!(generated.finish_reason, "stop");
        assert!(generated.tokens.is_some_and(|tokens| tokens > 1));
    }
    // From the store now; another seed would be another question.
    drop(describer);
    let again = Describer::open(&config, &store, "run").unwrap();
    assert_eq!(again.describe(&requests).unwrap(), answers);
}
