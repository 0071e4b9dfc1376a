use proptest::prelude::*;

use super::*;

const END: i64 = 0;

fn rules(beams: usize, max_new_tokens: usize) -> Rules {
    Rules {
        start: 1,
        end: vec![END],
        max_new_tokens,
        beams,
        length_penalty: 1.0,
        early_stopping: EarlyStopping::Heuristic,
    }
}

/// A toy decoder: the logits after a prefix are a fixed function of it.
fn logits(seed: u64, prefix: &[i64], vocabulary: usize) -> Vec<f32> {
    let state = prefix.iter().fold(seed, |h, t| {
        (h ^ (*t as u64 + 1)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23)
    });
    let noise = |token: usize| {
        let x = (state ^ token as u64).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..vocabulary).map(|token| 6.0 * noise(token)).collect()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
    logits.iter().map(|l| f64::from(*l) - sum.ln()).collect()
}

/// In the order and precision of the search itself, so that near-ties fall the same way.
fn log_softmax_f32(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let log_sum = logits.iter().map(|l| (l - max).exp()).sum::<f32>().ln();
    logits.iter().map(|l| l - max - log_sum).collect()
}

fn run(rules: &Rules, seed: u64, vocabulary: usize) -> Hypothesis {
    let mut search = Search::new(rules);
    let mut rows: Vec<Vec<i64>> = vec![vec![]];
    loop {
        assert_eq!(search.rows(), rows.len());
        let all: Vec<f32> = rows.iter().flat_map(|r| logits(seed, r, vocabulary)).collect();
        match search.advance(rules, &all) {
            Step::Finished(hypothesis) => return hypothesis,
            Step::NotANumber => panic!("toy logits are finite"),
            Step::Continue { origins } => {
                let mut last = Vec::new();
                search.last_tokens(rules, &mut last);
                let extend = |(from, token): (&usize, &i64)| [&rows[*from][..], &[*token]].concat();
                rows = origins.iter().zip(&last).map(extend).collect();
            }
        }
    }
}

/// Each sequence that ends or is as long as allowed, with its penalised score.
fn every_sequence(seed: u64, vocabulary: usize, rules: &Rules) -> Vec<(Vec<i64>, f64)> {
    let mut done = Vec::new();
    let mut open = vec![(Vec::new(), 0.0)];
    while let Some((prefix, sum)) = open.pop() {
        for (token, p) in log_softmax(&logits(seed, &prefix, vocabulary)).into_iter().enumerate() {
            let sequence = [&prefix[..], &[token as i64]].concat();
            if token as i64 == END || sequence.len() == rules.max_new_tokens {
                let length = (sequence.len() as f64).powf(f64::from(rules.length_penalty));
                done.push((sequence, (sum + p) / length));
            } else {
                open.push((sequence, sum + p));
            }
        }
    }
    done
}

/// What transformers does, written as its tensors are: all beams from the start with -1e9 for all
/// but the first, sorting instead of selecting, flags as large negative numbers.
fn slow_beam(rules: &Rules, seed: u64, vocabulary: usize) -> Hypothesis {
    const NEVER: f32 = -1.0e9;
    let beams = rules.beams;
    let mut running = vec![(Vec::<i64>::new(), NEVER); beams];
    running[0].1 = 0.0;
    let mut finished = vec![(Vec::<i64>::new(), NEVER, false); beams];
    for length in 1..=rules.max_new_tokens {
        let mut all = Vec::new();
        for (prefix, sum) in &running {
            let log_probs = log_softmax_f32(&logits(seed, prefix, vocabulary));
            for (token, p) in log_probs.iter().enumerate() {
                all.push(([&prefix[..], &[token as i64]].concat(), p + sum));
            }
        }
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(rules.candidates());
        let hits = |s: &[i64]| s.last() == Some(&END) || s.len() == rules.max_new_tokens;
        let divisor = (length as f32).powf(rules.length_penalty);
        let mut next: Vec<_> =
            all.iter().map(|(s, p)| (s.clone(), if hits(s) { p + NEVER } else { *p })).collect();
        next.sort_by(|a, b| b.1.total_cmp(&a.1));
        next.truncate(beams);
        for (rank, (sequence, sum)) in all.into_iter().enumerate() {
            if rank < beams && hits(&sequence) {
                finished.push((sequence, sum / divisor, true));
            }
        }
        finished.sort_by(|a, b| b.1.total_cmp(&a.1));
        finished.truncate(beams);
        running = next;
        let worst = if finished.iter().all(|f| f.2) { finished[beams - 1].1 } else { NEVER };
        if running[0].1 / divisor <= worst {
            break;
        }
    }
    let (tokens, score, _) = finished.swap_remove(0);
    Hypothesis { tokens, score: Some(score) }
}

proptest! {
    #[test]
    fn beam_search_is_that_of_transformers(seed: u64, beams in 2..5usize, length in 1..8usize) {
        let rules = rules(beams, length);
        let (fast, slow) = (run(&rules, seed, 12), slow_beam(&rules, seed, 12));
        prop_assert_eq!(&fast.tokens, &slow.tokens);
        prop_assert!((fast.score.unwrap() - slow.score.unwrap()).abs() < 1e-4);
    }

    #[test]
    fn wide_beams_find_the_best_sequence_there_is(seed: u64, penalty in -1.0..1.5f32) {
        let rules = Rules {
            length_penalty: penalty,
            early_stopping: EarlyStopping::Exhaustive,
            ..rules(64, 3)
        };
        let found = run(&rules, seed, 4);
        let all = every_sequence(seed, 4, &rules);
        let best = all.iter().map(|(_, s)| *s).fold(f64::MIN, f64::max);
        prop_assert!((f64::from(found.score.unwrap()) - best).abs() < 1e-4);
    }

    #[test]
    fn greedy_takes_the_likeliest_token_each_time(seed: u64, length in 1..8usize) {
        let found = run(&rules(1, length), seed, 12).tokens;
        for (at, token) in found.iter().enumerate() {
            let logits = logits(seed, &found[..at], 12);
            prop_assert!(logits.iter().all(|l| *l <= logits[*token as usize]));
            prop_assert_eq!(*token == END || at + 1 == length, at + 1 == found.len());
        }
    }
}

#[test]
fn the_first_of_equal_tokens_is_taken() {
    assert_eq!(likeliest(&[1.0, 3.0, 3.0]), Some((1, 3.0)));
    assert_eq!(likeliest(&[f32::NEG_INFINITY, 0.0]), Some((1, 0.0)));
}

#[test]
fn logits_that_are_no_numbers_end_the_search() {
    for bad in [f32::NAN, f32::INFINITY] {
        for beams in [1, 4] {
            let rules = rules(beams, 5);
            let logits = [0.0, bad, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
            assert_eq!(Search::new(&rules).advance(&rules, &logits), Step::NotANumber);
        }
    }
    assert_eq!(likeliest(&[f32::NEG_INFINITY; 3]), None);
    assert_eq!(likeliest(&[]), None);
}

#[test]
fn stopping_at_the_first_finished_captions_is_never_later() {
    let mut sooner = 0;
    for seed in 0..200 {
        let patient = rules(3, 8);
        let hasty = Rules { early_stopping: EarlyStopping::FirstFinished, ..patient.clone() };
        let (patient, hasty) = (run(&patient, seed, 12), run(&hasty, seed, 12));
        assert!(hasty.score <= patient.score);
        sooner += usize::from(hasty.score < patient.score);
    }
    assert!(sooner > 0, "the two rules differ on some of 200 seeds");
}
