//! What the kernel is told, and what waits until it listens.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;
use tokio::sync::Notify;

use crate::client::{Client, add};
use crate::dns;
use crate::stub::{self, Asked};

/// The most connections that wait to be told; more are counted.
const MAX_WAITING: usize = 1_024;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    Opened { clients: Vec<String> },
    Connection(Connection),
    Lookup(Lookup),
    Finished { clients: Vec<Totals> },
}

/// A connection that has ended.
#[derive(Debug, Serialize)]
pub struct Connection {
    pub client: String,
    pub name: Option<String>,
    pub address: Option<IpAddr>,
    pub port: u16,
    pub verdict: &'static str,
    pub up_bytes: u64,
    pub down_bytes: u64,
    pub seconds: f64,
    pub detail: Option<String>,
}

/// A name that was refused, and how often.
#[derive(Debug, Serialize)]
pub struct Lookup {
    pub client: String,
    pub name: String,
    pub kind: String,
    pub verdict: &'static str,
    pub count: u64,
}

/// What a client did in all.
#[derive(Debug, Serialize)]
pub struct Totals {
    client: String,
    connections: u64,
    refused: u64,
    up_bytes: u64,
    down_bytes: u64,
    lookups: u64,
    suppressed: u64,
}

impl From<&Client> for Totals {
    fn from(client: &Client) -> Totals {
        let counts = &client.counts;
        Totals {
            client: client.name.clone(),
            connections: counts.connections.get(),
            refused: counts.refused.get(),
            up_bytes: counts.up_bytes.get(),
            down_bytes: counts.down_bytes.get(),
            lookups: counts.lookups.get(),
            suppressed: counts.suppressed.get(),
        }
    }
}

#[derive(Default)]
pub struct Telling {
    waiting: RefCell<VecDeque<Connection>>,
    news: Notify,
}

impl Telling {
    /// Count a connection that has ended, and have it told if it is not one too many.
    pub fn ended(&self, client: &Client, ended: Connection) {
        let counts = &client.counts;
        // Those others had been let through.
        let refused = !matches!(ended.verdict, "ok" | "limit_upload");
        add(&counts.connections, 1);
        add(&counts.refused, u64::from(refused));
        add(&counts.up_bytes, ended.up_bytes);
        add(&counts.down_bytes, ended.down_bytes);
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < MAX_WAITING && client.may_tell(Instant::now()) {
            waiting.push_back(ended);
        } else {
            add(&counts.suppressed, 1);
        }
        self.news.notify_one();
    }

    /// There may be a refused lookup to tell.
    pub fn looked_up(&self) {
        self.news.notify_one();
    }

    /// Wait until a connection has ended or a lookup was refused.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// What is to be told next.
    pub fn next(&self, clients: &[Rc<Client>]) -> Option<Event> {
        if let Some(ended) = self.waiting.borrow_mut().pop_front() {
            return Some(Event::Connection(ended));
        }
        clients.iter().find_map(|client| {
            let (asked, found) = client.stub.borrow_mut().next_untold()?;
            Some(lookup(client, &asked, &found))
        })
    }

    /// The refused lookups that came again since they were told.
    pub fn rest(clients: &[Rc<Client>]) -> Vec<Event> {
        let mut rest = Vec::new();
        for client in clients {
            let stub = client.stub.borrow();
            let again = stub.lookups.iter().filter(|(_, found)| found.count > 1);
            rest.extend(again.map(|(asked, found)| lookup(client, asked, found)));
        }
        rest
    }
}

fn lookup(client: &Client, (name, kind): &Asked, found: &stub::Lookup) -> Event {
    Event::Lookup(Lookup {
        client: client.name.clone(),
        name: name.to_string(),
        kind: dns::kind::name(*kind),
        verdict: found.verdict,
        count: found.count,
    })
}
