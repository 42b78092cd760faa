//! Sockets that stand in the network namespaces of clients, as `dativo-confine sockets` hands them over.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use dativo_wire::fault::{Blame, Fault};
use serde::Deserialize;
use socket2::SockRef;

/// The longest packet: its maker puts at most 250 sockets into one.
pub const MAX_PACKET_BYTES: usize = 32 << 10;
/// Of one client: a port is listened on in both families.
const MAX_PARTS: usize = 64;

#[derive(Deserialize)]
struct Packet {
    client: String,
    part: usize,
    parts: usize,
    sockets: Vec<Said>,
}

/// What a packet says of one socket. Which port a connection was made to is asked of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
struct Said {
    kind: Kind,
    #[serde(rename = "port")]
    _port: Option<u16>,
    #[serde(rename = "family")]
    _family: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    DnsUdp,
    DnsTcp,
    Tcp,
}

#[derive(Debug)]
pub enum Socket {
    DnsUdp(UdpSocket),
    DnsTcp(TcpListener),
    Tcp(TcpListener),
}

/// The client of a packet and its sockets, non-blocking.
pub fn unpack(
    packet: &[u8],
    descriptors: Vec<OwnedFd>,
) -> Result<(String, Vec<Socket>), Box<Fault>> {
    let said: Packet =
        serde_json::from_slice(packet).map_err(|error| bad(&error.to_string(), packet))?;
    if said.part >= said.parts || said.parts > MAX_PARTS {
        return Err(bad("not a part", packet));
    }
    if said.sockets.len() != descriptors.len() {
        let why = format!(
            "{} descriptors for {} sockets",
            descriptors.len(),
            said.sockets.len()
        );
        return Err(bad(&why, packet));
    }
    let mut sockets = Vec::new();
    for (one, descriptor) in said.sockets.iter().zip(descriptors) {
        let socket = take(one.kind, descriptor);
        sockets.push(
            socket.ok_or_else(|| bad(&format!("not a socket of kind {:?}", one.kind), packet))?,
        );
    }
    Ok((said.client, sockets))
}

fn take(kind: Kind, descriptor: OwnedFd) -> Option<Socket> {
    let socket = SockRef::from(&descriptor);
    let listens = socket.is_listener().ok()?;
    let wanted = match kind {
        Kind::DnsUdp => socket2::Type::DGRAM,
        Kind::DnsTcp | Kind::Tcp => socket2::Type::STREAM,
    };
    if socket.r#type().ok()? != wanted || listens != (kind != Kind::DnsUdp) {
        return None;
    }
    // An address of the Internet, IPv4 or IPv6.
    socket.local_addr().ok()?.as_socket()?;
    socket.set_nonblocking(true).ok()?;
    Some(match kind {
        Kind::DnsUdp => Socket::DnsUdp(descriptor.into()),
        Kind::DnsTcp => Socket::DnsTcp(descriptor.into()),
        Kind::Tcp => Socket::Tcp(descriptor.into()),
    })
}

pub fn bad(why: &str, packet: &[u8]) -> Box<Fault> {
    let message = format!("a packet of sockets cannot be understood: {why}");
    Fault::new("internal.sockets", Blame::Dativo, message).value(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kinds: &[&str]) -> String {
        let sockets: Vec<_> = kinds
            .iter()
            .map(|kind| format!(r#"{{"kind":"{kind}"}}"#))
            .collect();
        format!(
            r#"{{"client":"a","part":0,"parts":1,"sockets":[{}]}}"#,
            sockets.join(",")
        )
    }

    fn listener() -> OwnedFd {
        TcpListener::bind("127.0.0.1:0").unwrap().into()
    }

    fn datagrams() -> OwnedFd {
        UdpSocket::bind("127.0.0.1:0").unwrap().into()
    }

    #[test]
    fn sockets_in_their_order() {
        let (client, sockets) = unpack(
            packet(&["dns_udp", "dns_tcp", "tcp"]).as_bytes(),
            vec![datagrams(), listener(), listener()],
        )
        .unwrap();
        assert_eq!(client, "a");
        assert!(matches!(
            sockets.as_slice(),
            [Socket::DnsUdp(_), Socket::DnsTcp(_), Socket::Tcp(_)]
        ));
    }

    #[test]
    fn what_is_another_kind_is_refused() {
        let file = || std::fs::File::open("/dev/null").unwrap().into();
        let unix = || std::os::unix::net::UnixDatagram::unbound().unwrap().into();
        let connected = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            std::net::TcpStream::connect(listener.local_addr().unwrap())
                .unwrap()
                .into()
        };
        for (kind, descriptor) in [
            ("tcp", datagrams()),
            ("dns_udp", listener()),
            ("tcp", file()),
            ("dns_udp", unix()),
            ("dns_tcp", connected()),
        ] {
            let fault = unpack(packet(&[kind]).as_bytes(), vec![descriptor]).unwrap_err();
            assert_eq!(fault.code, "internal.sockets");
        }
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        assert!(unpack(b"{}", vec![]).is_err());
        assert!(unpack(b"\xff", vec![]).is_err());
        assert!(unpack(packet(&["tcp"]).as_bytes(), vec![]).is_err());
        assert!(unpack(packet(&[]).as_bytes(), vec![listener()]).is_err());
        assert!(unpack(br#"{"client":"a","part":1,"parts":1,"sockets":[]}"#, vec![]).is_err());
        assert!(unpack(packet(&["udp"]).as_bytes(), vec![datagrams()]).is_err());
    }
}
