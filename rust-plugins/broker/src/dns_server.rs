//! The resolver of a client, over UDP and TCP.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::client::{Client, Held, add};
use crate::dns::{MAX_UDP_BYTES, Query};
use crate::flow::reset;
use crate::run::{Broker, RETRY};
use crate::stub::Reply;

/// A query is a header and one name; real ones have some options behind.
const MAX_QUERY_BYTES: usize = 4096;
/// Connections to the resolver at a time, of one client, and how long one may be idle.
const MAX_ASKING: usize = 64;
const IDLE: Duration = Duration::from_secs(10);

/// Answer packets for ever.
pub async fn serve_udp(broker: Rc<Broker>, client: Rc<Client>, socket: UdpSocket) {
    let socket = Rc::new(socket);
    let mut room = [0; MAX_QUERY_BYTES];
    loop {
        let Ok((count, from)) = socket.recv_from(&mut room).await else {
            // Memory is short: the query will be repeated.
            sleep(RETRY).await;
            continue;
        };
        // One that fills the room may have been longer.
        if count == room.len() {
            continue;
        }
        match answer(&broker, &client, &room[..count], MAX_UDP_BYTES) {
            Reply::Nothing => {}
            Reply::Bytes(bytes) => send(&socket, &bytes, from),
            Reply::Service(query) => {
                let (broker, client, socket) =
                    (Rc::clone(&broker), Rc::clone(&client), Rc::clone(&socket));
                spawn_local(async move {
                    let bytes = service(&broker, &client, &query, MAX_UDP_BYTES).await;
                    send(&socket, &bytes, from);
                });
            }
        }
    }
}

/// Nobody waits for a client that does not take its answers: it may ask again.
fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    let _ = socket.try_send_to(bytes, to);
}

/// Take connections for ever.
pub async fn serve_tcp(broker: Rc<Broker>, client: Rc<Client>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(RETRY).await;
            continue;
        };
        let Some(held) = Held::below(&client, |client| &client.asking, MAX_ASKING) else {
            reset(&stream);
            continue;
        };
        let (broker, client) = (Rc::clone(&broker), Rc::clone(&client));
        spawn_local(async move {
            let _held = held;
            converse(&broker, &client, stream).await;
        });
    }
}

/// Answer one query after the other, until the client is done, idle, or not understood.
async fn converse(broker: &Broker, client: &Rc<Client>, mut stream: TcpStream) {
    let mut query = Vec::new();
    loop {
        let Ok(Ok(())) = timeout(IDLE, read(&mut stream, &mut query)).await else {
            return;
        };
        let bytes = match answer(broker, client, &query, usize::from(u16::MAX)) {
            Reply::Nothing => return,
            Reply::Bytes(bytes) => bytes,
            Reply::Service(query) => service(broker, client, &query, usize::from(u16::MAX)).await,
        };
        let mut message = (bytes.len() as u16).to_be_bytes().to_vec();
        message.extend(bytes);
        let Ok(Ok(())) = timeout(IDLE, stream.write_all(&message)).await else {
            return;
        };
    }
}

async fn read(stream: &mut TcpStream, query: &mut Vec<u8>) -> std::io::Result<()> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_QUERY_BYTES {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    query.resize(length, 0);
    stream.read_exact(query).await.map(drop)
}

fn answer(broker: &Broker, client: &Client, message: &[u8], max_bytes: usize) -> Reply {
    add(&client.counts.lookups, 1);
    let reply = client.stub.borrow_mut().answer(message, max_bytes);
    broker.telling.looked_up();
    reply
}

/// Ask for a granted service outside.
async fn service(broker: &Broker, client: &Rc<Client>, query: &Query, max_bytes: usize) -> Vec<u8> {
    let found = match Held::resolving(client) {
        _ if !client.may_ask(Instant::now()) => Err("limit_rate"),
        None => Err("limit_resolving"),
        Some(_held) => broker
            .resolver
            .services(&query.question.name)
            .await
            .map_err(|error| error.verdict),
    };
    let bytes = client.stub.borrow_mut().service(query, found, max_bytes);
    broker.telling.looked_up();
    bytes
}
