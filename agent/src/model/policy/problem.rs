//! What is wrong with a policy, by object and field.

use serde::Serialize;

/// Something about a policy that its author should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The policy.
    pub policy: String,
    /// The field, such as `rules[2].match.source.cidrs[0]`.
    pub field: String,
    /// What it is, in one word.
    pub reason: Reason,
    /// What it means, and the way out.
    pub text: String,
}

/// What is wrong, in one word: the reason of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Reason {
    /// The object is not a policy; it is left out.
    NotAPolicy,
    /// A value makes no sense; the rule is left out.
    BadValue,
    /// A name is used twice; the second is left out.
    DuplicateName,
    /// A prefix has bits behind its length; they are taken as zero.
    HostBits,
    /// A prefix is IPv4 in IPv6's clothes; it is taken as IPv4.
    MappedAddress,
    /// A set has no prefix.
    EmptySet,
    /// A set has more prefixes than may be; the policy's rules with it are left out.
    EnormousSet,
    /// A rule names a set that there is not; the rule is left out.
    UnknownSet,
    /// A file of a set cannot be read; rules with it are left out.
    UnreadableSet,
    /// A rule names a class that there is not; the rule is left out.
    UnknownClass,
    /// A rule names a pool that there is not, or no cluster is known; the rule is left out.
    UnknownPool,
    /// No interface has the name now.
    NoSuchInterface,
    /// The policy selects by labels, and the node's are not known; the policy is left out.
    UnknownLabels,
    /// A guard names no sets, and no cluster tells of the pods that it is for; it is left out until one does.
    UnknownPods,
    /// An earlier rule decides on every packet that the rule is for.
    Shadowed,
    /// No packet can match the rule.
    MatchesNothing,
    /// The rule drops what the failsafe saves.
    ContradictsFailsafe,
    /// There are more rules than fit; those after that many are left out.
    TooManyRules,
    /// More rules may act on one packet than are asked.
    TooManyActs,
    /// The interface's root discipline is not `fq`: packets leave at once.
    NoPacing,
}

impl Reason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAPolicy => "NotAPolicy",
            Self::BadValue => "BadValue",
            Self::DuplicateName => "DuplicateName",
            Self::HostBits => "HostBits",
            Self::MappedAddress => "MappedAddress",
            Self::EmptySet => "EmptySet",
            Self::EnormousSet => "EnormousSet",
            Self::UnknownSet => "UnknownSet",
            Self::UnreadableSet => "UnreadableSet",
            Self::UnknownClass => "UnknownClass",
            Self::UnknownPool => "UnknownPool",
            Self::NoSuchInterface => "NoSuchInterface",
            Self::UnknownLabels => "UnknownLabels",
            Self::UnknownPods => "UnknownPods",
            Self::Shadowed => "Shadowed",
            Self::MatchesNothing => "MatchesNothing",
            Self::ContradictsFailsafe => "ContradictsFailsafe",
            Self::TooManyRules => "TooManyRules",
            Self::TooManyActs => "TooManyActs",
            Self::NoPacing => "NoPacing",
        }
    }

    /// Whether something was left out because of it.
    pub fn is_fatal(self) -> bool {
        use Reason::*;
        matches!(
            self,
            NotAPolicy
                | BadValue
                | DuplicateName
                | EnormousSet
                | UnknownSet
                | UnreadableSet
                | UnknownClass
                | UnknownPool
                | UnknownLabels
                | UnknownPods
                | TooManyRules
        )
    }
}
