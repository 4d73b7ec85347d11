//! Writes the first file system of a kernel: an archive of the format that cpio calls `newc`.

use std::collections::BTreeSet;
use std::path::Path;

/// An archive that grows in memory.
pub(super) struct Cpio {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;
const TRAILER: &str = "TRAILER!!!";

impl Cpio {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            folders: BTreeSet::new(),
            entries: 0,
        }
    }

    /// Adds a folder, and those above it.
    pub(super) fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            if self.folders.insert(path[..end].to_owned()) {
                self.entry(&path[..end], FOLDER, &[], (0, 0));
            }
        }
    }

    /// Adds a file that may be executed, and the folders above it.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.above(path);
        self.entry(path.trim_matches('/'), PROGRAM, content, (0, 0));
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.above(path);
        self.entry(path.trim_matches('/'), DEVICE, &[], (major, minor));
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[], (0, 0));
        self.bytes
    }

    fn above(&mut self, path: &str) {
        if let Some(folder) = Path::new(path.trim_matches('/')).parent().and_then(Path::to_str)
            && !folder.is_empty()
        {
            self.folder(folder);
        }
    }

    /// A header of numbers in hexadecimal, the name with a zero byte, the content; each part ends
    /// at a multiple of four.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8], (major, minor): (u32, u32)) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("no file here has four gigabytes");
        let name_size = name.len() as u32 + 1;
        self.bytes.extend_from_slice(b"070701");
        // Inode, mode, owner, group, links, time, size, device of the file system, device, name,
        // checksum.
        for number in [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0] {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_folders_before_it_and_every_part_is_aligned() {
        let mut archive = Cpio::new();
        archive.file("/a/b/c", b"hello");
        archive.file("a/d", b"");
        archive.device("dev/console", 5, 1);
        let bytes = archive.finish();
        assert_eq!(
            names(&bytes),
            ["a", "a/b", "a/b/c", "a/d", "dev", "dev/console", TRAILER]
        );
    }

    /// Walks through the archive by the sizes in its headers.
    fn names(mut bytes: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(&bytes[..6], b"070701");
            let number = |index: usize| {
                let digits = std::str::from_utf8(&bytes[6 + 8 * index..14 + 8 * index]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            let (size, name_size) = (number(6), number(11));
            names.push(String::from_utf8(bytes[110..109 + name_size].to_vec()).unwrap());
            bytes = &bytes[(110 + name_size).next_multiple_of(4) + size.next_multiple_of(4)..];
        }
        names
    }
}
