//! The values of a leaf: nearly always one, so one costs no more than its text.

use std::hash::RandomState;

use indexmap::{IndexSet, set};

/// The values of a leaf, each once, in the order in which they were set. Equality ignores the order.
#[derive(Clone, Default)]
pub struct Values(Repr);

#[derive(Clone, Default)]
enum Repr {
    #[default]
    None,
    One(String),
    Many(Box<IndexSet<String, RandomState>>),
}

/// Iterates over values.
#[derive(Clone)]
pub enum Iter<'a> {
    /// Over none or one.
    One(std::option::IntoIter<&'a String>),
    /// Over several.
    Many(set::Iter<'a, String>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::None => 0,
            Repr::One(_) => 1,
            Repr::Many(many) => many.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one that was set first.
    pub fn first(&self) -> Option<&String> {
        self.iter().next()
    }

    /// Whether this is one of them.
    pub fn contains(&self, value: &str) -> bool {
        match &self.0 {
            Repr::None => false,
            Repr::One(one) => one == value,
            Repr::Many(many) => many.contains(value),
        }
    }

    /// Adds one. Says whether it was new.
    pub fn insert(&mut self, value: String) -> bool {
        match &mut self.0 {
            Repr::None => self.0 = Repr::One(value),
            Repr::One(one) if *one == value => return false,
            Repr::One(one) => {
                self.0 = Repr::Many(Box::new([std::mem::take(one), value].into_iter().collect()))
            }
            Repr::Many(many) => return many.insert(value),
        }
        true
    }

    /// Takes one away, the others keep their order. Says whether it was there.
    pub fn remove(&mut self, value: &str) -> bool {
        match &mut self.0 {
            Repr::Many(many) => many.shift_remove(value),
            Repr::One(one) if *one == value => {
                self.0 = Repr::None;
                true
            }
            Repr::None | Repr::One(_) => false,
        }
    }

    /// In order.
    pub fn iter(&self) -> Iter<'_> {
        match &self.0 {
            Repr::None => Iter::One(None.into_iter()),
            Repr::One(one) => Iter::One(Some(one).into_iter()),
            Repr::Many(many) => Iter::Many(many.iter()),
        }
    }

    /// Those that are not in the other.
    pub fn difference<'a>(&'a self, other: &'a Values) -> impl Iterator<Item = &'a String> {
        self.iter().filter(|value| !other.contains(value))
    }

    /// Whether the other has them all.
    pub fn is_subset(&self, other: &Values) -> bool {
        self.iter().all(|value| other.contains(value))
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.is_subset(other)
    }
}

impl Eq for Values {}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a String;
    fn next(&mut self) -> Option<&'a String> {
        match self {
            Self::One(one) => one.next(),
            Self::Many(many) => many.next(),
        }
    }
}

impl<'a> IntoIterator for &'a Values {
    type Item = &'a String;
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl IntoIterator for Values {
    type Item = String;
    type IntoIter = std::vec::IntoIter<String>;
    fn into_iter(self) -> Self::IntoIter {
        let all: Vec<String> = match self.0 {
            Repr::None => Vec::new(),
            Repr::One(one) => vec![one],
            Repr::Many(many) => many.into_iter().collect(),
        };
        all.into_iter()
    }
}

impl Extend<String> for Values {
    fn extend<I: IntoIterator<Item = String>>(&mut self, values: I) {
        for value in values {
            self.insert(value);
        }
    }
}

impl FromIterator<String> for Values {
    fn from_iter<I: IntoIterator<Item = String>>(values: I) -> Self {
        let mut all = Self::default();
        all.extend(values);
        all
    }
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_an_ordered_set(steps in proptest::collection::vec((any::<bool>(), "[a-d]"), 0..20)) {
            let (mut values, mut model) = (Values::default(), Vec::<String>::new());
            for (adds, value) in steps {
                let known = model.contains(&value);
                if adds {
                    prop_assert_eq!(values.insert(value.clone()), !known);
                    if !known { model.push(value); }
                } else {
                    prop_assert_eq!(values.remove(&value), known);
                    model.retain(|other| *other != value);
                }
                prop_assert_eq!(values.iter().cloned().collect::<Vec<_>>(), model.clone());
                prop_assert_eq!(&values, &model.iter().rev().cloned().collect::<Values>());
            }
        }
    }
}
