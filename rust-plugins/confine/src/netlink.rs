//! Addresses and local routes on the loopback device (rtnetlink(7)), one request and its answer at a time.
//!
//! A `local` route makes a whole network this machine's own (AnyIP): a listener on any address answers for each of
//! its addresses, and getsockname(2) of a connection tells which one was meant.

use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::sys;

/// Every network namespace has its own loopback device, the first one of it.
const LOOPBACK_INDEX: u32 = 1;
const HEADER_BYTES: usize = mem::size_of::<libc::nlmsghdr>();
const MAX_ANSWER_BYTES: usize = 8192;

/// A socket to this network namespace's routing.
pub struct Routing(OwnedFd);

impl Routing {
    pub fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: integers only.
        let fd = sys::check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) })?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Give the loopback device one address. One that it has is an error (EEXIST).
    pub fn add_address(&self, address: IpAddr) -> io::Result<()> {
        self.request(&address_message(address))
    }

    /// Make a network local. The bits of `address` beyond `prefix` are 0, else the kernel refuses (EINVAL).
    pub fn add_local_route(&self, address: IpAddr, prefix: u8) -> io::Result<()> {
        self.request(&route_message(address, prefix))
    }

    fn request(&self, message: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length are of one slice; an unconnected netlink socket sends to the kernel.
        sys::check(unsafe {
            libc::send(
                self.0.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                0,
            )
        })?;
        let mut answer = [0_u8; MAX_ANSWER_BYTES];
        // SAFETY: pointer and length are of one buffer.
        let length = sys::check(unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                answer.as_mut_ptr().cast(),
                answer.len(),
                0,
            )
        })?;
        read_answer(&answer[..usize::try_from(length).unwrap_or(0)])
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    let family = match address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    family as u8
}

/// RTM_NEWADDR: struct ifaddrmsg of linux/if_addr.h and its attributes.
fn address_message(address: IpAddr) -> Vec<u8> {
    let octets = octets(address);
    // family, prefix length, flags, scope; an address on loopback is never contended for.
    let mut body = vec![
        family(address),
        (octets.len() * 8) as u8,
        libc::IFA_F_NODAD as u8,
        libc::RT_SCOPE_UNIVERSE,
    ];
    body.extend(LOOPBACK_INDEX.to_ne_bytes());
    attribute(&mut body, libc::IFA_LOCAL, &octets);
    attribute(&mut body, libc::IFA_ADDRESS, &octets);
    message(libc::RTM_NEWADDR, &body)
}

/// RTM_NEWROUTE: struct rtmsg of linux/rtnetlink.h and its attributes.
fn route_message(address: IpAddr, prefix: u8) -> Vec<u8> {
    let scope = match address {
        IpAddr::V4(_) => libc::RT_SCOPE_HOST,
        IpAddr::V6(_) => libc::RT_SCOPE_UNIVERSE, // IPv6 knows no other for routes
    };
    let mut body = vec![
        family(address),
        prefix,
        0, // of no source
        0, // of any service
        libc::RT_TABLE_LOCAL,
        libc::RTPROT_STATIC,
        scope,
        libc::RTN_LOCAL,
    ];
    body.extend(0_u32.to_ne_bytes());
    attribute(&mut body, libc::RTA_DST, &octets(address));
    attribute(&mut body, libc::RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes());
    message(libc::RTM_NEWROUTE, &body)
}

/// struct nlmsghdr of linux/netlink.h: length, type, flags, sequence, port.
fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    message.extend(((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// struct rtattr: length with its own four bytes, type, value. All values here are multiples of four bytes.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((4 + value.len()) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

/// NLMSG_ERROR carries 0 or a negative error number after the header.
fn read_answer(answer: &[u8]) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not an answer of rtnetlink");
    let kind = answer.get(4..6).ok_or_else(invalid)?;
    let error = answer
        .get(HEADER_BYTES..HEADER_BYTES + 4)
        .ok_or_else(invalid)?;
    let kind = u16::from_ne_bytes([kind[0], kind[1]]);
    if i32::from(kind) != libc::NLMSG_ERROR {
        return Err(invalid());
    }
    match i32::from_ne_bytes([error[0], error[1], error[2], error[3]]) {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_local_route_is_laid_out_as_the_kernel_reads_it() {
        // What `ip route add local 198.18.0.0/15 dev lo proto static` sends, by strace.
        let expected = [
            44, 0, 0, 0, 24, 0, 0x05, 0x06, 0, 0, 0, 0, 0, 0, 0, 0, // nlmsghdr
            2, 15, 0, 0, 255, 4, 254, 2, 0, 0, 0, 0, // rtmsg
            8, 0, 1, 0, 198, 18, 0, 0, // RTA_DST
            8, 0, 4, 0, 1, 0, 0, 0, // RTA_OIF
        ];
        assert_eq!(
            route_message("198.18.0.0".parse().unwrap(), 15),
            expected.to_vec()
        );
    }

    #[test]
    fn lengths_follow_the_family() {
        let short = address_message("198.18.0.1".parse().unwrap());
        let long = address_message("2001:2::1".parse().unwrap());
        for (message, prefix) in [(&short, 32), (&long, 128)] {
            let length = u32::from_ne_bytes(message[..4].try_into().unwrap());
            assert_eq!(length as usize, message.len());
            assert_eq!(message.len() % 4, 0);
            assert_eq!(message[HEADER_BYTES + 1], prefix);
        }
        assert_eq!(long.len() - short.len(), 24);
    }

    #[test]
    fn answers_are_bounded_and_tell_the_error() {
        let answer = |kind: i32, error: i32| {
            let mut bytes = vec![36, 0, 0, 0];
            bytes.extend((kind as u16).to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(error.to_ne_bytes());
            bytes
        };
        assert!(read_answer(&answer(libc::NLMSG_ERROR, 0)).is_ok());
        let refused = read_answer(&answer(libc::NLMSG_ERROR, -libc::EPERM)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        assert!(read_answer(&answer(libc::NLMSG_DONE, 0)).is_err());
        assert!(read_answer(&answer(libc::NLMSG_ERROR, 0)[..18]).is_err());
        assert!(read_answer(&[]).is_err());
        assert!(read_answer(&answer(libc::NLMSG_ERROR, i32::MIN)).is_err());
    }
}
