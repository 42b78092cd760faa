//! The sockets of a network that obeys names: made inside a network namespace, handed to the broker outside.
//!
//! Plan: `parent PID`, `identity UID GID`, `namespace FD`, `broker FD`, `client NAME`, `port FIRST LAST`,
//! `network ADDRESS PREFIX`.
//!
//! Started by the launcher while stage 2 waits for the word to go, so nothing runs in that namespace yet. Whoever made
//! the namespace's owner has every capability in it (user_namespaces(7)): as root that uid is taken on first, where an
//! `identity` is given; a container's namespace is root's own. Ends with status 0 once the broker's socket has taken
//! everything; docs/spec/sandbox.md has the messages.

use std::fs::File;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::attestation::{object, quoted};
use crate::failure::{At, Failure, Result};
use crate::netlink::Routing;
use crate::plan::{Plan, required, unknown};
use crate::{privileges, sys};

const WALL: &str = "network";
/// Where the names of a process get their addresses from, and the address of the process itself (RFC 2544): glibc asks
/// for A records with AI_ADDRCONFIG only where there is an address beside 127.0.0.1.
const POOL: (IpAddr, u8) = (IpAddr::V4(Ipv4Addr::new(198, 18, 0, 0)), 15);
const OWN_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
/// The same for literal IPv6 addresses (RFC 5180).
const OWN_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1));
const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);
const MAX_PORTS: usize = 1024;
const MAX_NETWORKS: usize = 1024;
/// The kernel takes 253 in one message (SCM_MAX_FD).
const SOCKETS_PER_MESSAGE: usize = 250;
const BACKLOG: libc::c_int = 4096;
/// linux/nsfs.h
const NS_GET_USERNS: libc::c_ulong = 0xb701;

#[derive(Default)]
struct Orders {
    parent: Option<libc::pid_t>,
    identity: Option<(u32, u32)>,
    namespace: Option<RawFd>,
    broker: Option<RawFd>,
    client: Option<Vec<u8>>,
    ports: Vec<u16>,
    networks: Vec<(IpAddr, u8)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    DnsUdp,
    DnsTcp,
    Tcp(SocketAddr),
}

/// Make every socket and hand it over.
pub fn run(plan_fd: RawFd) -> Result<()> {
    let orders = read_orders(Plan::read(plan_fd)?)?;
    let namespace = required(orders.namespace, "namespace")?;
    let broker = required(orders.broker, "broker")?;
    sys::close_others(&[namespace, broker]).at("descriptors", "close_range")?;
    if let Some((uid, gid)) = orders.identity {
        privileges::drop_all(uid, gid, &[])?;
    }
    sys::die_with(required(orders.parent, "parent")?)?;
    raise_open_files()?;
    enter(namespace)?;
    make_local(&orders.networks)?;
    let client = required(orders.client.as_deref(), "client")?;
    let client = String::from_utf8_lossy(client).into_owned();
    let wanted = wanted(&orders);
    let parts = wanted.chunks(SOCKETS_PER_MESSAGE).len();
    for (part, chunk) in wanted.chunks(SOCKETS_PER_MESSAGE).enumerate() {
        let sockets = chunk
            .iter()
            .map(|kind| make(*kind).at(WALL, format_args!("cannot make {kind:?}")))
            .collect::<Result<Vec<OwnedFd>>>()?;
        hand_over(broker, &message(&client, part, parts, chunk), &sockets)
            .at(WALL, "cannot hand sockets to the broker")?;
    }
    Ok(())
}

fn read_orders(mut plan: Plan) -> Result<Orders> {
    let mut orders = Orders::default();
    while let Some(directive) = plan.directive() {
        match directive.as_str() {
            "parent" => orders.parent = Some(plan.number()?),
            "identity" => orders.identity = Some((plan.number()?, plan.number()?)),
            "namespace" => orders.namespace = Some(plan.number()?),
            "broker" => orders.broker = Some(plan.number()?),
            "client" => orders.client = Some(plan.bytes()?),
            "port" => {
                let (first, last): (u16, u16) = (plan.number()?, plan.number()?);
                orders.ports.extend(first..=last);
            }
            "network" => orders.networks.push((plan.number()?, plan.number()?)),
            other => return Err(unknown(other)),
        }
        if orders.ports.len() > MAX_PORTS || orders.networks.len() > MAX_NETWORKS {
            return Err(Failure::new(
                "plan",
                format!("more than {MAX_PORTS} ports or {MAX_NETWORKS} networks"),
            ));
        }
    }
    Ok(orders)
}

