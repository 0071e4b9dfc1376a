//! What speaks against a text, as numbers: the indicators that the trust score is made of.
//!
//! Each doubt is 0 where nothing speaks against the text and grows with what does. An absent object
//! that is added to a text lowers none of them; that is why the score never rises by it.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::bindings;
use crate::audit::bindings::Modifier;
use crate::audit::bindings::Place;
use crate::audit::bindings::Relation;
use crate::audit::reading::Reading;
use crate::audit::reading::Token;
use crate::audit::words::Found;
use crate::audit::words::Known;
use crate::audit::words::Sources;
use crate::sample::Kind;
use crate::sample::Link;
use crate::sample::Origin;

macro_rules! doubts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The doubts about a text, or what each of them weighs.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct Doubts { $($(#[$doc])* pub $name: f32,)* }

        impl Doubts {
            /// Their names, in order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// Their values, in order.
            pub fn values(&self) -> Vec<f32> {
                vec![$(self.$name,)*]
            }

            /// The doubts with these values; what is missing is 0.
            pub fn of(values: &[f32]) -> Doubts {
                let mut values = values.iter().copied();
                Doubts { $($name: values.next().unwrap_or(0.0),)* }
            }
        }
    };
}

doubts! {
    /// Objects from nowhere, a narrower or related word counted in part; times coverage.
    objects,
    /// How near the nearest object that only the sources have comes to one from nowhere: `cat` where
    /// they have a dog. Times coverage.
    rivals,
    /// Attributes from nowhere, times coverage.
    attributes,
    /// Actions from nowhere, times coverage.
    actions,
    /// Numbers from nowhere.
    numbers,
    /// Names from nowhere.
    names,
    /// Other words from nowhere, and one for a text that breaks off; times coverage.
    others,
    /// Share of the content words that come from nowhere.
    share,
    /// Modifiers and relations that contradict what a source says of the same thing.
    contradictions,
    /// Relations that no source has, to things that one has; times coverage.
    relations,
    /// Share of the sources that name an object of which the text says nothing; of the object that
    /// most of them name, where two do at least.
    lost,
    /// Words that the text lacks to be a description.
    short,
    /// Share of the content words that only the raw text has.
    web,
}

/// A contradiction, in words.
pub(super) struct Contradiction {
    /// What the text says.
    pub(super) said: String,
    /// What a source says.
    pub(super) instead: String,
    /// The relation, if it is one.
    pub(super) relation: Option<Relation>,
}

/// A text beside its sources.
pub(super) struct Case<'a> {
    pub(super) text: &'a str,
    pub(super) reading: &'a Reading<'a>,
    pub(super) sources: &'a Sources,
    pub(super) found: &'a [Option<Found>],
    pub(super) relations: &'a [Relation],
}

