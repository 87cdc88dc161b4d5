//! Makes a schema file from a VyOS source tree: the XML interface definitions, with every include expanded.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use serde::Serialize;

/// A schema in the form of a schema file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SchemaFile {
    /// The release's line, such as `1.5`.
    pub release: String,
    /// The syntax version of each component.
    pub component_versions: BTreeMap<String, u32>,
    /// The nodes at the top.
    pub tree: BTreeMap<String, Definition>,
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Definition {
    /// `node`, `tag` or `leaf`.
    pub kind: &'static str,
    /// The script that applies it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The order of that script in a commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The leaf takes several values.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub multi: bool,
    /// The leaf takes none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub valueless: bool,
    /// One of these must accept the value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraint: Vec<Constraint>,
    /// Groups of which each must accept the value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraint_and: Vec<Vec<Constraint>>,
    /// What is said when none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The value in force where none is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What is below.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub children: BTreeMap<String, Definition>,
}

/// A check of a value.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Constraint {
    /// The whole value matches.
    Regex {
        /// PCRE.
        regex: String,
    },
    /// A validator program accepts it.
    Validator {
        /// Its name, perhaps with arguments.
        validator: String,
        /// Its argument.
        #[serde(skip_serializing_if = "Option::is_none")]
        arg: Option<String>,
    },
}

/// Why no schema could be made.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// A file cannot be read.
    #[error("{path}: cannot be read")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not XML.
    #[error("{path}: {what}")]
    Xml {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// There is nothing to read.
    #[error("{0}: no *.xml.in in it; give the root of a vyos-1x source tree")]
    Empty(PathBuf),
}

/// Longest error text that is kept.
const LONGEST_ERROR: usize = 120;
/// Includes nest a few deep; more is a loop.
const DEEPEST_INCLUDE: usize = 16;

/// Reads `interface-definitions` below the root of a vyos-1x source tree.
///
/// # Errors
/// The first file that cannot be read, by name.
pub fn read(root: &Path, release: &str) -> Result<SchemaFile, DefinitionError> {
    let folder = root.join("interface-definitions");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|e| failed(&folder, e))? {
        let path = entry.map_err(|e| failed(&folder, e))?.path();
        if path.to_string_lossy().ends_with(".xml.in") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(DefinitionError::Empty(folder));
    }
    let mut schema = SchemaFile { release: release.to_owned(), ..SchemaFile::default() };
    for file in files {
        let text = expand(&folder, &file, 0)?;
        let document = parse(&text).map_err(|what| DefinitionError::Xml { path: file.clone(), what })?;
        schema.take(&document);
    }
    Ok(schema)
}

fn failed(path: &Path, source: io::Error) -> DefinitionError {
    DefinitionError::Io { path: path.to_owned(), source }
}

/// The file's text with `#include <...>` lines replaced by the files that they name.
fn expand(folder: &Path, file: &Path, depth: usize) -> Result<String, DefinitionError> {
    if depth > DEEPEST_INCLUDE {
        return Err(DefinitionError::Xml {
            path: file.to_owned(),
            what: "its includes never end".to_owned(),
        });
    }
    let text = fs::read_to_string(file).map_err(|e| failed(file, e))?;
    let mut expanded = String::with_capacity(text.len());
    for line in text.lines() {
        let included = line.trim_start().strip_prefix("#include <").and_then(|rest| rest.split('>').next());
        match included {
            Some(name) => expanded.push_str(&expand(folder, &folder.join(name), depth + 1)?),
            None => expanded.push_str(line),
        }
        expanded.push('\n');
    }
    Ok(expanded)
}

/// An element of the document.
#[derive(Debug, Default)]
struct Element {
    tag: String,
    attributes: BTreeMap<String, String>,
    text: String,
    inside: Vec<Element>,
}

