//! DNS messages (RFC 1035): queries of clients, who are hostile, and answers of resolvers, who may be.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::{MAX_LABEL_BYTES, Name};

/// The longest answer over UDP to whoever says nothing else.
pub const MAX_UDP_BYTES: usize = 512;
/// The most records of an answer that are looked at.
const MAX_RECORDS: usize = 512;

const HEADER_BYTES: usize = 12;
const MAX_WIRE_NAME_BYTES: usize = 255;
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
/// A pointer to the name of the question.
const QUESTION_NAME: [u8; 2] = [0xc0, HEADER_BYTES as u8];

pub const IN: u16 = 1;

pub mod kind {
    pub const A: u16 = 1;
    pub const CNAME: u16 = 5;
    pub const PTR: u16 = 12;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;

    /// The name of a type, for reports.
    pub fn name(kind: u16) -> String {
        match kind {
            A => "A".into(),
            2 => "NS".into(),
            CNAME => "CNAME".into(),
            6 => "SOA".into(),
            PTR => "PTR".into(),
            15 => "MX".into(),
            16 => "TXT".into(),
            AAAA => "AAAA".into(),
            SRV => "SRV".into(),
            64 => "SVCB".into(),
            65 => "HTTPS".into(),
            255 => "ANY".into(),
            other => format!("TYPE{other}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
}

/// A name as it stands in a message, decompressed and in lower case: labels of any bytes, each behind its length.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WireName(Vec<u8>);

impl WireName {
    /// Read the name at `at`; return it and where the message goes on behind it.
    fn read(message: &[u8], at: usize) -> Option<(WireName, usize)> {
        let mut name = Vec::new();
        let mut at = at;
        let mut end = None;
        // Each pointer leads to before the labels that it ends, so that they come to an end.
        let mut limit = at;
        loop {
            let length = *message.get(at)?;
            match length {
                0 => {
                    name.push(0);
                    let end = end.unwrap_or(at + 1);
                    return (name.len() <= MAX_WIRE_NAME_BYTES).then_some((WireName(name), end));
                }
                1..=0x3f => {
                    let label = message.get(at + 1..at + 1 + usize::from(length))?;
                    name.push(length);
                    name.extend(label.iter().map(u8::to_ascii_lowercase));
                    at += 1 + label.len();
                }
                0xc0.. => {
                    let low = *message.get(at + 1)?;
                    let target = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    end.get_or_insert(at + 2);
                    // The header holds no name, whatever it looks like.
                    if !(HEADER_BYTES..limit).contains(&target) {
                        return None;
                    }
                    (at, limit) = (target, target);
                }
                _ => return None,
            }
            if name.len() > MAX_WIRE_NAME_BYTES {
                return None;
            }
        }
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (&length, behind) = rest.split_first()?;
            let (label, behind) = behind.split_at_checked(usize::from(length))?;
            rest = behind;
            (length > 0).then_some(label)
        })
    }

    /// The same as a host's name; none if that has other characters.
    pub fn to_name(&self) -> Option<Name> {
        let labels: Option<Vec<&str>> = self
            .labels()
            .map(|label| {
                std::str::from_utf8(label)
                    .ok()
                    .filter(|text| !text.contains('.'))
            })
            .collect();
        let text = labels?.join(".");
        Name::parse(&text).filter(|_| !text.ends_with('.'))
    }

    /// As master files write it (RFC 1035 5.1): what is no letter, digit, `-`, `_` or `*` becomes `\DDD`.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for label in self.labels() {
            if !text.is_empty() {
                text.push('.');
            }
            for &byte in label {
                if byte.is_ascii_alphanumeric() || b"-_*".contains(&byte) {
                    text.push(char::from(byte));
                } else {
                    // Writing to a String does not fail.
                    let _ = write!(text, "\\{byte:03}");
                }
            }
        }
        if text.is_empty() { ".".into() } else { text }
    }

    /// The address that a name of the reverse tree stands for: RFC 1035 3.5.
    pub fn reverse(&self) -> Option<Ipv4Addr> {
        let labels: Vec<&[u8]> = self.labels().collect();
        let [d, c, b, a, b"in-addr", b"arpa"] = labels.as_slice() else {
            return None;
        };
        let text = [a, b, c, d].map(|label| std::str::from_utf8(label).unwrap_or_default());
        text.join(".").parse().ok()
    }
}

