//! Folders to measure on.

use crate::data::{KINDS, data};
use crate::{KIB, MIB};
use icecore::chunker::ContentCutter;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

const FILES_IN_A_FOLDER: usize = 100;

/// Makes `count` files of a few bytes, 100 in a folder.
///
/// # Panics
/// Where the file system refuses.
pub fn fill_with_small_files(folder: &Path, count: usize) {
    for number in 0..count {
        let below = folder.join(format!("{:04}", number / FILES_IN_A_FOLDER));
        if number % FILES_IN_A_FOLDER == 0 {
            fs::create_dir_all(&below).expect("a folder can be made");
        }
        fs::write(below.join(format!("file {number}")), number.to_string()).expect("a file can be written");
    }
}

/// Makes about `length` bytes of files: for each kind of data a third, of that half in one large file and half in small ones.
///
/// # Panics
/// Where the file system refuses.
pub fn fill_with_data(folder: &Path, length: usize) {
    let share = length / KINDS.len() / 2;
    for (kind, generate) in KINDS {
        let below = folder.join(kind);
        fs::create_dir_all(&below).expect("a folder can be made");
        fs::write(below.join("large"), generate(0, share)).expect("a file can be written");
        let (mut written, mut number) = (0, 0);
        while written < share {
            number += 1;
            // 1 to 64 KiB, most of them small, and now and then a megabyte.
            let size = if number % 200 == 0 { MIB } else { KIB << (number % 7) };
            fs::write(below.join(format!("small {number}")), data(kind, number as u64, size)).expect("a file can be written");
            written += size;
        }
    }
}

/// Adds all files below a folder to `files`, in no order.
///
/// # Panics
/// Where the file system refuses.
pub fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().expect("a folder that can be read") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("its type");
        if kind.is_dir() {
            collect_files(&entry.path(), files);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
}

/// Cuts a file and hands over its chunks in their order.
///
/// # Panics
/// Where the file system refuses.
pub fn each_chunk(path: &Path, cutter: &ContentCutter, mut take: impl FnMut(&[u8])) {
    let mut file = File::open(path).expect("a file that can be read");
    let (mut buffer, mut is_last) = (Vec::new(), false);
    while !is_last || !buffer.is_empty() {
        is_last = is_last || (&mut file).take(8 * MIB as u64).read_to_end(&mut buffer).expect("its content") == 0;
        let mut from = 0;
        while let Some(length) = cutter.next_cut(&buffer[from..], is_last) {
            take(&buffer[from..from + length]);
            from += length;
        }
        buffer.drain(..from);
    }
}
