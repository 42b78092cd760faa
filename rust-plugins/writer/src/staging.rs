//! The folder that the writer may write, and one file in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use dativo_wire::fault::{Blame, Fault};
use sha2::{Digest, Sha256};

pub struct Staging {
    folder: PathBuf,
}

impl Staging {
    pub fn open(folder: &str) -> Result<Staging, Box<Fault>> {
        let staging = Staging {
            folder: folder.into(),
        };
        staging.sync()?;
        Ok(staging)
    }

    /// Create the file `name`, which must not be there. It is opened anew for each burst of writes: a run of
    /// a thousand streams must not need a thousand descriptors.
    pub fn create(&self, name: &str) -> Result<StagedFile, Box<Fault>> {
        let path = self.folder.join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|error| io_fault("create", name, &error))?;
        Ok(StagedFile {
            name: name.to_owned(),
            path,
            file: None,
            hash: Sha256::new(),
            bytes: 0,
        })
    }

    /// Read a closed file back.
    pub fn reopen(&self, name: &str) -> Result<File, Box<Fault>> {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(self.folder.join(name))
            .map_err(|error| io_fault("open", name, &error))
    }

    /// Where rows wait that are to be in no file called `name`.
    pub fn rows(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension("rows")
    }

    /// Make the names in the folder durable.
    pub fn sync(&self) -> Result<(), Box<Fault>> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| io_fault("sync", "the staging folder", &error))
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.folder.join(name))
    }
}

/// A failure of the disk below staging.
pub fn io_fault(verb: &str, what: &str, error: &dyn std::fmt::Display) -> Box<Fault> {
    Fault::new(
        "target.io",
        Blame::Machine,
        format!("cannot {verb} {what}: {error}"),
    )
}

/// A file that is only ever appended to, hashed as it is written.
pub struct StagedFile {
    pub name: String,
    path: PathBuf,
    file: Option<File>,
    hash: Sha256,
    bytes: u64,
}

/// What a closed file holds.
pub struct Written {
    pub bytes: u64,
    pub sha256: String,
}

impl StagedFile {
    fn opened(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new()
                .append(true)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }

    /// A name beside it, for row group `number`'s rows.
    pub fn beside(&self, number: usize) -> PathBuf {
        self.path.with_extension(format!("{number}.rows"))
    }

    /// Let the descriptor go until the next write.
    pub fn park(&mut self) {
        self.file = None;
    }

    /// Make the bytes durable and close the file.
    pub fn close(mut self) -> io::Result<Written> {
        self.opened()?.sync_all()?;
        let sha256 = self
            .hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Written {
            bytes: self.bytes,
            sha256,
        })
    }
}

impl Write for StagedFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.opened()?.write(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
