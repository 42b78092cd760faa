//! The server name in a TLS ClientHello: RFC 8446 4.1.2 and 5.1, RFC 6066 3.

/// The longest ClientHello; a real one has a few kilobytes.
const MAX_HELLO_BYTES: usize = 32 << 10;
/// The most records that one is cut into: what is looked at again with each byte that comes stays small.
const MAX_RECORDS: usize = 64;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// More bytes are needed to tell.
    Incomplete,
    NotTls,
    /// A ClientHello, and the name in it.
    Tls(Option<Vec<u8>>),
    /// It begins as a ClientHello and is none.
    Malformed,
}

/// Look at all `bytes` that a client has sent so far.
pub fn opening(bytes: &[u8]) -> Opening {
    // Record: type, version (3.x), length; handshake: type.
    for (at, expected) in [(0, HANDSHAKE), (1, 3), (5, CLIENT_HELLO)] {
        match bytes.get(at) {
            Some(&byte) if byte == expected => {}
            Some(_) => return Opening::NotTls,
            None => return Opening::Incomplete,
        }
    }
    let mut message = Vec::new();
    let mut rest = bytes;
    for _ in 0..=MAX_RECORDS {
        if let [_, a, b, c, body @ ..] = message.as_slice() {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if length > MAX_HELLO_BYTES {
                return Opening::Malformed;
            }
            if body.len() >= length {
                return server_name(&body[..length]).map_or(Opening::Malformed, Opening::Tls);
            }
        }
        // A hello may be cut into records anywhere.
        let [kind, major, _, high, low, fragment @ ..] = rest else {
            return match rest {
                [kind, ..] if *kind != HANDSHAKE => Opening::Malformed,
                _ => Opening::Incomplete,
            };
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != HANDSHAKE || *major != 3 || length == 0 || length > 1 << 14 {
            return Opening::Malformed;
        }
        let taken = length.min(fragment.len());
        message.extend_from_slice(&fragment[..taken]);
        rest = &fragment[taken..];
    }
    Opening::Malformed
}

/// The name in the body of a ClientHello; `None` if that is malformed.
fn server_name(body: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut reader = Reader(body);
    reader.take(2 + 32)?;
    reader.vector8()?;
    reader.vector16()?;
    reader.vector8()?;
    if reader.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Reader(reader.vector16()?);
    if !reader.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let content = extensions.vector16()?;
        if kind != SERVER_NAME {
            continue;
        }
        let mut list = Reader(content);
        let mut names = Reader(list.vector16()?);
        if names.take(1)? != [HOST_NAME] {
            return None;
        }
        let name = names.vector16()?;
        // Whoever sends two means two readers to see different ones.
        if !names.0.is_empty() || !list.0.is_empty() || found.replace(name.to_vec()).is_some() {
            return None;
        }
    }
    Some(found)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number16()?;
        self.take(usize::from(length))
    }
}
