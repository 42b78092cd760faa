//! The life of the broker: orders, sockets, and what the kernel is told, until `finish`.

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use dativo_channel::control::Control;
use dativo_channel::stdin::poll;
use dativo_channel::{Stop, unexpected};
use dativo_wire::fault::{Blame, Fault};
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use crate::address::Reach;
use crate::client::Client;
use crate::flow::Copier;
use crate::intake::{self, MAX_PACKET_BYTES, Socket};
use crate::name::Pattern;
use crate::orders::{Command, Orders, Proxy};
use crate::resolver::Resolver;
use crate::telling::{Event, Telling};
use crate::{connection, dns_server, system};

/// Until something is tried again that this process had no descriptors or memory for.
pub const RETRY: Duration = Duration::from_millis(50);
/// How long connections have to end when the run does. Each takes a second at most.
const LAST_TIME: Duration = Duration::from_secs(3);
/// The most sockets of a client: two of the resolver's, and one for each port and family.
const MAX_SOCKETS: usize = 2 + 2 * 1024;

/// What all connections share.
pub struct Broker {
    pub clients: Vec<Rc<Client>>,
    pub blocked_hosts: Vec<Pattern>,
    pub reach: Reach,
    pub resolver: Resolver,
    pub proxy: Option<Proxy>,
    pub connect_timeout: Duration,
    pub copier: Copier,
    pub telling: Telling,
    stop: watch::Sender<bool>,
}

impl Broker {
    fn new(orders: Orders) -> Broker {
        let now = Instant::now();
        let limits = &orders.limits;
        let client =
            |(name, grants)| Rc::new(Client::new(name, grants, limits, orders.observe, now));
        Broker {
            clients: orders.clients.into_iter().map(client).collect(),
            blocked_hosts: orders.blocked_hosts,
            reach: orders.reach,
            resolver: Resolver::new(orders.resolvers, orders.hosts),
            proxy: orders.proxy,
            connect_timeout: limits.connect_timeout(),
            copier: Copier::new(),
            telling: Telling::default(),
            stop: watch::Sender::new(false),
        }
    }

    /// Wait until every connection is to end.
    pub async fn stopped(&self) {
        // The sender lives as long as this.
        let _ = self.stop.subscribe().wait_for(|stopped| *stopped).await;
    }

    fn open_connections(&self) -> usize {
        self.clients.iter().map(|client| client.open.get()).sum()
    }
}

