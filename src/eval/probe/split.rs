//! Parts of a data set that comes without parts.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Which of `rows` go to the one side and which to the other: of each class about this share to the
/// first, at least one if the class has two. Both sides are in the order of `rows`.
///
/// `targets` has the class of every row there is, not only of `rows`.
pub fn stratified(
    targets: &[usize],
    rows: &[usize],
    share: f64,
    seed: u64,
) -> (Vec<usize>, Vec<usize>) {
    let mut random = StdRng::seed_from_u64(seed);
    let classes = rows.iter().map(|&row| targets[row] + 1).max().unwrap_or(0);
    let mut of_class = vec![Vec::new(); classes];
    for &row in rows {
        of_class[targets[row]].push(row);
    }
    let mut is_first = vec![false; targets.len()];
    for class in &mut of_class {
        class.shuffle(&mut random);
        let wanted = (class.len() as f64 * share).round() as usize;
        let least = usize::from(class.len() > 1);
        let most = class.len() - least.min(class.len());
        class[..wanted.clamp(least.min(most), most)].iter().for_each(|&row| is_first[row] = true);
    }
    rows.iter().partition(|&&row| is_first[row])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_on_both_sides_and_no_row_on_two() {
        let targets: Vec<usize> =
            (0..100).map(|i| if i < 90 { 0 } else { 1 }).chain([2, 3, 3]).collect();
        let rows: Vec<usize> = (0..targets.len()).collect();
        let (first, second) = stratified(&targets, &rows, 0.8, 7);
        let count =
            |side: &[usize], class| side.iter().filter(|&&row| targets[row] == class).count();
        assert_eq!([0, 1, 3].map(|class| count(&first, class)), [72, 8, 1]);
        assert_eq!([0, 1, 3].map(|class| count(&second, class)), [18, 2, 1]);
        let mut all = [first.clone(), second].concat();
        all.sort_unstable();
        assert_eq!(all, rows);
        assert_eq!(stratified(&targets, &rows, 0.8, 7).0, first);
        assert_ne!(stratified(&targets, &rows, 0.8, 8).0, first);
        assert_eq!(stratified(&targets, &[], 0.8, 7), (vec![], vec![]));
    }
}