impl From<&Name> for WireName {
    fn from(name: &Name) -> WireName {
        let mut wire = Vec::with_capacity(name.as_str().len() + 2);
        for label in name.labels() {
            debug_assert!(label.len() <= MAX_LABEL_BYTES);
            wire.push(label.len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        WireName(wire)
    }
}

/// What somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: WireName,
    pub kind: u16,
    pub class: u16,
}

/// A query of a client: one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub id: u16,
    flags: u8,
    pub question: Question,
    /// The question as it came: it is repeated in the case that it was asked in.
    raw: Vec<u8>,
}

/// What is answered to bytes that are no query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadQuery {
    /// Nothing: too short to be answered, or itself an answer.
    Silent,
    Reply(Vec<u8>),
}

impl Query {
    pub fn parse(message: &[u8]) -> Result<Query, BadQuery> {
        let (Some(header), Some(rest)) = (
            message.first_chunk::<HEADER_BYTES>(),
            message.get(HEADER_BYTES..),
        ) else {
            return Err(BadQuery::Silent);
        };
        let id = u16::from_be_bytes([header[0], header[1]]);
        let flags = header[2];
        if flags & RESPONSE != 0 {
            return Err(BadQuery::Silent);
        }
        let refuse = |rcode: Rcode| {
            let mut reply = header_bytes(id, flags & !TRUNCATED, rcode, 0, 0);
            reply.truncate(HEADER_BYTES);
            Err(BadQuery::Reply(reply))
        };
        if flags & 0x78 != 0 {
            return refuse(Rcode::NotImp);
        }
        let questions = u16::from_be_bytes([header[4], header[5]]);
        // A question stands first: it has nothing before it to point to.
        let Some((name, at)) = WireName::read(message, HEADER_BYTES) else {
            return refuse(Rcode::FormErr);
        };
        let (1, Some(&[a, b, c, d])) = (questions, message.get(at..).and_then(<[u8]>::first_chunk))
        else {
            return refuse(Rcode::FormErr);
        };
        Ok(Query {
            id,
            flags,
            question: Question {
                name,
                kind: u16::from_be_bytes([a, b]),
                class: u16::from_be_bytes([c, d]),
            },
            raw: rest[..at + 4 - HEADER_BYTES].to_vec(),
        })
    }

    /// An answer of at most `max_bytes`: one that is longer says that it is cut, and has no records.
    pub fn reply(&self, rcode: Rcode, answers: &[Answer], max_bytes: usize) -> Vec<u8> {
        let mut reply = self.header(rcode, 0, answers.len() as u16);
        for answer in answers {
            answer.write(&mut reply);
        }
        if reply.len() > max_bytes {
            reply = self.header(rcode, TRUNCATED, 0);
        }
        reply
    }

    fn header(&self, rcode: Rcode, more: u8, answers: u16) -> Vec<u8> {
        let flags = self.flags & RECURSION_DESIRED | more;
        let mut reply = header_bytes(self.id, flags, rcode, 1, answers);
        reply.extend_from_slice(&self.raw);
        reply
    }
}