fn raise_open_files() -> Result<()> {
    // SAFETY: rlimit is plain data; the pointers are valid. What was sent and not received counts too (unix(7)).
    unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        sys::check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))
            .at(WALL, "RLIMIT_NOFILE")?;
        limit.rlim_cur = limit.rlim_max;
        sys::check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))
            .at(WALL, "RLIMIT_NOFILE")
            .map(drop)
    }
}

/// Join the user namespace that owns a network namespace, then that one. The owner of a container's is our own, which nobody
/// joins again (setns(2)).
fn enter(namespace: RawFd) -> Result<()> {
    // SAFETY: the request takes no argument and gives a new descriptor (ioctl_ns(2)).
    let owner = unsafe {
        let fd =
            sys::check(libc::ioctl(namespace, NS_GET_USERNS as _)).at(WALL, "NS_GET_USERNS")?;
        OwnedFd::from_raw_fd(fd)
    };
    let own = File::open("/proc/self/ns/user").at(WALL, "the own user namespace")?;
    if !sys::is_same_file(owner.as_fd(), own.as_fd()).at(WALL, "fstat")? {
        // SAFETY: a valid descriptor; this process has one thread.
        sys::check(unsafe { libc::setns(owner.as_raw_fd(), libc::CLONE_NEWUSER) })
            .at(WALL, "cannot join the user namespace")?;
    }
    // SAFETY: as above.
    unsafe {
        sys::check(libc::setns(namespace, libc::CLONE_NEWNET))
            .at(WALL, "cannot join the network namespace")
            .map(drop)
    }
}

fn make_local(networks: &[(IpAddr, u8)]) -> Result<()> {
    let routing = Routing::open().at(WALL, "rtnetlink")?;
    let mut own = vec![OWN_V4];
    if any_v6(networks) {
        own.push(OWN_V6);
    }
    for address in own {
        routing
            .add_address(address)
            .at(WALL, format_args!("cannot add {address}"))?;
    }
    for (address, prefix) in [POOL].iter().chain(networks) {
        routing
            .add_local_route(*address, *prefix)
            .at(WALL, format_args!("cannot make {address}/{prefix} local"))?;
    }
    Ok(())
}

fn any_v6(networks: &[(IpAddr, u8)]) -> bool {
    networks.iter().any(|(address, _)| address.is_ipv6())
}

fn wanted(orders: &Orders) -> Vec<Wanted> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    if any_v6(&orders.networks) {
        addresses.push(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    }
    let mut wanted = vec![Wanted::DnsUdp, Wanted::DnsTcp];
    for port in &orders.ports {
        for address in &addresses {
            wanted.push(Wanted::Tcp(SocketAddr::new(*address, *port)));
        }
    }
    wanted
}

/// A bound, non-blocking socket, listening where it is a stream. Never SO_REUSEPORT: nobody binds beside it.
fn make(wanted: Wanted) -> io::Result<OwnedFd> {
    let (kind, address) = match wanted {
        Wanted::DnsUdp => (libc::SOCK_DGRAM, RESOLVER),
        Wanted::DnsTcp => (libc::SOCK_STREAM, RESOLVER),
        Wanted::Tcp(address) => (libc::SOCK_STREAM, address),
    };
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: integers only; the kernel gives a new descriptor.
    let socket =
        unsafe { OwnedFd::from_raw_fd(sys::check(libc::socket(family, kind | flags, 0))?) };
    if address.is_ipv6() {
        let on: libc::c_int = 1;
        // SAFETY: a pointer to an integer and its size.
        sys::check(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IPV6,
                libc::IPV6_V6ONLY,
                (&raw const on).cast(),
                mem::size_of::<libc::c_int>() as libc::socklen_t,
            )
        })?;
    }
    bind(&socket, address)?;
    if kind == libc::SOCK_STREAM {
        // SAFETY: integers only.
        sys::check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    }
    Ok(socket)
}

fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    // SAFETY: both are plain data, all zero is valid; pointer and size are of one structure.
    sys::check(unsafe {
        match address {
            SocketAddr::V4(address) => {
                let mut name: libc::sockaddr_in = mem::zeroed();
                name.sin_family = libc::AF_INET as libc::sa_family_t;
                name.sin_port = address.port().to_be();
                name.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
                let size = mem::size_of_val(&name) as libc::socklen_t;
                libc::bind(socket.as_raw_fd(), (&raw const name).cast(), size)
            }
            SocketAddr::V6(address) => {
                let mut name: libc::sockaddr_in6 = mem::zeroed();
                name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                name.sin6_port = address.port().to_be();
                name.sin6_addr.s6_addr = address.ip().octets();
                let size = mem::size_of_val(&name) as libc::socklen_t;
                libc::bind(socket.as_raw_fd(), (&raw const name).cast(), size)
            }
        }
    })
    .map(drop)
}

fn message(client: &str, part: usize, parts: usize, chunk: &[Wanted]) -> String {
    let sockets: Vec<String> = chunk
        .iter()
        .map(|wanted| match wanted {
            Wanted::DnsUdp => object(&[("kind", quoted("dns_udp"))]),
            Wanted::DnsTcp => object(&[("kind", quoted("dns_tcp"))]),
            Wanted::Tcp(address) => object(&[
                ("kind", quoted("tcp")),
                ("port", address.port().to_string()),
                (
                    "family",
                    if address.is_ipv4() { "4" } else { "6" }.to_owned(),
                ),
            ]),
        })
        .collect();
    object(&[
        ("client", quoted(client)),
        ("part", part.to_string()),
        ("parts", parts.to_string()),
        ("sockets", format!("[{}]", sockets.join(","))),
    ])
}

/// One message with its descriptors. Waits while the broker does not receive; the launcher has the deadline.
fn hand_over(broker: RawFd, text: &str, sockets: &[OwnedFd]) -> io::Result<()> {
    let fds: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let size = mem::size_of_val(fds.as_slice());
    // SAFETY: CMSG_SPACE computes only. Words, since a cmsghdr must be aligned.
    let space = unsafe { libc::CMSG_SPACE(size as libc::c_uint) } as usize;
    let mut control = vec![0_u64; space.div_ceil(mem::size_of::<u64>())];
    let mut part = libc::iovec {
        iov_base: text.as_ptr().cast_mut().cast(),
        iov_len: text.len(),
    };
    // SAFETY: msghdr is plain data; every pointer in it lives through the call, and `control` has room for one cmsghdr
    // with `size` bytes behind it.
    unsafe {
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = space as _;
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(size as libc::c_uint) as _;
        std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), libc::CMSG_DATA(first), size);
        loop {
            match sys::check(libc::sendmsg(broker, &raw const header, libc::MSG_NOSIGNAL)) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut wait = libc::pollfd {
                        fd: broker,
                        events: libc::POLLOUT,
                        revents: 0,
                    };
                    sys::check(libc::poll(&raw mut wait, 1, -1))?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(plan: &[u8]) -> Result<Orders> {
        read_orders(Plan::parse(plan).unwrap())
    }

    #[test]
    fn a_listener_for_each_port_and_family() {
        let only_v4 = orders(b"port\x00443\x00444\0network\x0010.0.0.0\x008\0").unwrap();
        assert_eq!(wanted(&only_v4).len(), 4);
        let both = orders(b"port\x00443\x00443\0network\0fd00::\x008\0").unwrap();
        assert_eq!(
            wanted(&both)[2..],
            [
                Wanted::Tcp("0.0.0.0:443".parse().unwrap()),
                Wanted::Tcp("[::]:443".parse().unwrap())
            ]
        );
    }

    #[test]
    fn ports_and_networks_are_bounded_and_exact() {
        assert!(orders(b"port\x001000\x002023\0").is_ok());
        assert!(orders(b"port\x001000\x002024\0").is_err());
        assert!(orders(b"port\x001\x0065536\0").is_err());
        assert!(orders(b"network\0example.com\x008\0").is_err());
        assert!(orders(b"listen\x00443\0").is_err());
    }

    #[test]
    fn messages_name_what_they_carry() {
        let chunk = [
            Wanted::DnsUdp,
            Wanted::DnsTcp,
            Wanted::Tcp("[::]:443".parse().unwrap()),
        ];
        assert_eq!(
            message("a\"b", 0, 2, &chunk),
            "{\"client\":\"a\\\"b\",\"part\":0,\"parts\":2,\"sockets\":[{\"kind\":\"dns_udp\"},\
             {\"kind\":\"dns_tcp\"},{\"kind\":\"tcp\",\"port\":443,\"family\":6}]}"
        );
    }
}
