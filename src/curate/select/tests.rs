//! What people's verdicts come to, and what becomes of a row.

use super::*;
use crate::atomic_file;
use crate::curate::select::opinion::Opinion;
use crate::curate::select::opinion::Opinions;
use crate::filter::Filter;
use crate::filter::Names;
use crate::review::Line;
use crate::sample::Audit;
use crate::sample::Fit;
use crate::sample::Reason;
use crate::sample::testing;
use crate::sample::testing::generated;

const TEXT: &str = "A dog.";

fn says(who: &str, verdict: Option<Verdict>, text: Option<&str>) -> Line {
    Line {
        key: "k".to_owned(),
        shard: 3,
        verdict,
        text: text.map(str::to_owned),
        text_sha256: atomic_file::sha256(TEXT.as_bytes()),
        reviewer: who.to_owned(),
        at: 1,
    }
}

fn sample() -> Sample {
    let mut sample = Sample {
        generated: Some(generated(TEXT)),
        generated_refused: Some("too long".to_owned()),
        audit: Audit { score: 0.25, ..Audit::default() },
        fit: Some(Fit { raw: Some(0.5), synthetic: None, generated: Some(0.5), model: "m".into() }),
        ..testing::sample("k")
    };
    sample.item.url = Some("https://a.example/k.jpg".to_owned());
    sample
}

fn opinion(lines: &[Line]) -> Option<Opinion> {
    Opinions::of(lines.to_vec()).on(3, "k", TEXT)
}

#[test]
fn the_verdict_of_most_wins_and_of_as_many_the_worst() {
    use Verdict::*;
    for (said, verdict) in [
        (vec![("ann", Ok)], Ok),
        (vec![("ann", Ok), ("ben", Unusable), ("eve", Ok)], Ok),
        (vec![("ann", Ok), ("ben", Hallucinated)], Hallucinated),
        (vec![("ann", WrongImage), ("ben", Minor), ("eve", Hallucinated)], WrongImage),
    ] {
        let lines: Vec<Line> = said.iter().map(|(who, v)| says(who, Some(*v), None)).collect();
        assert_eq!(opinion(&lines).unwrap().verdict, verdict, "{said:?}");
    }
}

#[test]
fn what_was_taken_back_or_is_about_another_text_says_nothing() {
    let ok = says("ann", Some(Verdict::Ok), None);
    assert!(opinion(std::slice::from_ref(&ok)).is_some());
    assert!(opinion(&[ok.clone(), says("ann", None, None)]).is_none());
    assert!(Opinions::of(vec![ok.clone()]).on(3, "k", "A cat.").is_none());
    assert!(Opinions::of(vec![ok.clone()]).on(2, "k", TEXT).is_none());
    assert!(Opinions::of(vec![ok.clone()]).on(3, "j", TEXT).is_none());
    let worse = says("ann", Some(Verdict::Unusable), None);
    assert_eq!(opinion(&[worse, ok]).unwrap().verdict, Verdict::Ok);
}

#[test]
fn of_several_edits_the_last_wins_and_one_that_changes_nothing_is_none() {
    let minor = Some(Verdict::Minor);
    let by = |text: &str, who: &str| Some((text.to_owned(), who.to_owned()));
    let lines =
        [says("ann", minor, Some("A big dog.")), says("ben", minor, Some(" A small dog.\n"))];
    assert_eq!(opinion(&lines).unwrap().edit, by("A small dog.", "ben"));
    let [ann, ben] = lines;
    assert_eq!(opinion(&[ben.clone(), ann.clone()]).unwrap().edit, by("A big dog.", "ann"));
    // The same reviewer without an edit takes the edit back.
    let again = says("ben", minor, None);
    assert_eq!(opinion(&[ann, ben, again]).unwrap().edit, by("A big dog.", "ann"));
    for text in ["A dog. ", "  "] {
        assert_eq!(opinion(&[says("ann", minor, Some(text))]).unwrap().edit, None);
    }
}

struct Case {
    accept: Vec<Verdict>,
    reviewed_only: bool,
    opt_out: &'static str,
    filter: Option<&'static str>,
    lines: Vec<Line>,
}

