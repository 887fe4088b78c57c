//! Folders to measure on.

use crate::data::{KINDS, data};
use crate::{KIB, MIB};
use std::fs;
use std::path::Path;

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
