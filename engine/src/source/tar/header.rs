//! The block that begins each member.

use super::sparse::Map;
use crate::runtime::Timestamp;
use std::ops::Range;

/// Everything in an archive comes in blocks of so many bytes.
pub(super) const BLOCK: usize = 512;

const CHECKSUM: Range<usize> = 148..156;
/// Maps in a header and in a block that goes on with it: where they begin, and their items.
const MAP_IN_HEADER: (usize, usize) = (386, 4);
const MAP_CONTINUED: (usize, usize) = (0, 21);
const IS_CONTINUED_IN_HEADER: usize = 482;
const IS_CONTINUED: usize = 504;

type Result<T> = std::result::Result<T, String>;

/// A header whose checksum is right.
#[derive(Debug)]
pub(super) struct Header {
    block: [u8; BLOCK],
    /// The type flag.
    pub(super) kind: u8,
}

impl Header {
    pub(super) fn new(block: [u8; BLOCK]) -> Result<Self> {
        let claimed = number(&block[CHECKSUM]).ok();
        let of = |byte: fn(u8) -> i64| {
            let outside = block.iter().enumerate().filter(|(at, _)| !CHECKSUM.contains(at));
            outside.map(|(_, value)| byte(*value)).sum::<i64>() + 8 * i64::from(b' ')
        };
        // Some old programs added signed bytes.
        if claimed != Some(of(|byte| byte.into())) && claimed != Some(of(|byte| i64::from(byte as i8))) {
            return Err(match block {
                [0x1f, 0x8b, ..] => "it is compressed: let `gzip -dc` unpack it on the way".into(),
                [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed: let `zstd -dc` unpack it on the way".into(),
                [0xfd, b'7', b'z', b'X', b'Z', ..] => "it is compressed: let `xz -dc` unpack it on the way".into(),
                [b'B', b'Z', b'h', ..] => "it is compressed: let `bzip2 -dc` unpack it on the way".into(),
                _ => "the checksum of a header is wrong".into(),
            });
        }
        Ok(Self { block, kind: block[156] })
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.block[..100]);
        // Only POSIX has it; GNU has other things in its place.
        let is_posix = self.block[257..263] == *b"ustar\0";
        let prefix_end = if self.block[508..] == *b"tar\0" { 476 } else { 500 };
        match text(&self.block[345..prefix_end]) {
            prefix if is_posix && !prefix.is_empty() => [prefix, name].join(&b'/'),
            _ => name.to_vec(),
        }
    }

    pub(super) fn target(&self) -> Vec<u8> {
        text(&self.block[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32> {
        Ok((number(&self.block[100..108])? & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<i64> {
        number(&self.block[108..116])
    }

    pub(super) fn gid(&self) -> Result<i64> {
        number(&self.block[116..124])
    }

    pub(super) fn size(&self) -> Result<u64> {
        length(&self.block[124..136])
    }

    pub(super) fn modified(&self) -> Result<Timestamp> {
        Ok(Timestamp { seconds: number(&self.block[136..148])?, nanoseconds: 0 })
    }

    pub(super) fn user(&self) -> Vec<u8> {
        self.name(265..297)
    }

    pub(super) fn group(&self) -> Vec<u8> {
        self.name(297..329)
    }

    fn name(&self, range: Range<usize>) -> Vec<u8> {
        let has_names = self.block[257..262] == *b"ustar";
        if has_names { text(&self.block[range]).to_vec() } else { Vec::new() }
    }

    /// Major and minor number.
    pub(super) fn device(&self) -> Result<(u32, u32)> {
        let part = |range: Range<usize>| {
            let value = number(&self.block[range])?;
            u32::try_from(value).map_err(|_| format!("its device number {value} is larger than Linux has"))
        };
        Ok((part(329..337)?, part(337..345)?))
    }

    /// The map of holes in an old GNU header.
    pub(super) fn sparse_map(&self) -> Result<Map> {
        let mut map = Map::new();
        add_items(&self.block, MAP_IN_HEADER, &mut map)?;
        Ok(map)
    }

    pub(super) fn is_map_continued(&self) -> bool {
        !matches!(self.block[IS_CONTINUED_IN_HEADER], 0 | b'0')
    }

    pub(super) fn real_size(&self) -> Result<u64> {
        length(&self.block[483..495])
    }
}

/// Adds what a block after an old GNU header says; true where another one follows.
pub(super) fn continue_map(block: &[u8; BLOCK], map: &mut Map) -> Result<bool> {
    add_items(block, MAP_CONTINUED, map)?;
    Ok(!matches!(block[IS_CONTINUED], 0 | b'0'))
}

fn add_items(block: &[u8; BLOCK], (start, count): (usize, usize), map: &mut Map) -> Result<()> {
    for item in block[start..].chunks_exact(24).take(count) {
        // Items that are not used are zeros or spaces.
        if item[0] == 0 {
            break;
        }
        map.push((length(&item[..12])?, length(&item[12..])?));
    }
    Ok(())
}

/// A text up to its zero byte.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn length(field: &[u8]) -> Result<u64> {
    u64::try_from(number(field)?).map_err(|_| "a length is negative".into())
}

/// A number in octal, or in base 256 where the first bit is set.
fn number(field: &[u8]) -> Result<i64> {
    let too_large = || "a number is too large".to_owned();
    match field {
        [first @ (0x80 | 0xff), rest @ ..] => {
            let start = if *first == 0xff { -1_i128 } else { 0 };
            let mut value = start;
            for byte in rest {
                value = (value << 8) | i128::from(*byte);
                i64::try_from(value).map_err(|_| too_large())?;
            }
            i64::try_from(value).map_err(|_| too_large())
        }
        _ => {
            let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| !matches!(**byte, b' ' | 0));
            digits.copied().try_fold(0_i64, |value, digit| match digit {
                b'0'..=b'7' => value.checked_mul(8).and_then(|value| value.checked_add((digit - b'0').into())).ok_or_else(too_large),
                _ => Err("a number is none".to_owned()),
            })
        }
    }
}
