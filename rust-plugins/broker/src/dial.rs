//! From an aim to a connection that stands: resolve once, check every address, dial the permitted ones, or ask a proxy.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use dativo_wire::fault::clip;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::{Client, Held};
use crate::grants::Grant;
use crate::name::Name;
use crate::orders::{Authorization, Host, Proxy};
use crate::run::Broker;

/// What a proxy answers before the connection begins.
const MAX_HEAD_BYTES: usize = 8 << 10;
const MAX_DETAIL_CHARS: usize = 200;
/// A server that is gone without a word is noticed.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Why a connection is not made: a verdict of docs/spec/network.md, and what the system says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub verdict: &'static str,
    pub address: Option<IpAddr>,
    pub detail: Option<String>,
}

impl Refusal {
    pub fn new(verdict: &'static str) -> Refusal {
        Refusal {
            verdict,
            address: None,
            detail: None,
        }
    }

    pub fn detail(mut self, text: &str) -> Refusal {
        self.detail = Some(clip(text.as_bytes(), MAX_DETAIL_CHARS).into_owned());
        self
    }

    fn at(mut self, address: IpAddr) -> Refusal {
        self.address = Some(address);
        self
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Dialled {
    pub stream: TcpStream,
    /// None behind a proxy.
    pub address: Option<IpAddr>,
    /// What came behind a proxy's answer.
    pub early: Vec<u8>,
}

/// Where to: a name, or the literal address that was connected to.
pub enum Place<'a> {
    Name(&'a Name),
    Literal(IpAddr),
}

/// Make the connection that `grant` permits.
pub async fn dial(
    broker: &Broker,
    client: &Rc<Client>,
    place: Place<'_>,
    port: u16,
    grant: &Grant,
    deadline: Instant,
) -> Result<Dialled, Refusal> {
    if let Some(proxy) = &broker.proxy {
        if let Place::Literal(address) = place {
            permitted(broker, &[address], grant)?;
        }
        return by_proxy(broker, client, proxy, place, port, deadline).await;
    }
    let found = match place {
        Place::Literal(address) => vec![address],
        Place::Name(name) => resolve(broker, client, name, deadline).await?,
    };
    let addresses = permitted(broker, &found, grant)?;
    let (stream, address) = in_turn(&addresses, port, deadline).await?;
    // Who is answered by itself has reached this machine, at an address that it has had for a moment only. Nothing was sent.
    let is_own = stream
        .local_addr()
        .is_ok_and(|local| local.ip().to_canonical() == address.to_canonical());
    if is_own && !broker.reach.permits(address) {
        return Err(Refusal::new("address_own").at(address));
    }
    Ok(Dialled {
        stream,
        address: Some(address),
        early: Vec::new(),
    })
}

async fn resolve(
    broker: &Broker,
    client: &Rc<Client>,
    name: &Name,
    deadline: Instant,
) -> Result<Vec<IpAddr>, Refusal> {
    let Some(_held) = Held::resolving(client) else {
        return Err(Refusal::new("limit_resolving"));
    };
    match timeout_at(deadline, broker.resolver.addresses(name)).await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => {
            let refusal = Refusal::new(error.verdict);
            Err(match error.detail {
                Some(detail) => refusal.detail(&detail),
                None => refusal,
            })
        }
        Err(_) => Err(Refusal::new("resolver_failed").detail("no answer in time")),
    }
}

/// The addresses that may be dialled; where there is none, the worst reason.
fn permitted(broker: &Broker, addresses: &[IpAddr], grant: &Grant) -> Result<Vec<IpAddr>, Refusal> {
    let worse = |verdict: &str| {
        let order = [
            "address_private",
            "address_special",
            "address_own",
            "address_cloud",
            "address_blocked",
        ];
        order.iter().position(|known| *known == verdict)
    };
    let mut permitted = Vec::new();
    let mut worst: Option<Refusal> = None;
    for &address in addresses {
        match broker.reach.check(address, grant.by()) {
            Ok(()) => permitted.push(address),
            Err(verdict) => {
                if worst
                    .as_ref()
                    .is_none_or(|known| worse(known.verdict) < worse(verdict))
                {
                    worst = Some(Refusal::new(verdict).at(address));
                }
            }
        }
    }
    match worst {
        Some(refusal) if permitted.is_empty() => Err(refusal),
        _ => Ok(permitted),
    }
}

/// Dial these very addresses, each with its share of the time that is left. Where none answers the first is told, but for
/// those of a network that this machine does not have.
async fn in_turn(
    addresses: &[IpAddr],
    port: u16,
    deadline: Instant,
) -> Result<(TcpStream, IpAddr), Refusal> {
    let mut failed = None;
    for (at, &address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - at) as u32;
        let dialled = timeout(share, TcpStream::connect(SocketAddr::new(address, port))).await;
        let (refusal, is_ours) = match dialled {
            Ok(Ok(stream)) => {
                prepare(&stream);
                return Ok((stream, address));
            }
            Ok(Err(error)) => {
                let refusal = Refusal::new("connect_failed").detail(&error.to_string());
                (refusal, error.kind() == ErrorKind::NetworkUnreachable)
            }
            Err(_) => (Refusal::new("connect_timeout"), false),
        };
        if failed
            .as_ref()
            .is_none_or(|&(_, was_ours)| was_ours && !is_ours)
        {
            failed = Some((refusal.at(address), is_ours));
        }
    }
    let nothing = || Refusal::new("connect_failed").detail("no address");
    Err(failed.map_or_else(nothing, |(refusal, _)| refusal))
}

