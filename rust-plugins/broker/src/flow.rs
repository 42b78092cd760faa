//! The two directions of a connection: bytes, half-closes and resets.
//!
//! What is read is written at once from one buffer that all connections share, so that one that is idle holds no memory.
//! Only what the other side does not take is kept, and nothing more is read until it has been taken.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use dativo_wire::fault::clip;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::{Client, add};
use crate::grants::Grant;
use crate::name::Name;
use crate::tls::{self, Opening};

/// Read at once; and when a lot is kept already.
const CHUNK_BYTES: usize = 256 << 10;
const SMALL_BYTES: usize = 8 << 10;
/// What all connections together may keep before they read less at once.
const PLENTY_BYTES: usize = 8 << 20;
/// Read at once of a client that has not shown a server name yet.
const OPENING_BYTES: usize = 4 << 10;
/// How long what a client had sent may take to go out when everything ends.
const LAST_TIME: Duration = Duration::from_secs(1);
const MAX_SERVER_NAME_CHARS: usize = 100;

/// The buffer of all connections, and how much they keep in all.
pub struct Copier {
    buffer: RefCell<Box<[u8]>>,
    kept: Cell<usize>,
}

impl Copier {
    pub fn new() -> Copier {
        Copier {
            buffer: RefCell::new(vec![0; CHUNK_BYTES].into()),
            kept: Cell::new(0),
        }
    }

    fn chunk_bytes(&self) -> usize {
        if self.kept.get() < PLENTY_BYTES {
            CHUNK_BYTES
        } else {
            SMALL_BYTES
        }
    }
}

/// Bytes that are read and not written yet.
struct Kept<'a> {
    bytes: Vec<u8>,
    copier: &'a Copier,
}

