//! Metric families: what each is, and how its series are written.

use std::borrow::Cow;
use std::fmt::{self, Write};

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, LabelSetEncoder, LabelValueEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// What a metric family is.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name without the `weir_` prefix, the unit and the suffix of its samples.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its unit.
    pub unit: Measure,
    /// Its labels, in the order in which they are written.
    pub labels: &'static [&'static str],
    /// What it counts, in one sentence without a full stop.
    pub help: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never goes down while the agent's maps stay.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
    /// A constant 1 with facts as labels.
    Info,
}

/// The unit of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Octets.
    Bytes,
    /// Octets a second.
    BytesPerSecond,
    /// Seconds.
    Seconds,
    /// A plain number; what is counted is part of the name.
    Number,
}

impl Kind {
    /// The word of the exposition format.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        }
    }

    fn metric_type(self) -> MetricType {
        match self {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        }
    }
}

impl Family {
    /// The name of its samples, as queries write it: `weir_` prefix, unit, and `_total` or `_info`.
    pub fn sample_name(&self) -> String {
        let unit = self.unit.of_family().map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("weir_{}{unit}{suffix}", self.name)
    }
}

impl Measure {
    fn of_family(self) -> Option<Unit> {
        match self {
            Measure::Bytes => Some(Unit::Bytes),
            Measure::BytesPerSecond => Some(Unit::Other("bytes_per_second".to_owned())),
            Measure::Seconds => Some(Unit::Seconds),
            Measure::Number => None,
        }
    }
}

/// The value of a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value<'a> {
    /// Text as it is.
    Text(Cow<'a, str>),
    /// A number.
    Number(u64),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Value::Number(number)
    }
}

/// A word from outside as a label value: at most 64 characters, and only those that need no thought in a query.
pub fn word(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/@".contains(c);
    if text.is_empty() {
        return Cow::Borrowed("unknown");
    }
    if text.len() <= 64 && text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().take(64).map(|c| if plain(c) { c } else { '_' }).collect())
}

struct Labels<'a, const N: usize> {
    names: &'static [&'static str],
    values: [Value<'a>; N],
}

impl<const N: usize> EncodeLabelSet for Labels<'_, N> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        for (name, value) in self.names.iter().zip(&self.values) {
            let mut label = encoder.encode_label();
            let mut key = label.encode_label_key()?;
            key.write_str(name)?;
            let mut text = key.encode_label_value()?;
            value.write(&mut text)?;
            text.finish()?;
        }
        Ok(())
    }
}

impl Value<'_> {
    fn write(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => encoder.write_str(text),
            Value::Number(number) => prometheus_client::encoding::EncodeLabelValue::encode(number, encoder),
        }
    }
}

/// One histogram's samples.
pub(super) struct Buckets {
    /// Upper bound in seconds and samples, not cumulative; the last bound is infinite.
    pub(super) counts: Vec<(f64, u64)>,
    /// Sum of all samples in seconds.
    pub(super) sum: f64,
}

/// Writes families one after the other. A family without series is left out.
pub(super) struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> Page<'a> {
    /// A page on prometheus-client's encoder.
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Writes a family of counters of whole things.
    pub(super) fn counter<'v, const N: usize>(
        &mut self,
        family: &Family,
        series: impl IntoIterator<Item = ([Value<'v>; N], u64)>,
    ) -> fmt::Result {
        self.family(family, series, |metric, value| metric.encode_counter::<NoLabelSet, _, u64>(&value, None))
    }

    /// Writes a family of counters of seconds.
    pub(super) fn seconds<'v, const N: usize>(
        &mut self,
        family: &Family,
        series: impl IntoIterator<Item = ([Value<'v>; N], f64)>,
    ) -> fmt::Result {
        self.family(family, series, |metric, value| metric.encode_counter::<NoLabelSet, _, u64>(&value, None))
    }

    /// Writes a family of gauges.
    pub(super) fn gauge<'v, V: EncodeGaugeValue, const N: usize>(
        &mut self,
        family: &Family,
        series: impl IntoIterator<Item = ([Value<'v>; N], V)>,
    ) -> fmt::Result {
        self.family(family, series, |metric, value| metric.encode_gauge(&value))
    }

    /// Writes a family of histograms.
    pub(super) fn histogram<'v, const N: usize>(
        &mut self,
        family: &Family,
        series: impl IntoIterator<Item = ([Value<'v>; N], Buckets)>,
    ) -> fmt::Result {
        self.family(family, series, |metric, Buckets { counts, sum }| {
            let count = counts.iter().map(|(_, n)| n).sum();
            metric.encode_histogram::<NoLabelSet>(sum, count, &counts, None)
        })
    }

    /// Writes facts.
    pub(super) fn info<'v, const N: usize>(
        &mut self,
        family: &Family,
        series: impl IntoIterator<Item = [Value<'v>; N]>,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(family.name, family.help, None, MetricType::Info)?;
        series.try_for_each(|values| metric.encode_info(&Labels { names: family.labels, values }))
    }

    fn family<'v, V, const N: usize>(
        &mut self,
        family: &Family,
        series: impl IntoIterator<Item = ([Value<'v>; N], V)>,
        mut write: impl FnMut(&mut prometheus_client::encoding::MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        debug_assert_eq!(family.labels.len(), N, "labels of {}", family.name);
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let unit = family.unit.of_family();
        let (name, help) = (family.name, family.help);
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), family.kind.metric_type())?;
        if N == 0 {
            return series.try_for_each(|(_, value)| write(&mut metric, value));
        }
        for (values, value) in series {
            let labels = Labels { names: family.labels, values };
            write(&mut metric.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}
