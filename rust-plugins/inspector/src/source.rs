//! A staged file, read once from its first byte to its last, and hashed on the way.
//!
//! Its writer may still hold it open. So nothing is believed that was read beside the one pass: what is decoded is what was hashed,
//! and the footer, which has to be known before, is compared when the pass comes to it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::flaw::{Flaw, Result, ensure};

const READ_BYTES: usize = 256 << 10;

pub struct Source {
    file: File,
    size: u64,
    hash: Sha256,
    /// Bytes that were read and hashed; those before `start` were consumed.
    window: Vec<u8>,
    start: usize,
    read: u64,
}

impl Source {
    /// Open `path`, which is to be a regular file of `size` bytes with one name.
    pub fn open(path: &Path, size: u64) -> Result<Source> {
        // O_NONBLOCK: opening a FIFO would wait for its other end. It means nothing to a regular file.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|error| Flaw::new(format!("cannot be opened: {error}")))?;
        let status = file.metadata().map_err(|error| Flaw::unreadable(&error))?;
        ensure(status.is_file(), || "is not a regular file".into())?;
        let links = status.nlink();
        ensure(links == 1, || format!("has {links} links"))?;
        ensure(status.len() == size, || {
            format!("has {} bytes, the manifest says {size}", status.len())
        })?;
        Ok(Source::new(file, size))
    }

    /// Read `file` up to `size`.
    pub fn new(file: File, size: u64) -> Source {
        Source {
            file,
            size,
            hash: Sha256::new(),
            window: Vec::new(),
            start: 0,
            read: 0,
        }
    }

    /// Bytes `from` to `to`, beside the pass.
    pub fn ahead(&self, from: u64, to: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; (to - from) as usize];
        match self.file.read_exact_at(&mut bytes, from) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(broken(&error)),
        }
    }

    /// How far the pass has come.
    pub fn at(&self) -> u64 {
        self.read - (self.window.len() - self.start) as u64
    }

    /// The next `count` bytes, fewer where the file ends before.
    pub fn peek(&mut self, count: usize) -> Result<&[u8]> {
        while self.window.len() - self.start < count && self.read < self.size {
            self.fill(count)?;
        }
        let rest = &self.window[self.start..];
        Ok(&rest[..rest.len().min(count)])
    }

    /// Have room for `count` bytes and read on.
    fn fill(&mut self, count: usize) -> Result<()> {
        self.window.drain(..self.start);
        self.start = 0;
        let held = self.window.len();
        let wanted = (count.saturating_sub(held)).max(READ_BYTES) as u64;
        let wanted = wanted.min(self.size - self.read) as usize;
        self.window.resize(held + wanted, 0);
        let got = loop {
            match self.file.read_at(&mut self.window[held..], self.read) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other.map_err(|error| Flaw::unreadable(&error))?,
            }
        };
        self.window.truncate(held + got);
        ensure(got > 0, || "shrank while it was read".into())?;
        self.hash.update(&self.window[held..]);
        self.read += got as u64;
        Ok(())
    }

    /// Pass over bytes that were peeked at.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.window.len());
    }

    /// Pass over everything up to `offset`, which is not behind.
    pub fn skip_to(&mut self, offset: u64) -> Result<()> {
        while self.at() < offset {
            let count = (offset - self.at()).min(READ_BYTES as u64) as usize;
            let count = self.peek(count)?.len();
            ensure(count > 0, || "ends before its column chunks".into())?;
            self.consume(count);
        }
        Ok(())
    }

    /// Pass over `bytes`, which were read ahead.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<()> {
        for part in bytes.chunks(READ_BYTES) {
            let is_same = self.peek(part.len())? == part;
            ensure(is_same, || "changed while it was read".into())?;
            self.consume(part.len());
        }
        Ok(())
    }

    /// The SHA-256 of the file, all of which was passed over.
    pub fn finish(self) -> Result<String> {
        let mut more = [0];
        let count = self.file.read_at(&mut more, self.size);
        let count = count.map_err(|error| Flaw::unreadable(&error))?;
        ensure(count == 0, || "grew while it was read".into())?;
        let hash = self.hash.finalize();
        Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn broken(error: &io::Error) -> Flaw {
    match error.kind() {
        ErrorKind::UnexpectedEof => Flaw::new("shrank while it was read"),
        _ => Flaw::unreadable(error),
    }
}