/// From `open` to `finished`.
pub fn run(control: &mut Control<Command>) -> Result<(), Stop> {
    let orders = match control.wait()? {
        Command::Open(open) => Orders::try_from(*open)?,
        Command::Finish => return Err(unexpected("the first command is not open")),
    };
    system::raise_open_files().map_err(|error| failed("the limit of open files", &error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let runtime = runtime.map_err(|error| failed("the event loop", &error))?;
    LocalSet::new().block_on(&runtime, serve(control, orders))
}

async fn serve(control: &mut Control<Command>, orders: Orders) -> Result<(), Stop> {
    let broker = Rc::new(Broker::new(orders));
    let clients = broker
        .clients
        .iter()
        .map(|client| client.name.clone())
        .collect();
    control.send(&Event::Opened { clients })?;
    let mut intake = spawn_local(take_sockets(Rc::clone(&broker)));
    let mut is_taking = true;
    let fd = control.fd();
    let socket = system::duplicate(fd)
        .and_then(|socket| system::watch(socket, Interest::READABLE | Interest::WRITABLE));
    let socket = socket.map_err(|error| failed("the control socket", &error))?;
    let mut next = None;
    loop {
        if next.is_none() {
            next = broker.telling.next(&broker.clients);
        }
        tokio::select! {
            ready = socket.readable() => {
                let mut ready = ready.map_err(|error| failed("the control socket", &error))?;
                if !is_ready(fd, libc::POLLIN)? {
                    ready.clear_ready();
                    continue;
                }
                control.receive()?;
                match control.arrived() {
                    Some(Command::Finish) => break,
                    Some(Command::Open(_)) => return Err(unexpected("a second open")),
                    None => {}
                }
            }
            ready = socket.writable(), if next.is_some() => {
                let mut ready = ready.map_err(|error| failed("the control socket", &error))?;
                if !is_ready(fd, libc::POLLOUT)? {
                    ready.clear_ready();
                } else if let Some(event) = next.take() {
                    // There is room for much more than one event when a socket is writable (unix(7)): it does not wait.
                    control.send(&event)?;
                }
            }
            () = broker.telling.news(), if next.is_none() => {}
            taken = &mut intake, if is_taking => {
                is_taking = false;
                // It does not panic: that would abort the process.
                taken.unwrap_or(Ok(()))?;
            }
        }
    }
    finish(control, &broker, next).await
}

/// End every connection and tell what is left.
async fn finish(
    control: &mut Control<Command>,
    broker: &Broker,
    next: Option<Event>,
) -> Result<(), Stop> {
    broker.stop.send_replace(true);
    let ended = async {
        while broker.open_connections() > 0 {
            broker.telling.news().await;
        }
    };
    // One that cannot end is told with what is known.
    let _ = timeout(LAST_TIME, ended).await;
    if let Some(event) = next {
        control.send(&event)?;
    }
    while let Some(event) = broker.telling.next(&broker.clients) {
        control.send(&event)?;
    }
    for event in Telling::rest(&broker.clients) {
        control.send(&event)?;
    }
    let clients = broker
        .clients
        .iter()
        .map(|client| (&**client).into())
        .collect();
    control.send(&Event::Finished { clients })
}

/// Whether a descriptor is ready now: what the event loop remembers may be over.
fn is_ready(fd: RawFd, events: libc::c_short) -> Result<bool, Stop> {
    let [found] = poll([(true, fd, events)], Duration::ZERO)?;
    Ok(found != 0)
}

/// Serve every socket that comes by stdin, until that is closed.
async fn take_sockets(broker: Rc<Broker>) -> Result<(), Box<Fault>> {
    let stdin = system::watch(system::stdin(), Interest::READABLE);
    let stdin = stdin.map_err(|error| broken(&error))?;
    let mut counts = vec![0; broker.clients.len()];
    let mut room = vec![0; MAX_PACKET_BYTES];
    loop {
        let mut ready = stdin.readable().await.map_err(|error| broken(&error))?;
        let received = ready.try_io(|stdin| system::receive(stdin.get_ref().as_fd(), &mut room));
        let (count, descriptors): (usize, Vec<OwnedFd>) = match received {
            Ok(Ok(received)) => received,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(Err(error)) => return Err(broken(&error)),
            Err(_) => continue,
        };
        if count == 0 {
            return Ok(());
        }
        let packet = &room[..count];
        let (name, sockets) = intake::unpack(packet, descriptors)?;
        let place = broker.clients.iter().position(|client| client.name == name);
        let place = place.ok_or_else(|| intake::bad("nobody's", packet))?;
        counts[place] += sockets.len();
        if counts[place] > MAX_SOCKETS {
            return Err(intake::bad("too many sockets", packet));
        }
        for socket in sockets {
            start(&broker, &broker.clients[place], socket).map_err(|error| broken(&error))?;
        }
    }
}

fn start(broker: &Rc<Broker>, client: &Rc<Client>, socket: Socket) -> std::io::Result<()> {
    let (broker, client) = (Rc::clone(broker), Rc::clone(client));
    match socket {
        Socket::DnsUdp(socket) => {
            spawn_local(dns_server::serve_udp(
                broker,
                client,
                UdpSocket::from_std(socket)?,
            ));
        }
        Socket::DnsTcp(listener) => {
            spawn_local(dns_server::serve_tcp(
                broker,
                client,
                TcpListener::from_std(listener)?,
            ));
        }
        Socket::Tcp(listener) => {
            spawn_local(connection::serve(
                broker,
                client,
                TcpListener::from_std(listener)?,
            ));
        }
    }
    Ok(())
}

fn broken(error: &std::io::Error) -> Box<Fault> {
    let message = format!("no sockets can be taken from stdin: {error}");
    Fault::new("internal.sockets", Blame::Machine, message)
}

fn failed(what: &str, error: &std::io::Error) -> Stop {
    Fault::new(
        "internal.broker",
        Blame::Machine,
        format!("{what}: {error}"),
    )
    .into()
}
