//! What is made of the figures of many rounds.

/// The median; 0 of nothing.
pub(super) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => 0.0,
        even if even % 2 == 0 => f64::midpoint(figures[middle - 1], figures[middle]),
        _ => figures[middle],
    }
}

/// The smallest; 0 of nothing.
pub(super) fn minimum(figures: &[f64]) -> f64 {
    figures.iter().copied().reduce(f64::min).unwrap_or(0.0)
}

/// The median of the differences of pairs, which holds while the machine's speed drifts.
pub(super) fn paired_difference(figures: &[f64], floors: &[f64]) -> f64 {
    median(
        figures
            .iter()
            .zip(floors)
            .map(|(figure, floor)| figure - floor)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_differences_of_pairs() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!((minimum(&[3.0, 1.0, 2.0]) - 1.0).abs() < 1e-9);
        // The machine became slower with each round; the difference did not.
        assert!((paired_difference(&[15.0, 25.0, 36.0], &[10.0, 20.0, 30.0]) - 5.0).abs() < 1e-9);
        assert!(median(Vec::new()).abs() < 1e-9);
    }
}
