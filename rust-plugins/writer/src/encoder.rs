//! The second thread: it encodes row groups while the first one reads on. Where there is one core, there is none.

use std::io;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use crate::row_group::Encoding;

/// About 20 MB in Parquet before compression.
const LARGE_GROUP_BYTES: usize = 24 << 20;

/// The way to the second thread, which ends with the last of these. What is written is the same with it and without.
#[derive(Clone)]
pub struct Encoder {
    /// A row group ends when its rows take so much: those of one are on their way while those of the next come.
    pub group_bytes: usize,
    queue: Option<Sender<Arc<Encoding>>>,
    /// The row group that was handed over last.
    last: Arc<Mutex<Weak<Encoding>>>,
}

impl Encoder {
    /// One for a process that may use `memory_bytes` for rows.
    pub fn new(memory_bytes: usize) -> io::Result<Encoder> {
        let mut encoder = Encoder {
            group_bytes: LARGE_GROUP_BYTES.min(memory_bytes / 2),
            queue: None,
            last: Arc::default(),
        };
        if thread::available_parallelism()?.get() > 1 {
            let (queue, encodings) = mpsc::channel::<Arc<Encoding>>();
            let encode = move || {
                for encoding in encodings {
                    while encoding.encode_one() {}
                }
            };
            thread::Builder::new()
                .name("encoder".to_owned())
                .spawn(encode)?;
            encoder.queue = Some(queue);
        }
        Ok(encoder)
    }

    /// Let a row group be encoded, after the one before: rows of one at a time are on their way.
    pub fn hand_over(&self, encoding: &Arc<Encoding>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *last, Arc::downgrade(encoding));
        if let Some(before) = before.upgrade() {
            before.help();
        }
        let queue = self.queue.as_ref();
        if queue.is_none_or(|queue| queue.send(encoding.clone()).is_err()) {
            encoding.help();
        }
    }
}
