//! What a request asks for, typed.

use serde_json::{Map, Value};
use vyos_sync::config::{Children, ConfigPath, Node, Values};

use super::decode::Decoded;
use super::python::repr;
use super::reply::Refusal;
use crate::release::Generation;

/// The prefixes that nginx passes on and the stand-in serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Retrieve,
    Background,
    Configure,
    ConfigureSection,
    ConfigFile,
    Show,
    Generate,
    Reset,
    Reboot,
    Poweroff,
}

/// One staged change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Op {
    pub(crate) verb: Verb,
    /// The words as sent; without a value field, the last one may be the value.
    pub(crate) words: Vec<String>,
    pub(crate) value: Option<String>,
}

/// What an [`Op`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Set,
    Delete,
    Comment,
}

/// How `showConfig` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Raw,
    Ast,
}

/// When the change undoes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirm {
    pub(crate) minutes: u32,
}

/// A request that can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    ShowConfig(Vec<String>, Format),
    Exists(Vec<String>),
    ReturnValue(Vec<String>),
    ReturnValues(Vec<String>),
    Configure(Vec<Op>, Option<Confirm>),
    /// Set or load: a subtree at a path.
    Section(SectionVerb, Vec<Section>, Option<Confirm>),
    Confirm,
    Save(Option<String>),
    Load(Source, Option<Confirm>),
    Merge(Source, Option<Confirm>),
    Show(Vec<String>),
    Generate(Vec<String>),
    Reset(Vec<String>),
    Reboot(Vec<String>),
    Poweroff(Vec<String>),
    Background,
}

/// Where a whole configuration comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    File(String),
    Text(String),
}

/// What to do with a subtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectionVerb {
    /// Adds what it states.
    Set,
    /// Replaces what is there.
    Load,
}

/// A subtree and its place; the place may be the top.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Section {
    pub(crate) at: Vec<String>,
    pub(crate) node: Node,
}

impl Endpoint {
    /// By the path of the URL.
    pub(crate) fn named(path: &str) -> Option<Self> {
        Some(match path {
            "/retrieve" => Self::Retrieve,
            "/retrieve/background-operations" => Self::Background,
            "/configure" => Self::Configure,
            "/configure-section" => Self::ConfigureSection,
            "/config-file" => Self::ConfigFile,
            "/show" => Self::Show,
            "/generate" => Self::Generate,
            "/reset" => Self::Reset,
            "/reboot" => Self::Reboot,
            "/poweroff" => Self::Poweroff,
            _ => return None,
        })
    }

    /// The path of the URL.
    pub(crate) fn url(self) -> &'static str {
        match self {
            Self::Retrieve => "/retrieve",
            Self::Background => "/retrieve/background-operations",
            Self::Configure => "/configure",
            Self::ConfigureSection => "/configure-section",
            Self::ConfigFile => "/config-file",
            Self::Show => "/show",
            Self::Generate => "/generate",
            Self::Reset => "/reset",
            Self::Reboot => "/reboot",
            Self::Poweroff => "/poweroff",
        }
    }

    /// Whether the parsers want `path`: not for files, and not where `mask` and `config` say it.
    pub(crate) fn needs_path(self, fields: &Map<String, Value>) -> bool {
        let confirm = fields.get("op").and_then(Value::as_str) == Some("confirm");
        match self {
            Self::ConfigFile | Self::Background => false,
            Self::ConfigureSection => !fields.contains_key("mask"),
            Self::Configure => !confirm,
            _ => true,
        }
    }
}

/// Types a decoded request.
pub(crate) fn parse(endpoint: Endpoint, decoded: &Decoded, generation: Generation) -> Result<Call, Refusal> {
    let body = &decoded.body;
    match endpoint {
        Endpoint::Retrieve => retrieve(body),
        Endpoint::Background => Ok(Call::Background),
        Endpoint::Configure => configure(body, generation),
        Endpoint::ConfigureSection => section(body),
        Endpoint::ConfigFile => file(body, generation),
        Endpoint::Show => only(body, "show", Call::Show),
        Endpoint::Generate => only(body, "generate", Call::Generate),
        Endpoint::Reset => only(body, "reset", Call::Reset),
        Endpoint::Reboot => only(body, "reboot", Call::Reboot),
        Endpoint::Poweroff => only(body, "poweroff", Call::Poweroff),
    }
}

fn retrieve(body: &Map<String, Value>) -> Result<Call, Refusal> {
    let path = words(body);
    match op(body) {
        "showConfig" => Ok(Call::ShowConfig(path, format(body)?)),
        "exists" => Ok(Call::Exists(path)),
        "returnValue" => Ok(Call::ReturnValue(path)),
        "returnValues" => Ok(Call::ReturnValues(path)),
        other => Err(not_an_operation(other)),
    }
}

fn format(body: &Map<String, Value>) -> Result<Format, Refusal> {
    match body.get("configFormat").and_then(Value::as_str) {
        None | Some("json") => Ok(Format::Json),
        Some("raw") => Ok(Format::Raw),
        Some("json_ast") => Ok(Format::Ast),
        Some(other) => Err(Refusal::bad(format!("'{other}' is not a valid config format"))),
    }
}

