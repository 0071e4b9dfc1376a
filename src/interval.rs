//! 95 % intervals: the normal quantile, and Wilson's interval of a share.
//!
//! Wilson (1927), "Probable inference, the law of succession, and statistical inference". It holds for few
//! rows and for shares of 0 and 1, where the usual one has no width.

/// Half the width of a 95 % interval, in standard deviations.
pub const Z: f64 = 1.959_963_984_540_054;

/// Wilson's interval of a share among so many, which need not be a whole number.
pub fn wilson(share: f64, whole: f64) -> (f64, f64) {
    wilson_at(Z, share, whole)
}

/// The same with another half width than [`Z`], in standard deviations.
pub fn wilson_at(z: f64, share: f64, whole: f64) -> (f64, f64) {
    let scale = 1.0 + z * z / whole;
    let centre = share + z * z / (2.0 * whole);
    let spread = z * (share * (1.0 - share) / whole + z * z / (4.0 * whole * whole)).sqrt();
    // Rounding must not put the share outside.
    let (low, high) = ((centre - spread) / scale, (centre + spread) / scale);
    (low.clamp(0.0, share), high.clamp(share, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_the_intervals_that_scipy_gives_them() {
        // scipy.stats.binomtest(part, whole).proportion_ci(method="wilson"), to five digits.
        for (part, whole, wanted) in [
            (9.0, 10.0, (0.59585, 0.98212)),
            (50.0, 50.0, (0.92865, 1.0)),
            (0.0, 50.0, (0.0, 0.07135)),
        ] {
            let (low, high) = wilson(part / whole, whole);
            assert!(
                (low - wanted.0).abs() < 5e-6 && (high - wanted.1).abs() < 5e-6,
                "{part} {whole}"
            );
        }
    }
}
