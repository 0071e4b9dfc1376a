//! The numbers against those of books and of hand.

use super::*;

fn row(band: usize, flags: &[&str], verdicts: &[(&str, Verdict)]) -> Judged {
    let verdicts = verdicts.iter().map(|(name, verdict)| ((*name).to_owned(), *verdict));
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    Judged { band, nowhere: flags.len() > 1, flags, verdicts: verdicts.collect() }
}

fn close(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 5e-5, "{found} is not {wanted}");
}

#[test]
fn intervals_are_those_of_the_books() {
    // Newcombe 1998, table I, method 3.
    for (part, whole, low, high) in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ] {
        let rate = Rate::of(part, whole);
        close(rate.low, low);
        close(rate.high, high);
    }
    assert_eq!(Rate::of(0, 0).share, None);
}

#[test]
fn kappa_is_that_of_the_books() {
    // 20 both yes, 5 and 10 one alone, 15 both no: 0.7 observed, 0.5 by chance.
    let (yes, no) = (Verdict::Ok, Verdict::Hallucinated);
    let cells = [((yes, yes), 20), ((yes, no), 5), ((no, yes), 10), ((no, no), 15)];
    let said: Vec<_> =
        cells.into_iter().flat_map(|(pair, n)| std::iter::repeat_n(pair, n)).collect();
    close(kappa(&said).unwrap(), 0.4);
    assert_eq!(kappa(&[(yes, yes), (yes, yes)]), None);
    assert_eq!(kappa(&[]), None);
}

#[test]
fn of_three_reviewers_the_mean_of_the_pairs_counts() {
    use Verdict::Hallucinated as Bad;
    use Verdict::Ok as Good;
    let rows = [
        row(0, &[], &[("a", Good), ("b", Good), ("c", Bad)]),
        row(0, &[], &[("a", Bad), ("b", Bad), ("c", Good)]),
        row(0, &[], &[("a", Good)]),
    ];
    let found = Statistics::of(&rows, &[3, 0, 0, 0, 0]).agreement.unwrap();
    // a and b agree wholly (1), both differ from c wholly (-1).
    close(found.kappa.unwrap(), -1.0 / 3.0);
    close(found.same, 1.0 / 3.0);
    assert_eq!((found.rows, found.pairs), (2, 3));
}

#[test]
fn rows_have_the_verdict_of_most_and_of_as_many_the_worst() {
    use Verdict::*;
    let of = |verdicts: &[(&str, Verdict)]| consensus(&row(0, &[], verdicts).verdicts);
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[("a", Ok), ("b", Ok), ("c", Unusable)]), Some(Ok));
    assert_eq!(of(&[("a", Minor), ("b", Ok)]), Some(Minor));
}

#[test]
fn flags_are_as_good_as_what_they_find() {
    use Verdict::*;
    let rows = [
        row(0, &["email", "x"], &[("a", Hallucinated)]),
        row(0, &["email"], &[("a", Ok)]),
        row(0, &["email"], &[("a", Minor)]),
        row(0, &[], &[("a", Minor)]),
        row(0, &[], &[("a", Ok)]),
    ];
    let found = Statistics::of(&rows, &[5, 0, 0, 0, 0]);
    let of = |name: &str| found.flags.iter().find(|flag| flag.name == name).unwrap();
    let counts = |rate: Rate| (rate.part, rate.whole);
    assert_eq!(found.flags[0].name, "email");
    assert_eq!(counts(of("email").precision), (2, 3));
    assert_eq!(counts(of("email").recall), (2, 3));
    assert_eq!(counts(of(NOWHERE).precision), (1, 1));
    assert_eq!(counts(of(NOWHERE).recall), (1, 3));
    assert_eq!((counts(found.wrong), counts(found.hallucinated)), ((3, 5), (1, 5)));
    let counts: Vec<u64> = found.counts.iter().map(|count| count.rows).collect();
    assert_eq!(counts, [2, 2, 1, 0, 0]);
}

#[test]
fn bands_weigh_what_they_have_in_the_run() {
    use Verdict::*;
    // Band 0: 100 rows, half of two wrong; band 4: 900 rows, none of two; band 2 nobody saw.
    let rows = [
        row(0, &[], &[("a", Hallucinated)]),
        row(0, &[], &[("a", Ok)]),
        row(4, &[], &[("a", Ok)]),
        row(4, &[], &[("a", Ok)]),
    ];
    let found = Statistics::of(&rows, &[100, 0, 250, 0, 900]).weighted.unwrap();
    close(found.wrong.share, 0.05);
    close(found.covered, 0.8);
    // 1 / (0.01 / 2 + 0.81 / 2) = 2.43902 verdicts' worth; Wilson of 0.05 among so many.
    close(found.wrong.low, 0.001_496);
    close(found.wrong.high, 0.648_989);
    assert!(Statistics::of(&[], &[1; BANDS]).weighted.is_none());
}
