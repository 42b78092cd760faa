//! Names asked of the launcher's resolvers: RFC 1035 over UDP and, where an answer is cut, TCP.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use crate::dns::{self, Rcode, Response, Srv, WireName, kind};
use crate::name::Name;
use crate::system;

/// How long each resolver has, in each round.
const ROUNDS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// Packets that are not the answer, from the resolver's address; then it is given up.
const MAX_STRAY: usize = 64;
/// A name that leads on more often leads nowhere.
const MAX_ALIASES: usize = 8;
const MAX_ADDRESSES: usize = 64;
const NO_ERROR: u8 = Rcode::NoError as u8;
const NO_SUCH_NAME: u8 = Rcode::NxDomain as u8;
/// Without EDNS no answer is longer.
const ROOM: usize = 4096;

/// Why there is no answer: a verdict, and what the system or the resolver said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    pub verdict: &'static str,
    pub detail: Option<String>,
}

impl Unresolved {
    fn not_found() -> Unresolved {
        Unresolved {
            verdict: "name_not_found",
            detail: None,
        }
    }

    pub fn failed(detail: impl Into<String>) -> Unresolved {
        Unresolved {
            verdict: "resolver_failed",
            detail: Some(detail.into()),
        }
    }
}

pub struct Resolver {
    servers: Vec<SocketAddr>,
    hosts: HashMap<Name, Vec<IpAddr>>,
}

impl Resolver {
    pub fn new(servers: Vec<SocketAddr>, hosts: HashMap<Name, Vec<IpAddr>>) -> Resolver {
        Resolver { servers, hosts }
    }

    /// The addresses of `name`, IPv4 first; at least one.
    pub async fn addresses(&self, name: &Name) -> Result<Vec<IpAddr>, Unresolved> {
        if let Some(addresses) = self.hosts.get(name) {
            return Ok(addresses.clone());
        }
        let wire = WireName::from(name);
        let (v4, v6) = tokio::join!(self.find(&wire, kind::A), self.find(&wire, kind::AAAA));
        let found: Vec<IpAddr> = [&v4, &v6]
            .into_iter()
            .flatten()
            .flat_map(|(owner, response)| response.addresses(owner))
            .take(MAX_ADDRESSES)
            .collect();
        if found.is_empty() {
            // Where one kind failed, nobody knows that there is nothing.
            return Err(v4.err().or(v6.err()).unwrap_or_else(Unresolved::not_found));
        }
        Ok(found)
    }

    /// The SRV records of `name`.
    pub async fn services(&self, name: &WireName) -> Result<Vec<Srv<Name>>, Unresolved> {
        let (owner, response) = self.find(name, kind::SRV).await?;
        if response.rcode == NO_SUCH_NAME {
            return Err(Unresolved::not_found());
        }
        Ok(response.services(&owner))
    }

    /// The answer for `name`, and the name that its aliases lead to.
    async fn find(&self, name: &WireName, kind: u16) -> Result<(WireName, Response), Unresolved> {
        let mut name = name.clone();
        for _ in 0..MAX_ALIASES {
            let response = self.ask(&name, kind).await?;
            let end = response.alias(&name);
            if end == name || response.has(&end, kind) || response.rcode != NO_ERROR {
                return Ok((end, response));
            }
            name = end;
        }
        Err(Unresolved::failed(format!(
            "{} leads on and on",
            name.to_text()
        )))
    }

    /// Ask one resolver after the other, thrice, each time with more patience.
    async fn ask(&self, name: &WireName, kind: u16) -> Result<Response, Unresolved> {
        let mut last = Unresolved::failed("no resolver is known");
        for patience in ROUNDS {
            for server in &self.servers {
                let deadline = Instant::now() + patience;
                let answer = timeout_at(deadline, exchange(*server, name, kind));
                last = match answer.await {
                    // No such name is an answer too.
                    Ok(Ok(response)) if matches!(response.rcode, NO_ERROR | NO_SUCH_NAME) => {
                        return Ok(response);
                    }
                    Ok(Ok(response)) => {
                        Unresolved::failed(format!("{server} answers {}", rcode(response.rcode)))
                    }
                    Ok(Err(error)) => Unresolved::failed(format!("{server}: {error}")),
                    Err(_) => Unresolved::failed(format!("{server} does not answer")),
                };
            }
        }
        Err(last)
    }
}

fn rcode(code: u8) -> String {
    match code {
        1 => "FORMERR".into(),
        2 => "SERVFAIL".into(),
        4 => "NOTIMP".into(),
        5 => "REFUSED".into(),
        other => format!("code {other}"),
    }
}

/// One query and its answer, over UDP and, if that is cut, TCP.
async fn exchange(server: SocketAddr, name: &WireName, kind: u16) -> io::Result<Response> {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // A port of the system's choice, at random; connected, it hears its resolver alone.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let id = system::random()?;
    socket.send(&dns::query(id, name, kind)).await?;
    let mut room = [0; ROOM];
    for _ in 0..MAX_STRAY {
        let count = socket.recv(&mut room).await?;
        match Response::parse(&room[..count], id, name, kind) {
            Some(response) if response.truncated => return exchange_tcp(server, name, kind).await,
            Some(response) => return Ok(response),
            None => {}
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "answers that belong to no query",
    ))
}

/// RFC 7766: the message behind its length.
async fn exchange_tcp(server: SocketAddr, name: &WireName, kind: u16) -> io::Result<Response> {
    let mut stream = TcpStream::connect(server).await?;
    let id = system::random()?;
    let query = dns::query(id, name, kind);
    let mut message = (query.len() as u16).to_be_bytes().to_vec();
    message.extend(query);
    stream.write_all(&message).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Response::parse(&answer, id, name, kind)
        .filter(|response| !response.truncated)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "an answer over TCP that is none",
            )
        })
}
