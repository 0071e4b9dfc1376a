use super::*;
use proptest::prelude::prop_assert;
use proptest::prelude::prop_assert_eq;
use proptest::proptest;

fn are_apart(places: &[Range<u64>], rows: u64, of: u64) -> Result<(), String> {
    let taken: u64 = places.iter().map(|place| place.end - place.start).sum();
    let is_apart = places.windows(2).all(|pair| pair[0].end <= pair[1].start);
    let is_within = places.iter().all(|place| place.start < place.end && place.end <= of);
    match taken == rows.min(of) && is_apart && is_within {
        true => Ok(()),
        false => Err(format!("{rows} of {of}: {places:?}")),
    }
}

proptest! {
    #[test]
    fn places_are_apart_in_order_and_have_the_rows(
        rows in 0u64..500, of in 0u64..5_000, seed: u64,
    ) {
        prop_assert_eq!(are_apart(&places(rows, of, seed), rows, of), Ok(()));
    }

    #[test]
    fn places_of_nearly_all_rows_are_apart_too(rows in 0u64..500, more in 0u64..40, seed: u64) {
        let of = rows + more;
        prop_assert_eq!(are_apart(&places(rows, of, seed), rows, of), Ok(()));
    }

    #[test]
    fn numbers_are_finite_and_in_order(
        counts in proptest::collection::vec((1u64..12, 0u64..12, 0u64..5_000), 0..30), more in 0u64..900,
    ) {
        let mut finished = Duration::ZERO;
        let place = |(rows, rejected, took): &(u64, u64, u64)| {
            finished += Duration::from_millis(*took);
            let rejected = BTreeMap::from([("blank".to_owned(), *rejected.min(rows))]);
            Place { rows: *rows, rejected, cost: *took as f64, finished, ..Place::default() }
        };
        let mut pilot = Pilot { of: 0, places: counts.iter().map(place).collect() };
        pilot.of = pilot.rows() + more;
        let Forecast { refined, rejected, cost, seconds, .. } = pilot.forecast();
        for Expected { pilot, all, low, high } in [refined, rejected, cost, seconds] {
            prop_assert!([pilot, all, low, high].iter().all(|number| number.is_finite()));
            prop_assert!(low <= all + 1e-6 && all <= high + 1e-6, "{} {} {}", low, all, high);
        }
    }
}

#[test]
fn seeds_choose_other_places() {
    assert_eq!(places(200, 100_000, 1), places(200, 100_000, 1));
    assert_ne!(places(200, 100_000, 1), places(200, 100_000, 2));
    assert_eq!(places(200, 100_000, 1).len(), 20);
    assert_eq!(places(7, 100_000, 1).len(), 7);
    assert_eq!(places(40, 100_000, 1).len(), 10);
}

#[test]
fn quantiles_are_those_of_the_tables() {
    for (degrees, t) in [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (19, 2.093), (99, 1.984)]
    {
        assert!((student(degrees) / t - 1.0).abs() < 0.01, "{degrees}: {}", student(degrees));
    }
}

/// Rows with what each costs; None is a reject.
type Rows = Vec<Option<f64>>;

fn tried(rows: &Rows, seed: u64) -> Pilot {
    let place = |range: Range<u64>| {
        let mut place = Place { rows: range.end - range.start, ..Place::default() };
        for row in range {
            match rows[row as usize] {
                Some(cost) => place.cost += cost,
                None => *place.rejected.entry("blank".to_owned()).or_default() += 1,
            }
        }
        place
    };
    let of = rows.len() as u64;
    Pilot { of, places: places(200, of, seed).into_iter().map(place).collect() }
}

/// Of 400 pilots, those whose intervals hold the cost, the rejects, and the cost by an interval that takes
/// rows for independent.
fn held(rows: &Rows) -> [usize; 3] {
    let truth: f64 = rows.iter().flatten().sum();
    let rejects = rows.iter().filter(|row| row.is_none()).count() as f64;
    let n = 200.0;
    let of_rows: Vec<f64> = rows.iter().map(|row| row.unwrap_or(0.0)).collect();
    let mean = truth / of_rows.len() as f64;
    let variance =
        of_rows.iter().map(|cost| (cost - mean).powi(2)).sum::<f64>() / of_rows.len() as f64;
    let naive = Z * (variance / n).sqrt() * of_rows.len() as f64;
    let mut held = [0; 3];
    for seed in 0..400 {
        let Forecast { cost, rejected, .. } = tried(rows, seed).forecast();
        held[0] += usize::from(cost.low <= truth && truth <= cost.high);
        held[1] += usize::from(rejected.low <= rejects && rejects <= rejected.high);
        held[2] += usize::from((cost.all - truth).abs() <= naive);
    }
    held
}