impl Case<'_> {
    pub(super) fn doubts(
        &self,
        min_words: usize,
        contradictions: usize,
        is_unfinished: bool,
    ) -> Doubts {
        let mut doubts = Doubts::default();
        let coverage = self.coverage();
        let (mut nowhere, mut supported) = (0.0, 0);
        let (mut of_web, all) = (0.0, self.reading.words.len().max(1) as f32);
        for (token, found) in self.reading.words.iter().zip(self.found) {
            let suspicion = suspicion(*found) * telling(token);
            match token.kind {
                Kind::Object => doubts.objects += suspicion * coverage,
                Kind::Attribute => doubts.attributes += suspicion * coverage,
                Kind::Action => doubts.actions += suspicion * coverage,
                Kind::Number => doubts.numbers += suspicion,
                Kind::Name => doubts.names += suspicion,
                Kind::Relation | Kind::Other => doubts.others += suspicion * coverage,
            }
            nowhere += suspicion;
            supported += usize::from(found.is_some());
            of_web += f32::from(u8::from(found.is_some_and(|found| found.origin == Origin::Raw)));
        }
        // It lacks a word at least.
        doubts.others += if is_unfinished { coverage } else { 0.0 };
        doubts.share = nowhere / all;
        doubts.web = of_web / all;
        doubts.rivals = self.rivals() * coverage;
        doubts.contradictions = contradictions as f32;
        doubts.relations = self.new_relations() as f32 * coverage;
        doubts.lost = self.lost();
        doubts.short = min_words.saturating_sub(supported) as f32;
        doubts
    }

    /// How much the sources say, 0..1: a word that five captions lack is more suspect than one that a
    /// title lacks.
    fn coverage(&self) -> f32 {
        const HALF: f32 = 15.0;
        let words = self.sources.known().len() as f32;
        words / (words + HALF)
    }

    /// Objects from nowhere that stand where the sources have another one of their kind.
    fn rivals(&self) -> f32 {
        /// Below it, two things have nothing in common but being things.
        const STRANGERS: f32 = 0.5;
        let free: Vec<&Known> = self
            .sources
            .known()
            .iter()
            .enumerate()
            .filter(|(place, known)| known.kind == Kind::Object && !self.mentions(*place))
            .map(|(_, known)| known)
            .collect();
        let nearest = |token: &Token<'_>| {
            let near = free.iter().map(|known| token.entry.nearness(&known.entry));
            (near.fold(0.0, f32::max) - STRANGERS).max(0.0) / (1.0 - STRANGERS)
        };
        self.absent(Kind::Object).map(nearest).sum()
    }

    fn absent(&self, kind: Kind) -> impl Iterator<Item = &Token<'_>> {
        let words = self.reading.words.iter().zip(self.found);
        words.filter(move |(token, found)| token.kind == kind && found.is_none()).map(|(t, _)| t)
    }

    /// Whether the text has this word of the sources, or one that is linked with it.
    fn mentions(&self, known: usize) -> bool {
        let source = &self.sources.known()[known];
        self.reading.words.iter().zip(self.found).any(|(token, found)| {
            found.is_some_and(|found| found.known == Some(known))
                || token.entry.same(&source.entry)
                || token.entry.synonym(&source.entry)
                || token.entry.broader_than(&source.entry).is_some_and(|steps| steps < 6)
                || source.entry.broader_than(&token.entry).is_some()
        })
    }

    fn lost(&self) -> f32 {
        let texts = self.sources.looks();
        if texts.len() < 2 {
            return 0.0;
        }
        let mut times = std::collections::HashMap::<usize, usize>::new();
        for text in &texts {
            let mut objects: Vec<usize> = text
                .iter()
                .filter(|&&known| self.sources.known()[known].kind == Kind::Object)
                .map(|&known| self.sources.first_of(known))
                .collect();
            objects.sort_unstable();
            objects.dedup();
            objects.into_iter().for_each(|known| *times.entry(known).or_default() += 1);
        }
        let agreed = times.into_iter().filter(|(_, times)| *times >= 2);
        let lost = agreed.filter(|(known, _)| !self.mentions(*known)).map(|(_, times)| times).max();
        lost.unwrap_or(0) as f32 / texts.len() as f32
    }

    /// Where the text says of a thing what no source says of it, and a source the contrary.
    pub(super) fn contradictions(&self) -> Vec<Contradiction> {
        let mut all = Vec::new();
        let words = &self.reading.words;
        let pairs: Vec<(&Known, &Known)> = self
            .sources
            .texts
            .iter()
            .flat_map(|text| &text.bindings)
            .map(|&(modifier, thing)| {
                (&self.sources.known()[modifier], &self.sources.known()[thing])
            })
            .collect();
        for pair in bindings::bindings(self.text, self.reading) {
            let (modifier, thing) = (&words[pair.modifier], &words[pair.thing]);
            let of_thing = || {
                pairs
                    .iter()
                    .filter(|(_, other)| is_same(thing, other))
                    .map(|(modifier, _)| modifier)
            };
            let own = modifier_of(modifier);
            if of_thing()
                .any(|other| is_same(modifier, other) || modifier.entry.synonym(&other.entry))
            {
                continue;
            }
            if let Some(other) =
                of_thing().find(|other| bindings::conflict(&own, &known_modifier(other)))
            {
                all.push(Contradiction {
                    said: format!("{} {}", modifier.word.text, thing.word.text),
                    instead: format!("{} {}", other.lower, thing.word.lower),
                    relation: None,
                });
            }
        }
        all.extend(self.contradicted_relations());
        all
    }

    /// Relations to things of a source, of which no source has the relation. `On` and `in` say too
    /// little to count.
    fn new_relations(&self) -> usize {
        let new = self.relations.iter().filter(|relation| {
            let is_vague = matches!(relation.place, Place::Above | Place::Inside);
            let is_known = self.found[relation.thing].is_some();
            !is_vague && is_known && !self.is_said(relation.place)
        });
        new.count()
    }

    /// Whether a source has this relation, to whatever thing.
    fn is_said(&self, place: Place) -> bool {
        self.relations_of_sources().any(|(other, _)| *other == place)
    }

    fn relations_of_sources(&self) -> impl Iterator<Item = &(Place, usize)> {
        self.sources.texts.iter().flat_map(|text| &text.relations)
    }

    fn contradicted_relations(&self) -> impl Iterator<Item = Contradiction> {
        self.relations.iter().filter_map(|relation| {
            let thing = &self.reading.words[relation.thing];
            // A source that has the word anywhere may mean just this.
            if self.is_said(relation.place) {
                return None;
            }
            let contrary = self.relations_of_sources().find(|(place, other)| {
                let known = &self.sources.known()[*other];
                *place == relation.place.opposite() && is_same(thing, known)
            });
            contrary.map(|(place, _)| Contradiction {
                said: format!("{} {}", &self.text[relation.range.clone()], thing.word.text),
                instead: format!("{} {}", place.as_str(), thing.word.lower),
                relation: Some(relation.clone()),
            })
        })
    }
}

fn is_same(token: &Token<'_>, known: &Known) -> bool {
    token.word.lower == known.lower
        || token.word.stem == known.stem
        || token.entry.same(&known.entry)
}

fn modifier_of<'a>(token: &'a Token<'_>) -> Modifier<'a> {
    Modifier {
        lower: &token.word.lower,
        stem: &token.word.stem,
        entry: &token.entry,
        is_number: token.is_number(),
    }
}

fn known_modifier(known: &Known) -> Modifier<'_> {
    Modifier {
        lower: &known.lower,
        stem: &known.stem,
        entry: &known.entry,
        is_number: known.kind == Kind::Number,
    }
}

/// How much a word says: what can be said of any picture says little, and parts and surroundings are
/// there more often than anybody mentions them.
fn telling(token: &Token<'_>) -> f32 {
    match token.kind {
        _ if token.is_plain() => 0.2,
        Kind::Object if token.entry.is_backdrop => 0.5,
        _ => 1.0,
    }
}

/// How suspect a word is that was found like this, 0..1.
pub(super) fn suspicion(found: Option<Found>) -> f32 {
    match found.map(|found| found.link) {
        Some(Link::Same | Link::Synonym | Link::Compound | Link::Broader) => 0.0,
        Some(Link::Related) => 0.3,
        Some(Link::Narrower | Link::Near) => 0.5,
        None => 1.0,
    }
}
