//! Ids that somebody may have meant.

/// Ids that are an edit or two away from `wanted`, or differ in case only; nearest first, at most three.
pub fn near_misses<'a>(wanted: &str, ids: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut near: Vec<(usize, &str)> = ids
        .filter_map(|id| {
            let distance = match id.eq_ignore_ascii_case(wanted) {
                true => 0,
                false => edit_distance(wanted.as_bytes(), id.as_bytes(), 2)?,
            };
            Some((distance, id))
        })
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, id)| id.to_owned()).collect()
}

/// The Levenshtein distance, or `None` when it is over `max`.
fn edit_distance(a: &[u8], b: &[u8], max: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > max {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, byte) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for j in 0..b.len() {
            let substitution = diagonal + usize::from(*byte != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(diagonal + 1).min(row[j] + 1);
        }
        if row.iter().min().is_some_and(|least| *least > max) {
            return None;
        }
    }
    row.last().copied().filter(|distance| *distance <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_found_by_case_and_by_typing_error() {
        let ids = ["pump-07", "pump-08", "Thermostat", "gateway"];
        assert_eq!(near_misses("pump-7", ids.into_iter()), ["pump-07", "pump-08"]);
        assert_eq!(near_misses("thermostat", ids.into_iter()), ["Thermostat"]);
        assert_eq!(near_misses("valve", ids.into_iter()), [] as [&str; 0]);
    }
}
