//! Networks, what kind of place an address lies in (addresses.txt), and which addresses may be dialled.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use serde::Deserialize;

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// `address/length` with no bit set behind `length`; nothing else is a network.
    pub fn parse(text: &str) -> Option<Prefix> {
        let (address, digits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let canonical = digits == "0" || !digits.starts_with('0');
        if !canonical || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let length: u8 = digits.parse().ok()?;
        let prefix = Prefix { address, length };
        let in_range = length <= width(address);
        (in_range && bits(address) & !mask(length) == 0).then_some(prefix)
    }

    /// Whether `address` lies in it. An IPv4 address lies in no IPv6 network, nor the other way round.
    pub fn contains(&self, address: IpAddr) -> bool {
        width(self.address) == width(address)
            && bits(address) & mask(self.length) == bits(self.address)
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Prefix, String> {
        Prefix::parse(&text).ok_or_else(|| format!("{text:?} is not a network"))
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address from the highest bit on.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// From the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Global,
    Private,
    Special,
    Cloud,
}

#[derive(Clone, Debug, PartialEq)]
enum Entry {
    Class(Class),
    /// Where IPv4 addresses begin, and whether they are inverted.
    Inner(Vec<(u8, bool)>),
}

/// The longest networks first.
static TABLE: LazyLock<Vec<(Prefix, Entry)>> = LazyLock::new(|| {
    let mut table: Vec<_> = include_str!("addresses.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| entry(line).unwrap_or_else(|| panic!("addresses.txt: {line}")))
        .collect();
    table.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.length));
    table
});

fn entry(line: &str) -> Option<(Prefix, Entry)> {
    let mut words = line.split_whitespace();
    let prefix = Prefix::parse(words.next()?)?;
    let entry = match words.next()? {
        "global" => Entry::Class(Class::Global),
        "private" => Entry::Class(Class::Private),
        "special" => Entry::Class(Class::Special),
        "cloud" => Entry::Class(Class::Cloud),
        inner => {
            let places = inner.strip_prefix("inner:")?.split(',');
            let place = |text: &str| {
                let digits = text.strip_prefix('~').unwrap_or(text);
                let at: u8 = digits.parse().ok()?;
                (at <= 96).then_some((at, digits.len() < text.len()))
            };
            Entry::Inner(places.map(place).collect::<Option<_>>()?)
        }
    };
    Some((prefix, entry))
}

fn find(address: IpAddr) -> &'static Entry {
    let found = TABLE.iter().find(|(prefix, _)| prefix.contains(address));
    // Both families have a line of length 0.
    found.map_or(&Entry::Class(Class::Special), |(_, entry)| entry)
}

/// The IPv4 addresses that `address` leads to in the end; none if it is not such a one.
fn inner(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let places: &[_] = match find(address) {
        Entry::Inner(places) => places,
        Entry::Class(_) => &[],
    };
    places.iter().map(move |&(at, inverted)| {
        let found = (bits(address) >> (96 - at)) as u32;
        IpAddr::V4(Ipv4Addr::from_bits(if inverted { !found } else { found }))
    })
}

/// What kind of place `address` lies in.
pub fn classify(address: IpAddr) -> Class {
    match find(address) {
        Entry::Class(class) => *class,
        Entry::Inner(_) => inner(address).map(classify).max().unwrap_or(Class::Special),
    }
}

/// How somebody came to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Name { private: bool },
    Literal,
}

/// What the operator says of addresses.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Never, whoever asks.
    pub blocked: Vec<Prefix>,
    /// Whatever their class.
    pub permit_special: Vec<Prefix>,
    /// Those of this machine, unless they are permitted.
    pub own: Vec<Prefix>,
}

impl Reach {
    /// Whether the operator permits `address` whatever it is.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.permit_special.iter().any(|one| one.contains(address))
    }

    /// Whether `address` may be dialled; else the reason, a word of docs/spec/network.md.
    pub fn check(&self, address: IpAddr, by: By) -> Result<(), &'static str> {
        let address = address.to_canonical();
        let is_in = |networks: &[Prefix], address| networks.iter().any(|one| one.contains(address));
        // What loopback is by its class already.
        let is_own = |address| is_in(&self.own, address) && classify(address) < Class::Special;
        if is_in(&self.blocked, address) || inner(address).any(|one| is_in(&self.blocked, one)) {
            return Err("address_blocked");
        }
        if self.permits(address) {
            return Ok(());
        }
        if is_own(address) || inner(address).any(is_own) {
            return Err("address_own");
        }
        match (classify(address), by) {
            (Class::Global, _) => Ok(()),
            (Class::Private, By::Literal | By::Name { private: true }) => Ok(()),
            (Class::Private, By::Name { private: false }) => Err("address_private"),
            (Class::Special, _) => Err("address_special"),
            (Class::Cloud, _) => Err("address_cloud"),
        }
    }
}
