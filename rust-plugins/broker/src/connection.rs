//! A connection of a client, from its acceptance to its report: docs/spec/network.md, What is checked.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::client::{Aim, Client, Held};
use crate::dial::{Place, Refusal, dial};
use crate::flow::{End, Flow, reset};
use crate::run::{Broker, RETRY};
use crate::telling::Connection;

/// Take connections for ever.
pub async fn serve(broker: Rc<Broker>, client: Rc<Client>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Descriptors or memory are short, or the client is gone again.
            sleep(RETRY).await;
            continue;
        };
        let accepted = Instant::now();
        let Ok(local) = stream.local_addr() else {
            continue;
        };
        let report = Report::new(&client, local, accepted);
        if let Err(verdict) = client.admit(accepted) {
            reset(&stream);
            report.tell(&broker, Err(Refusal::new(verdict)));
            continue;
        }
        let held = Held::new(&client, |client| &client.open);
        spawn_local(carry(Rc::clone(&broker), report, stream, held));
    }
}

async fn carry(broker: Rc<Broker>, mut report: Report, stream: TcpStream, _held: Held) {
    let outcome = report.run(&broker, &stream).await;
    if outcome.is_err() {
        reset(&stream);
    }
    drop(stream);
    report.tell(&broker, outcome);
}

/// A connection, and what is known of it so far.
struct Report {
    client: Rc<Client>,
    accepted: Instant,
    port: u16,
    aim: Aim,
    address: Option<IpAddr>,
    up_bytes: Cell<u64>,
    down_bytes: Cell<u64>,
}

impl Report {
    /// `local` is where it was made to, in the client's namespace.
    fn new(client: &Rc<Client>, local: SocketAddr, accepted: Instant) -> Report {
        let literal = local.ip().to_canonical();
        let aim = client.aim(literal, local.port());
        Report {
            client: Rc::clone(client),
            accepted,
            port: local.port(),
            address: aim.name.is_none().then_some(literal),
            aim,
            up_bytes: Cell::new(0),
            down_bytes: Cell::new(0),
        }
    }

    /// Check, dial and carry; the detail of an end that is no refusal.
    async fn run(
        &mut self,
        broker: &Broker,
        stream: &TcpStream,
    ) -> Result<Option<String>, Refusal> {
        let grant = self.aim.grant.clone().ok_or(Refusal::new("not_granted"))?;
        let place = match (&self.aim.name, self.address) {
            (Some(name), _)
                if broker
                    .blocked_hosts
                    .iter()
                    .any(|pattern| pattern.matches(name)) =>
            {
                return Err(Refusal::new("host_blocked"));
            }
            (Some(name), _) => Place::Name(name),
            (None, Some(address)) => Place::Literal(address),
            (None, None) => return Err(Refusal::new("not_granted")),
        };
        let deadline = (self.accepted + broker.connect_timeout).into();
        // On the heap, as it is large and soon over.
        let dialling = Box::pin(dial(
            broker,
            &self.client,
            place,
            self.port,
            &grant,
            deadline,
        ));
        let dialled = tokio::select! {
            dialled = dialling => dialled?,
            () = broker.stopped() => return Err(Refusal::new("connect_failed").detail("the run ended")),
        };
        self.address = dialled.address;
        // It is for speed alone.
        let _ = stream.set_nodelay(true);
        let flow = Flow {
            copier: &broker.copier,
            client: stream,
            server: &dialled.stream,
            who: &self.client,
            grant: &grant,
            expected: self.aim.name.as_ref().filter(|_| grant.sni),
            opening_time: broker.connect_timeout,
            up_bytes: &self.up_bytes,
            down_bytes: &self.down_bytes,
        };
        match flow.run(&dialled.early, broker.stopped()).await {
            End::Closed => Ok(None),
            End::Reset(side) => Ok(Some(format!("reset by the {side}"))),
            End::Stopped => Ok(Some("ended with the run".into())),
            End::Refused(verdict, detail) => Err(Refusal {
                verdict,
                address: self.address,
                detail,
            }),
        }
    }

    fn tell(self, broker: &Broker, outcome: Result<Option<String>, Refusal>) {
        let (verdict, address, detail) = match outcome {
            Ok(detail) => ("ok", self.address, detail),
            Err(refusal) => (
                refusal.verdict,
                refusal.address.or(self.address),
                refusal.detail,
            ),
        };
        let ended = Connection {
            client: self.client.name.clone(),
            name: self.aim.name.map(|name| name.to_string()),
            address,
            port: self.port,
            verdict,
            up_bytes: self.up_bytes.get(),
            down_bytes: self.down_bytes.get(),
            seconds: self.accepted.elapsed().as_secs_f64(),
            detail,
        };
        broker.telling.ended(&self.client, ended);
    }
}
