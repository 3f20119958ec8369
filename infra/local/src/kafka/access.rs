//! Who may do what in a Kafka that asks for certificates: access control lists, written with Kafka's own tool.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Kafka;

/// The name of the certificate that makes topics and rules; it may do everything.
pub const ADMINISTRATOR: &str = "admin";

/// What some clients may do with some things.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Names of certificates.
    pub clients: &'static [&'static str],
    /// `Read` and `Write` include `Describe`.
    pub operations: &'static [&'static str],
    pub to: Things,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug)]
pub enum Things {
    Topics(&'static [&'static str]),
    /// Consumer groups whose names begin so.
    Groups(&'static str),
}

impl Rule {
    /// As arguments of the tool.
    fn arguments(&self) -> Vec<String> {
        let pair = |name: &str, value: &str| [name.to_owned(), value.to_owned()];
        let mut arguments = Vec::new();
        arguments.extend(self.clients.iter().flat_map(|name| pair("--allow-principal", &format!("User:{name}"))));
        arguments.extend(self.operations.iter().flat_map(|name| pair("--operation", name)));
        match self.to {
            Things::Topics(names) => arguments.extend(names.iter().flat_map(|name| pair("--topic", name))),
            Things::Groups(prefix) => {
                arguments.extend(pair("--group", prefix));
                arguments.extend(pair("--resource-pattern-type", "prefixed"));
            }
        }
        arguments
    }
}

impl Kafka {
    /// Sees to it that exactly these rules hold of all that were ever set this way. The broker must run. What was written
    /// is noted in its folder, so that a second time nothing has to be done.
    pub fn allow(&self, rules: &[Rule]) -> Result<()> {
        let note = self.folder.join("rules");
        let before: BTreeSet<String> =
            std::fs::read_to_string(&note).unwrap_or_default().lines().map(str::to_owned).collect();
        let wanted: BTreeSet<String> = rules.iter().map(|rule| rule.arguments().join(" ")).collect();
        for outdated in before.difference(&wanted) {
            self.change_rule(&["--remove", "--force"], outdated)?;
        }
        for missing in wanted.difference(&before) {
            self.change_rule(&["--add"], missing)?;
        }
        std::fs::write(note, wanted.into_iter().collect::<Vec<_>>().join("\n"))?;
        Ok(())
    }

    fn change_rule(&self, how: &[&str], rule: &str) -> Result<()> {
        let mut command = Command::new("java");
        command.args(self.java_arguments()).arg("org.apache.kafka.tools.AclCommand").current_dir(&self.folder);
        command.args(["--bootstrap-server", &self.bootstrap(), "--command-config", "administrator.properties"]);
        let output = command.args(how).args(rule.split(' ')).stdin(Stdio::null()).output();
        let output = output.context("`java` is not installed")?;
        if !output.status.success() {
            bail!("Kafka does not take the rule `{rule}`: {}", String::from_utf8_lossy(&output.stdout).trim());
        }
        Ok(())
    }
}
