//! The plan for people: what would be sent, on whose behalf, and what is not done and why.

use std::collections::BTreeMap;
use std::fmt;

use super::{Class, Entry, Plan};
use crate::config::{Command, ConfigPath};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan {} for VyOS {}, mode {:?}: {}", self.id, self.dialect, self.mode, self.summary())?;
        let by = self.owners();
        for (i, batch) in self.batches.iter().enumerate() {
            if self.batches.len() > 1 {
                writeln!(f, "# request {} of {}", i + 1, self.batches.len())?;
            }
            batch.commands.iter().try_for_each(|command| line(f, command, &by))?;
        }
        if self.batches.is_empty() {
            self.commands.iter().try_for_each(|command| line(f, command, &by))?;
        }
        self.notes(f)?;
        for blocked in &self.blocked {
            let objects: Vec<String> = blocked.objects.iter().map(ToString::to_string).collect();
            let of = if objects.is_empty() { String::new() } else { format!(" ({})", objects.join(", ")) };
            writeln!(f, "! {:?} `{}`: {}{of}", blocked.reason, blocked.path, blocked.text)?;
        }
        self.warnings
            .iter()
            .try_for_each(|warning| writeln!(f, "? the router's own configuration: {warning}"))
    }
}

impl Plan {
    /// One line: how much of what.
    pub fn summary(&self) -> String {
        let names = [
            (Class::Create, "to create"),
            (Class::Change, "to change"),
            (Class::Drift, "drifted"),
            (Class::Prune, "to remove"),
            (Class::Adopt, "to adopt"),
            (Class::Gone, "to forget"),
            (Class::Conflict, "in conflict"),
            (Class::ForeignEdit, "changed by others"),
            (Class::Reported, "drift reported"),
        ];
        let counts = names.map(|(class, name)| (self.count(class), name));
        let said: Vec<String> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}")).collect();
        let blocked =
            if self.blocked.is_empty() { String::new() } else { format!(", {} blocked", self.blocked.len()) };
        if said.is_empty() { format!("nothing to do{blocked}") } else { said.join(", ") + &blocked }
    }

    /// Who is behind each place that something is done at.
    fn owners(&self) -> BTreeMap<&ConfigPath, &Entry> {
        self.entries.iter().map(|entry| (&entry.path, entry)).collect()
    }

    /// What others did, for which no command is sent.
    fn notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            let note = match entry.class {
                Class::Extra => "added by others inside what is ours, left alone",
                Class::Reported => "drift, reported only",
                Class::Kept => "kept",
                Class::Adopt => "adopted",
                Class::Gone => "already gone, forgotten",
                _ => continue,
            };
            let value = entry
                .want
                .as_ref()
                .or(entry.have.as_ref())
                .map_or_else(String::new, |value| format!(" {value}"));
            writeln!(f, "= {}{value}: {note}{}", entry.path, of(&entry.by))?;
        }
        Ok(())
    }
}

fn line(
    f: &mut fmt::Formatter<'_>,
    command: &Command,
    owners: &BTreeMap<&ConfigPath, &Entry>,
) -> fmt::Result {
    let sign = if command.is_delete() { '-' } else { '+' };
    let below = || {
        owners
            .range::<ConfigPath, _>(command.path()..)
            .next()
            .filter(|(path, _)| path.is_within(command.path()))
    };
    let entry = owners.get(command.path()).or_else(|| below().map(|(_, entry)| entry));
    let why = entry.map_or_else(String::new, |entry| match entry.class {
        Class::Drift => format!("  # drift{}", of(&entry.by)),
        _ if entry.by.is_empty() => String::new(),
        _ => format!("  # {}", entry.by),
    });
    writeln!(f, "{sign} {command}{why}")
}

fn of(by: &str) -> String {
    if by.is_empty() { String::new() } else { format!(" ({by})") }
}