impl<'a> Kept<'a> {
    fn new(bytes: &[u8], copier: &'a Copier) -> Kept<'a> {
        copier.kept.set(copier.kept.get() + bytes.len());
        Kept {
            bytes: bytes.to_vec(),
            copier,
        }
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let kept = &self.copier.kept;
        kept.set(kept.get() - self.bytes.len());
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides said that they are done.
    Closed,
    /// One side reset it; so it is for the other.
    Reset(&'static str),
    /// A verdict ends it.
    Refused(&'static str, Option<String>),
    /// The broker ends.
    Stopped,
}

impl End {
    fn refused(verdict: &'static str) -> End {
        End::Refused(verdict, None)
    }
}

#[derive(Clone, Copy)]
enum Way {
    /// From the client to the server.
    Up,
    Down,
}

impl Way {
    fn source(self) -> &'static str {
        match self {
            Way::Up => "client",
            Way::Down => "server",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Way::Up => "server",
            Way::Down => "client",
        }
    }
}

/// What reading and writing once has come to.
enum Step<'a> {
    Nothing,
    Moved,
    Kept(Kept<'a>),
    Eof,
}

/// Both ends of a connection, and what is counted of it.
pub struct Flow<'a> {
    pub copier: &'a Copier,
    pub client: &'a TcpStream,
    pub server: &'a TcpStream,
    pub who: &'a Client,
    pub grant: &'a Rc<Grant>,
    /// The server name that a ClientHello must have.
    pub expected: Option<&'a Name>,
    /// How long one may take to come whole.
    pub opening_time: Duration,
    pub up_bytes: &'a Cell<u64>,
    pub down_bytes: &'a Cell<u64>,
}

impl Flow<'_> {
    /// Carry everything both ways until the end. `early` came from the server already.
    pub async fn run(&self, early: &[u8], stop: impl Future<Output = ()>) -> End {
        let up = async {
            self.opening().await?;
            self.carry(Way::Up).await
        };
        let down = async {
            self.write(Way::Down, early).await?;
            self.carry(Way::Down).await
        };
        let (mut up, mut down, mut stop) = (pin!(up), pin!(down), pin!(stop));
        let (mut up_done, mut down_done) = (false, false);
        while !(up_done && down_done) {
            let ended = tokio::select! {
                ended = &mut up, if !up_done => { up_done = true; ended }
                ended = &mut down, if !down_done => { down_done = true; ended }
                // A side that has said everything may still reset.
                _ = self.client.ready(Interest::ERROR), if up_done => Err(End::Reset(Way::Up.source())),
                _ = self.server.ready(Interest::ERROR), if down_done => Err(End::Reset(Way::Down.source())),
                () = &mut stop => Err(End::Stopped),
            };
            match ended {
                Ok(()) => {}
                Err(End::Stopped) => {
                    if !up_done {
                        // What the client had sent before its end still goes out.
                        let _ = timeout(LAST_TIME, up).await;
                    }
                    reset(self.client);
                    return End::Stopped;
                }
                Err(end) => {
                    reset(self.client);
                    reset(self.server);
                    return end;
                }
            }
        }
        End::Closed
    }

    fn ends(&self, way: Way) -> (&TcpStream, &TcpStream) {
        match way {
            Way::Up => (self.client, self.server),
            Way::Down => (self.server, self.client),
        }
    }

    /// Hold back what the client sends first until it is known to be no ClientHello, or one with the right name.
    async fn opening(&self) -> Result<(), End> {
        let Some(expected) = self.expected else {
            return Ok(());
        };
        let mut held = Vec::new();
        let mut deadline = None;
        loop {
            match tls::opening(&held) {
                Opening::NotTls => break,
                Opening::Tls(None) => return Err(End::refused("sni_missing")),
                Opening::Tls(Some(found)) => {
                    let name = std::str::from_utf8(&found).ok().and_then(Name::parse);
                    if name.as_ref() == Some(expected) {
                        break;
                    }
                    let found = clip(&found, MAX_SERVER_NAME_CHARS).into_owned();
                    return Err(End::Refused("sni_mismatch", Some(found)));
                }
                Opening::Malformed => return Err(End::refused("tls_malformed")),
                Opening::Incomplete => {}
            }
            let readable = self.client.ready(Interest::READABLE);
            match deadline {
                None => drop(readable.await),
                Some(deadline) => {
                    let late = |_| End::Refused("tls_malformed", Some("not whole in time".into()));
                    drop(timeout_at(deadline, readable).await.map_err(late)?);
                }
            }
            held.reserve(OPENING_BYTES);
            match self.client.try_read_buf(&mut held) {
                // The end, before anything: that is for the server too.
                Ok(0) if held.is_empty() => break,
                Ok(0) => return Err(End::refused("tls_malformed")),
                Ok(_) => {
                    deadline.get_or_insert_with(|| Instant::now() + self.opening_time);
                }
                Err(error) if is_not_ready(&error) => {}
                Err(_) => return Err(End::Reset(Way::Up.source())),
            }
        }
        let allowed = self.allow(Way::Up, held.len());
        self.write(Way::Up, &held[..allowed]).await?;
        within_limit(allowed == held.len())
    }

    /// Read until the end of one side, and say so to the other.
    async fn carry(&self, way: Way) -> Result<(), End> {
        let (from, to) = self.ends(way);
        loop {
            // Room first: what is read then goes on at once.
            wait(to, Interest::WRITABLE).await?;
            wait(from, Interest::READABLE).await?;
            let (step, is_within_limit) = self.step(way)?;
            match step {
                Step::Nothing => {}
                // The others have their turn.
                Step::Moved => yield_now().await,
                Step::Kept(kept) => self.write(way, &kept.bytes).await?,
                Step::Eof => break,
            }
            within_limit(is_within_limit)?;
        }
        // One that is gone meanwhile has said so itself.
        let _ = SockRef::from(to).shutdown(Shutdown::Write);
        Ok(())
    }

    /// Read once and write once; whether all that was read may be sent.
    fn step(&self, way: Way) -> Result<(Step<'_>, bool), End> {
        let (from, to) = self.ends(way);
        let mut buffer = self.copier.buffer.borrow_mut();
        let room = self.copier.chunk_bytes();
        let count = match from.try_read(&mut buffer[..room]) {
            Ok(0) => return Ok((Step::Eof, true)),
            Ok(count) => count,
            Err(error) if is_not_ready(&error) => return Ok((Step::Nothing, true)),
            Err(_) => return Err(End::Reset(way.source())),
        };
        let allowed = self.allow(way, count);
        let is_within_limit = allowed == count;
        let bytes = &buffer[..allowed];
        let written = self.write_some(way, to, bytes)?;
        if written == allowed {
            return Ok((Step::Moved, is_within_limit));
        }
        Ok((
            Step::Kept(Kept::new(&bytes[written..], self.copier)),
            is_within_limit,
        ))
    }

    /// How many of `wanted` bytes may go that way; they are counted as sent.
    fn allow(&self, way: Way, wanted: usize) -> usize {
        match way {
            Way::Up => self.who.send(self.grant, wanted),
            Way::Down => wanted,
        }
    }

    /// Write all of `bytes`.
    async fn write(&self, way: Way, mut bytes: &[u8]) -> Result<(), End> {
        let (_, to) = self.ends(way);
        while !bytes.is_empty() {
            wait(to, Interest::WRITABLE).await?;
            let written = self.write_some(way, to, bytes)?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Write what is taken at once, which may be nothing.
    fn write_some(&self, way: Way, to: &TcpStream, bytes: &[u8]) -> Result<usize, End> {
        match to.try_write(bytes) {
            Ok(count) => {
                let counted = match way {
                    Way::Up => self.up_bytes,
                    Way::Down => self.down_bytes,
                };
                add(counted, count as u64);
                Ok(count)
            }
            Err(error) if is_not_ready(&error) => Ok(0),
            Err(_) => Err(End::Reset(way.target())),
        }
    }
}

fn within_limit(is_within: bool) -> Result<(), End> {
    if is_within {
        Ok(())
    } else {
        Err(End::refused("limit_upload"))
    }
}

/// Wait until a socket is ready, which it also is when it is broken.
async fn wait(stream: &TcpStream, interest: Interest) -> Result<(), End> {
    // An error is the runtime's end.
    stream
        .ready(interest)
        .await
        .map(drop)
        .map_err(|_| End::Stopped)
}

fn is_not_ready(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Have the other end see, once `stream` is closed, that it was broken off.
pub fn reset(stream: &TcpStream) {
    // It fails for a socket that is gone already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
