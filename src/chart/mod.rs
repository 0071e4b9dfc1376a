//! Figures as SVG: curves over steps, bars with intervals, promises against what is kept.
//!
//! A figure is one string that stands in a page or in a file of its own. It has no script and no style
//! sheet, so that pages whose content policy forbids both can show it; text and axes take the colour of
//! the text around them, and the other colours are readable on light and on dark ground. That is why no
//! plotting crate is used: `plotters` writes fixed colours for ink and ground, and `charming` needs a
//! script of a megabyte.

mod axis;
mod bars;
mod calibration;
mod lines;
mod svg;

pub use bars::Bar;
pub use bars::BarChart;
pub use bars::BarSeries;
pub use bars::bars;
pub use calibration::CalibrationChart;
pub use calibration::CalibrationSeries;
pub use calibration::Estimate;
pub use calibration::calibration;
pub use lines::LineChart;
pub use lines::Series;
pub use lines::lines;
