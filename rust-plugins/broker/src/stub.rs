//! What a client is answered when it asks for names. Nothing is asked of anybody else, but for a granted service.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::Ipv4Addr;
use std::rc::Rc;

use crate::dns::{self, Answer, BadQuery, Query, Rcode, Srv, WireName, kind};
use crate::grants::{Grant, Grants};
use crate::name::Name;

/// Synthetic addresses: 198.18.0.0/15 but for its first two, of which one is the client's own.
const FIRST: u32 = 0xc612_0002;
const LAST: u32 = 0xc613_fffe;

/// The names that a client was given addresses for.
pub struct Names {
    names: Vec<Name>,
    places: HashMap<Name, u32>,
    max: usize,
}

impl Names {
    pub fn new(max: usize) -> Names {
        Names {
            names: Vec::new(),
            places: HashMap::new(),
            max: max.min((LAST - FIRST) as usize + 1),
        }
    }

    /// The address that stands for `name`; none if there were too many names.
    pub fn address(&mut self, name: &Name) -> Option<Ipv4Addr> {
        let place = match self.places.get(name) {
            Some(&place) => place,
            None if self.names.len() >= self.max => return None,
            None => {
                let place = self.names.len() as u32;
                self.names.push(name.clone());
                self.places.insert(name.clone(), place);
                place
            }
        };
        Some(Ipv4Addr::from_bits(FIRST + place))
    }

    /// The name that `address` stands for.
    pub fn name(&self, address: Ipv4Addr) -> Option<&Name> {
        let place = address.to_bits().checked_sub(FIRST)?;
        self.names.get(place as usize)
    }
}

/// A lookup that was refused, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub verdict: &'static str,
    pub count: u64,
}

/// A name as it is told, and a type.
pub type Asked = (Rc<str>, u16);

/// What a client asked for in vain.
pub type Lookups = BTreeMap<Asked, Lookup>;

/// What to send back.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Nothing,
    Bytes(Vec<u8>),
    /// A granted service: its resolver knows.
    Service(Query),
}

/// The DNS of one client.
pub struct Stub {
    pub grants: Grants,
    pub names: Names,
    pub lookups: Lookups,
    /// Those of them that the kernel was not told of, in order.
    untold: VecDeque<Asked>,
    /// Refusals beyond the most distinct ones that are kept.
    pub uncounted: u64,
    /// What SRV answers have led to.
    targets: HashMap<(Name, u16), Rc<Grant>>,
    target_names: HashSet<Name>,
    max_names: usize,
    observe: bool,
}

impl Stub {
    pub fn new(grants: Grants, max_names: usize, observe: bool) -> Stub {
        Stub {
            grants,
            names: Names::new(max_names),
            lookups: Lookups::new(),
            untold: VecDeque::new(),
            uncounted: 0,
            targets: HashMap::new(),
            target_names: HashSet::new(),
            max_names,
            observe,
        }
    }

    /// Answer the packet `message` in at most `max_bytes`.
    pub fn answer(&mut self, message: &[u8], max_bytes: usize) -> Reply {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(BadQuery::Silent) => return Reply::Nothing,
            Err(BadQuery::Reply(bytes)) => return Reply::Bytes(bytes),
        };
        let question = &query.question;
        let answers = match (question.class, question.kind) {
            (dns::IN, kind::PTR) => {
                let address = question.name.reverse();
                let name = address.and_then(|address| self.names.name(address));
                name.map(|name| vec![Answer::Ptr(name.clone())])
                    .ok_or("not_granted")
            }
            (dns::IN, wanted) => match question.name.to_name() {
                Some(name) if wanted == kind::SRV && self.grants.for_service(&name).is_some() => {
                    return Reply::Service(query);
                }
                Some(name) => self.host(&name, wanted),
                None => Err("not_granted"),
            },
            _ => Err("not_granted"),
        };
        let (rcode, answers) = match answers {
            Ok(answers) => (Rcode::NoError, answers),
            Err(verdict) => {
                self.refuse(&question.name, question.kind, verdict);
                (Rcode::NxDomain, Vec::new())
            }
        };
        Reply::Bytes(query.reply(rcode, &answers, max_bytes))
    }

    /// What there is of type `wanted` for the host `name`: a synthetic address and nothing else.
    fn host(&mut self, name: &Name, wanted: u16) -> Result<Vec<Answer>, &'static str> {
        let granted = self.grants.knows(name) || self.target_names.contains(name);
        if !granted {
            if self.observe && wanted == kind::A {
                // The connection is refused; but it tells the port.
                self.refuse(&WireName::from(name), wanted, "not_granted");
                return self.address(name);
            }
            return Err("not_granted");
        }
        if wanted == kind::A {
            self.address(name)
        } else {
            Ok(Vec::new())
        }
    }

    fn address(&mut self, name: &Name) -> Result<Vec<Answer>, &'static str> {
        let address = self.names.address(name).ok_or("limit_names")?;
        Ok(vec![Answer::A(address)])
    }

    /// Answer `query` for a granted service with what its resolver said: targets that the grant permits.
    pub fn service(
        &mut self,
        query: &Query,
        found: Result<Vec<Srv<Name>>, &'static str>,
        max_bytes: usize,
    ) -> Vec<u8> {
        let name = query.question.name.to_name();
        let granted = name.as_ref().and_then(|name| self.grants.for_service(name));
        let (Some((grant, service)), Ok(found)) = (granted, &found) else {
            let verdict = found.err().unwrap_or("not_granted");
            self.refuse(&query.question.name, kind::SRV, verdict);
            // The one is final, the other may be asked for again.
            let rcode = if verdict == "name_not_found" {
                Rcode::NxDomain
            } else {
                Rcode::ServFail
            };
            return query.reply(rcode, &[], max_bytes);
        };
        let mut answers = Vec::new();
        let mut refused = Vec::new();
        for srv in found {
            let room = self.targets.len() < self.max_names;
            if srv.port != 0 && room && service.permits(&srv.target) && grant.has_port(srv.port) {
                let key = (srv.target.clone(), srv.port);
                self.target_names.insert(srv.target.clone());
                self.targets.insert(key, Rc::clone(grant));
                answers.push(Answer::Srv(srv.clone()));
            } else {
                refused.push(srv.target.clone());
            }
        }
        for target in refused {
            self.refuse(&WireName::from(&target), kind::SRV, "not_granted");
        }
        query.reply(Rcode::NoError, &answers, max_bytes)
    }

    /// The grant for `name` and `port`.
    pub fn grant(&self, name: &Name, port: u16) -> Option<&Rc<Grant>> {
        let by_service = || self.targets.get(&(name.clone(), port));
        self.grants.for_name(name, port).or_else(by_service)
    }

    /// A refused lookup that was not told yet; it then is.
    pub fn next_untold(&mut self) -> Option<(Asked, Lookup)> {
        let asked = self.untold.pop_front()?;
        let found = self.lookups.get(&asked)?.clone();
        Some((asked, found))
    }

    fn refuse(&mut self, name: &WireName, kind: u16, verdict: &'static str) {
        let key = (Rc::from(name.to_text()), kind);
        if let Some(lookup) = self.lookups.get_mut(&key) {
            lookup.count += 1;
        } else if self.lookups.len() < self.max_names {
            self.untold.push_back(key.clone());
            self.lookups.insert(key, Lookup { verdict, count: 1 });
        } else {
            self.uncounted += 1;
        }
    }
}
