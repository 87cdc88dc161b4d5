//! The report for people and for programs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use crate::model::capability::{Feature, FeatureState, Report};

/// Whether words are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// Plain text.
    Plain,
    /// ANSI colours.
    Ansi,
}

impl Colours {
    /// Colours only on a terminal, and not where `NO_COLOR` is set (no-color.org).
    pub fn fit(out: &impl IsTerminal) -> Self {
        if out.is_terminal() && std::env::var_os("NO_COLOR").is_none() { Self::Ansi } else { Self::Plain }
    }
}

/// Writes the report as a table.
///
/// # Errors
/// When `out` cannot be written to.
pub fn table(report: &Report, colours: Colours, out: &mut impl Write) -> io::Result<()> {
    let lockdown = report.lockdown.as_deref().unwrap_or("not known (no securityfs)");
    let held = if report.held.is_empty() { "none".to_owned() } else { report.held.join(" ") };
    writeln!(out, "kernel        {}\nlockdown      {lockdown}\ncapabilities  {held}\n", report.kernel)?;
    let width = report.features.iter().map(|feature| feature.name.len()).max().unwrap_or(0);
    for feature in &report.features {
        out.write_all(row(feature, width, colours).as_bytes())?;
    }
    Ok(())
}

/// Writes the report as JSON.
///
/// # Errors
/// When `out` cannot be written to.
pub fn json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

fn row(feature: &Feature, width: usize, colours: Colours) -> String {
    let Feature { name, purpose, state, found } = feature;
    let word = format!("{:<8}", state.as_str());
    let word = match colours {
        Colours::Plain => word,
        Colours::Ansi => format!("\x1b[{}m{word}\x1b[0m", colour(state)),
    };
    let mut row = format!("{word}  {name:<width$}  {purpose}\n");
    for line in state.reason().into_iter().chain(found.as_deref()) {
        // Writing to a string cannot fail.
        let _ = writeln!(row, "{:10}{:width$}  {line}", "", "");
    }
    row
}

fn colour(state: &FeatureState) -> u8 {
    match state {
        FeatureState::Works => 32,
        FeatureState::Degraded { .. } => 33,
        FeatureState::Off { .. } => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let feature = |name, purpose, state, found: Option<&str>| Feature {
            name,
            purpose,
            state,
            found: found.map(ToOwned::to_owned),
        };
        let degraded = FeatureState::Degraded { reason: "no TCX; use Linux 6.6 or newer".to_owned() };
        let features = vec![
            feature("tcx", "a place before others", degraded, None),
            feature("tcp-health", "round-trip times", FeatureState::Works, Some("cgroup2 at /sys/fs/cgroup")),
        ];
        Report { kernel: "6.1.0".to_owned(), lockdown: None, held: vec!["CAP_BPF".to_owned()], features }
    }

    #[test]
    fn people_get_a_table() {
        let mut out = Vec::new();
        table(&report(), Colours::Plain, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        kernel        6.1.0
        lockdown      not known (no securityfs)
        capabilities  CAP_BPF

        degraded  tcx         a place before others
                              no TCX; use Linux 6.6 or newer
        works     tcp-health  round-trip times
                              cgroup2 at /sys/fs/cgroup
        ");
    }

    #[test]
    fn colours_change_no_letter() {
        let (mut plain, mut ansi) = (Vec::new(), Vec::new());
        table(&report(), Colours::Plain, &mut plain).unwrap();
        table(&report(), Colours::Ansi, &mut ansi).unwrap();
        let mut text = String::from_utf8(ansi).unwrap();
        assert!(text.contains("\x1b[33mdegraded"));
        for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
            text = text.replace(code, "");
        }
        assert_eq!(text.into_bytes(), plain);
    }

    #[test]
    fn programs_get_every_feature() {
        let mut out = Vec::new();
        json(&report(), &mut out).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read["features"][0]["state"], "degraded");
        assert_eq!(read["features"][1]["found"], "cgroup2 at /sys/fs/cgroup");
    }
}
