//! A grid whose jobs store into the vault of the destination, and restore trees from it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Session;
use super::grid::{DESTINATION, GridSession, SOURCE};
use crate::measure::Cost;
use crate::programs::Programs;

/// A running grid with an empty vault.
#[derive(Debug)]
pub(super) struct Vault {
    grid: GridSession,
    /// The directory into which a version was restored.
    place: PathBuf,
    restored: u32,
}

impl Vault {
    pub(super) fn begin(programs: &Programs, root: &Path, directory: &Path) -> Result<Self, String> {
        let grid = GridSession::begin(programs, root, directory)?;
        Ok(Self { place: grid.exported("copy"), grid, restored: 0 })
    }

    /// The newest snapshot.
    fn newest(&self) -> Result<String, String> {
        let mut command = self.grid.command();
        command.args(["snapshot", "ls"]);
        let output = command.output().map_err(|error| error.to_string())?;
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        newest_of(&answer).ok_or_else(|| format!("no snapshot in: {answer}"))
    }
}

impl Session for Vault {
    fn send(&mut self, tree: &Path) -> Result<Cost, String> {
        let mut command = self.grid.command();
        command.args(["job", "create", "--wait", "--layout", "packed"]);
        command.arg(format!("{SOURCE}:{}", tree.display())).arg(format!("{DESTINATION}:"));
        let packed = self.grid.state_of(DESTINATION).join("packed");
        Ok(self.grid.measure(command, &packed)?.0)
    }

    fn place(&self) -> &Path {
        &self.place
    }

    fn restore(&mut self) -> Result<Option<Cost>, String> {
        self.restored += 1;
        self.place = self.grid.exported(&format!("copy-{}", self.restored));
        let mut command = self.grid.command();
        command.args(["snapshot", "restore", &self.newest()?, "--wait"]);
        command.arg(format!("{DESTINATION}:{}", self.place.display()));
        Ok(Some(self.grid.measure(command, &self.place)?.0))
    }

    fn is_repository(&self) -> bool {
        true
    }

    fn end(&mut self) {
        self.grid.end();
    }
}

/// The id of the newest snapshot in the answer of `snapshot ls`, which may be one object or a line for each.
fn newest_of(answer: &str) -> Option<String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in answer.lines() {
        let value: Value = serde_json::from_str(line).ok()?;
        let listed = value["snapshots"].as_array().cloned().unwrap_or_else(|| vec![value]);
        for snapshot in listed {
            let text = |name: &str| snapshot[name].as_str().map(str::to_owned);
            found.push((text("createTime")?, text("snapshotId")?));
        }
    }
    found.into_iter().max().map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_snapshot_is_found_in_either_form() {
        let one = r#"{"snapshotId":"aa","createTime":"2026-01-01T00:00:00Z"}"#;
        let other = r#"{"snapshotId":"bb","createTime":"2026-01-02T00:00:00Z"}"#;
        assert_eq!(newest_of(&format!("{other}\n{one}\n")).as_deref(), Some("bb"));
        assert_eq!(newest_of(&format!("{{\"snapshots\":[{one},{other}]}}")).as_deref(), Some("bb"));
        assert_eq!(newest_of(""), None);
    }
}
