//! What is wrong with an object: which field, what, and the way out.

use super::values::PlainText;
use crate::inputs::ObjectId;
use std::fmt;

/// Something wrong, on the object that can mend it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object.
    pub object: ObjectId,
    /// The field, as a path into the manifest.
    pub field: String,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub way_out: String,
    /// What it does to the object.
    pub effect: Effect,
}

/// What a problem does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The object is not rendered. What it has on the router is kept as it is.
    Refused,
    /// The object is rendered, with a change or a doubt that its owner should know of.
    Noted,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}; {}", self.object, self.field, self.what, self.way_out)
    }
}

/// Collects the problems of one object while it is read.
pub(super) struct Findings<'a> {
    object: &'a ObjectId,
    problems: &'a mut Vec<Problem>,
    refused: bool,
}

impl<'a> Findings<'a> {
    pub(super) fn on(object: &'a ObjectId, problems: &'a mut Vec<Problem>) -> Self {
        Self { object, problems, refused: false }
    }

    /// Says that the object cannot be rendered.
    pub(super) fn refuse(&mut self, field: &str, what: impl Into<String>, way_out: impl Into<String>) {
        self.refused = true;
        self.add(field, what.into(), way_out.into(), Effect::Refused);
    }

    /// Says something that its owner should know.
    pub(super) fn note(&mut self, field: &str, what: impl Into<String>, way_out: impl Into<String>) {
        self.add(field, what.into(), way_out.into(), Effect::Noted);
    }

    /// The value, or a refusal with the reason why it could not be read.
    pub(super) fn read<T, E: fmt::Display>(
        &mut self,
        field: &str,
        value: Result<T, E>,
        way_out: &str,
    ) -> Option<T> {
        value.map_err(|error| self.refuse(field, error.to_string(), way_out)).ok()
    }

    /// Reads each of several texts.
    pub(super) fn read_all<T, E: fmt::Display>(
        &mut self,
        field: &str,
        texts: &[String],
        parse: impl Fn(&str) -> Result<T, E>,
        way_out: &str,
    ) -> Vec<T> {
        let numbered = texts.iter().enumerate();
        numbered.filter_map(|(at, text)| self.read(&format!("{field}[{at}]"), parse(text), way_out)).collect()
    }

    /// A description. A text for people is never worth refusing the object for.
    pub(super) fn description(&mut self, text: Option<&str>) -> Option<PlainText> {
        let read = PlainText::try_from(text?);
        let way_out = "it is left out: take the quotes and line breaks away";
        read.map_err(|error| self.note("spec.description", error.to_string(), way_out)).ok()
    }

    /// The value, unless something was refused on the way.
    pub(super) fn accepted<T>(self, value: T) -> Option<T> {
        (!self.refused).then_some(value)
    }

    fn add(&mut self, field: &str, what: String, way_out: String, effect: Effect) {
        let (object, field) = (self.object.clone(), field.to_owned());
        self.problems.push(Problem { object, field, what, way_out, effect });
    }
}
