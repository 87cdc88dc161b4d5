//! Packets that rules dropped, from the ring buffer.

use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{MapData, RingBuf};
use weir_ebpf::rules::Event;

use crate::datapath::load::Datapath;

/// The ring buffer of one agent. It is readable when there is something.
pub struct Events(RingBuf<MapData>);

impl Events {
    /// Takes the buffer from the loaded object.
    pub(super) fn take(datapath: &mut Datapath) -> Option<Self> {
        RingBuf::try_from(datapath.ebpf.take_map("RULE_EVENTS")?).ok().map(Self)
    }

    /// What is there now.
    pub fn drain(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(item) = self.0.next() {
            if item.len() >= size_of::<Event>() {
                events.push(bytemuck::pod_read_unaligned(&item[..size_of::<Event>()]));
            }
        }
        events
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
