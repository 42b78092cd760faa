//! One column chunk, page by page.

use crate::dictionary::Dictionary;
use crate::flaw::{Flaw, Result, ensure};
use crate::footer::Chunk;
use crate::index::{Behind, Index, PagePlace};
use crate::layout::{Page, Watch};
use crate::page::{self, Cut, Kind, MAX_HEADER_BYTES, UNCOMPRESSED, Unpacker, ZSTD};
use crate::schema::Leaf;
use crate::seen::Seen;
use crate::source::Source;
use crate::values;

/// What the pages of a file may unpack to in all: some seconds of work.
const MAX_UNPACKED_BYTES: u64 = 64 << 30;

/// What the chunks of a file share.
pub struct Work<'a> {
    pub source: &'a mut Source,
    pub behind: &'a Behind,
    pub unpacker: Unpacker,
    /// Bytes that were unpacked so far.
    pub unpacked: u64,
}

impl Work<'_> {
    /// Read `chunk`, which lies ahead and holds `rows` rows of `leaf`, held against `watch` too; what its values are.
    pub fn read(
        &mut self,
        chunk: &Chunk<'_>,
        leaf: &Leaf<'_>,
        rows: u64,
        mut watch: Option<&mut Watch>,
    ) -> Result<Seen> {
        check(chunk, leaf)?;
        // One without pages lies nowhere.
        if chunk.compressed > 0 {
            let start = chunk.start();
            ensure(start >= self.source.at(), || {
                "has column chunks that overlap".into()
            })?;
            self.source.skip_to(start)?;
        }
        let mut index = Index::read(chunk, self.behind)?;
        let mut dictionary = None;
        let mut seen = Seen::nothing(leaf.physical);
        let (mut left, mut read) = (chunk.compressed, 0);
        while left > 0 {
            let offset = self.source.at();
            let front = self
                .source
                .peek(left.min(MAX_HEADER_BYTES as u64) as usize)?;
            let (header, head) = page::header(front)?;
            let (compressed, uncompressed) = (header.compressed, header.uncompressed);
            let size = head + compressed;
            ensure(size as u64 <= left, || {
                "has a page that leaves its column chunk".into()
            })?;
            self.unpacked += uncompressed as u64;
            ensure(self.unpacked <= MAX_UNPACKED_BYTES, || {
                format!("unpacks to more than {MAX_UNPACKED_BYTES} bytes")
            })?;
            let whole = self.source.peek(size)?;
            let (front, body) = whole
                .split_at_checked(head)
                .ok_or_else(|| Flaw::new("ends inside a page"))?;
            match page::header(front)?.0.kind {
                Kind::Dictionary { values, encoding } => {
                    ensure(left == chunk.compressed, || {
                        "has a dictionary that is not its chunk's first page".into()
                    })?;
                    let page = self.unpacker.unpack(chunk.codec, body, uncompressed)?;
                    dictionary = Some(Dictionary::read(leaf, page, values, encoding)?);
                }
                Kind::Data(data) => {
                    let cut =
                        data.cut(leaf, body, uncompressed, chunk.codec, &mut self.unpacker)?;
                    let mut page = Seen::nothing(leaf.physical);
                    page.values = data.values as u64;
                    page.nulls = cut.nulls as u64;
                    let Cut { values, plain, .. } = cut;
                    ensure(read + cut.rows as u64 <= rows, || {
                        format!("has more rows than its group, which says {rows}")
                    })?;
                    values::look(
                        leaf,
                        dictionary.as_mut(),
                        data.encoding,
                        plain,
                        values,
                        &mut page,
                    )?;
                    if let Some(watch) = watch.as_deref_mut() {
                        let of_page = Page {
                            def: cut.def,
                            rows: cut.rows,
                        };
                        let dictionary = dictionary.as_ref();
                        watch.page(leaf, &of_page, |take| {
                            values::each(leaf, dictionary, data.encoding, plain, values, take)
                        })?;
                    }
                    if let Some(said) = &data.statistics {
                        page.check(leaf.physical, said, leaf.is_flat())?;
                    }
                    let place = PagePlace {
                        offset,
                        bytes: size as u64,
                        first_row: read,
                    };
                    ensure(read > 0 || cut.begins_row, || {
                        "has a row without a beginning".into()
                    })?;
                    index.check(leaf, &place, &page, cut.begins_row)?;
                    read += cut.rows as u64;
                    seen.add(&page);
                }
            }
            self.source.consume(size);
            left -= size as u64;
        }
        index.finish(leaf)?;
        ensure(read == rows, || {
            format!("has {read} rows in a group of {rows}")
        })?;
        ensure(seen.values == chunk.values, || {
            format!(
                "has {} values in a chunk that says {}",
                seen.values, chunk.values
            )
        })?;
        if let Some(said) = &chunk.statistics {
            seen.check(leaf.physical, said, leaf.is_flat())?;
        }
        if let Some(watch) = watch {
            watch.chunk(&seen)?;
        }
        ensure(!leaf.required || seen.nulls == 0, || {
            format!("has {} nulls where the table has none", seen.nulls)
        })?;
        Ok(seen)
    }
}

/// Whether the chunk is said to be of that column, and packed as the writer packs.
fn check(chunk: &Chunk<'_>, leaf: &Leaf<'_>) -> Result<()> {
    let is_leaf = chunk.path == leaf.path && chunk.physical == leaf.physical.number();
    ensure(is_leaf, || {
        format!("has a chunk of {:?} in the place of its column", chunk.path)
    })?;
    ensure(matches!(chunk.codec, UNCOMPRESSED | ZSTD), || {
        format!("is packed by codec {}", chunk.codec)
    })
}
