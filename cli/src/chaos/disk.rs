//! Small file systems below the data of PostgreSQL and Kafka, which can be made full.
//!
//! Each is a tmpfs. "Full" is its size brought down to what it holds, which needs no memory, as a ballast file would. They
//! are mounted in a mount namespace of this run, so nothing of them is left when its processes are gone.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::stack::Stack;

/// Far more than a run writes; memory is taken only by what is stored.
const SIZE: &str = "8g";
/// What is left of a full file system: some appends still find a place, most do not.
const LEFT_BYTES: u64 = 64 * 1024;
/// Says that this process has a mount namespace of its own.
const MARKER: &str = "NEXUS_CHAOS_NAMESPACE";

/// The mounted file systems.
pub struct Disks {
    mounts: Vec<PathBuf>,
}

/// Becomes the same program in a mount namespace of its own, where that is allowed. Where it isn't, it goes on as it is.
pub fn enter_namespace() {
    if std::env::var_os(MARKER).is_some() || !can_unshare() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(program).args(std::env::args_os().skip(1));
    // It returns only if it fails: then there are no small disks, which the report says.
    drop(command.env(MARKER, "1").exec());
}

fn can_unshare() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "--propagation", "private", "--", "mount", "-t", "tmpfs", "none", "/mnt"]);
    quietly(&mut probe)
}

impl Disks {
    /// `None` where nothing may be mounted.
    pub fn mount(stack: &Stack) -> Option<Self> {
        std::env::var_os(MARKER)?;
        let mut disks = Self { mounts: Vec::new() };
        for name in ["postgres", "kafka"] {
            let folder = stack.folder.join(name);
            std::fs::create_dir_all(&folder).ok()?;
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &format!("size={SIZE},mode=0755"), "nexus-chaos"]).arg(&folder);
            if !quietly(&mut mount) {
                disks.unmount();
                return None;
            }
            disks.mounts.push(folder);
        }
        Some(disks)
    }

    /// Leaves no room on the file system of this server.
    pub fn fill(&self, server: &str) -> Result<()> {
        let folder = self.folder(server)?;
        let state = nix::sys::statvfs::statvfs(folder)?;
        let used = (state.blocks() - state.blocks_free()) * state.fragment_size();
        resize(folder, &(used + LEFT_BYTES).to_string())
    }

    pub fn free(&self, server: &str) -> Result<()> {
        resize(self.folder(server)?, SIZE)
    }

    pub fn free_all(&self) {
        for folder in &self.mounts {
            resize(folder, SIZE).ok();
        }
    }

    pub fn unmount(&self) {
        for folder in &self.mounts {
            quietly(Command::new("umount").arg("--lazy").arg(folder));
        }
    }

    fn folder(&self, server: &str) -> Result<&Path> {
        let found = self.mounts.iter().find(|folder| folder.ends_with(server));
        found.map(PathBuf::as_path).with_context(|| format!("{server} has no disk of its own"))
    }
}

fn resize(folder: &Path, size: &str) -> Result<()> {
    let mut mount = Command::new("mount");
    mount.args(["-o", &format!("remount,size={size}")]).arg(folder);
    if !quietly(&mut mount) {
        bail!("{} can't be given another size", folder.display());
    }
    Ok(())
}

fn quietly(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|it| it.success())
}
