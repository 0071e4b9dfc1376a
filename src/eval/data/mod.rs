//! Data sets with answers: pictures of one class each, or pictures with texts.
//!
//! Opening one reads the answers and decodes no picture; pictures then come in order, some at a
//! time, as they lie on disk. Pictures that cannot be read keep their place and their answer.

mod captioned;
mod cifar;
mod folder;
mod labelled;
mod labels;
mod layout;
mod pictures;
mod rows;
#[cfg(test)]
mod tests;
mod words;

pub use captioned::Captioned;
pub use captioned::CaptionedConfig;
pub use labelled::Format;
pub use labelled::Labelled;
pub use labelled::LabelledConfig;
pub use labelled::Metric;
pub use pictures::Pictures;
pub use pictures::Shown;
pub use words::Words;
