//! The control socket: one JSON object per line, both ways.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use dativo_wire::fault::{Blame, Fault};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Stop;

/// The longest control message.
pub const MAX_EVENT_BYTES: usize = 8 << 20;

/// What has arrived, cut into lines and read; `C` is what the kernel says to this program.
pub struct Commands<C> {
    pending: Vec<u8>,
    /// No line end lies before this offset of `pending`.
    searched: usize,
    arrived: VecDeque<C>,
}

impl<C> Default for Commands<C> {
    fn default() -> Commands<C> {
        Commands {
            pending: Vec::new(),
            searched: 0,
            arrived: VecDeque::new(),
        }
    }
}

impl<C: DeserializeOwned> Commands<C> {
    /// Take the bytes that came next. Behind a line that is no command nothing is read.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.pending.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(at) = self.pending[self.searched..]
            .iter()
            .position(|&byte| byte == b'\n')
        {
            let end = self.searched + at;
            let command = serde_json::from_slice(&self.pending[start..end]);
            self.arrived
                .push_back(command.map_err(|error| internal("a command of the kernel", error))?);
            start = end + 1;
            self.searched = start;
        }
        self.pending.drain(..start);
        self.searched = self.pending.len();
        if self.pending.len() > MAX_EVENT_BYTES {
            return Err(internal(
                "a command of the kernel",
                "longer than max_event_bytes",
            ));
        }
        Ok(())
    }

    /// The next command that has arrived whole; none if there is none yet.
    pub fn take(&mut self) -> Option<C> {
        self.arrived.pop_front()
    }
}

/// `C` is what the kernel says to this program.
pub struct Control<C> {
    socket: UnixStream,
    commands: Commands<C>,
}

impl<C: DeserializeOwned> Control<C> {
    pub fn new(socket: UnixStream) -> Control<C> {
        Control {
            socket,
            commands: Commands::default(),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Write one event; blocks until the socket has taken it. Commands may arrive meanwhile.
    pub fn send(&mut self, event: &impl Serialize) -> Result<(), Stop> {
        let mut line = serde_json::to_vec(event).map_err(|error| internal("an event", error))?;
        line.push(b'\n');
        if line.len() > MAX_EVENT_BYTES {
            let message = format!(
                "a control message of {} bytes; the limit is {MAX_EVENT_BYTES}",
                line.len()
            );
            return Err(Fault::plugin("limit.event_bytes", message).into());
        }
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match self.send_some(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Commands are taken in meanwhile: two ends that both wait to write would wait for ever.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.wait_for(libc::POLLIN | libc::POLLOUT)? & libc::POLLIN != 0 {
                        self.receive()?;
                    }
                }
                Err(_) => return Err(Stop::KernelLost),
            }
        }
        Ok(())
    }

    /// send(2) what the socket takes at once.
    fn send_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the kernel reads at most `bytes.len()` bytes from `bytes`.
        let count = unsafe { libc::send(self.fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
        if count < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(count as usize)
        }
    }

    /// Block until the socket is ready for one of `events`, and return those it is ready for: poll(2).
    fn wait_for(&self, events: libc::c_short) -> Result<libc::c_short, Stop> {
        let mut socket = libc::pollfd {
            fd: self.fd(),
            events,
            revents: 0,
        };
        // SAFETY: `socket` outlives the call, which is told that it is one.
        let ready = unsafe { libc::poll(&mut socket, 1, -1) };
        if ready < 0 && io::Error::last_os_error().kind() != ErrorKind::Interrupted {
            return Err(Stop::KernelLost);
        }
        Ok(socket.revents)
    }

    /// The next command that has arrived whole; none if there is none yet.
    pub fn arrived(&mut self) -> Option<C> {
        self.commands.take()
    }

    /// The next command; blocks.
    pub fn wait(&mut self) -> Result<C, Stop> {
        loop {
            if let Some(command) = self.arrived() {
                return Ok(command);
            }
            self.receive()?;
        }
    }

    /// Read once; blocks if nothing is there.
    pub fn receive(&mut self) -> Result<(), Stop> {
        let mut chunk = [0; 65536];
        let count = match self.socket.read(&mut chunk) {
            Ok(0) => return Err(Stop::KernelLost),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(_) => return Err(Stop::KernelLost),
        };
        self.commands.feed(&chunk[..count])
    }
}

fn internal(what: &str, why: impl std::fmt::Display) -> Stop {
    Fault::new("internal.control", Blame::Dativo, format!("{what}: {why}")).into()
}
