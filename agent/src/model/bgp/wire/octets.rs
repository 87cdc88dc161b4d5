//! Octets that are read from the front. Every read says what it is for, and none can pass the end.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A field is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Which field.
    pub field: &'static str,
    /// Octets that it should have.
    pub wanted: usize,
    /// Octets that are there.
    pub have: usize,
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// The next `count` octets.
    pub(super) fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], Short> {
        match self.0.split_at_checked(count) {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(taken)
            }
            None => Err(Short { field, wanted: count, have: self.0.len() }),
        }
    }

    /// The next `count` octets, to be read by themselves.
    pub(super) fn part(&mut self, count: usize, field: &'static str) -> Result<Octets<'a>, Short> {
        self.take(count, field).map(Octets)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Short> {
        let short = Short { field, wanted: N, have: self.0.len() };
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(short)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, Short> {
        self.array::<1>(field).map(|[octet]| octet)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, Short> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, Short> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn ipv4(&mut self, field: &'static str) -> Result<Ipv4Addr, Short> {
        self.array::<4>(field).map(Ipv4Addr::from)
    }

    pub(super) fn ipv6(&mut self, field: &'static str) -> Result<Ipv6Addr, Short> {
        self.array::<16>(field).map(Ipv6Addr::from)
    }
}
