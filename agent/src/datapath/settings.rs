//! The one word that the programs are told: epochs, with each of which flows find their rows and classes again, and whether
//! packets are judged.

use std::sync::{Mutex, PoisonError};

use weir_ebpf::Settings;

use super::pins::Pins;
use super::table::{Table, TableError};

/// Peers of local sockets are counted by prefixes of these lengths.
const PEER_BITS: (u8, u8) = (24, 64);

/// What an agent before has left in force; nothing where there was none. What cannot be read is an error: zeroes in its place
/// would let packets by unjudged and give out rows that are taken.
pub(super) fn pinned(pins: &Pins) -> Result<Settings, TableError> {
    let path = pins.map("SETTINGS");
    if path.exists() { current(&Table::shared(&path)?) } else { Ok(Settings::default()) }
}

/// The epoch that is in force; 0 where none has begun.
pub(super) fn epoch(settings: &Table<u32, Settings>) -> Result<u32, TableError> {
    Ok(current(settings)?.epoch)
}

/// Begins the next one, never 0. Call it after the change that it is for.
pub(super) fn begin_epoch(settings: &Table<u32, Settings>) -> Result<(), TableError> {
    change(settings, |now| Settings {
        epoch: now.epoch.wrapping_add(1).max(1),
        peer_bits_v4: PEER_BITS.0,
        peer_bits_v6: PEER_BITS.1,
        ..now
    })
}

/// Has packets judged, or not.
pub(super) fn guard(settings: &Table<u32, Settings>, on: bool) -> Result<(), TableError> {
    change(settings, |now| Settings { guarded: u16::from(on), ..now })
}

fn current(settings: &Table<u32, Settings>) -> Result<Settings, TableError> {
    Ok(settings.read(&0)?.and_then(|settings| settings.first().copied()).unwrap_or_default())
}

/// Two changes at once must be two: a flow may have found its row between them.
fn change(settings: &Table<u32, Settings>, to: impl FnOnce(Settings) -> Settings) -> Result<(), TableError> {
    static ONE_BY_ONE: Mutex<()> = Mutex::new(());
    let _one = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
    settings.write(&0, &to(current(settings)?))
}
