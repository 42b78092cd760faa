//! One client: what it was granted, what it has done.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use crate::grants::{Grant, Grants};
use crate::name::Name;
use crate::orders::Limits;
use crate::rate::Rate;
use crate::stub::Stub;

/// New connections are averaged over so many seconds.
const RATE_OVER_S: f64 = 10.0;
/// Names that are looked for outside at a time.
const MAX_RESOLVING: usize = 256;

/// What of a client's doings is counted.
#[derive(Debug, Default)]
pub struct Counts {
    pub connections: Cell<u64>,
    pub refused: Cell<u64>,
    pub up_bytes: Cell<u64>,
    pub down_bytes: Cell<u64>,
    pub lookups: Cell<u64>,
    /// Connections that are not told one by one.
    pub suppressed: Cell<u64>,
}

pub fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get().saturating_add(more));
}

pub struct Client {
    pub name: String,
    pub stub: RefCell<Stub>,
    pub counts: Counts,
    /// Connections that are open now, lookups that are on their way, connections to the resolver.
    pub open: Cell<usize>,
    pub resolving: Cell<usize>,
    pub asking: Cell<usize>,
    max_open: usize,
    rate: RefCell<Rate>,
    told: RefCell<Rate>,
    services: RefCell<Rate>,
    /// Bytes sent under each grant.
    sent: RefCell<Vec<u64>>,
}

/// Where a connection of a client is to go.
#[derive(Clone, Debug)]
pub struct Aim {
    /// None for a literal address.
    pub name: Option<Name>,
    pub grant: Option<Rc<Grant>>,
}

impl Client {
    pub fn new(
        name: String,
        grants: Grants,
        limits: &Limits,
        observe: bool,
        now: Instant,
    ) -> Client {
        let sent = vec![0; grants.count()];
        Client {
            name,
            stub: RefCell::new(Stub::new(grants, limits.max_names, observe)),
            counts: Counts::default(),
            open: Cell::new(0),
            resolving: Cell::new(0),
            asking: Cell::new(0),
            max_open: limits.max_connections,
            rate: RefCell::new(Rate::new(limits.max_rate, RATE_OVER_S, now)),
            told: RefCell::new(Rate::new(limits.max_events_per_s, 1.0, now)),
            services: RefCell::new(Rate::new(limits.max_rate, RATE_OVER_S, now)),
            sent: RefCell::new(sent),
        }
    }

    /// Whether one more connection is within the limits; else the verdict.
    pub fn admit(&self, now: Instant) -> Result<(), &'static str> {
        let in_rate = self.rate.borrow_mut().take(now);
        if self.open.get() >= self.max_open {
            Err("limit_connections")
        } else if !in_rate {
            Err("limit_rate")
        } else {
            Ok(())
        }
    }

    /// Whether one more connection is told on its own.
    pub fn may_tell(&self, now: Instant) -> bool {
        self.told.borrow_mut().take(now)
    }

    /// Whether one more service may be asked for outside; a host's name is only when it is connected to.
    pub fn may_ask(&self, now: Instant) -> bool {
        self.services.borrow_mut().take(now)
    }

    /// What a connection to `address` and `port` means: those of its listener's end.
    pub fn aim(&self, address: IpAddr, port: u16) -> Aim {
        let stub = self.stub.borrow();
        let address = address.to_canonical();
        let name = match address {
            IpAddr::V4(address) => stub.names.name(address),
            IpAddr::V6(_) => None,
        };
        let grant = match name {
            Some(name) => stub.grant(name, port),
            None => stub.grants.for_address(address, port),
        };
        Aim {
            name: name.cloned(),
            grant: grant.cloned(),
        }
    }

    /// How many of `wanted` bytes may still be sent under `grant`; they are counted.
    pub fn send(&self, grant: &Grant, wanted: usize) -> usize {
        let mut sent = self.sent.borrow_mut();
        let sent = &mut sent[grant.index];
        let left = grant
            .upload_bytes
            .map_or(u64::MAX, |most| most.saturating_sub(*sent));
        let allowed = left.min(wanted as u64);
        *sent = sent.saturating_add(allowed);
        allowed as usize
    }
}

/// One of something that is counted while it lasts.
pub struct Held(Rc<Client>, fn(&Client) -> &Cell<usize>);

impl Held {
    pub fn new(client: &Rc<Client>, which: fn(&Client) -> &Cell<usize>) -> Held {
        let count = which(client);
        count.set(count.get() + 1);
        Held(Rc::clone(client), which)
    }

    /// A lookup outside, if there are not too many.
    pub fn resolving(client: &Rc<Client>) -> Option<Held> {
        Held::below(client, |client| &client.resolving, MAX_RESOLVING)
    }

    /// One more, if there are less than `most`.
    pub fn below(
        client: &Rc<Client>,
        which: fn(&Client) -> &Cell<usize>,
        most: usize,
    ) -> Option<Held> {
        (which(client).get() < most).then(|| Held::new(client, which))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let count = (self.1)(&self.0);
        count.set(count.get() - 1);
    }
}
