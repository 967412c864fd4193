//! The last line of a backup: a checksum of everything before it, so that no byte of the file can
//! change unnoticed, whatever it was for. SQLite does not read what stands behind its last page.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

const MARK: &str = "\ntaskwatch backup sha256 ";
const DIGEST: usize = 64;
/// Bytes of the line, with the line breaks before and behind it.
const LEN: u64 = (MARK.len() + DIGEST + 1) as u64;
/// A page of SQLite has a multiple of this, and `LEN` is none.
const SMALLEST_PAGE: u64 = 512;

/// What the end of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seal {
    /// Every byte is as it was written.
    Whole,
    /// Some byte is not, or the end is missing.
    Broken,
    /// It ends with a page of SQLite: it was not made by a backup.
    Missing,
}

/// Puts the line behind a file that was just written.
pub(super) fn put(file: &mut File) -> io::Result<()> {
    let len = file.metadata()?.len();
    let line = line(file, len)?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(line.as_bytes())
}

/// Reads the whole file.
pub(super) fn check(file: &mut File) -> io::Result<Seal> {
    let len = file.metadata()?.len();
    match len.checked_sub(LEN) {
        Some(content) if content % SMALLEST_PAGE == 0 => {
            let expected = line(file, content)?;
            let mut found = Vec::new();
            file.seek(SeekFrom::Start(content))?;
            file.read_to_end(&mut found)?;
            Ok(if found == expected.as_bytes() { Seal::Whole } else { Seal::Broken })
        }
        _ if len.is_multiple_of(SMALLEST_PAGE) => Ok(Seal::Missing),
        _ => Ok(Seal::Broken),
    }
}

/// The line for the first `len` bytes.
fn line(file: &mut File, len: u64) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    let mut content = file.take(len);
    loop {
        match content.read(&mut piece)? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    Ok(format!("{MARK}{:064x}\n", hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_counts_and_so_does_the_length() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 1024]).unwrap();
        assert_eq!(check(&mut file).unwrap(), Seal::Missing);
        put(&mut file).unwrap();
        assert_eq!(check(&mut file).unwrap(), Seal::Whole);

        let mut whole = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut whole).unwrap();
        assert_eq!(whole.len() as u64, 1024 + LEN);
        let judge = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            check(&mut file).unwrap()
        };
        for bit in 0..whole.len() * 8 {
            let mut spoilt = whole.clone();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(judge(&spoilt), Seal::Broken, "bit {bit}");
        }
        assert_eq!(judge(&whole[..whole.len() - 1]), Seal::Broken);
        assert_eq!(judge(&whole[1..]), Seal::Broken);
        assert_eq!(judge(&[&whole[..], b"\n"].concat()), Seal::Broken);
    }
}
