//! Reading behind the end of a buffer, without clearing it first.

use rustix::fd::AsFd;
use rustix::io::pread;

/// Appends up to `length` bytes of the file at `offset` to `buffer`; gives how many came, 0 at the end of the file.
///
/// # Errors
/// What the system says; `buffer` holds what it held.
pub(crate) fn read_more(fd: impl AsFd, offset: u64, length: usize, buffer: &mut Vec<u8>) -> rustix::io::Result<usize> {
    buffer.reserve(length);
    let room = &mut buffer.spare_capacity_mut()[..length];
    let read = pread(fd, room, offset)?.0.len();
    // SAFETY: `room` lies directly behind the buffer's end and within its capacity, and the bytes that `pread` hands back are the first
    // of `room`, which the kernel has written.
    unsafe { buffer.set_len(buffer.len() + read) };
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn bytes_are_appended_up_to_the_length_and_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut buffer = b"ab".to_vec();
        assert_eq!(read_more(&file, 2, 3, &mut buffer), Ok(3));
        assert_eq!(buffer, b"ab234");
        assert_eq!(read_more(&file, 8, 100, &mut buffer), Ok(2));
        assert_eq!(read_more(&file, 10, 100, &mut buffer), Ok(0));
        assert_eq!(buffer, b"ab23489");
        let (pipe, _writer) = std::io::pipe().unwrap();
        assert!(read_more(&pipe, 0, 1, &mut buffer).is_err());
        assert_eq!(buffer, b"ab23489");
    }
}
