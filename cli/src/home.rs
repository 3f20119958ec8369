//! Where things are: the checkout, its programs, and the one ignored folder that holds all state.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nexus_local::User;

/// Where the state goes when the account of PostgreSQL can't enter the checkout (one below `/root`, say).
const OUTSIDE: &str = "/var/lib/nexushealth";

/// A checkout of the project.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The given folder, or the nearest one upwards from the current that has the `nexus` script.
    pub fn find(given: Option<&Path>) -> Result<Self> {
        let start = std::env::current_dir()?;
        let is_home = |folder: &&Path| folder.join("nexus").is_file() && folder.join("Cargo.toml").is_file();
        let found = given.map(Path::to_owned).or_else(|| start.ancestors().find(is_home).map(Path::to_owned));
        let root = found.context("run this inside a checkout of NexusHealth")?;
        Ok(Self { root: root.canonicalize()? })
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// One of our programs: they are built together, so they lie beside this one.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let own = std::env::current_exe()?;
        let program = own.with_file_name(name);
        if !program.exists() {
            bail!("{} is missing; `cargo build --workspace --bins` builds all that belong together", program.display());
        }
        Ok(program)
    }

    /// `.nexus`, made on first use.
    pub fn state(&self) -> Result<PathBuf> {
        let state = self.root.join(".nexus");
        if !state.exists() {
            self.make_state(&state)?;
        }
        Ok(state)
    }

    /// Jars, tools: what can be fetched again.
    pub fn cache(&self) -> Result<PathBuf> {
        Ok(self.state()?.join("cache"))
    }

    fn make_state(&self, state: &Path) -> Result<()> {
        let user = User::for_postgres();
        if nexus_local::can_traverse(&user, &self.root) {
            return make_folder(state, 0o711);
        }
        let mut hasher = DefaultHasher::new();
        self.root.hash(&mut hasher);
        let outside = Path::new(OUTSIDE).join(format!("{:016x}", hasher.finish()));
        make_folder(Path::new(OUTSIDE), 0o711)?;
        make_folder(&outside, 0o711)?;
        if state.is_symlink() {
            // It pointed to a folder that is gone.
            std::fs::remove_file(state)?;
        }
        symlink(&outside, state).with_context(|| format!("can't make {}", state.display()))
    }
}

/// Makes a folder with exactly these permissions, whatever the umask.
pub fn make_folder(path: &Path, mode: u32) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("can't make {}", path.display()))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    Ok(())
}