fn configure(body: &Map<String, Value>, generation: Generation) -> Result<Call, Refusal> {
    if op(body) == "confirm" && generation.confirms() {
        return Ok(Call::Confirm);
    }
    let ops: Result<Vec<_>, _> = match body.get("commands").and_then(Value::as_array) {
        Some(commands) => commands.iter().filter_map(Value::as_object).map(change).collect(),
        None => change(body).map(|op| vec![op]),
    };
    Ok(Call::Configure(ops?, confirm(body)))
}

fn change(body: &Map<String, Value>) -> Result<Op, Refusal> {
    let verb = match op(body) {
        "set" => Verb::Set,
        "delete" => Verb::Delete,
        "comment" => Verb::Comment,
        other => return Err(not_an_operation(other)),
    };
    let value = body.get("value").and_then(Value::as_str).filter(|value| !value.is_empty());
    Ok(Op { verb, words: words(body), value: value.map(str::to_owned) })
}

fn section(body: &Map<String, Value>) -> Result<Call, Refusal> {
    let verb = match op(body) {
        "set" => SectionVerb::Set,
        "load" => SectionVerb::Load,
        other => return Err(not_an_operation(other)),
    };
    let sections = match (body.get("mask"), body.get("config")) {
        (Some(mask), Some(config)) => masked(&node(mask)?, &node(config)?),
        (Some(_), None) | (None, Some(_)) => return Err(malformed(body, "missing 'mask' or 'config' field")),
        (None, None) => match body.get("section") {
            Some(section @ Value::Object(_)) => vec![Section { at: words(body), node: node(section)? }],
            _ => return Err(malformed(body, "'section' field must be JSON of dict")),
        },
    };
    Ok(Call::Section(verb, sections, confirm(body)))
}

/// The ends of the mask, with what the configuration has there.
fn masked(mask: &Node, config: &Node) -> Vec<Section> {
    fn descend(mask: &Node, config: &Node, at: &[String], found: &mut Vec<Section>) {
        let ends = mask.children().is_none_or(Children::is_empty);
        if ends {
            let node = config.at(at).cloned().unwrap_or_else(Node::bare);
            return found.push(Section { at: at.to_vec(), node });
        }
        for (name, inner) in mask.children().into_iter().flatten() {
            let mut below = at.to_vec();
            below.push(name.clone());
            descend(inner, config, &below, found);
        }
    }
    let mut found = Vec::new();
    descend(mask, config, &[], &mut found);
    found
}

/// A subtree from JSON of nothing but objects, strings and lists of strings.
pub(crate) fn node(value: &Value) -> Result<Node, Refusal> {
    let wrong = || Refusal::bad("object is not a dict of strings/list of strings");
    match value {
        Value::String(text) => Ok(Node::value(text)),
        Value::Array(items) => {
            let values: Option<Values> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            values.map(Node::Leaf).ok_or_else(wrong)
        }
        Value::Object(fields) => {
            let children: Result<Children, _> =
                fields.iter().map(|(name, value)| Ok((name.clone(), node(value)?))).collect();
            Ok(Node::Branch(children?))
        }
        _ => Err(wrong()),
    }
}

fn file(body: &Map<String, Value>, generation: Generation) -> Result<Call, Refusal> {
    let text = |field: &str| body.get(field).and_then(Value::as_str).map(str::to_owned);
    let source = || match (text("file"), text("string")) {
        (Some(file), _) => Ok(Source::File(file)),
        (None, Some(text)) => Ok(Source::Text(text)),
        (None, None) => Err(Refusal::bad("Missing required field \"file\"")),
    };
    match op(body) {
        "save" => Ok(Call::Save(text("file"))),
        "load" => Ok(Call::Load(source()?, confirm(body))),
        "merge" if generation.confirms() => Ok(Call::Merge(source()?, confirm(body))),
        "confirm" if generation.confirms() => Ok(Call::Confirm),
        other => Err(not_an_operation(other)),
    }
}

fn only(
    body: &Map<String, Value>,
    wanted: &str,
    call: impl FnOnce(Vec<String>) -> Call,
) -> Result<Call, Refusal> {
    if op(body) == wanted { Ok(call(words(body))) } else { Err(not_an_operation(op(body))) }
}

fn op(body: &Map<String, Value>) -> &str {
    body.get("op").and_then(Value::as_str).unwrap_or("")
}

fn words(body: &Map<String, Value>) -> Vec<String> {
    let words = body.get("path").and_then(Value::as_array).into_iter().flatten();
    words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

fn confirm(body: &Map<String, Value>) -> Option<Confirm> {
    let minutes = body.get("confirm_time").and_then(Value::as_u64).unwrap_or(0);
    u32::try_from(minutes).ok().filter(|minutes| *minutes > 0).map(|minutes| Confirm { minutes })
}

fn not_an_operation(op: &str) -> Refusal {
    Refusal::bad(format!("'{op}' is not a valid operation"))
}

fn malformed(body: &Map<String, Value>, what: &str) -> Refusal {
    Refusal::bad(format!("Malformed command '{}': {what}", repr(&Value::Object(body.clone()))))
}

/// Words as a path, `None` for the top.
pub(crate) fn path(words: &[String]) -> Option<ConfigPath> {
    ConfigPath::try_from(words.to_vec()).ok()
}
