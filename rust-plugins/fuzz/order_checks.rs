//! What holds for any bytes on a control socket, for the fuzz target and for the replay of its corpus (broker/tests/corpus.rs).

use dativo_broker::orders::{Command, Orders};
use dativo_channel::control::Commands;

/// Commands are the same however the bytes arrive, and the orders of a broker are understood or refused; the first byte says how
/// many bytes come at once.
pub fn orders(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else {
        return;
    };
    let at_once = heard(bytes, bytes.len().max(1));
    assert_eq!(heard(bytes, first as usize + 1), at_once);
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    assert!(at_once.0.len() <= lines);
    // What is not refused is all that has a line end.
    assert!(at_once.1 || at_once.0.len() == lines);
}

/// What was heard, each in a word, and whether the last line was refused.
fn heard(bytes: &[u8], chunk: usize) -> (Vec<&'static str>, bool) {
    let mut commands = Commands::<Command>::default();
    let refused = bytes.chunks(chunk).any(|some| commands.feed(some).is_err());
    let mut words = Vec::new();
    while let Some(command) = commands.take() {
        words.push(match command {
            Command::Finish => "finish",
            Command::Open(open) => match Orders::try_from(*open) {
                Ok(orders) => {
                    assert!(orders.clients.iter().all(|(name, _)| !name.is_empty()));
                    "open"
                }
                Err(fault) => fault.code,
            },
        });
    }
    (words, refused)
}
