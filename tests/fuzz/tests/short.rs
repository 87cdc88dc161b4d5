//! Every target, for a moment, on its corpus and on mutations of it. `make fuzz` goes on from here for longer.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use weir_fuzz::{Mutator, TARGETS};

/// Seconds for each target; `WEIR_FUZZ_SECONDS` gives another number.
const SECONDS: u64 = 2;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let folders = fs::read_dir(folder).unwrap();
    let mut kept: Vec<_> =
        folders.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    let mut known: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    kept.sort();
    known.sort();
    assert_eq!(kept, known);
    assert!(TARGETS.iter().all(|(name, _)| !corpus(name).is_empty()));
}

#[test]
fn nothing_breaks_in_a_short_while() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("WEIR_FUZZ_SEED").unwrap_or(clock);
    let time = Duration::from_secs(number("WEIR_FUZZ_SECONDS").unwrap_or(SECONDS));
    for (name, holds) in TARGETS {
        let seeds = corpus(name);
        seeds.iter().for_each(|input| holds(input));
        let (mut mutator, started, mut runs) = (Mutator::new(seed, seeds), Instant::now(), 0u64);
        while started.elapsed() < time {
            let input = mutator.input();
            if catch_unwind(AssertUnwindSafe(|| holds(&input))).is_err() {
                let file = std::env::temp_dir().join(format!("weir-fuzz-{name}-{seed}-{runs}"));
                fs::write(&file, &input).unwrap();
                panic!("{name}: WEIR_FUZZ_SEED={seed}, run {runs}, the input is in {}", file.display());
            }
            runs += 1;
        }
        println!("{name}: {runs} inputs, seed {seed}");
    }
}
