//! Maven's `pom.xml` in a source tree: the dependencies whose versions it tells itself. What a parent of another project says is
//! not there to be read.

use std::collections::HashMap;

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};

const FORMAT: &str = "pom.xml";
/// Elements in elements; deeper ones are passed over.
const MAX_DEPTH: usize = 32;
/// Most properties that are known.
const MAX_PROPERTIES: usize = 4096;
/// Properties that stand for properties are followed so often.
const MAX_STEPS: usize = 8;

#[derive(Default)]
struct Dependency {
    group: String,
    artifact: String,
    version: String,
    scope: String,
}

#[derive(Default)]
struct Project {
    properties: HashMap<String, String>,
    dependencies: Vec<Dependency>,
    /// Versions that dependencies without one have.
    managed: Vec<Dependency>,
}

/// Reads a `pom.xml`: its dependencies that are not for tests alone, with their versions where it tells them, by itself, by its
/// management of dependencies or by its properties.
pub fn parse_pom(bytes: &[u8]) -> Inventory {
    let text = String::from_utf8_lossy(bytes);
    let project = read(&text);
    let mut inventory = Inventory::default();
    let resolved = |text: &str| resolve(text, &project.properties);
    for dependency in project.dependencies.iter().filter(|one| one.scope != "test") {
        let (Some(group), Some(artifact)) = (resolved(&dependency.group), resolved(&dependency.artifact))
        else {
            continue;
        };
        let same = |one: &&Dependency| {
            resolved(&one.group).as_ref() == Some(&group)
                && resolved(&one.artifact).as_ref() == Some(&artifact)
        };
        let managed = || project.managed.iter().find(same).map(|one| one.version.as_str());
        let said = Some(dependency.version.as_str()).filter(|said| !said.is_empty()).or_else(managed);
        let version = said.and_then(resolved);
        // A range is no version.
        if let Some(version) =
            version.filter(|version| version.starts_with(|c: char| c.is_ascii_alphanumeric()))
        {
            let package = Package::new(Ecosystem::Maven, format!("{group}:{artifact}"), version);
            inventory.add(FORMAT, || artifact.clone(), package);
        }
    }
    inventory
}

/// A text with its properties put in; none where one is not known.
fn resolve(text: &str, properties: &HashMap<String, String>) -> Option<String> {
    let mut text = text.to_owned();
    for _step in 0..MAX_STEPS {
        let Some((before, rest)) = text.split_once("${") else {
            return (!text.is_empty() && text.len() <= 1024).then_some(text);
        };
        let (name, behind) = rest.split_once('}')?;
        text = format!("{before}{}{behind}", properties.get(name)?);
        if text.len() > 4096 {
            return None;
        }
    }
    None
}

fn read(text: &str) -> Project {
    let mut project = Project::default();
    let mut open: Vec<&str> = Vec::new();
    let mut dependency = Dependency::default();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once('<') {
        if let Some(comment) = behind.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, rest)| rest);
            continue;
        }
        let Some((tag, content)) = behind.split_once('>') else { break };
        rest = content;
        if tag.starts_with(['?', '!']) {
            continue;
        }
        if tag.starts_with('/') {
            match open.as_slice() {
                ["project", "dependencies", "dependency"] => {
                    project.dependencies.push(std::mem::take(&mut dependency));
                }
                ["project", "dependencyManagement", "dependencies", "dependency"] => {
                    project.managed.push(std::mem::take(&mut dependency));
                }
                _ => {}
            }
            open.pop();
            continue;
        }
        if tag.ends_with('/') {
            continue;
        }
        if open.len() >= MAX_DEPTH {
            break;
        }
        open.push(tag.split_whitespace().next().unwrap_or_default());
        let text = content.split('<').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let mut property = |name: String| {
            if project.properties.len() < MAX_PROPERTIES {
                project.properties.insert(name, text.to_owned());
            }
        };
        match open.as_slice() {
            ["project", "properties", name] => property((*name).to_owned()),
            ["project", name @ ("groupId" | "artifactId" | "version")] => property(format!("project.{name}")),
            ["project", "parent", name @ ("groupId" | "version")] => {
                property(format!("project.parent.{name}"));
                // A project has its parent's, unless it says others, which come behind.
                property(format!("project.{name}"));
            }
            ["project", "dependencies", "dependency", name]
            | ["project", "dependencyManagement", "dependencies", "dependency", name] => {
                let slot = match *name {
                    "groupId" => &mut dependency.group,
                    "artifactId" => &mut dependency.artifact,
                    "version" => &mut dependency.version,
                    "scope" => &mut dependency.scope,
                    _ => continue,
                };
                text.clone_into(slot);
            }
            _ => {}
        }
    }
    project
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POM: &str = r#"<?xml version="1.0"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <parent><groupId>org.example</groupId><version>3.1</version></parent>
  <artifactId>shop</artifactId>
  <properties><log4j.version>2.14.${minor}</log4j.version><minor>1</minor></properties>
  <dependencyManagement><dependencies>
    <dependency><groupId>com.google.guava</groupId><artifactId>guava</artifactId><version>30.0-jre</version></dependency>
  </dependencies></dependencyManagement>
  <dependencies>
    <!-- <dependency><groupId>not</groupId><artifactId>here</artifactId><version>1</version></dependency> -->
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>${log4j.version}</version>
      <exclusions><exclusion><groupId>x</groupId><artifactId>y</artifactId></exclusion></exclusions></dependency>
    <dependency><groupId>com.google.guava</groupId><artifactId>guava</artifactId></dependency>
    <dependency><groupId>${project.groupId}</groupId><artifactId>base</artifactId><version>${project.version}</version></dependency>
    <dependency><groupId>junit</groupId><artifactId>junit</artifactId><version>4.12</version><scope>test</scope></dependency>
    <dependency><groupId>a</groupId><artifactId>range</artifactId><version>[1.0,2.0)</version></dependency>
    <dependency><groupId>a</groupId><artifactId>unknown</artifactId><version>${revision}</version></dependency>
    <dependency><groupId>a</groupId><artifactId>of-the-parent</artifactId></dependency>
  </dependencies>
</project>"#;

    #[test]
    fn dependencies_have_the_versions_that_the_file_tells() {
        let found = parse_pom(POM.as_bytes());
        let names: Vec<_> = found.packages.iter().map(|p| (&*p.name, &*p.version)).collect();
        let want = [
            ("org.apache.logging.log4j:log4j-core", "2.14.1"),
            ("com.google.guava:guava", "30.0-jre"),
            ("org.example:base", "3.1"),
        ];
        assert_eq!((names.as_slice(), found.fault_count), (&want[..], 0));
    }

    #[test]
    fn properties_that_stand_for_themselves_end() {
        let text = "<project><properties><a>${b}</a><b>${a}${a}</b></properties><dependencies><dependency><groupId>g</groupId><artifactId>x</artifactId><version>${a}</version></dependency></dependencies></project>";
        assert_eq!(parse_pom(text.as_bytes()), Inventory::default());
    }

    proptest! {
        #[test]
        fn a_cut_file_gives_no_package_that_the_whole_had_not(end in 0..POM.len()) {
            let whole = parse_pom(POM.as_bytes()).packages;
            for package in parse_pom(&POM.as_bytes()[..end]).packages {
                prop_assert!(whole.iter().any(|one| one.name == package.name));
            }
        }
    }
}