fn header_bytes(id: u16, flags: u8, rcode: Rcode, questions: u16, answers: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAX_UDP_BYTES);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&[flags | RESPONSE, RECURSION_AVAILABLE | rcode as u8]);
    bytes.extend_from_slice(&questions.to_be_bytes());
    bytes.extend_from_slice(&answers.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

/// A record of an answer to a client, for the name that was asked for; it is not to be kept (TTL 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    A(Ipv4Addr),
    Ptr(Name),
    Srv(Srv<Name>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv<T> {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: T,
}

impl Answer {
    fn write(&self, message: &mut Vec<u8>) {
        let (kind, data) = match self {
            Answer::A(address) => (kind::A, address.octets().to_vec()),
            Answer::Ptr(name) => (kind::PTR, WireName::from(name).0),
            Answer::Srv(srv) => {
                let numbers = [srv.priority, srv.weight, srv.port];
                let mut data = numbers.map(u16::to_be_bytes).concat();
                data.extend(WireName::from(&srv.target).0);
                (kind::SRV, data)
            }
        };
        message.extend_from_slice(&QUESTION_NAME);
        for number in [kind, IN, 0, 0, data.len() as u16] {
            message.extend_from_slice(&number.to_be_bytes());
        }
        message.extend(data);
    }
}

/// The bytes of our own query to a resolver.
pub fn query(id: u16, name: &WireName, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(&name.0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&IN.to_be_bytes());
    message
}

/// What a resolver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub rcode: u8,
    pub truncated: bool,
    records: Vec<(WireName, Data)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Data {
    Address(IpAddr),
    Alias(WireName),
    Srv(Srv<WireName>),
}

impl Response {
    /// The answer to the query `id` for `name` and `kind`; none if it is another's or malformed.
    pub fn parse(message: &[u8], id: u16, name: &WireName, kind: u16) -> Option<Response> {
        let header: &[u8; HEADER_BYTES] = message.first_chunk()?;
        let [high, low, flags, codes, _, questions, ah, al, ..] = *header;
        let is_answer =
            flags & RESPONSE != 0 && flags & 0x78 == 0 && header[4] == 0 && questions == 1;
        if u16::from_be_bytes([high, low]) != id || !is_answer {
            return None;
        }
        let (asked, at) = WireName::read(message, HEADER_BYTES)?;
        let [a, b, c, d] = *message.get(at..)?.first_chunk()?;
        if asked != *name || [a, b] != kind.to_be_bytes() || [c, d] != IN.to_be_bytes() {
            return None;
        }
        let mut response = Response {
            rcode: codes & 0x0f,
            truncated: flags & TRUNCATED != 0,
            records: Vec::new(),
        };
        let mut at = at + 4;
        let count = usize::from(u16::from_be_bytes([ah, al])).min(MAX_RECORDS);
        // What is cut may end inside a record; it is asked for again.
        for _ in 0..if response.truncated { 0 } else { count } {
            let (owner, data, end) = Data::read(message, at)?;
            response.records.extend(data.map(|data| (owner, data)));
            at = end;
        }
        Some(response)
    }

    /// Where `name` leads to by the aliases of this answer.
    pub fn alias(&self, name: &WireName) -> WireName {
        let mut name = name.clone();
        // Each record is followed at most once.
        for _ in 0..self.records.len() {
            let next = self.records.iter().find_map(|(owner, data)| match data {
                Data::Alias(target) if *owner == name => Some(target),
                _ => None,
            });
            match next {
                Some(target) => name = target.clone(),
                None => break,
            }
        }
        name
    }

    /// Whether there is a record of `kind` for `name`.
    pub fn has(&self, name: &WireName, kind: u16) -> bool {
        self.records.iter().any(|(owner, data)| {
            let found = match data {
                Data::Address(IpAddr::V4(_)) => kind::A,
                Data::Address(IpAddr::V6(_)) => kind::AAAA,
                Data::Alias(_) => kind::CNAME,
                Data::Srv(_) => kind::SRV,
            };
            found == kind && owner == name
        })
    }

    /// The addresses of `name`.
    pub fn addresses(&self, name: &WireName) -> Vec<IpAddr> {
        let of = self.records.iter().filter(|(owner, _)| owner == name);
        of.filter_map(|(_, data)| match data {
            Data::Address(address) => Some(*address),
            _ => None,
        })
        .collect()
    }

    /// The SRV records of `name` whose targets are names of hosts; `.` says that there is no such service.
    pub fn services(&self, name: &WireName) -> Vec<Srv<Name>> {
        let of = self.records.iter().filter(|(owner, _)| owner == name);
        of.filter_map(|(_, data)| match data {
            Data::Srv(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_name()?,
            }),
            _ => None,
        })
        .collect()
    }
}

impl Data {
    /// The record at `at`: its owner, what it holds if that is of use, and where it ends.
    fn read(message: &[u8], at: usize) -> Option<(WireName, Option<Data>, usize)> {
        let (owner, at) = WireName::read(message, at)?;
        let [ka, kb, ca, cb, _, _, _, _, la, lb] = *message.get(at..)?.first_chunk()?;
        let start = at + 10;
        let end = start + usize::from(u16::from_be_bytes([la, lb]));
        let data = message.get(start..end)?;
        if u16::from_be_bytes([ca, cb]) != IN {
            return Some((owner, None, end));
        }
        let name_at = |at: usize| {
            let (name, behind) = WireName::read(message, at)?;
            (behind == end).then_some(name)
        };
        let data = match u16::from_be_bytes([ka, kb]) {
            kind::A => Data::Address(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            kind::AAAA => Data::Address(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            kind::CNAME => Data::Alias(name_at(start)?),
            kind::SRV => {
                let [a, b, c, d, e, f] = *data.first_chunk()?;
                Data::Srv(Srv {
                    priority: u16::from_be_bytes([a, b]),
                    weight: u16::from_be_bytes([c, d]),
                    port: u16::from_be_bytes([e, f]),
                    target: name_at(start + 6)?,
                })
            }
            _ => return Some((owner, None, end)),
        };
        Some((owner, Some(data), end))
    }
}