impl Element {
    fn open(start: &BytesStart<'_>) -> Result<Self, String> {
        let tag = String::from_utf8_lossy(start.name().as_ref()).into_owned();
        let mut attributes = BTreeMap::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|e| e.to_string())?;
            let key = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
            attributes.insert(key, attribute.unescape_value().map_err(|e| e.to_string())?.into_owned());
        }
        Ok(Self { tag, attributes, ..Self::default() })
    }

    fn all<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a Element> {
        self.inside.iter().filter(move |e| e.tag == tag)
    }

    fn name(&self) -> String {
        self.attributes.get("name").cloned().unwrap_or_default()
    }

    fn words(&self) -> String {
        self.text.trim().to_owned()
    }
}

fn parse(text: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(text);
    let mut open = vec![Element::default()];
    loop {
        let event = reader.read_event().map_err(|e| format!("byte {}: {e}", reader.error_position()))?;
        match event {
            Event::Start(start) => open.push(Element::open(&start)?),
            Event::Empty(start) => close(&mut open, Element::open(&start)?),
            Event::End(_) => {
                let done = open.pop().unwrap_or_default();
                close(&mut open, done);
            }
            Event::Text(part) => append(&mut open, &part.decode().map_err(|e| e.to_string())?),
            Event::CData(part) => append(&mut open, &part.decode().map_err(|e| e.to_string())?),
            Event::GeneralRef(entity) => {
                let name = entity.decode().map_err(|e| e.to_string())?;
                let numeric = entity.resolve_char_ref().map_err(|e| e.to_string())?.map(String::from);
                let named = || quick_xml::escape::resolve_xml_entity(&name).map(str::to_owned);
                append(&mut open, &numeric.or_else(named).ok_or_else(|| format!("unknown entity `{name}`"))?);
            }
            Event::Eof => return open.into_iter().next().ok_or_else(|| "it is empty".to_owned()),
            _ => {}
        }
    }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn close(open: &mut [Element], done: Element) {
    if let Some(parent) = open.last_mut() {
        parent.inside.push(done);
    }
}

impl SchemaFile {
    fn take(&mut self, document: &Element) {
        for root in document.all("interfaceDefinition") {
            for version in root.all("syntaxVersion") {
                let number = version.attributes.get("version").and_then(|v| v.parse().ok());
                if let (Some(component), Some(number)) = (version.attributes.get("component"), number) {
                    self.component_versions.insert(component.clone(), number);
                }
            }
            merge_all(&mut self.tree, root);
        }
    }
}

fn merge_all(nodes: &mut BTreeMap<String, Definition>, parent: &Element) {
    for element in &parent.inside {
        let kind = match element.tag.as_str() {
            "node" => "node",
            "tagNode" => "tag",
            "leafNode" => "leaf",
            _ => continue,
        };
        let node = nodes.entry(element.name()).or_default();
        node.kind = kind;
        node.take(element);
    }
}

impl Definition {
    /// Adds what an element says. Several files may speak of the same node; the last word counts.
    fn take(&mut self, element: &Element) {
        if let Some(owner) = element.attributes.get("owner") {
            // `${vyos_conf_scripts_dir}/x.py`, perhaps with arguments that hold slashes themselves.
            self.owner = Some(owner.split_once("}/").map_or(owner.as_str(), |(_, script)| script).to_owned());
        }
        element.all("properties").for_each(|properties| self.take_properties(properties));
        if let Some(default) = element.all("defaultValue").last() {
            self.default = Some(default.words());
        }
        element.all("children").for_each(|children| merge_all(&mut self.children, children));
    }

    fn take_properties(&mut self, properties: &Element) {
        self.multi |= properties.all("multi").next().is_some();
        self.valueless |= properties.all("valueless").next().is_some();
        if let Some(priority) = properties.all("priority").last() {
            self.priority = priority.words().parse().ok();
        }
        if let Some(error) = properties.all("constraintErrorMessage").last() {
            self.error = Some(error.words()).filter(|text| text.chars().count() <= LONGEST_ERROR);
        }
        let checks: Vec<_> = properties.all("constraint").flat_map(constraints).collect();
        if !checks.is_empty() {
            self.constraint = checks;
        }
        let groups: Vec<_> = properties.all("constraintGroup").map(constraints).collect();
        if !groups.is_empty() {
            self.constraint_and = groups;
        }
    }
}

fn constraints(element: &Element) -> Vec<Constraint> {
    let check = |e: &Element| match e.tag.as_str() {
        "regex" => Some(Constraint::Regex { regex: e.words() }),
        "validator" => {
            Some(Constraint::Validator { validator: e.name(), arg: e.attributes.get("argument").cloned() })
        }
        _ => None,
    };
    element.inside.iter().filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"<?xml version="1.0"?>
<interfaceDefinition>
  <syntaxVersion component='lab' version='3'></syntaxVersion>
  <node name="service"><children>
    <node name="lab" owner="${vyos_conf_scripts_dir}/lab.py">
      <properties><help>Lab &amp; more</help><priority>985</priority></properties>
      <children>
        #include <include/disable.xml.i>
        <tagNode name="net">
          <properties><constraint><regex>[a-z]+&lt;</regex><validator name="numeric" argument="--range 1-5"/></constraint>
          <constraintErrorMessage>Bad name</constraintErrorMessage></properties>
          <children><leafNode name="dns"><properties><multi/></properties><defaultValue>1</defaultValue><defaultValue>2</defaultValue></leafNode></children>
        </tagNode>
      </children>
    </node>
  </children></node>
</interfaceDefinition>"#;

    #[test]
    fn a_small_source_tree() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("interface-definitions");
        fs::create_dir_all(folder.join("include")).unwrap();
        fs::write(folder.join("lab.xml.in"), FILE).unwrap();
        let include =
            "<!-- include -->\n<leafNode name=\"disable\"><properties><valueless/></properties></leafNode>";
        fs::write(folder.join("include/disable.xml.i"), include).unwrap();
        let schema = read(root.path(), "1.5").unwrap();
        assert_eq!(schema.component_versions["lab"], 3);
        let lab = &schema.tree["service"].children["lab"];
        assert_eq!((lab.owner.as_deref(), lab.priority), (Some("lab.py"), Some(985)));
        assert!(lab.children["disable"].valueless);
        let net = &lab.children["net"];
        let json = serde_json::to_value(net).unwrap();
        let checks =
            serde_json::json!([{"regex": "[a-z]+<"}, {"validator": "numeric", "arg": "--range 1-5"}]);
        assert_eq!((json["kind"].as_str(), &json["constraint"]), (Some("tag"), &checks));
        let dns = &net.children["dns"];
        assert_eq!((dns.multi, dns.default.as_deref()), (true, Some("2")));
        // What is written is what `--schema` reads.
        let file = serde_json::to_vec(&schema).unwrap();
        let schema = crate::config::Schema::from_json(&file).unwrap();
        let mut tree = crate::config::Tree::new();
        tree.add(&"service lab net abc< dns".parse().unwrap(), "10.0.0.1").unwrap();
        assert_eq!(schema.validate(&tree), []);
        tree.add(&"service lab net ABC dns".parse().unwrap(), "10.0.0.1").unwrap();
        tree.add(&"service lab nothing".parse().unwrap(), "x").unwrap();
        assert_eq!(schema.validate(&tree).len(), 2);
    }

    #[test]
    fn what_is_no_source_tree_is_named() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(read(root.path(), "1.5"), Err(DefinitionError::Io { .. })));
        fs::create_dir(root.path().join("interface-definitions")).unwrap();
        assert!(matches!(read(root.path(), "1.5"), Err(DefinitionError::Empty(_))));
        fs::write(root.path().join("interface-definitions/a.xml.in"), "#include <a.xml.in>").unwrap();
        assert!(read(root.path(), "1.5").unwrap_err().to_string().contains("never end"));
    }
}
