//! Numbers as people read them.

/// A number with three digits and an SI prefix, such as `1.25G`.
pub(super) fn si(number: f64) -> String {
    let prefixes = ["", "k", "M", "G", "T", "P", "E"];
    let mut scaled = number;
    let mut prefix = 0;
    // 999.5 would be shown as 1000.
    while scaled >= 999.5 && prefix + 1 < prefixes.len() {
        scaled /= 1000.0;
        prefix += 1;
    }
    let whole = prefix == 0 && scaled.fract() == 0.0;
    let digits = if whole || scaled >= 99.95 {
        0
    } else if scaled >= 9.995 {
        1
    } else {
        2
    };
    format!("{scaled:.digits$}{}", prefixes[prefix])
}

/// A counter.
pub(super) fn count(number: u64) -> String {
    si(number as f64)
}

/// A time in the unit that suits it, such as `180us`.
pub(super) fn time(nanoseconds: u64) -> String {
    let (number, unit) = match nanoseconds {
        0..1_000 => (nanoseconds as f64, "ns"),
        1_000..1_000_000 => (nanoseconds as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (nanoseconds as f64 / 1e6, "ms"),
        _ => (nanoseconds as f64 / 1e9, "s"),
    };
    format!("{}{unit}", si(number))
}

/// A time, or a dash where it is not known.
pub(super) fn time_or_dash(nanoseconds: Option<u64>) -> String {
    nanoseconds.map_or("-".to_owned(), time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_prefix() {
        let shown =
            [0.0, 7.0, 0.5, 42.25, 999.0, 999.6, 1000.0, 12_345.0, 999_499.0, 999_500.0, 1.25e9, 1.5e12];
        let text = shown.map(si).join(" ");
        assert_eq!(text, "0 7 0.50 42.2 999 1.00k 1.00k 12.3k 999k 1.00M 1.25G 1.50T");
    }

    #[test]
    fn times_in_their_unit() {
        assert_eq!([95, 180_000, 1_500_000, 61_000_000_000].map(time).join(" "), "95ns 180us 1.50ms 61s");
    }
}