fn prepare(stream: &TcpStream) {
    // Both only speed things up or tidy up; a connection stands without them.
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// RFC 9110 9.3.6: ask `proxy` for a tunnel.
async fn by_proxy(
    broker: &Broker,
    client: &Rc<Client>,
    proxy: &Proxy,
    place: Place<'_>,
    port: u16,
    deadline: Instant,
) -> Result<Dialled, Refusal> {
    let addresses = match &proxy.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => resolve(broker, client, name, deadline).await?,
    };
    // The proxy's address is nothing of the client's: it is not told.
    let unaddressed = |refusal: Refusal| Refusal {
        address: None,
        ..refusal
    };
    let (mut stream, _) = in_turn(&addresses, proxy.port, deadline)
        .await
        .map_err(unaddressed)?;
    let (authority, address) = match place {
        Place::Name(name) => (format!("{name}:{port}"), None),
        Place::Literal(address) => (SocketAddr::new(address, port).to_string(), Some(address)),
    };
    let asked = timeout_at(
        deadline,
        ask(&mut stream, &authority, proxy.authorization.as_ref()),
    )
    .await;
    let early = asked.unwrap_or_else(|_| Err(Refusal::new("connect_timeout")))?;
    Ok(Dialled {
        stream,
        address,
        early,
    })
}

/// Ask for the tunnel; return what came behind the answer.
async fn ask(
    stream: &mut TcpStream,
    authority: &str,
    authorization: Option<&Authorization>,
) -> Result<Vec<u8>, Refusal> {
    let refused = |text: &str| Refusal::new("proxy_refused").detail(text);
    let credentials = authorization.map_or_else(String::new, |found| {
        format!("Proxy-Authorization: {}\r\n", found.value())
    });
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{credentials}\r\n");
    let written = stream.write_all(request.as_bytes()).await;
    written.map_err(|error| refused(&error.to_string()))?;
    let mut head = Vec::new();
    loop {
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
            return if is_success(line) {
                Ok(head.split_off(end + 4))
            } else {
                Err(refused(&String::from_utf8_lossy(line)))
            };
        }
        if head.len() >= MAX_HEAD_BYTES {
            return Err(refused("its answer does not end"));
        }
        head.reserve(1024);
        match stream.read_buf(&mut head).await {
            Ok(0) => return Err(refused("it closed the connection")),
            Ok(_) => {}
            Err(error) => return Err(refused(&error.to_string())),
        }
    }
}

/// `HTTP/1.x 2xx …`
fn is_success(line: &[u8]) -> bool {
    let mut words = line.split(|&byte| byte == b' ');
    let version = words
        .next()
        .is_some_and(|word| word.starts_with(b"HTTP/1."));
    let code = words.next().is_some_and(
        |word| matches!(word, [b'2', b, c] if b.is_ascii_digit() && c.is_ascii_digit()),
    );
    version && code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_hundreds_open_a_tunnel() {
        for line in [
            "HTTP/1.1 200 OK",
            "HTTP/1.0 200 Connection established",
            "HTTP/1.1 204",
        ] {
            assert!(is_success(line.as_bytes()), "{line}");
        }
        for line in [
            "HTTP/1.1 407 Proxy Authentication Required",
            "HTTP/1.1 2000 x",
            "HTTP/2 200",
            "ICY 200 OK",
            "200",
            "",
            "HTTP/1.1  200",
        ] {
            assert!(!is_success(line.as_bytes()), "{line}");
        }
    }
}
