//! Files of the exchange folder: opened beneath it and through no link, bounded, and expanded while they are read.
//!
//! The source can still write to them; what is taken is what is there when a file is opened.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Take};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;

use dativo_wire::fault::{Blame, Fault};
use dativo_wire::framing::{Framer, READ_BYTES};
use flate2::read::MultiGzDecoder;

/// The kernel is told of so many files of an epoch, and so many bytes of names, to remove them at once; others go with the folder.
const MAX_CONSUMED: usize = 10_000;
const MAX_CONSUMED_BYTES: usize = 1 << 20;
const MAX_PATH_BYTES: usize = 4096;
/// Compressed bytes that may expand to nothing.
const MAX_EMPTY_BYTES: usize = 16 << 20;

/// One file that a BATCH names.
#[derive(Clone)]
pub struct Named {
    /// Below the folder.
    pub path: String,
    pub gzip: bool,
    pub stream: usize,
    /// Singer's `version` of its rows.
    pub version: Option<i64>,
    /// Where the message stands.
    pub line: u64,
    pub byte: u64,
}

/// The folder, the files that are still to be read, and those that are.
pub struct Exchange {
    /// Its path, and the folder itself.
    folder: Option<(String, File)>,
    named: VecDeque<Named>,
    open: Option<Opened>,
    consumed: Vec<String>,
    consumed_bytes: usize,
    /// Bytes that were read of files, expanded; and how many may be.
    bytes: u64,
    max_bytes: Option<u64>,
}

/// A file that is being read.
pub struct Opened {
    pub named: Named,
    pub framer: Framer,
    input: Input,
}

enum Input {
    Plain(Take<File>),
    Gzip(Box<MultiGzDecoder<Metered>>),
}

/// Compressed bytes, which may hold nothing: not so many that the kernel would wait in vain for a word.
struct Metered {
    file: Take<File>,
    /// Bytes since something came out of them.
    empty: usize,
}

impl Read for Metered {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(room)?;
        self.empty += count;
        if self.empty > MAX_EMPTY_BYTES {
            let message = format!("{MAX_EMPTY_BYTES} bytes of it expand to nothing");
            return Err(io::Error::other(message));
        }
        Ok(count)
    }
}

impl Read for Input {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Input::Plain(file) => file.read(room),
            Input::Gzip(file) => {
                file.get_mut().empty = 0;
                file.read(room)
            }
        }
    }
}

impl Exchange {
    /// The folder at `path`, if there is one; its files may be `max_bytes` together, expanded.
    pub fn open(path: Option<&str>, max_bytes: Option<u64>) -> Result<Exchange, Box<Fault>> {
        let folder = path.map(|path| {
            let folder = File::open(path).map_err(|error| {
                let message = format!("cannot open the exchange folder: {error}");
                Fault::new("internal.exchange", Blame::Dativo, message)
            })?;
            Ok::<_, Box<Fault>>((path.to_owned(), folder))
        });
        Ok(Exchange {
            folder: folder.transpose()?,
            named: VecDeque::new(),
            open: None,
            consumed: Vec::new(),
            consumed_bytes: 0,
            bytes: 0,
            max_bytes,
        })
    }

    /// Where the source sees it; none if there is none.
    pub fn path(&self) -> Option<&str> {
        self.folder.as_ref().map(|(path, _)| path.as_str())
    }

    /// Have a file read.
    pub fn add(&mut self, named: Named) {
        self.named.push_back(named);
    }

    /// Whether there is a file to read.
    #[inline(always)]
    pub fn has_files(&self) -> bool {
        self.open.is_some() || !self.named.is_empty()
    }

    /// The file that is to be read on. It is given back by [`Exchange::put_back`] until it has ended.
    pub fn take(&mut self, max_line_bytes: usize) -> Result<Option<Opened>, Box<Fault>> {
        if let Some(open) = self.open.take() {
            return Ok(Some(open));
        }
        let Some(named) = self.named.pop_front() else {
            return Ok(None);
        };
        let file = match &self.folder {
            Some((_, folder)) => open_beneath(folder, &named.path),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let file = file.map_err(|error| named.unreadable(&error))?;
        let found = file.metadata().map_err(|error| named.unreadable(&error))?;
        if !found.is_file() || found.nlink() > 1 {
            return Err(named.fault("message.batch", "is no regular file with one name"));
        }
        let bytes = file.take(found.len());
        let input = if named.gzip {
            let file = Metered {
                file: bytes,
                empty: 0,
            };
            Input::Gzip(Box::new(MultiGzDecoder::new(file)))
        } else {
            Input::Plain(bytes)
        };
        let framer = Framer::new(max_line_bytes);
        Ok(Some(Opened {
            named,
            framer,
            input,
        }))
    }

    /// Read once; whether the file has ended.
    pub fn fill(&mut self, open: &mut Opened) -> Result<bool, Box<Fault>> {
        let Opened { framer, input, .. } = open;
        let count = framer.fill(|room| {
            let most = room.len().min(READ_BYTES);
            input.read(&mut room[..most])
        });
        let count = count.map_err(|error| open.named.unreadable(&error))?;
        self.bytes += count as u64;
        match self.max_bytes {
            Some(most) if self.bytes > most => {
                let message = format!("brings the files of the run to more than {most} bytes");
                Err(open
                    .named
                    .fault("limit.output", &message)
                    .hint("grants.output is the cap, of files as they are expanded too"))
            }
            _ => Ok(count == 0),
        }
    }

    pub fn put_back(&mut self, open: Opened) {
        self.open = Some(open);
    }

    /// All rows of a file are taken.
    pub fn finish(&mut self, open: Opened) {
        let path = open.named.path;
        let bytes = self.consumed_bytes + path.len();
        let fits = path.len() <= MAX_PATH_BYTES && bytes <= MAX_CONSUMED_BYTES;
        if fits && self.consumed.len() < MAX_CONSUMED {
            self.consumed_bytes = bytes;
            self.consumed.push(path);
        }
    }

    /// The files whose rows are all in what is sealed now.
    pub fn take_consumed(&mut self) -> Vec<String> {
        self.consumed_bytes = 0;
        std::mem::take(&mut self.consumed)
    }
}

impl Named {
    #[cold]
    fn unreadable(&self, error: &io::Error) -> Box<Fault> {
        self.fault("message.batch", &format!("cannot be read: {error}"))
    }

    #[cold]
    fn fault(&self, code: &'static str, what: &str) -> Box<Fault> {
        Fault::plugin(code, format!("a file of the BATCH {what}"))
            .at(self.line, self.byte)
            .value(self.path.as_bytes())
    }

    /// Say that a fault is in this file, at whose line and byte it stands.
    #[cold]
    pub fn locate(&self, mut fault: Box<Fault>) -> Box<Fault> {
        let name = dativo_wire::fault::clip(self.path.as_bytes(), 200);
        fault.message = format!(
            "{} (in the file {name}, which line {} of the output names)",
            fault.message, self.line
        );
        fault
    }
}

/// Open the file `path` below `folder`, name by name and through no link. The caller has checked that the names are plain.
fn open_beneath(folder: &File, path: &str) -> io::Result<File> {
    let mut at = folder.try_clone()?;
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        let kind = match names.peek() {
            Some(_) => libc::O_DIRECTORY,
            // A pipe must not make anybody wait.
            None => libc::O_NONBLOCK,
        };
        let name = CString::new(name)?;
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC | kind;
        // SAFETY: the name is a C string that outlives the call.
        let fd = unsafe { libc::openat(at.as_raw_fd(), name.as_ptr(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        at = unsafe { File::from_raw_fd(fd) };
    }
    Ok(at)
}
