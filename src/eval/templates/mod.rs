//! Published class names and sentences of the data sets that CLIP models are compared on, by name.
//!
//! `published/` holds them as they stand in other people's packages (`ORIGIN.md`); nothing is written
//! from memory. Class names are in the order in which the data sets number their classes, which need not
//! be that of folders sorted by their names.

use serde::Deserialize;

use crate::eval::data::Metric;

/// What a name in a sentence is put in place of.
pub const PLACE: &str = "{}";

/// The sentence where nothing better is known.
pub const PLAIN: &str = "a photo of a {}.";

/// What is published about a data set.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// What it is called here.
    pub name: String,
    /// What else it is called.
    pub others: Vec<String>,
    /// Which number is told of it.
    pub metric: Metric,
    /// Sentences with `{}` for the name of a class.
    pub templates: Vec<String>,
    /// Names of the classes, in the order of their numbers.
    pub classes: Vec<String>,
}

const FILES: [&str; 11] = [
    include_str!("published/food101.json"),
    include_str!("published/cifar10.json"),
    include_str!("published/cifar100.json"),
    include_str!("published/sun397.json"),
    include_str!("published/cars.json"),
    include_str!("published/aircraft.json"),
    include_str!("published/dtd.json"),
    include_str!("published/pets.json"),
    include_str!("published/flowers.json"),
    include_str!("published/caltech101.json"),
    include_str!("published/imagenet.json"),
];

/// All of them, in the order of the paper's table of data sets.
pub fn all() -> impl Iterator<Item = Published> {
    FILES.iter().map(|text| serde_json::from_str(text).expect("a test reads each of these files"))
}

/// The data set of this name. Case and the prefixes of CLIP_benchmark (`wds/`, `vtab/`) do not count.
pub fn find(name: &str) -> Option<Published> {
    let name = name.to_lowercase().replace(['-', ' '], "_");
    let plain = name.trim_start_matches("wds/").trim_start_matches("wds_");
    let plain = plain.trim_start_matches("vtab/").trim_start_matches("vtab_");
    all().find(|set| set.name == plain || set.others.iter().any(|other| other == plain))
}

/// The names, for a message.
pub fn names() -> String {
    all().map(|set| set.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn as_many_classes_and_sentences_as_are_published() {
        use Metric::MeanPerClass;
        use Metric::Top1;
        let wanted = [
            ("food101", 1, 101, Top1),
            ("cifar10", 18, 10, Top1),
            ("cifar100", 18, 100, Top1),
            ("sun397", 2, 397, Top1),
            ("cars", 8, 196, Top1),
            ("aircraft", 2, 100, MeanPerClass),
            ("dtd", 8, 47, Top1),
            ("pets", 1, 37, MeanPerClass),
            ("flowers", 1, 102, MeanPerClass),
            ("caltech101", 34, 101, MeanPerClass),
            ("imagenet", 80, 1000, Top1),
        ];
        let found: Vec<_> = all()
            .map(|set| (set.name, set.templates.len(), set.classes.len(), set.metric))
            .collect();
        let wanted = wanted.map(|(name, t, c, metric)| (name.to_owned(), t, c, metric));
        assert_eq!(found, wanted);
    }

    #[test]
    fn every_sentence_has_one_place_and_every_name_is_a_clean_one() {
        for set in all() {
            for template in &set.templates {
                assert_eq!(template.matches(PLACE).count(), 1, "{}: {template}", set.name);
            }
            for class in &set.classes {
                assert_eq!(class, class.trim(), "{}", set.name);
                assert!(!class.is_empty() && !class.contains(['_', '{']), "{}: {class}", set.name);
            }
            let distinct: BTreeSet<_> = set.templates.iter().collect();
            assert_eq!(distinct.len(), set.templates.len(), "{}", set.name);
        }
    }

    #[test]
    fn one_data_set_goes_by_several_names() {
        for name in ["pets", "Oxford-Pets", "wds/vtab/pets", "oxford_iiit_pet"] {
            assert_eq!(find(name).unwrap().name, "pets", "{name}");
        }
        assert_eq!(find("ImageNet").unwrap().classes[0], "tench");
        assert_eq!(find("pet"), None);
        assert!(names().starts_with("food101, cifar10"));
    }
}