impl Case {
    fn of(lines: Vec<Line>) -> Case {
        let accept = vec![Verdict::Ok, Verdict::Minor];
        Case { accept, reviewed_only: false, opt_out: "", filter: None, lines }
    }

    fn decide(self) -> Decision {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        std::fs::write(&list, self.opt_out).unwrap();
        let rules = Rules {
            accept: self.accept,
            reviewed_only: self.reviewed_only,
            opt_out: OptOut::read(&[list]).unwrap(),
        };
        let parsed = |text| Filter::parse(text).unwrap().over(Names::default(), &[]).unwrap();
        let filter = self.filter.map(parsed);
        rules.decide(&sample(), 3, filter.as_ref(), &Opinions::of(self.lines)).unwrap()
    }

    fn became(self) -> String {
        match self.decide().fate {
            Fate::Keep => "kept".to_owned(),
            Fate::Edit { text, reviewer } => format!("{reviewer}: {text}"),
            Fate::Drop(reject) => reject.to_string(),
        }
    }
}

#[test]
fn an_edit_mends_every_verdict_but_unusable() {
    use Verdict::*;
    let said = |verdict, text| Case::of(vec![says("ann", Some(verdict), text)]).became();
    let edit = Some("A small dog.");
    assert_eq!(Case::of(Vec::new()).became(), "kept");
    assert_eq!(said(Ok, None), "kept");
    assert_eq!(said(Minor, edit), "ann: A small dog.");
    assert_eq!(said(Hallucinated, edit), "ann: A small dog.");
    assert_eq!(said(WrongImage, edit), "ann: A small dog.");
    for (verdict, text) in [(Hallucinated, None), (Unusable, None), (Unusable, edit)] {
        let became = said(verdict, text);
        let words = ["select", "verdict of people", verdict.as_str(), "ann"];
        assert!(words.iter().all(|word| became.contains(word)), "{became}");
    }
    let unusable = says("ann", Some(Unusable), edit);
    let all = Case { accept: Verdict::ALL.to_vec(), ..Case::of(vec![unusable]) };
    assert_eq!(all.became(), "ann: A small dog.");
}

#[test]
fn rows_that_nobody_judged_are_left_out_where_that_is_asked() {
    let only = |lines| Case { reviewed_only: true, ..Case::of(lines) };
    assert!(only(Vec::new()).became().contains("not reviewed"));
    assert_eq!(only(vec![says("ann", Some(Verdict::Ok), None)]).became(), "kept");
    let of_old_text = Line { text_sha256: "0".to_owned(), ..says("ann", Some(Verdict::Ok), None) };
    assert!(only(vec![of_old_text]).became().contains("not reviewed"));
}

#[test]
fn an_opt_out_goes_before_the_expression_and_that_before_people() {
    let bad = says("ann", Some(Verdict::Unusable), None);
    let case = |opt_out, filter| Case { opt_out, filter, ..Case::of(vec![bad.clone()]) };
    let all = case("x\ndomain:a.example\nk", Some("key == 'other'")).decide();
    assert_eq!((all.opted_out, all.verdicts), (vec![1, 2], 1));
    let Fate::Drop(reject) = all.fate else { panic!("it is dropped") };
    assert_eq!((reject.reason, reject.detail.as_str()), (Reason::OptedOut, "domain:a.example"));
    let Fate::Drop(reject) = case("", Some("key == 'other'")).decide().fate else {
        panic!("it is dropped")
    };
    assert_eq!((reject.reason, reject.detail.as_str()), (Reason::NotSelected, "key == 'other'"));
    assert!(case("", Some("key == 'k'")).became().contains("verdict of people"));
}

#[test]
fn an_edited_text_is_a_persons_and_has_nothing_of_the_old_one() {
    let mut sample = sample();
    decide::edit(&mut sample, "A small dog.".to_owned(), "ann");
    let generated = sample.generated.unwrap();
    assert_eq!((&*generated.writer, &*generated.model), ("human", "ann"));
    assert_eq!((generated.text.as_str(), generated.tokens), ("A small dog.", None));
    assert_eq!(sample.generated_refused, None);
    let fit = sample.fit.unwrap();
    assert_eq!((fit.raw, fit.generated), (Some(0.5), None));
}
