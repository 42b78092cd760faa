//! What one client may reach.

use std::net::IpAddr;
use std::rc::Rc;

use dativo_wire::fault::{Blame, Fault};
use serde::Deserialize;

use crate::address::{By, Prefix};
use crate::name::{Name, Pattern, Service};

/// The most grants of a client.
const MAX_GRANTS: usize = 10_000;

/// A grant as the kernel writes it: one of `host`, `cidr` and `srv`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    pub host: Option<String>,
    pub cidr: Option<String>,
    pub srv: Option<String>,
    #[serde(default)]
    pub ports: Vec<(u16, u16)>,
    #[serde(default)]
    pub private: bool,
    pub upload_bytes: Option<u64>,
    #[serde(default = "yes")]
    pub sni: bool,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Host(Pattern),
    Network(Prefix),
    Service(Service),
}

/// One grant. What a client has sent under it is counted by its place among the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    what: What,
    ports: Vec<(u16, u16)>,
    private: bool,
    pub upload_bytes: Option<u64>,
    /// Whether a TLS server name must be the name that was looked up.
    pub sni: bool,
    /// Its place.
    pub index: usize,
}

impl Grant {
    fn new(asked: Asked, index: usize) -> Result<Grant, Box<Fault>> {
        let bad = |why: &str| {
            let message = format!("grant {index}: {why}: {asked:?}");
            Fault::new("config.network_grant", Blame::User, message)
        };
        let what = match (&asked.host, &asked.cidr, &asked.srv) {
            (Some(host), None, None) => Pattern::parse(host).map(What::Host),
            (None, Some(cidr), None) => Prefix::parse(cidr).map(What::Network),
            (None, None, Some(srv)) => Service::parse(srv).map(What::Service),
            _ => return Err(bad("not exactly one of host, cidr and srv")),
        };
        let what = what.ok_or_else(|| bad("not a host, network or service"))?;
        let any_port = matches!(what, What::Service(_)) && asked.ports.is_empty();
        let in_order = |&(first, last): &(u16, u16)| 0 < first && first <= last;
        if !any_port && (asked.ports.is_empty() || !asked.ports.iter().all(in_order)) {
            return Err(bad("no ports, or not ports"));
        }
        Ok(Grant {
            what,
            ports: if any_port {
                vec![(1, u16::MAX)]
            } else {
                asked.ports
            },
            private: asked.private,
            upload_bytes: asked.upload_bytes,
            sni: asked.sni,
            index,
        })
    }

    pub fn has_port(&self, port: u16) -> bool {
        self.ports
            .iter()
            .any(|&(first, last)| (first..=last).contains(&port))
    }

    /// How its addresses are come to.
    pub fn by(&self) -> By {
        match self.what {
            What::Network(_) => By::Literal,
            _ => By::Name {
                private: self.private,
            },
        }
    }
}

/// All grants of one client, the closest first.
#[derive(Debug, Default)]
pub struct Grants(Vec<Rc<Grant>>);

impl Grants {
    pub fn new(asked: Vec<Asked>) -> Result<Grants, Box<Fault>> {
        if asked.len() > MAX_GRANTS {
            let message = format!("{} grants; the limit is {MAX_GRANTS}", asked.len());
            return Err(Fault::new("config.network_grant", Blame::User, message));
        }
        let grants = asked.into_iter().enumerate();
        let mut grants = grants
            .map(|(index, asked)| Grant::new(asked, index).map(Rc::new))
            .collect::<Result<Vec<_>, _>>()?;
        grants.sort_by_key(|grant| {
            std::cmp::Reverse(match &grant.what {
                What::Host(pattern) => pattern.closeness(),
                What::Network(_) | What::Service(_) => 0,
            })
        });
        Ok(Grants(grants))
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether any port of `name` is granted.
    pub fn knows(&self, name: &Name) -> bool {
        self.0
            .iter()
            .any(|grant| matches!(&grant.what, What::Host(pattern) if pattern.matches(name)))
    }

    /// The closest grant for `name` that has `port`.
    pub fn for_name(&self, name: &Name, port: u16) -> Option<&Rc<Grant>> {
        self.0.iter().find(|grant| {
            matches!(&grant.what, What::Host(pattern) if pattern.matches(name))
                && grant.has_port(port)
        })
    }

    /// The first grant for the literal `address` that has `port`.
    pub fn for_address(&self, address: IpAddr, port: u16) -> Option<&Rc<Grant>> {
        let address = address.to_canonical();
        self.0.iter().find(|grant| {
            matches!(&grant.what, What::Network(network) if network.contains(address))
                && grant.has_port(port)
        })
    }

    /// The grant for the SRV answers of `name`.
    pub fn for_service(&self, name: &Name) -> Option<(&Rc<Grant>, &Service)> {
        self.0.iter().find_map(|grant| match &grant.what {
            What::Service(service) if service.name == *name => Some((grant, service)),
            _ => None,
        })
    }
}