/// 95 of 100 intervals hold what is true, for costs that differ much from row to row.
#[test]
fn intervals_hold_what_comes() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    // A fifth of the rows is rejected and costs nothing, the others cost 1 to 9.
    let rows: Rows = (0..10_000)
        .map(|_| random.random_bool(0.8).then(|| random.random_range(1.0..9.0)))
        .collect();
    let [cost, rejects, _] = held(&rows);
    assert!((366..=396).contains(&cost) && (366..=396).contains(&rejects), "{cost}, {rejects}");
}

/// The same where hosts have 5 to 60 rows that are next to each other: some fail as a whole, and the texts of
/// the others are about as long.
#[test]
fn intervals_hold_what_comes_of_rows_that_are_alike() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut rows = Rows::new();
    while rows.len() < 20_000 {
        let (fails, level) = (random.random_bool(0.15), random.random_range(1.0..9.0));
        for _ in 0..random.random_range(5..60) {
            let is_fine = random.random_bool(if fails { 0.1 } else { 0.98 });
            rows.push(is_fine.then(|| level + random.random_range(-0.5..0.5)));
        }
    }
    let [cost, rejects, naive] = held(&rows);
    assert!((366..=396).contains(&cost) && (366..=396).contains(&rejects), "{cost}, {rejects}");
    assert!(naive < 280, "rows are not alike enough to show anything: {naive}");
}

#[test]
fn a_pilot_of_everything_is_certain() {
    let place = |rejected: u64| {
        let rejects = BTreeMap::from([("blank".to_owned(), rejected)]);
        let cost = 0.5 * (10 - rejected) as f64;
        Place { rows: 10, rejected: rejects, cost, ..Place::default() }
    };
    let pilot = Pilot { of: 50, places: [1, 0, 5, 4, 0].map(place).to_vec() };
    let forecast = pilot.forecast();
    let certain = |all: f64| Expected { pilot: all, all, low: all, high: all };
    assert_eq!((forecast.refined, forecast.cost), (certain(40.0), certain(20.0)));
    assert_eq!(forecast.reasons["blank"], certain(10.0));
}

fn at(seconds: f64) -> Place {
    Place { rows: 10, finished: Duration::from_secs_f64(seconds), ..Place::default() }
}

#[test]
fn time_is_that_of_places_after_the_first() {
    let pilot = Pilot { of: 400, places: [9.0, 11.0, 13.0, 15.0].map(at).to_vec() };
    let Expected { pilot, all, low, high } = pilot.forecast().seconds;
    // 0.2 s a row after the first ten.
    for number in [all, low, high] {
        assert!((number - 87.0).abs() < 1e-9, "{low} {all} {high}");
    }
    assert_eq!(pilot, 15.0);
    let empty = Pilot::default().forecast();
    assert_eq!((empty.seconds.all, empty.cost.all), (0.0, 0.0));
}

/// Batches of 50 rows take 4 to 6 s each, which places of 10 rows show as four that took nothing and one that
/// took all; the mean of what places took after the first would be too low by a fifth.
#[test]
fn batches_that_are_larger_than_places_are_taken_as_they_come() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let (mut held, mut sum) = (0, 0.0);
    for _ in 0..400 {
        let (of, mut now, mut places) = (2_000, 8.0, Vec::new());
        for batch in 0..of / 50 {
            now += random.random_range(4.0..6.0);
            if batch < 5 {
                places.extend((0..5).map(|place| at(now + 0.002 * f64::from(place))));
            }
        }
        let seconds = Pilot { of, places }.forecast().seconds;
        held += usize::from(seconds.low <= now && now <= seconds.high);
        sum += seconds.all / now;
    }
    assert!((366..=396).contains(&held), "{held} of 400");
    assert!((0.98..1.02).contains(&(sum / 400.0)), "{}", sum / 400.0);
}

#[test]
fn a_pilot_that_was_one_batch_says_at_most() {
    let pilot = Pilot { of: 1_000, places: [6.0, 6.01, 6.02, 6.03].map(at).to_vec() };
    let Expected { all, low, high, .. } = pilot.forecast().seconds;
    assert!((all - 150.75).abs() < 1e-9 && high == all && (low - 6.03).abs() < 1e-9, "{all} {low}");
}
